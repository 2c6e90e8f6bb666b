"""Dite-HRNet on (H, W, N, C) tensors: faster on a CPU, in training as in evaluation.

Each function is the forward pass of a module of :mod:`.network` or :mod:`.fused`, equal but for
rounding. :mod:`...layers.hwnc` says why this order of dimensions is faster.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmpose_attn.models.layers import hwnc
from mmpose_attn.models.layers.context_modeling import DenseContextModeling, GlobalContextModeling
from mmpose_attn.models.layers.dynamic_conv import DynamicConv, DynamicSplitConv, KernelAttention

from .fused import Contexts, FusedBlock, FusedConv, FusedModule, FusedStem, Kernels

if TYPE_CHECKING:
    from .network import DiteBlock, DiteHRNet, DiteModule, DiteStem


def suits(network: 'DiteHRNet', x: Tensor) -> bool:
    """Whether the network is faster here, and is what it is in (N, C, H, W)."""
    norm = network.stem.conv1.norm
    plain = type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats
    return bool(
        # a norm of one or two images' means is little but signs, so that rounding decides what
        # training sees: there the authors' order of operations is kept
        (len(x) > 2 or not network.training)
        and x.device.type == 'cpu'
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(x.device.type)
        and (type(norm) is nn.Identity or (plain and norm.momentum))
    )


def forward(network: 'DiteHRNet', x: Tensor) -> tuple[Tensor, ...]:
    """:meth:`.network.DiteHRNet.forward`, of and to (N, C, H, W)."""
    x = [stem(network.stem, x)]
    for stage in range(network.num_stages):
        x = [
            x[min(i, len(x) - 1)] if layers is None else hwnc.apply(layers, x[min(i, len(x) - 1)])
            for i, layers in enumerate(getattr(network, f'transition{stage}'))
        ]
        for each in getattr(network, f'stage{stage}'):
            x = module(each, x)
    if network.with_head:
        x = head(network.head_layer, x)
    return tuple(map(hwnc.to_nchw, x if network.all_branches else x[:1]))


def head(layer: nn.Module, x: list[Tensor]) -> list[Tensor]:
    """MMPose's ``IterativeHead`` of (H_i, W_i, N, C_i)."""
    outs = []
    for each, layers in zip(reversed(x), layer.projects, strict=True):
        if outs:
            each = each + hwnc.upsample_bilinear(outs[-1], each.shape[:2])
        outs.append(hwnc.apply(layers, each))
    return outs[::-1]


# ------------------------------------------------------------------------------------------- stem
def stem(layer: 'DiteStem | FusedStem', x: Tensor) -> Tensor:
    """(N, in_channels, H, W) -> (H / 4, W / 4, N, out_channels)"""
    x = layer.conv1(x.contiguous(memory_format=torch.channels_last)).permute(2, 3, 0, 1)
    run = fused_branch if isinstance(layer, FusedStem) else branch
    first, second = x.chunk(2, dim=3)  # (H / 2, W / 2, N, stem_channels / 2)
    return hwnc.shuffle_halves(run(layer.branch1, first), run(layer.branch2, second))


def branch(layers: nn.Sequential, x: Tensor) -> Tensor:
    """A branch of :class:`DiteStem`, of (H, W, N, C)."""
    first, context, *others = layers
    x = dynamic_conv(first.conv, x.contiguous(), x.mean((0, 1)))
    x = norms_and_context([first.norm], context, x)
    for layer in others:
        x = dynamic_conv(layer.conv, x, x.mean((0, 1)))
        x = hwnc.apply(layer.norm, x)
        x = layer.activate(x) if layer.with_activation else x
    return x


def fused_branch(layers: nn.Sequential, x: Tensor) -> Tensor:
    """A branch of :class:`FusedStem`, of (H, W, N, C)."""
    x = x.contiguous()
    for layer in layers:
        if isinstance(layer, Contexts):
            (x,) = contexts(layer, [x])
        elif isinstance(layer, FusedConv):
            x = kernels(layer.kernels, x, layer.gates(x.mean((0, 1))))
            x = x.relu_() if layer.relu else x
        else:
            x = hwnc.apply(layer, x)
    return x


# ----------------------------------------------------------------------------------------- module
def module(layer: 'DiteModule | FusedModule', x: list[Tensor]) -> list[Tensor]:
    """A list of (H_i, W_i, N, C_i) -> the same"""
    for each in layer.layers:
        x = block(each, x)
    return fuse(layer, x) if layer.with_fuse else x


