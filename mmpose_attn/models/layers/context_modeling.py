"""Adaptive context modelling: Dite-HRNet, Li et al., IJCAI 2022, doi 10.24963/ijcai.2022/153."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from . import hwnc
from .dynamic_conv import BN
from .norms import build_norm_of_means

POOLINGS = ('released', 'spatial')


def pooling_mask(logits: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    """What :func:`masked_pool` weighs the places by, (N, 1, H, W): its softmax as a map."""
    if pooling == 'released':
        return logits.flatten(1).softmax(1).view_as(logits)
    height, width = logits.shape[2:]
    h, w = size
    blocks = logits.view(-1, 1, h, height // h, w, width // w).transpose(3, 4)
    mask = blocks.flatten(4).softmax(4).view_as(blocks)
    return mask.transpose(3, 4).reshape(logits.shape)


def masked_pool(x: Tensor, logits: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    r"""Pool features with a softmax of a mask.

    * ``'released'``, what the authors' code does and their weights need: the
      softmax is over all positions, and the contiguous (C, H W) buffer of a
      sample is read as (h w, C, H W / h w), the mask's as (h w, H W / h w).
      An output is a weighted sum over neighbours in *memory*, so that channels and
      places mix; of one output position (h = w = 1) it is the weighted mean.
    * ``'spatial'``, what the paper describes: the output at a position is the mean of its own
      block of the input, weighted by the softmax over that block.

    Args:
        x: (N, C, H, W).
        logits: of the mask, (N, 1, H, W).
        size: (h, w), divisors of (H, W).
        pooling: of :data:`POOLINGS`.

    Returns:
        (N, C, h, w)
    """
    batch, channels, height, width = x.shape
    h, w = size
    if pooling == 'released':
        mask = logits.flatten(1).softmax(1).view(batch, h * w, -1, 1)
        out = x.reshape(batch, h * w, channels, -1) @ mask
        return out.transpose(1, 2).reshape(batch, channels, h, w)
    high, wide = height // h, width // w
    logits = logits.view(batch, 1, h, high, w, wide).transpose(3, 4).flatten(4)
    blocks = x.reshape(batch, channels, h, high, w, wide).transpose(3, 4).flatten(4)
    return (blocks * logits.softmax(4)).sum(4)


class Moments:
    """Means and variances over the places of (H, W, N, C), (N, C), when asked for."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    @cached_property
    def mean(self) -> Tensor:
        return self.x.mean((0, 1))

    @cached_property
    def var(self) -> Tensor:
        # saves nothing but x for the backward pass
        return (self.x.square().mean((0, 1)) - self.mean.square()).clamp(min=0)


