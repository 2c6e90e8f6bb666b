"""The layers of Dite-HRNet against their definitions, written out."""

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from mmpose.models.backbones.utils import channel_shuffle
from torch.nn import functional as F

from mmpose_attn.models import DynamicConv
from mmpose_attn.models.backbones.dite_hrnet import hwnc as in_hwnc
from mmpose_attn.models.layers import (
    DenseContextModeling,
    DynamicSplitConv,
    GlobalContextModeling,
    hwnc,
    nchw,
)
from mmpose_attn.models.layers.context_modeling import masked_pool
from mmpose_attn.models.layers.hwnc import to_hwnc, to_nchw
from tests.helpers import randomize

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def tensor(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    'channels, out, kernel, stride, groups',
    [
        (6, 6, 3, 2, 6),
        (6, 4, 1, 1, 1),
        (6, 4, 3, 1, 2),
        (3, 5, 3, 1, 1),
    ],
)
def test_dynamic_conv(channels, out, kernel, stride, groups):
    layer = DynamicConv(channels, out, kernel, stride, kernel // 2, groups=groups, num_kernels=3)
    layer = randomize(layer).double().eval()
    assert layer.attention.conv1.out_channels == (3 if channels == 3 else max(1, channels // 4))
    x = tensor(2, channels, 7, 5)
    ours = layer(x)
    attention = layer.attention
    for sample, y in zip(x, ours):
        means = sample.mean((1, 2))
        hidden = attention.bn((attention.conv1.weight[:, :, 0, 0] @ means)[None, :, None, None])
        gates = attention.conv2.weight[:, :, 0, 0] @ hidden.flatten().clamp(min=0)
        gates = sigmoid((gates + attention.conv2.bias).detach().numpy())
        assert np.ptp(gates) > 0.01 and abs(gates.sum() - 1) > 1e-3  # not a softmax
        mixed = sum(g * w for g, w in zip(gates, layer.aggregation.weight))
        expected = F.conv2d(sample[None], mixed, None, stride, kernel // 2, 1, groups)[0]
        torch.testing.assert_close(y, expected)
    if groups == channels or kernel == 1:
        out = in_hwnc.dynamic_conv(layer, to_hwnc(x), x.mean((2, 3)))
        torch.testing.assert_close(to_nchw(out), ours)


def test_dynamic_conv_in_a_conv_module():
    layer = ConvModule(4, 4, 3, padding=1, groups=4, conv_cfg=dict(type='DynamicConv'), bias=False)
    before = layer.conv.aggregation.weight.clone()
    layer.init_weights()
    assert torch.equal(layer.conv.aggregation.weight, before)
    assert layer(torch.randn(2, 4, 5, 5)).shape == (2, 4, 5, 5)


@pytest.mark.parametrize('kwargs', [dict(num_kernels=0), dict(groups=3), dict(bias=True)])
def test_dynamic_conv_errors(kwargs):
    with pytest.raises(ValueError, match='DynamicConv'):
        DynamicConv(4, 4, 3, **kwargs)


@pytest.mark.parametrize('kernels', [1, 2])
def test_dynamic_split_conv(kernels):
    layer = randomize(DynamicSplitConv(8, 2, kernels)).double().eval()
    x = tensor(2, 8, 6, 6)
    parts = [conv(part) for conv, part in zip(layer.conv, x.split(4, dim=1))]
    assert [conv.conv.kernel_size for conv in layer.conv] == [(3, 3), (5, 5)]
    out = layer(x)
    for channel in range(8):
        place, group = divmod(channel, 2)
        torch.testing.assert_close(out[:, channel], parts[group][:, place])
    raw = to_nchw(in_hwnc.split_conv(layer, to_hwnc(x)))
    for index, conv in enumerate(layer.conv):
        norm = conv.bn(raw[:, 4 * index : 4 * index + 4])
        torch.testing.assert_close(norm, parts[index])


def slow_pool(x, logits, size, pooling):
    """One sum at a time."""
    batch, channels, height, width = x.shape
    h, w = size
    out = np.zeros((batch, channels, h, w))
    share = height * width // (h * w)
    for n in range(batch):
        values, mask = x[n].numpy(), logits[n, 0].numpy()
        if pooling == 'released':
            weights = np.exp(mask.ravel()) / np.exp(mask).sum()
            memory = values.ravel()
            for place in range(h * w):
                for channel in range(channels):
                    for k in range(share):
                        out[n, channel, place // w, place % w] += (
                            memory[(place * channels + channel) * share + k]
                            * weights[place * share + k]
                        )
            continue
        high, wide = height // h, width // w
        for row in range(h):
            for column in range(w):
                block = np.s_[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
                weights = np.exp(mask[block])
                for channel in range(channels):
                    total = (values[channel][block] * weights).sum()
                    out[n, channel, row, column] = total / weights.sum()
    return out


@pytest.mark.parametrize('pooling', ['released', 'spatial'])
@pytest.mark.parametrize('size', [(2, 3), (4, 6), (1, 1)])
def test_masked_pool(pooling, size):
    x, logits = tensor(2, 5, 4, 6), tensor(2, 1, 4, 6, seed=1)
    # a slice of channels, as in the network
    ours = masked_pool(x[:, 2:], logits, size, pooling).numpy()
    expected = slow_pool(x[:, 2:], logits, size, pooling)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)
    ours = hwnc.masked_pool(to_hwnc(x)[..., 2:], to_hwnc(logits), size, pooling)
    np.testing.assert_allclose(to_nchw(ours), expected, rtol=1e-10)


def test_poolings_differ_but_for_one_place():
    x, logits = tensor(1, 3, 4, 4), tensor(1, 1, 4, 4, seed=1)
    for size, same in (((1, 1), True), ((2, 2), False)):
        a, b = (masked_pool(x, logits, size, kind) for kind in ('released', 'spatial'))
        assert torch.allclose(a, b) is same
    # the released one mixes channels: a change of one channel reaches others
    y = x.clone()
    y[:, 0] += 1
    changed = masked_pool(y, logits, (2, 2), 'released') != masked_pool(
        x, logits, (2, 2), 'released'
    )
    assert changed[:, 1:].any()


@pytest.mark.parametrize('layout', ['nchw', 'hwnc'])
def test_dense_context(layout):
    layer = randomize(DenseContextModeling([4, 8], 3, 'spatial')).double().eval()
    x = [tensor(2, 4, 4, 8), tensor(2, 8, 2, 4, seed=1)]
    pooled = slow_pool(x[0], layer.conv_mask[0](x[0]).detach(), (2, 4), 'spatial')
    gates = layer.channel_attention(torch.cat((torch.from_numpy(pooled), x[1]), dim=1))
    if layout == 'nchw':
        outs = layer(x)
    else:
        outs = map(to_nchw, in_hwnc.dense_context(layer, list(map(to_hwnc, x))))
    for out, each, gate in zip(outs, x, gates.split([4, 8], dim=1)):
        factor = each.shape[2] // 2
        expected = each * gate.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        torch.testing.assert_close(out, expected)


def test_global_context():
    layer = randomize(GlobalContextModeling(4, 2)).double().eval()
    x = tensor(2, 4, 3, 5)
    context = torch.from_numpy(slow_pool(x, layer.conv_mask(x).detach(), (1, 1), 'spatial'))
    torch.testing.assert_close(layer(x), layer.bn(x * layer.channel_attention(context)))


def test_upsampled():
    x, small = tensor(2, 3, 4, 6), tensor(2, 3, 2, 2, seed=1)
    up = small.repeat_interleave(2, 2).repeat_interleave(3, 3)
    y, lower = to_hwnc(x), to_hwnc(small)
    torch.testing.assert_close(to_nchw(hwnc.multiply_upsampled(y, lower)), x * up)
    torch.testing.assert_close(to_nchw(hwnc.add_upsampled(y, lower, 2)), 2 * x + up)
    bilinear = F.interpolate(small, size=(4, 6), mode='bilinear', align_corners=True)
    torch.testing.assert_close(to_nchw(hwnc.upsample_bilinear(lower, (4, 6))), bilinear)


@pytest.mark.parametrize('kernel, groups, stride', [(3, 4, 2), (5, 4, 1), (1, 1, 1)])
def test_convolution_in_hwnc(kernel, groups, stride):
    x = tensor(3, 4, 6, 8)
    layer = torch.nn.Conv2d(4, 4, kernel, stride, kernel // 2, groups=groups).double()
    torch.testing.assert_close(to_nchw(hwnc.conv2d(layer, to_hwnc(x))), layer(x))


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_shuffles_of_both_layouts(groups):
    x = tensor(2, 8, 3, 5)
    expected = channel_shuffle(x, groups)
    assert torch.equal(nchw.channel_shuffle(x, groups), expected)
    assert torch.equal(to_nchw(hwnc.channel_shuffle(to_hwnc(x), groups)), expected)
    first, second = x.chunk(2, dim=1)
    expected = channel_shuffle(x, 2)
    assert torch.equal(nchw.shuffle_halves(first, second), expected)
    halves = map(to_hwnc, (first, second))
    assert torch.equal(to_nchw(hwnc.shuffle_halves(*halves)), expected)