def fuse(layer: 'DiteModule | FusedModule', x: list[Tensor]) -> list[Tensor]:
    """:meth:`.network.DiteModule.fuse` of (H_i, W_i, N, C_i)."""
    in_weights = isinstance(layer, FusedModule)
    x, outs = list(x), []
    for i, row in enumerate(layer.fuse_layers):
        out = x[0] if i == 0 else hwnc.apply(row[0], x[0])  # (H_i, W_i, N, C_i)
        weight = 2 if i == 0 or not in_weights else 1  # of what is in out
        for j in range(1, i + 1):
            term = x[j] if j == i else hwnc.apply(row[j], x[j])
            out, weight = torch.add(term, out, alpha=weight), 1
        # from the lowest resolution up, so that sums are small and the upsampled is added once
        below = None
        for j in reversed(range(i + 1, len(x))):
            term = hwnc.apply(row[j][1], hwnc.apply(row[j][0], x[j]))  # (H_j, W_j, N, C_i)
            below = term if below is None else hwnc.add_upsampled(term, below)
        if below is not None:
            out, weight = hwnc.add_upsampled(out, below, weight), 1
        outs.append(F.relu(out if weight == 1 else weight * out, inplace=True))
        x[0] = outs[0]
    return outs


def block(layer: 'DiteBlock | FusedBlock', x: list[Tensor]) -> list[Tensor]:
    """A list of (H_i, W_i, N, C_i) -> the same"""
    if isinstance(layer, FusedBlock):
        return fused_block(layer, x)
    if layer.with_cp and any(each.requires_grad for each in x):
        return checkpoint(plain_block, layer, x, use_reentrant=False)
    return plain_block(layer, x)


def plain_block(layer: 'DiteBlock', x: list[Tensor]) -> list[Tensor]:
    kept, changed = zip(*(each.chunk(2, dim=3) for each in x))  # (H_i, W_i, N, C_i / 2)
    changed = [
        norms_and_context([each.norm for each in conv.conv], gcm, split_conv(conv, each))
        for each, conv, gcm in zip(dense_context(layer.dcm, changed), layer.conv, layer.gcm)
    ]
    return join(layer, kept, changed)


def fused_block(layer: FusedBlock, x: list[Tensor]) -> list[Tensor]:
    kept, changed = zip(*(each.chunk(2, dim=3) for each in x))  # (H_i, W_i, N, C_i / 2)
    size = changed[-1].shape[:2]
    pooled = [
        hwnc.masked_pool(each, F.linear(each, mask.weight.flatten(1)), size, layer.pooling)
        for each, mask in zip(changed, layer.masks)
    ]
    gates = layer.attention(torch.cat([*pooled, changed[-1]], dim=3))  # (h, w, N, sum of C_i / 2)
    changed = [
        hwnc.multiply_upsampled(*pair) for pair in zip(changed, gates.split(layer.widths, dim=3))
    ]
    gates = layer.kernel_gates([each.mean((0, 1)) for each in changed])  # of (N, kernels)
    changed = [kernels(*args) for args in zip(layer.kernels, changed, gates)]
    return join(layer, kept, contexts(layer.contexts, changed))


def join(
    layer: 'DiteBlock | FusedBlock', kept: Sequence[Tensor], changed: Sequence[Tensor]
) -> list[Tensor]:
    """Both halves of every branch's channels -> (H_i, W_i, N, C_i), with plugins."""
    inners, outers, outs = layer.sites['after_context'], layer.sites['block'], []
    for keep, change, inner, outer in zip(kept, changed, inners, outers):
        change = hwnc.to_hwnc(inner(hwnc.to_nchw(change))) if inner else change
        out = hwnc.shuffle_halves(keep, change)
        outs.append(hwnc.to_hwnc(outer(hwnc.to_nchw(out))) if outer else out)
    return outs


# ------------------------------------------------------------------------------------ convolutions
def kernel_attention(attention: KernelAttention, means: Tensor) -> Tensor:
    """(N, C) means -> (N, num_kernels), without convolutions of single pixels"""
    hidden = F.linear(means, attention.conv1.weight.flatten(1))  # (N, hidden)
    hidden = hwnc.batch_norm(attention.bn, hidden).relu()
    return F.linear(hidden, attention.conv2.weight.flatten(1), attention.conv2.bias).sigmoid()


def dynamic_conv(layer: DynamicConv, x: Tensor, means: Tensor) -> Tensor:
    """A depthwise or 1x1 dynamic convolution of (H, W, N, C), whose (N, C) means are given."""
    kernels = layer.aggregation(kernel_attention(layer.attention, means))
    if layer.groups > 1:
        return hwnc.depthwise_conv2d(x, kernels, stride=layer.stride)
    kernels = kernels.view(x.shape[2], layer.out_channels, layer.in_channels)
    out = x.flatten(0, 1).transpose(0, 1) @ kernels.mT  # (N, H W, out)
    return out.transpose(0, 1).reshape(*x.shape[:3], -1)


def split_conv(layer: DynamicSplitConv, x: Tensor) -> Tensor:
    """(H, W, N, C) -> the groups' outputs side by side, neither normalised nor shuffled"""
    means = x.mean((0, 1)) if isinstance(layer.conv[0].conv, DynamicConv) else None
    outs, start = [], 0
    for each, width in zip(layer.conv, layer.splits, strict=True):
        part = x.narrow(3, start, width)  # (H, W, N, width)
        if means is None:
            outs.append(hwnc.conv2d(each.conv, part))
        else:
            outs.append(dynamic_conv(each.conv, part, means.narrow(1, start, width)))
        start += width
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=3)


