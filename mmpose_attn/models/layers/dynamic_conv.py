"""Dynamic kernel aggregation and dynamic split convolution: Dite-HRNet, Li et al., IJCAI 2022,
doi 10.24963/ijcai.2022/153."""

from collections.abc import Mapping

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpose.models.backbones.utils import channel_shuffle
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmpose_attn.models.defaults import BN

from .fusing import fold
from .norms import build_norm_of_means


class KernelAttention(BaseModule):
    """Gates of kernels from the means of an input: two 1x1 convolutions and a sigmoid.

    Args:
        in_channels: of the input; the hidden width is a quarter of it.
        num_kernels: how many gates. It is also the hidden width of three channels.
        norm_cfg: config of the norm between the convolutions.

    Shape:
        (N, C, H, W) -> (N, num_kernels)
    """

    def __init__(self, in_channels: int, num_kernels: int, norm_cfg: Mapping = BN) -> None:
        super().__init__()
        hidden = num_kernels if in_channels == 3 else max(1, in_channels // 4)
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn = build_norm_of_means(norm_cfg, hidden)
        self.conv2 = nn.Conv2d(hidden, num_kernels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.bn(self.conv1(F.adaptive_avg_pool2d(x, 1))).relu()  # (N, hidden, 1, 1)
        return self.conv2(hidden).sigmoid().flatten(1)  # (N, num_kernels)

    def inference_form(self) -> 'KernelAttention':
        return fold(self, [('conv1', 'bn')])


class KernelAggregation(nn.Module):
    """The kernels of a :class:`DynamicConv`, each initialised like a convolution's."""

    def __init__(self, num_kernels: int, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_kernels, *shape))
        for kernel in self.weight:
            nn.init.kaiming_uniform_(kernel)

    def forward(self, gates: Tensor) -> Tensor:
        """(N, num_kernels) gates -> (N * out, in / groups, k, k) kernels."""
        return (gates @ self.weight.flatten(1)).view(-1, *self.weight.shape[2:])


@MODELS.register_module()
class DynamicConv(nn.Module):
    r"""A convolution whose kernel is :math:`\sum_i a_i(x) w_i`, one for every sample.

    Takes the place of a convolution in mmcv's ``ConvModule`` by
    ``conv_cfg=dict(type='DynamicConv', num_kernels=4)``.

    Args:
        in_channels: as in :class:`torch.nn.Conv2d`.
        out_channels: as in :class:`torch.nn.Conv2d`.
        kernel_size: one side of a square kernel.
        stride: the same in both directions.
        padding: the same on all sides.
        dilation: the same in both directions.
        groups: as in :class:`torch.nn.Conv2d`.
        bias: must be False, as in the paper, where a norm follows.
        num_kernels: how many kernels are mixed.
        norm_cfg: config of the norm inside the kernels' attention.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H', W')

    Raises:
        ValueError: if ``num_kernels`` is not positive, ``groups`` does not divide the channels, or
            a bias is asked for.
    """

    transposed = False
    output_padding = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        num_kernels: int = 4,
        norm_cfg: Mapping = BN,
    ) -> None:
        super().__init__()
        if num_kernels < 1 or groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                'DynamicConv: num_kernels must be positive and groups divide both channels, got '
                f'num_kernels={num_kernels}, groups={groups}, {in_channels} -> {out_channels}'
            )
        if bias:
            raise ValueError('DynamicConv: bias is not supported; use a norm after it')
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = (kernel_size, kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.attention = KernelAttention(in_channels, num_kernels, norm_cfg)
        self.aggregation = KernelAggregation(
            num_kernels, out_channels, in_channels // groups, kernel_size, kernel_size
        )

    def init_weights(self) -> None:
        """Nothing: the kernels keep their own initialisation inside a ``ConvModule``."""

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        r"""``kernels`` (N, num_kernels), the weights :math:`a_i(x)` of the kernels."""
        return dict(kernels=self.attention(x))

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.aggregation(self.attention(x))  # (N * out, in / groups, k, k)
        return convolve_each(x, kernels, self)


def convolve_each(x: Tensor, kernels: Tensor, conv: nn.Module) -> Tensor:
    """One convolution of a whole batch, in which every sample has its own kernels.

    Args:
        x: (N, in, H, W).
        kernels: (N * out, in / groups, k, k).
        conv: has the stride, padding, dilation and groups.
    """
    batch, channels, height, width = x.shape
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        kernels,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=batch * conv.groups,
    )  # (1, N * out, H', W')
    return out.view(batch, -1, *out.shape[2:])


def conv_cfg(num_kernels: int, norm_cfg: Mapping) -> dict | None:
    """``ConvModule``'s config of a dynamic convolution; a single kernel is a plain one."""
    if num_kernels == 1:
        return None
    return dict(type=DynamicConv, num_kernels=num_kernels, norm_cfg=norm_cfg)


class DynamicSplitConv(BaseModule):
    """Depthwise dynamic convolutions of growing kernels, one for each group of channels.

    Group i has kernels of side 3 + 2i, each followed by a norm; the groups are shuffled.

    Args:
        channels: of the input; what the groups leave over goes to the first one.
        num_groups: into how many groups channels are cut.
        num_kernels: of every dynamic convolution; 1 makes them plain ones.
        norm_cfg: config of the norms.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: if there are several groups and they do not divide the channels, so that these
            could not be shuffled.
    """

    def __init__(
        self, channels: int, num_groups: int, num_kernels: int, norm_cfg: Mapping = BN
    ) -> None:
        super().__init__()
        if num_groups < 1 or channels < 1 or channels % num_groups:
            raise ValueError(
                f'DynamicSplitConv: num_groups must divide the channels, got {num_groups} groups '
                f'of {channels} channels'
            )
        self.num_groups = num_groups
        self.splits = [channels // num_groups] * num_groups
        self.conv = nn.ModuleList(
            ConvModule(
                width,
                width,
                3 + 2 * i,
                padding=1 + i,
                groups=width,
                conv_cfg=conv_cfg(num_kernels, norm_cfg),
                norm_cfg=dict(norm_cfg),
                act_cfg=None,
            )
            for i, width in enumerate(self.splits)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.num_groups == 1:
            return self.conv[0](x)
        parts = x.split(self.splits, dim=1)  # of (N, C / num_groups, H, W)
        out = torch.cat([conv(part) for conv, part in zip(self.conv, parts, strict=True)], dim=1)
        return channel_shuffle(out, self.num_groups)
