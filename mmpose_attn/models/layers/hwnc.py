"""Operations on (H, W, N, C) tensors, which a CPU computes faster than on (N, C, H, W).

A batch of dynamic depthwise kernels is one depthwise convolution of N * C channels; here they lie
innermost in memory, as the libraries' kernels for depthwise convolutions want them. A 1x1
convolution is a product of matrices, and a gate of each sample's channels a row to multiply by.
"""

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn
from torch.nn import functional as F

CONTAINERS = (nn.Sequential, ConvModule, DepthwiseSeparableConvModule)


def to_hwnc(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (H, W, N, C)"""
    return x.permute(2, 3, 0, 1).contiguous()


def to_nchw(x: Tensor) -> Tensor:
    """(H, W, N, C) -> (N, C, H, W)"""
    return x.permute(2, 3, 0, 1).contiguous()


def merge_batch(x: Tensor) -> Tensor:
    """(H, W, N, C) -> a view (1, N * C, H, W), channels last, for PyTorch's own functions."""
    return x.reshape(1, *x.shape[:2], -1).permute(0, 3, 1, 2)


def split_batch(x: Tensor, batch: int) -> Tensor:
    """(1, N * C, H, W) -> (H, W, N, C)"""
    return x.permute(0, 2, 3, 1).reshape(*x.shape[2:], batch, -1)


# ------------------------------------------------------------------------- convolutions and norms
def depthwise_conv2d(
    x: Tensor, kernels: Tensor, bias: Tensor | None = None, stride: int = 1
) -> Tensor:
    """Convolve every sample's channels with their own kernels, padded to keep the size.

    Args:
        x: (H, W, N, C).
        kernels: (N * C, 1, k, k).
        bias: (N * C,).
        stride: the same in both directions.

    Returns:
        (H / stride, W / stride, N, C)
    """
    padding, groups = kernels.shape[-1] // 2, len(kernels)
    out = F.conv2d(merge_batch(x), kernels, bias, stride, padding, 1, groups)  # (1, N C, H', W')
    return split_batch(out, x.shape[2])


def conv2d(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A plain convolution that keeps the size but for its stride, depthwise or 1x1."""
    weight, bias, batch = layer.weight, layer.bias, x.shape[2]
    if layer.groups == 1:
        return F.linear(x, weight.flatten(1), bias)  # (H, W, N, out)
    if batch > 1 and weight.shape[-1] > 3:
        # gradients of large kernels are expensive: rather one for the batch than one each
        x = x.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)  # (N, C, H, W)
        return layer(x).permute(2, 3, 0, 1)
    if batch > 1:
        weight = weight.expand(batch, *weight.shape).flatten(0, 1)  # (N C, 1, k, k)
        bias = None if bias is None else bias.repeat(batch)  # (N C,)
    return depthwise_conv2d(x, weight, bias, layer.stride[0])


def batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A batch norm of (N, C, ...), which the layer itself refuses for (N, C)."""
    if layer.training:
        layer.num_batches_tracked.add_(1)
    mean, var, weight, bias = layer.running_mean, layer.running_var, layer.weight, layer.bias
    return F.batch_norm(x, mean, var, weight, bias, layer.training, layer.momentum, layer.eps)


def apply(layers: nn.Module, x: Tensor) -> Tensor:
    """(Nested) sequences of plain convolutions, batch norms and activations, of (H, W, N, C)."""
    if isinstance(layers, nn.Conv2d):
        return conv2d(layers, x)
    if isinstance(layers, nn.BatchNorm2d):
        out = batch_norm(layers, x.view(1, -1, *x.shape[2:]).permute(0, 3, 1, 2))  # (1, C, H W, N)
        return out.permute(0, 2, 3, 1).view(x.shape)
    if isinstance(layers, CONTAINERS):
        # children() would leave out what runs a second time
        for layer in layers if isinstance(layers, nn.Sequential) else layers.children():
            x = apply(layer, x)
        return x
    return layers(x)  # an activation or nothing


# ------------------------------------------------------------------------------------ resolutions
def _widened(x: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
    """x and a tensor of lower resolution as (h, H / h, W, N, C) and (h, 1, W, N, C).

    The upsampled tensor is never in memory, but its rows are: the gradient is then a sum over a
    single dimension, which takes PyTorch a tenth of the time of one over two.
    """
    h, w = small.shape[:2]
    times = x.shape[1] // w
    small = small[:, :, None].expand(-1, -1, times, -1, -1)  # (h, w, W / w, N, C)
    return x.unflatten(0, (h, -1)), small.reshape(h, 1, *x.shape[1:])


def multiply_upsampled(x: Tensor, gates: Tensor) -> Tensor:
    """x times gates (h, w, N, C) of a lower resolution, upsampled (nearest)."""
    x, gates = _widened(x, gates)
    return (x * gates).flatten(0, 1)  # (H, W, N, C)


def add_upsampled(x: Tensor, small: Tensor, weight: float = 1) -> Tensor:
    """``weight * x`` plus a tensor (h, w, N, C) of lower resolution, upsampled (nearest)."""
    x, small = _widened(x, small)
    return torch.add(small, x, alpha=weight).flatten(0, 1)  # (H, W, N, C)


def upsample_bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w, N, C) -> (H, W, N, C) for the size (H, W), corners aligned."""
    out = F.interpolate(merge_batch(x), size=size, mode='bilinear', align_corners=True)
    return split_batch(out, x.shape[2])


# --------------------------------------------------------------------------------- masked pooling
def weighted_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over all places, weighted by the softmax of a mask.

    Args:
        x: (H, W, N, C).
        mask: (H, W, N, 1).

    Returns:
        (N, C)
    """
    weights = mask.flatten(0, 1).softmax(0).permute(1, 2, 0)  # (N, 1, H W)
    return torch.bmm(weights, x.flatten(0, 1).transpose(0, 1)).squeeze(1)


def _blocks(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W, N, C) -> (h, w, H / h * W / w, N, C)"""
    h, w = size
    x = x.view(h, x.shape[0] // h, w, x.shape[1] // w, *x.shape[2:])
    return x.transpose(1, 2).flatten(2, 3)


def masked_pool(x: Tensor, mask: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    """:func:`.context_modeling.masked_pool` of (H, W, N, C) and (H, W, N, 1) -> (h, w, N, C)."""
    batch, channels = x.shape[2:]
    h, w = size
    if pooling == 'released':
        # it is defined by neighbours in the memory of (N, C, H, W)
        mask = mask.flatten(0, 1).softmax(0).transpose(0, 1)  # (N, H W, 1)
        mask = mask.reshape(batch, h * w, -1, 1)  # (N, h w, H W / h w, 1)
        x = x.permute(2, 3, 0, 1).reshape(batch, h * w, channels, -1)  # (N, h w, C, H W / h w)
        return (x @ mask).view(batch, h, w, channels).permute(1, 2, 0, 3)
    return (_blocks(x, size) * _blocks(mask, size).softmax(2)).sum(2)


# --------------------------------------------------------------------------------------- channels
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """(H, W, N, C), channel c of group g becoming channel ``c * groups + g``."""
    if groups == 1:
        return x
    return x.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3, 4)


def shuffle_halves(x: Tensor, y: Tensor) -> Tensor:
    """Two (H, W, N, C) -> (H, W, N, 2 C), concatenated and shuffled: their channels in turn."""
    return torch.stack((x, y), dim=4).flatten(3, 4)