def kernels(layer: Kernels, x: Tensor, gates: Tensor | None) -> Tensor:
    """(H, W, N, in) and (N, kernels) gates -> (H', W', N, out)"""
    batch, table = x.shape[2], layer.table
    # (N, out * in / groups * k * k)
    weight = table[0].repeat(batch, 1, 1, 1) if gates is None else gates @ table
    if layer.groups > 1:
        shift = layer.shift.repeat(batch) if batch > 1 else layer.shift
        weight = weight.view(-1, *layer.shape[1:])  # (N * out, 1, k, k)
        return hwnc.depthwise_conv2d(x, weight, shift, layer.stride)
    weight = weight.view(batch, *layer.shape[:2]).transpose(1, 2)  # (N, in, out)
    out = torch.baddbmm(layer.shift, x.flatten(0, 1).transpose(0, 1), weight)  # (N, H W, out)
    return out.transpose(0, 1).reshape(*x.shape[:3], -1)


# --------------------------------------------------------------------------------------- contexts
def dense_context(layer: DenseContextModeling, x: Sequence[Tensor]) -> list[Tensor]:
    """A list of (H_i, W_i, N, C_i) -> the same"""
    size = x[-1].shape[:2]
    pooled = [
        hwnc.masked_pool(each, hwnc.conv2d(mask, each), size, layer.pooling)
        for each, mask in zip(x[:-1], layer.conv_mask)
    ]
    gates = hwnc.apply(layer.channel_attention, torch.cat([*pooled, x[-1]], dim=3))
    gates = gates.split(layer.channels, dim=3)  # (h, w, N, C_i)
    return [hwnc.multiply_upsampled(*pair) for pair in zip(x, gates, strict=True)]


def contexts(layer: Contexts, x: Sequence[Tensor]) -> list[Tensor]:
    """A list of (H_i, W_i, N, C_i) -> the same"""
    means = [
        hwnc.weighted_mean(each, F.linear(each, mask))  # (N, C_i)
        for each, mask in zip(x, layer.masks, strict=True)
    ]
    gates = layer.gates(torch.cat(means, dim=1)).split(layer.widths, dim=1)
    return [
        hwnc.channel_shuffle(torch.addcmul(shift, each, gate), groups)
        for each, gate, shift, groups in zip(x, gates, layer.shifts, layer.groups, strict=True)
    ]


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
        mean = means.mean(0)  # (C,)
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


def norms_and_context(
    norms: Sequence[nn.BatchNorm2d], context: GlobalContextModeling, x: Tensor
) -> Tensor:
    """``context(channel_shuffle(norms(x)))`` in two passes over x instead of nine.

    A norm is a scale and a shift of channels. They, and the context's gates and own norm, are
    functions of each sample's moments and of one weighted mean, all of x itself, so that all
    that follows a convolution is one scale and shift, and only x is kept for the backward pass.

    Args:
        norms: as many as there are groups to shuffle.
        context: what follows them.
        x: (H, W, N, C), of which every norm takes an equal part of the channels.

    Returns:
        (H, W, N, C)
    """
    groups, channels, count = len(norms), x.shape[3], x.shape[0] * x.shape[1]

    def shuffled(v: Tensor) -> Tensor:
        return v if groups == 1 else v.view(-1, groups, channels // groups).mT.flatten(1)

    def unshuffled(v: Tensor) -> Tensor:
        return v if groups == 1 else v.view(-1, channels // groups, groups).mT.flatten(1)

    moments = Moments(x)

    def part(start: int, stop: int) -> Callable[[], tuple[Tensor, Tensor]]:
        return lambda: (moments.mean[:, start:stop], moments.var[:, start:stop])

    affines, start = [], 0
    for norm in norms:
        stop = start + norm.num_features
        affines.append(affine_norm(norm, part(start, stop), count))
        start = stop
    scale, shift = affines[0] if groups == 1 else map(torch.cat, zip(*affines))  # (C,)

    # the mask of what the norms give, but for a constant that its softmax does not see
    mask = unshuffled(context.conv_mask.weight.view(1, -1)) * scale  # (1, C)
    mean = hwnc.weighted_mean(x, F.linear(x, mask.view(1, -1), context.conv_mask.bias))
    mean = shuffled(mean * scale + shift)  # (N, C)
    first, norm, _, second, _ = context.channel_attention
    hidden = hwnc.batch_norm(norm, F.linear(mean, first.weight.flatten(1))).relu()  # (N, C // r)
    gates = F.linear(hidden, second.weight.flatten(1), second.bias).sigmoid()  # (N, C)

    def gated() -> tuple[Tensor, Tensor]:
        mean = gates * shuffled(moments.mean * scale + shift)
        return mean, gates.square() * shuffled(moments.var * scale.square())

    last_scale, last_shift = affine_norm(context.bn, gated, count)
    factor = unshuffled(gates * last_scale)  # (N, C)
    offset = factor * shift + unshuffled(last_shift.view(1, -1))
    return hwnc.channel_shuffle(torch.addcmul(offset, x, factor * scale), groups)
