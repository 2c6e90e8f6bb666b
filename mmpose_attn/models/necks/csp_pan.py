"""CSP-PAN: PP-PicoDet, Yu et al., arXiv 2111.00902, section 2.2."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmpose_attn.models.defaults import BN

ACT = MappingProxyType(dict(type='HSwish'))


class CSPFusion(BaseModule):
    """Two paths over a half of the output's width each, one of them with a residual-free
    bottleneck of a 1x1 and a depthwise separable convolution, joined by a 1x1 convolution."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, **cfg) -> None:
        super().__init__()
        half = channels // 2
        self.main = nn.Sequential(
            ConvModule(in_channels, half, 1, **cfg),
            ConvModule(half, half, 1, **cfg),
            DepthwiseSeparableConvModule(half, half, kernel_size, padding=kernel_size // 2, **cfg),
        )
        self.short = ConvModule(in_channels, half, 1, **cfg)
        self.join = ConvModule(2 * half, channels, 1, **cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat((self.main(x), self.short(x)), dim=1))


@MODELS.register_module()
class CSPPAN(BaseModule):
    """Path aggregation of one width: top-down, then bottom-up, by depthwise CSP fusion.

    Every branch is brought to the same width by a 1x1 convolution; the way down enlarges (nearest)
    and the way up is a depthwise separable convolution of stride 2.

    Args:
        in_channels: of every branch, from the highest resolution to the lowest.
        out_channels: of every output; by default the smallest of ``in_channels``.
        kernel_size: of the depthwise convolutions, odd; 5 in the paper.
        norm_cfg: config of the norms.
        act_cfg: config of the activations.
        concat: put all outputs together at the highest resolution (bilinear), for a head that reads
            one tensor.
        init_cfg: MMEngine's initialisation config.

    Shape:
        a list of (N, C_i, H_i, W_i) -> a tuple of (N, out_channels, H_i, W_i), or with ``concat``
        of one (N, branches * out_channels, H_0, W_0); each resolution half of the one before

    Raises:
        ValueError: if there are fewer than two branches, ``kernel_size`` is even, the width is odd,
            or the inputs are not those of ``in_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | None = None,
        kernel_size: int = 5,
        norm_cfg: Mapping = BN,
        act_cfg: Mapping = ACT,
        concat: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        width = min(in_channels) if out_channels is None else out_channels
        if len(in_channels) < 2 or kernel_size % 2 == 0 or width < 2 or width % 2:
            raise ValueError(
                'CSPPAN needs at least two branches, an odd kernel_size and an even out_channels, '
                f'got in_channels={in_channels}, kernel_size={kernel_size}, out_channels={width}'
            )
        self.in_channels, self.concat = list(in_channels), concat
        cfg = dict(norm_cfg=dict(norm_cfg), act_cfg=dict(act_cfg))
        steps = len(in_channels) - 1
        self.laterals = nn.ModuleList(ConvModule(each, width, 1, **cfg) for each in in_channels)
        self.top_down = nn.ModuleList(
            CSPFusion(2 * width, width, kernel_size, **cfg) for _ in range(steps)
        )
        self.downsamples = nn.ModuleList(
            DepthwiseSeparableConvModule(
                width, width, kernel_size, stride=2, padding=kernel_size // 2, **cfg
            )
            for _ in range(steps)
        )
        self.bottom_up = nn.ModuleList(
            CSPFusion(2 * width, width, kernel_size, **cfg) for _ in range(steps)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        widths = [each.shape[1] for each in inputs]
        if widths != self.in_channels:
            raise ValueError(
                f'CSPPAN: in_channels={self.in_channels}, but the inputs have {widths}; does the '
                'backbone return every branch, and without a head of its own?'
            )
        x = [lateral(each) for lateral, each in zip(self.laterals, inputs)]
        for i in reversed(range(len(x) - 1)):
            above = F.interpolate(x[i + 1], size=x[i].shape[2:])
            x[i] = self.top_down[i](torch.cat((x[i], above), dim=1))
        for i, (down, fusion) in enumerate(zip(self.downsamples, self.bottom_up)):
            x[i + 1] = fusion(torch.cat((down(x[i]), x[i + 1]), dim=1))
        if self.concat:
            size = x[0].shape[2:]
            x = [torch.cat([F.interpolate(each, size, mode='bilinear') for each in x], dim=1)]
        return tuple(x)