def affine_norm(
    norm: nn.BatchNorm2d, moments: Callable[[], tuple[Tensor, Tensor]], count: int
) -> tuple[Tensor, Tensor]:
    """A batch norm as (C,) scale and shift, its running statistics updated.

    Args:
        norm: in either mode.
        moments: gives each sample's means and variances, (N, C); only called where the batch's
            statistics are needed.
        count: over how many places they are.
    """
    if norm.training:
        means, variances = moments()
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        with torch.no_grad():
            total = count * len(means)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * (total / (total - 1)), norm.momentum)
            norm.num_batches_tracked += 1
    else:
        mean, var = norm.running_mean, norm.running_var
    scale = norm.weight * (var + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def channel_attention(channels: int, hidden: int, norm_cfg: Mapping) -> nn.Sequential:
    """The gates of the contexts' channels."""
    if hidden < 1:
        raise ValueError(
            f'context modelling: a reduction ratio above {channels} leaves no hidden channel '
            f'of {channels}; reduce it'
        )
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        build_norm_of_means(norm_cfg, hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        nn.Sigmoid(),
    )


class GlobalContextModeling(BaseModule):
    """Channels weighted by the context of all positions, then a norm.

    Args:
        channels: of the input, C.
        ratio: the hidden width is ``C // ratio``.
        norm_cfg: config of the norms.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: if no hidden channel is left.
    """

    def __init__(self, channels: int, ratio: int, norm_cfg: Mapping = BN) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        self.channel_attention = channel_attention(channels, channels // ratio, norm_cfg)
        self.bn = build_norm_layer(dict(norm_cfg), channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x * self._gates(x, self.conv_mask(x)))

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``mask`` (N, 1, H, W), of the pooling, and ``channel`` (N, C): the output is
        ``bn(x * channel[:, :, None, None])``."""
        logits = self.conv_mask(x)
        return dict(
            mask=pooling_mask(logits, (1, 1), 'released'),
            channel=self._gates(x, logits).flatten(1),
        )

    def _gates(self, x: Tensor, logits: Tensor) -> Tensor:
        return self.channel_attention(masked_pool(x, logits, (1, 1), 'released'))

    def rows_after_norms(self, x: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
        """``self(shuffle(norms(x)))`` of (H, W, N, C) in two passes over x instead of nine.

        A norm is a scale and a shift of channels. They, and this module's gates and own norm, are
        functions of each sample's moments and of one weighted mean, all of x itself, so that all
        that follows a convolution is one scale and shift, and only x is kept for the backward pass.

        Args:
            x: (H, W, N, C), of which every norm takes an equal part of the channels.
            norms: as many as there are groups to shuffle.
        """
        groups, channels, count = len(norms), x.shape[3], x.shape[0] * x.shape[1]

        def shuffled(v: Tensor) -> Tensor:
            return v if groups == 1 else v.view(-1, groups, channels // groups).mT.flatten(1)

        def unshuffled(v: Tensor) -> Tensor:
            return v if groups == 1 else v.view(-1, channels // groups, groups).mT.flatten(1)

        moments = Moments(x)
        affines, start = [], 0
        for norm in norms:
            part = slice(start, start + norm.num_features)
            affines.append(
                affine_norm(
                    norm,
                    lambda part=part: (moments.mean[:, part], moments.var[:, part]),
                    count,
                )
            )
            start = part.stop
        scale, shift = affines[0] if groups == 1 else map(torch.cat, zip(*affines))

        # the mask of what the norms give, but for a constant that its softmax does not see
        mask = unshuffled(self.conv_mask.weight.view(1, -1)) * scale
        context = hwnc.weighted_mean(x, F.linear(x, mask.view(1, -1), self.conv_mask.bias))
        context = shuffled(context * scale + shift)
        first, norm, _, second, _ = self.channel_attention
        hidden = F.linear(context, first.weight.flatten(1))
        hidden = hwnc.norm(norm, hidden).relu()
        gates = F.linear(hidden, second.weight.flatten(1), second.bias).sigmoid()

        def gated() -> tuple[Tensor, Tensor]:
            mean = gates * shuffled(moments.mean * scale + shift)
            return mean, gates.square() * shuffled(moments.var * scale.square())

        last_scale, last_shift = affine_norm(self.bn, gated, count)
        factor = unshuffled(gates * last_scale)
        offset = factor * shift + unshuffled(last_shift.view(1, -1))
        out = torch.addcmul(offset, x, factor * scale)
        if groups > 1:
            out = out.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3, 4)
        return out


class DenseContextModeling(BaseModule):
    """Channels of several branches weighted by the context of all, at the lowest resolution.

    Every branch is pooled to the size of the last one, whose own features enter as they are; the
    gates are enlarged (nearest) to the branches.

    Args:
        channels: of every branch, from the highest resolution to the lowest.
        ratio: the hidden width is ``sum(channels) // ratio``.
        pooling: ``'released'`` or ``'spatial'``, see :func:`masked_pool`.
        norm_cfg: config of the norm.

    Shape:
        a list of (N, C_i, H_i, W_i) -> the same

    Raises:
        ValueError: if no hidden channel is left or ``pooling`` is unknown.
    """

    def __init__(
        self,
        channels: Sequence[int],
        ratio: int,
        pooling: str = 'released',
        norm_cfg: Mapping = BN,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f'pooling must be one of {POOLINGS}, got {pooling!r}')
        self.channels, self.pooling = list(channels), pooling
        self.conv_mask = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in channels)
        # published checkpoints hold it, but the last branch is not pooled: DDP would wait for it
        self.conv_mask[-1].requires_grad_(False)
        total = sum(channels)
        self.channel_attention = channel_attention(total, total // ratio, norm_cfg)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        gates = self._gates(x)
        return [each * F.interpolate(gate, size=each.shape[2:]) for each, gate in zip(x, gates)]

    def attention_maps(self, x: list[Tensor]) -> list[dict[str, Tensor]]:
        """Of every branch ``gates`` (N, C_i, h, w), of the lowest resolution, which multiply the
        branch when enlarged, and of all but the last ``mask`` (N, 1, H_i, W_i), of the pooling."""
        maps = [dict(gates=gates) for gates in self._gates(x)]
        for each, conv, found in zip(x[:-1], self.conv_mask, maps):
            found['mask'] = pooling_mask(conv(each), x[-1].shape[2:], self.pooling)
        return maps

    def _gates(self, x: list[Tensor]) -> tuple[Tensor, ...]:
        size = x[-1].shape[2:]
        pooled = [
            masked_pool(each, mask(each), size, self.pooling)
            for each, mask in zip(x[:-1], self.conv_mask)
        ]
        gates = self.channel_attention(torch.cat([*pooled, x[-1]], dim=1))
        return gates.split(self.channels, dim=1)

    def rows(self, x: list[Tensor]) -> list[Tensor]:
        """The same of (H, W, N, C)."""
        size = x[-1].shape[:2]
        pooled = [
            hwnc.masked_pool(each, hwnc.conv(mask, each), size, self.pooling)
            for each, mask in zip(x[:-1], self.conv_mask)
        ]
        gates = hwnc.run(self.channel_attention, torch.cat([*pooled, x[-1]], dim=3))
        return [
            hwnc.enlarged_product(each, gate)
            for each, gate in zip(x, gates.split(self.channels, dim=3))
        ]
