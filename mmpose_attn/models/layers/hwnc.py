"""Tensors as (H, W, N, C) instead of (N, C, H, W): for CPUs, where it is the faster order.

A batch of dynamic depthwise kernels is one depthwise convolution of N * C channels; here they lie
innermost in memory, as the libraries' kernels for depthwise convolutions want them. A 1x1
convolution is a product of matrices, and a gate of each sample's channels a row to multiply by.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def turned(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (H, W, N, C), and back."""
    return x.permute(2, 3, 0, 1).contiguous()


def images(x: Tensor) -> Tensor:
    """(H, W, N, C) -> a view (1, N * C, H, W), channels last, for PyTorch's own functions."""
    return x.reshape(1, *x.shape[:2], -1).permute(0, 3, 1, 2)


def rows(x: Tensor, batch: int) -> Tensor:
    """What :func:`images` turns around."""
    return x.permute(0, 2, 3, 1).reshape(*x.shape[2:], batch, -1)


def depthwise(x: Tensor, kernels: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Convolve every sample's channels with their own kernels, padded to keep the size.

    Args:
        x: (H, W, N, C).
        kernels: (N * C, 1, k, k).
        bias: (N * C,).
        stride: the same in both directions.
    """
    out = F.conv2d(images(x), kernels, bias, stride, kernels.shape[-1] // 2, 1, len(kernels))
    return rows(out, x.shape[2])


def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A plain convolution that keeps the size but for its stride, depthwise or 1x1."""
    weight, bias, batch = layer.weight, layer.bias, x.shape[2]
    if layer.groups == 1:
        return F.linear(x, weight.flatten(1), bias)
    if batch > 1 and weight.shape[-1] > 3:
        # gradients of large kernels are expensive: rather one for the batch than one each
        x = x.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
        return layer(x).permute(2, 3, 0, 1)
    if batch > 1:
        weight = weight.expand(batch, *weight.shape).flatten(0, 1)
        bias = None if bias is None else bias.repeat(batch)
    return depthwise(x, weight, bias, layer.stride[0])


def norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A batch norm of (N, C, ...), also of (N, C)."""
    if layer.training:
        layer.num_batches_tracked.add_(1)
    mean, var, weight, bias = layer.running_mean, layer.running_var, layer.weight, layer.bias
    return F.batch_norm(x, mean, var, weight, bias, layer.training, layer.momentum, layer.eps)


def run(layers: nn.Module, x: Tensor) -> Tensor:
    """(Nested) sequences of plain convolutions, batch norms and activations, of (H, W, N, C)."""
    if isinstance(layers, nn.Conv2d):
        return conv(layers, x)
    if isinstance(layers, nn.BatchNorm2d):
        out = norm(layers, x.view(1, -1, *x.shape[2:]).permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1).view(x.shape)
    if not layers._modules:
        return layers(x)
    for layer in layers._modules.values():
        x = run(layer, x)
    return x


def blocks(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W, N, C) -> (h, H / h, w, W / w, N, C)"""
    h, w = size
    return x.view(h, x.shape[0] // h, w, x.shape[1] // w, *x.shape[2:])


def _widened(x: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
    """x and a tensor of lower resolution as (h, H / h, W, N, C) and (h, 1, W, N, C).

    The enlarged tensor is never in memory, but its rows are: the gradient is then a sum over a
    single dimension, which takes PyTorch a tenth of the time of one over two.
    """
    h, w = small.shape[:2]
    times = x.shape[1] // w
    small = small[:, :, None].expand(-1, -1, times, -1, -1).reshape(h, 1, *x.shape[1:])
    return x.unflatten(0, (h, -1)), small


def enlarged_product(x: Tensor, gates: Tensor) -> Tensor:
    """x times gates of a lower resolution, enlarged (nearest)."""
    x, gates = _widened(x, gates)
    return (x * gates).flatten(0, 1)


def enlarged_sum(x: Tensor, small: Tensor, weight: float = 1) -> Tensor:
    """``weight * x`` and a tensor of lower resolution, enlarged (nearest)."""
    x, small = _widened(x, small)
    return torch.add(small, x, alpha=weight).flatten(0, 1)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners aligned."""
    out = F.interpolate(images(x), size=size, mode='bilinear', align_corners=True)
    return rows(out, x.shape[2])


def weighted_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over all places, weighted by the softmax of a mask.

    Args:
        x: (H, W, N, C).
        mask: (H, W, N, 1).

    Returns:
        (N, C)
    """
    weights = mask.flatten(0, 1).softmax(0).permute(1, 2, 0)
    return torch.bmm(weights, x.flatten(0, 1).transpose(0, 1)).squeeze(1)


def masked_pool(x: Tensor, mask: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    """:func:`.context_modeling.masked_pool` of (H, W, N, C) and (H, W, N, 1) -> (h, w, N, C)."""
    batch, channels = x.shape[2:]
    h, w = size
    if pooling == 'released':
        # it is defined by neighbours in the memory of (N, C, H, W)
        mask = mask.flatten(0, 1).softmax(0).transpose(0, 1).reshape(batch, h * w, -1, 1)
        x = x.permute(2, 3, 0, 1).reshape(batch, h * w, channels, -1)
        return (x @ mask).view(batch, h, w, channels).permute(1, 2, 0, 3)
    mask = blocks(mask, size).transpose(1, 2).flatten(2, 3).softmax(2)
    return (blocks(x, size).transpose(1, 2).flatten(2, 3) * mask).sum(2)


def interleave(x: Tensor, y: Tensor) -> Tensor:
    """Two (H, W, N, C) -> (H, W, N, 2 C), their channels in turn."""
    return torch.stack((x, y), dim=4).flatten(3, 4)


def join(
    kept: Sequence[Tensor], changed: Sequence[Tensor], sites: Mapping[str, nn.ModuleList]
) -> list[Tensor]:
    """The halves of every branch's channels interleaved, with plugins."""
    outs = []
    for keep, change, inner, outer in zip(kept, changed, sites['after_context'], sites['block']):
        change = turned(inner(turned(change))) if inner else change
        out = interleave(keep, change)
        outs.append(turned(outer(turned(out))) if outer else out)
    return outs
