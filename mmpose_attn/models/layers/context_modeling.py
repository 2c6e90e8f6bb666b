"""Adaptive context modelling: Dite-HRNet, Li et al., IJCAI 2022, doi 10.24963/ijcai.2022/153."""

from collections.abc import Mapping, Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmpose_attn.models.defaults import BN

from .norms import build_norm_of_means

POOLINGS = ('released', 'spatial')


def pooling_mask(logits: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    """What :func:`masked_pool` weighs the places by, (N, 1, H, W): its softmax as a map."""
    if pooling == 'released':
        return logits.flatten(1).softmax(1).view_as(logits)
    height, width = logits.shape[2:]
    h, w = size
    # (N, 1, h, w, H / h, W / w)
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
        mask = logits.flatten(1).softmax(1).view(batch, h * w, -1, 1)  # (N, h w, H W / h w, 1)
        out = x.reshape(batch, h * w, channels, -1) @ mask  # (N, h w, C, 1)
        return out.transpose(1, 2).reshape(batch, channels, h, w)
    high, wide = height // h, width // w  # of a block; below (N, 1 or C, h, w, high * wide)
    logits = logits.view(batch, 1, h, high, w, wide).transpose(3, 4).flatten(4)
    blocks = x.reshape(batch, channels, h, high, w, wide).transpose(3, 4).flatten(4)
    return (blocks * logits.softmax(4)).sum(4)


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
        logits = self.conv_mask(x)  # (N, 1, H, W)
        return self.bn(x * self._gates(x, logits))

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``mask`` (N, 1, H, W), of the pooling, and ``channel`` (N, C): the output is
        ``bn(x * channel[:, :, None, None])``."""
        logits = self.conv_mask(x)
        return dict(
            mask=pooling_mask(logits, (1, 1), 'released'),
            channel=self._gates(x, logits).flatten(1),
        )

    def _gates(self, x: Tensor, logits: Tensor) -> Tensor:
        """(N, C, H, W) and the mask's (N, 1, H, W) -> (N, C, 1, 1)"""
        return self.channel_attention(masked_pool(x, logits, (1, 1), 'released'))


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
        gates = self._gates(x)  # (N, C_i, h, w) of the lowest resolution
        return [each * F.interpolate(gate, size=each.shape[2:]) for each, gate in zip(x, gates)]

    def attention_maps(self, x: list[Tensor]) -> list[dict[str, Tensor]]:
        """Of every branch ``gates`` (N, C_i, h, w), of the lowest resolution, which multiply the
        branch when enlarged, and of all but the last ``mask`` (N, 1, H_i, W_i), of the pooling."""
        maps = [dict(gates=gates) for gates in self._gates(x)]
        for each, conv, found in zip(x[:-1], self.conv_mask, maps):
            found['mask'] = pooling_mask(conv(each), x[-1].shape[2:], self.pooling)
        return maps

    def _gates(self, x: list[Tensor]) -> tuple[Tensor, ...]:
        """(N, C_i, H_i, W_i) of every branch -> (N, C_i, h, w), of the lowest resolution"""
        size = x[-1].shape[2:]
        pooled = [
            masked_pool(each, mask(each), size, self.pooling)  # (N, C_i, h, w)
            for each, mask in zip(x[:-1], self.conv_mask)
        ]
        gates = self.channel_attention(torch.cat([*pooled, x[-1]], dim=1))  # (N, sum of C_i, h, w)
        return gates.split(self.channels, dim=1)
