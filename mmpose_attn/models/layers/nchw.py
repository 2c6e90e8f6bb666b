"""Operations on (N, C, H, W) tensors in the forms that onnxruntime computes fastest."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .context_modeling import masked_pool


def upsample_nearest(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W); by a constant factor, so that an exporter knows the size."""
    return F.interpolate(x, scale_factor=int(like.shape[2]) // int(x.shape[2]))


def scale(x: Tensor, factor: float) -> Tensor:
    """A product; for onnxruntime as a convolution, to whose result it adds in the same pass."""
    if not torch.onnx.is_in_onnx_export():
        return x if factor == 1 else factor * x
    kernels = torch.full((x.shape[1], 1, 1, 1), factor, dtype=x.dtype, device=x.device)
    return F.conv2d(x, kernels, groups=x.shape[1])


def pool_places(x: Tensor, mask: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    """:func:`.context_modeling.masked_pool` of (N, C, H, W) by a mask's kernel -> (N h w, C).

    Args:
        x: (N, C, H, W).
        mask: (1, C), the weight of a 1x1 convolution whose output is the mask.
        size: (h, w), divisors of (H, W).
        pooling: of :data:`.context_modeling.POOLINGS`.
    """
    batch, channels = x.shape[:2]
    logits = mask @ x.flatten(2)  # (N, 1, H W)
    if pooling != 'released':
        return masked_pool(x, logits, size, pooling).permute(0, 2, 3, 1).flatten(0, 2)
    places = batch * size[0] * size[1]
    weights = logits.softmax(2).view(places, -1)  # (N h w, H W / h w)
    count = weights.shape[1]
    if torch.onnx.is_in_onnx_export() and (count > 4 or places <= 256):
        # onnxruntime multiplies many small matrices faster as a convolution's groups
        x = x.reshape(1, places, channels, count)
        out = F.conv2d(x, weights.view(places, 1, 1, count), groups=places)  # (1, N h w, C, 1)
        return out.view(places, channels)
    if count > 4:
        return (x.reshape(places, channels, -1) @ weights[:, :, None]).view(places, -1)
    # of still smaller ones, two large products of zeros and ones are faster
    one = torch.eye(count, dtype=x.dtype, device=x.device)
    many = torch.eye(channels, dtype=x.dtype, device=x.device)
    product = x.reshape(places, -1) * (weights @ one.repeat(1, channels))  # (N h w, C * count)
    return product @ many.repeat_interleave(count, dim=0)


def multiply_upsampled(x: Tensor, gates: Tensor) -> Tensor:
    """x times gates of a lower resolution, upsampled (nearest).

    Args:
        x: (N, C, H, W).
        gates: (1, C, h, w), or of a batch (C, N, h, w).
    """
    width = gates.shape[3]
    factor = int(x.shape[3]) // int(width)
    if factor == 2:
        gates = F.interpolate(gates, scale_factor=2)
    elif factor > 2:
        # upsampled along W and repeated by one product, which is faster than onnxruntime's Resize
        one = torch.eye(width, dtype=gates.dtype, device=gates.device)
        gates = gates @ one.repeat_interleave(factor, dim=1).repeat(1, factor)  # (..., h, W H / h)
        gates = gates.view(*gates.shape[:2], *x.shape[2:])
    return x * (gates if len(x) == 1 else gates.transpose(0, 1))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """(N, C, H, W), channel c of group g becoming channel ``c * groups + g``, as one gather."""
    if groups == 1:
        return x
    order = torch.arange(x.shape[1], device=x.device)
    return x[:, order.view(groups, -1).t().flatten()]


def shuffle_halves(x: Tensor, y: Tensor) -> Tensor:
    """Two (N, C, H, W) -> (N, 2 C, H, W), concatenated and shuffled: their channels in turn."""
    # memory of (N, C, 2 H, W) is that of (N, C, 2, H, W)
    return torch.cat((x, y), dim=2).view(len(x), -1, *x.shape[2:])
