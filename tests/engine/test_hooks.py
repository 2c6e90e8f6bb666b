"""Hooks on models."""

from types import SimpleNamespace

import torch

from mmpose_attn.engine import ChannelsLastHook
from mmpose_attn.models.layers.dynamic_conv import DynamicConv


def test_channels_last_hook_takes_kernels_of_five_dimensions():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), DynamicConv(8, 4, 3)).eval()
    x = torch.randn(2, 4, 9, 9)
    before = net(x)
    ChannelsLastHook().before_run(SimpleNamespace(model=net))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[0](x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x), before)
