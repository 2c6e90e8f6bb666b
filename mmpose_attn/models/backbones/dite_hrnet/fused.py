"""Dite-HRNet for inference: the same function by fewer and larger operations.

Tensors are (H, W, N, C), see :mod:`..layers.hwnc`.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...layers import hwnc
from ...layers.context_modeling import GlobalContextModeling, masked_pool
from ...layers.dynamic_conv import DynamicConv, KernelAttention


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold, in place, every batch norm that follows a plain convolution into it."""
    pairs = []
    if isinstance(module, nn.Sequential):
        names = list(module._modules)
        pairs = list(pairwise(names))
    elif isinstance(module, ConvModule):
        pairs = [('conv', module.norm_name)] if module.with_norm else []
    elif isinstance(module, KernelAttention):
        pairs = [('conv1', 'bn')]
    for first, second in pairs:
        conv, norm = module._modules[first], module._modules[second]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
            module._modules[first] = fuse_conv_bn_eval(conv, norm)
            module._modules[second] = nn.Identity()
    for child in module.children():
        fold_norms(child)
    return module


def affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A norm in evaluation mode as (C,) scale and shift; an identity's are 1 and 0."""
    if isinstance(norm, nn.Identity):
        return torch.tensor(1.0), torch.tensor(0.0)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


class Gates(nn.Module):
    """Several pairs of 1x1 convolutions of single pixels, ReLU and sigmoid, as one.

    Args:
        pairs: convolutions, the norms folded.
        scale: of every gate, or None.
    """

    def __init__(
        self, pairs: Sequence[tuple[nn.Conv2d, nn.Conv2d]], scale: Tensor | None = None
    ) -> None:
        super().__init__()
        for name, convs in zip(('first', 'second'), zip(*pairs)):
            weight = torch.block_diag(*(conv.weight.flatten(1) for conv in convs))
            linear = nn.Linear(*weight.shape[::-1])
            linear.weight = nn.Parameter(weight)
            linear.bias = nn.Parameter(torch.cat([conv.bias for conv in convs]))
            self.add_module(name, linear)
        self.register_buffer('scale', scale)

    def rows(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        """(..., ins) -> (..., gates), or those that ``order`` names"""
        weight, bias = self.second.weight, self.second.bias
        if order is not None:
            weight, bias = weight[order], bias[order]
        x = F.linear(x, self.first.weight, self.first.bias).relu_()
        x = F.linear(x, weight, bias).sigmoid_()
        return x if self.scale is None else x.mul_(self.scale)

    def columns(self, x: Tensor) -> Tensor:
        """(places, ins) -> (gates, places), without a scale"""
        x = F.linear(x, self.first.weight, self.first.bias).relu_()
        return torch.addmm(self.second.bias[:, None], self.second.weight, x.t()).sigmoid_()


class Kernels(nn.Module):
    """The convolutions of one branch, side by side: one of the largest kernel size.

    Args:
        layers: of equal stride.
    """

    def __init__(self, layers: Sequence[ConvModule]) -> None:
        super().__init__()
        self.dynamic = isinstance(layers[0].conv, DynamicConv)
        size = layers[-1].conv.kernel_size[0]
        weights, shifts = [], []
        for layer in layers:
            weight = (
                layer.conv.aggregation.weight if self.dynamic else layer.conv.weight.unsqueeze(0)
            )
            scale, shift = affine(layer.norm)
            weight = weight * scale.view(-1, 1, 1, 1)
            weights.append(F.pad(weight, ((size - weight.shape[-1]) // 2,) * 4))
            shifts.append(shift if self.dynamic else layer.conv.bias)
        self.shape = (sum(w.shape[1] for w in weights), *weights[0].shape[2:])
        # (kernels of all layers, channels of all layers * k * k)
        table = (
            torch.block_diag(*(w.flatten(1) for w in weights))
            if self.dynamic
            else torch.cat(weights, dim=1)
        )
        self.register_buffer('table', table)
        ones = [torch.ones(1, w.shape[1]) for w in weights]
        self.layers = len(weights)
        self.register_buffer('shift', torch.cat(shifts))
        stride = layers[-1].conv.stride
        self.stride = stride if isinstance(stride, int) else stride[0]
        self.groups = self.shape[0] if layers[-1].conv.groups > 1 else 1
        # of the gates that forward takes: those of large kernels once for every channel
        self.order = torch.arange(len(table))
        if self.dynamic and size > 3:
            order = self.order.view(len(weights), -1).t() @ torch.block_diag(*ones).long()
            self.order = order.flatten()

    def forward(self, x: Tensor, gates: Tensor | None) -> Tensor:
        """(N, in, H, W) and (N, kernels) gates in the order ``order`` -> (N, out, H', W')"""
        batch, stride, padding = len(x), self.stride, self.shape[-1] // 2
        if gates is None:
            return F.conv2d(x, self.table[0], self.shift, stride, padding, 1, self.groups)
        if self.shape[-1] > 3:
            # rather as many static convolutions as kernels: onnxruntime needs a third of the time
            kernels = self.table.view(self.layers, -1, *self.shape).sum(0)
            gates = gates.view(batch, -1, 1, 1).chunk(len(kernels), dim=1)
            parts = []
            for kernel, gate in zip(kernels, gates, strict=True):
                shift = None if parts else self.shift
                parts.append(F.conv2d(x * gate, kernel, shift, stride, padding, 1, self.groups))
            return sum(parts[1:], parts[0])
        kernels = gates @ self.table
        if self.groups == 1:
            maps = torch.baddbmm(
                self.shift[:, None], kernels.view(batch, *self.shape[:2]), x.flatten(2)
            )
            return maps.unflatten(2, x.shape[2:])
        kernels = kernels.view(-1, *self.shape[1:])
        if batch == 1:
            return F.conv2d(x, kernels, self.shift, stride, padding, 1, self.groups)
        x = x.reshape(1, -1, *x.shape[2:])
        shift = self.shift.repeat(batch)
        maps = F.conv2d(x, kernels, shift, stride, padding, 1, batch * self.groups)
        return maps.view(batch, -1, *maps.shape[2:])

    def rows(self, x: Tensor, gates: Tensor | None) -> Tensor:
        """The same of (H, W, N, in)."""
        batch = x.shape[2]
        kernels = self.table[0].repeat(batch, 1, 1, 1) if gates is None else gates @ self.table
        if self.groups > 1:
            shift = self.shift.repeat(batch) if batch > 1 else self.shift
            return hwnc.depthwise(x, kernels.view(-1, *self.shape[1:]), shift, self.stride)
        kernels = kernels.view(batch, *self.shape[:2]).transpose(1, 2)
        out = torch.baddbmm(self.shift, x.flatten(0, 1).transpose(0, 1), kernels)
        return out.transpose(0, 1).reshape(*x.shape[:3], -1)


class Contexts(nn.Module):
    """The global context modelling of several branches, the hidden layers in one.

    Args:
        gcms: of every branch, the norms of their gates folded.
        groups: into which the channels of every branch's input are still to be shuffled.
    """

    def __init__(self, gcms: Sequence[GlobalContextModeling], groups: Sequence[int]) -> None:
        super().__init__()
        self.groups, pairs, scales = list(groups), [], []
        self.shifts, self.masks = nn.ParameterList(), nn.ParameterList()
        for gcm, parts in zip(gcms, groups):
            channels = gcm.bn.num_features
            order = torch.arange(channels).view(-1, parts).t().flatten()
            first, *_, second, _ = copy.deepcopy(gcm.channel_attention)
            first.weight = nn.Parameter(first.weight[:, order])
            second.weight = nn.Parameter(second.weight[order])
            second.bias = nn.Parameter(second.bias[order])
            pairs.append((first, second))
            scale, shift = affine(gcm.bn)
            scales.append(scale[order])
            self.shifts.append(shift[order])
            self.masks.append(gcm.conv_mask.weight[:, order].flatten(1))
        self.widths = [len(scale) for scale in scales]
        self.gates = Gates(pairs, torch.cat(scales))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        """(N, C, H, W) of every branch -> the same"""
        batch = len(x[0])
        gates = self.scales(x)
        gates = (gates.flatten() if batch == 1 else gates).split(self.widths, dim=-1)
        outs = []
        for each, gate, shift, groups in zip(x, gates, self.shifts, self.groups):
            # a batch norm is a single operation for onnxruntime
            shift = shift.repeat(batch)
            half = torch.full_like(shift, 0.5)
            flat = each if batch == 1 else each.reshape(1, -1, *each.shape[2:])
            out = F.batch_norm(flat, 0 * half, half, gate.flatten(), shift, eps=0.5)
            out = out if batch == 1 else out.view_as(each)
            if groups > 1:
                order = torch.arange(each.shape[1], device=each.device)
                out = out[:, order.view(groups, -1).t().flatten()]
            outs.append(out)
        return outs

    def scales(self, x: Sequence[Tensor]) -> Tensor:
        """(N, C, H, W) of every branch -> (N, the sum of C), what each channel is multiplied by"""
        batch, contexts = len(x[0]), []
        for each, mask in zip(x, self.masks):
            each = each.reshape(each.shape[1], -1) if batch == 1 else each.flatten(2)
            weights = (mask @ each).softmax(-1)  # a bias would not change it
            contexts.append(weights @ each.transpose(-1, -2))
        contexts = torch.cat(contexts, dim=-1)
        return self.gates.rows(contexts if batch == 1 else contexts.flatten(1))

    def rows(self, x: Sequence[Tensor]) -> list[Tensor]:
        """The same of (H, W, N, C)."""
        contexts = [
            hwnc.weighted_mean(each, F.linear(each, mask)) for each, mask in zip(x, self.masks)
        ]
        gates = self.gates.rows(torch.cat(contexts, dim=1)).split(self.widths, dim=1)
        outs = [
            torch.addcmul(shift, each, gate) for shift, each, gate in zip(self.shifts, x, gates)
        ]
        return [
            out.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3, 4) if groups > 1 else out
            for out, groups in zip(outs, self.groups)
        ]


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Nearest; by a constant factor, so that an exporter knows the size."""
    return F.interpolate(x, scale_factor=int(like.shape[2]) // int(x.shape[2]))


def times(x: Tensor, factor: float) -> Tensor:
    """A product; for onnxruntime as a convolution, to whose result it adds in the same pass."""
    if not torch.onnx.is_in_onnx_export():
        return x if factor == 1 else factor * x
    kernels = torch.full((x.shape[1], 1, 1, 1), factor, dtype=x.dtype, device=x.device)
    return F.conv2d(x, kernels, groups=x.shape[1])


def exchange(fuse_layers: nn.ModuleList, x: Sequence[Tensor]) -> list[Tensor]:
    """:meth:`DiteModule.fuse` of (N, C, H, W), branch 0's doubled terms in the ways down."""
    x, outs = list(x), []
    for i, row in enumerate(fuse_layers):
        # from the lowest resolution up, so that sums are small and the enlarged is added once
        total = None
        for j in reversed(range(i + 1, len(x))):
            term = row[j][1](row[j][0](x[j]))
            total = enlarge(term if total is None else term + total, x[j - 1])
        for j in range(i):
            term = row[j](x[j])
            total = term if total is None else term + total
        outs.append(F.relu(times(x[i], 1 if i else 2) + total, inplace=True))
        x[0] = outs[0]
    return outs


def pool_to_rows(x: Tensor, mask: Tensor, size: tuple[int, int], pooling: str) -> Tensor:
    """:func:`masked_pool` of (N, C, H, W) by a (1, C) mask -> (N h w, C)"""
    batch, channels = x.shape[:2]
    logits = mask @ x.flatten(2)
    if pooling != 'released':
        return masked_pool(x, logits, size, pooling).permute(0, 2, 3, 1).flatten(0, 2)
    places = batch * size[0] * size[1]
    weights = logits.softmax(2).view(places, -1)
    count = weights.shape[1]
    if torch.onnx.is_in_onnx_export() and (count > 4 or places <= 256):
        # onnxruntime multiplies many small matrices faster as a convolution's groups
        x = x.reshape(1, places, channels, count)
        return F.conv2d(x, weights.view(places, 1, 1, count), groups=places).view(places, channels)
    if count > 4:
        return (x.reshape(places, channels, -1) @ weights[:, :, None]).view(places, -1)
    # of still smaller ones, two large products of zeros and ones are faster
    one = torch.eye(count, dtype=x.dtype, device=x.device)
    many = torch.eye(channels, dtype=x.dtype, device=x.device)
    product = x.reshape(places, -1) * (weights @ one.repeat(1, channels))
    return product @ many.repeat_interleave(count, dim=0)


def spread(gates: Tensor, like: Tensor) -> Tensor:
    """(1, C, h, w), or of a batch (C, N, h, w), enlarged (nearest) to (N, C, H, W)"""
    width = gates.shape[3]
    factor = int(like.shape[3]) // int(width)
    if factor == 2:
        gates = F.interpolate(gates, scale_factor=2)
    elif factor > 2:
        # rows are enlarged and repeated by one product, which is faster than onnxruntime's Resize
        one = torch.eye(width, dtype=gates.dtype, device=gates.device)
        gates = gates @ one.repeat_interleave(factor, dim=1).repeat(1, factor)
        gates = gates.view(*gates.shape[:2], *like.shape[2:])
    return gates if len(like) == 1 else gates.transpose(0, 1)


def interleave(x: Tensor, y: Tensor) -> Tensor:
    """Two (N, C, H, W) -> (N, 2 C, H, W), their channels in turn."""
    # memory of (N, C, 2 H, W) is that of (N, C, 2, H, W)
    return torch.cat((x, y), dim=2).view(len(x), -1, *x.shape[2:])


class FusedStem(nn.Module):
    """:class:`DiteStem`, the norms folded."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.conv1 = stem.conv1
        for name in ('branch1', 'branch2'):
            steps = nn.ModuleList()
            for layer in getattr(stem, name):
                if isinstance(layer, GlobalContextModeling):
                    steps.append(Contexts([layer], [1]))
                    continue
                step = Kernels([layer])
                step.relu = layer.with_activation
                if step.dynamic:
                    attention = layer.conv.attention
                    step.gates = Gates([(attention.conv1, attention.conv2)])
                steps.append(step)
            self.add_module(name, steps)

    def forward(self, x: Tensor) -> Tensor:
        halves = []
        for half, branch in zip(self.conv1(x).chunk(2, dim=1), (self.branch1, self.branch2)):
            for step in branch:
                if isinstance(step, Contexts):
                    (half,) = step([half])
                else:
                    half = step(half, step.gates.rows(half.mean((2, 3))) if step.dynamic else None)
                    half = half.relu_() if step.relu else half
            halves.append(half)
        return interleave(*halves)

    def rows(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (H / 4, W / 4, N, C)"""
        x = self.conv1(x.contiguous(memory_format=torch.channels_last)).permute(2, 3, 0, 1)
        halves = []
        for half, branch in zip(x.chunk(2, dim=3), (self.branch1, self.branch2)):
            half = half.contiguous()
            for step in branch:
                if isinstance(step, Contexts):
                    (half,) = step.rows([half])
                else:
                    half = step.rows(
                        half, step.gates.rows(half.mean((0, 1))) if step.dynamic else None
                    )
                    half = half.relu_() if step.relu else half
            halves.append(half)
        return hwnc.interleave(*halves)


class FusedBlock(nn.Module):
    """:class:`DiteBlock`, the norms folded and the small layers of all branches in one."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.masks = block.dcm.conv_mask[:-1]
        first, *_, second, _ = block.dcm.channel_attention
        self.attention, self.pooling = Gates([(first, second)]), block.dcm.pooling
        self.widths = block.dcm.channels
        self.kernels = nn.ModuleList(Kernels(conv.conv) for conv in block.conv)
        pairs = [
            (layer.conv.attention.conv1, layer.conv.attention.conv2)
            for conv in block.conv
            for layer in conv.conv
            if isinstance(layer.conv, DynamicConv)
        ]
        self.counts = [len(each.table) for each in self.kernels if each.dynamic]
        orders = [each.order for each in self.kernels if each.dynamic]
        self.ordered_counts = [len(order) for order in orders]
        self.gates = Gates(pairs) if pairs else None
        if pairs:
            starts = np.cumsum([0, *self.counts])
            order = torch.cat([order + start for order, start in zip(orders, starts)])
            self.register_buffer('order', order.to(self.gates.first.weight.device))
        self.sites = block.sites
        self.contexts = Contexts(block.gcm, [conv.num_groups for conv in block.conv])

    def forward(self, x: list[Tensor], convolve: Callable | None = None) -> list[Tensor]:
        """(N, C, H, W) of every branch -> the same; ``convolve`` takes :meth:`convolve`'s place."""
        kept, changed = zip(*(each.chunk(2, dim=1) for each in x))
        size = changed[-1].shape[2:]
        pooled = [
            pool_to_rows(each, mask.weight.flatten(1), size, self.pooling)
            for each, mask in zip(changed, self.masks)
        ]
        pooled.append(changed[-1].permute(0, 2, 3, 1).reshape(len(pooled[0]), -1))
        gates = self.attention.columns(torch.cat(pooled, dim=1))
        batch = len(x[0])
        gates = gates.view(*((1, -1) if batch == 1 else (-1, batch)), *size)
        gates = gates.split(self.widths, dim=1 if batch == 1 else 0)
        changed = [each * spread(gate, each) for each, gate in zip(changed, gates)]
        outs = []
        for i, each in enumerate(self.contexts((convolve or self.convolve)(changed))):
            out = interleave(kept[i], self.sites['after_context'][i](each))
            outs.append(self.sites['block'][i](out))
        return outs

    def convolve(self, x: list[Tensor]) -> list[Tensor]:
        """The dynamic split convolutions, their channels not shuffled yet."""
        gates = self._gates([each.mean((2, 3)) for each in x], ordered=True)
        return [kernels(*args) for kernels, *args in zip(self.kernels, x, gates)]

    def rows(self, x: list[Tensor]) -> list[Tensor]:
        """The same of (H, W, N, C)."""
        kept, changed = zip(*(each.chunk(2, dim=3) for each in x))
        size = changed[-1].shape[:2]
        pooled = [
            hwnc.masked_pool(each, F.linear(each, mask.weight.flatten(1)), size, self.pooling)
            for each, mask in zip(changed, self.masks)
        ]
        gates = self.attention.rows(torch.cat([*pooled, changed[-1]], dim=3))
        gates = gates.split(self.widths, dim=3)
        changed = [hwnc.enlarged_product(*each) for each in zip(changed, gates)]
        gates = self._gates([each.mean((0, 1)) for each in changed])
        changed = [kernels.rows(*args) for kernels, *args in zip(self.kernels, changed, gates)]
        return hwnc.join(kept, self.contexts.rows(changed), self.sites)

    def _gates(self, means: list[Tensor], ordered: bool = False) -> list[Tensor | None]:
        """Of every branch's kernels, in their order; None where they are not dynamic."""
        if self.gates is None:
            return [None] * len(means)
        means = [each for each, kernels in zip(means, self.kernels) if kernels.dynamic]
        gates = self.gates.rows(torch.cat(means, dim=1), self.order if ordered else None)
        gates = iter(gates.split(self.ordered_counts if ordered else self.counts, dim=1))
        return [next(gates) if kernels.dynamic else None for kernels in self.kernels]


def fuse(network: nn.Module) -> nn.Module:
    """A copy of a :class:`DiteHRNet` for inference, see :meth:`DiteHRNet.fuse_for_inference`."""
    network = copy.deepcopy(network)
    network.train(False)
    with torch.no_grad():
        fold_norms(network)
        network.stem = FusedStem(network.stem)
        for stage in range(network.num_stages):
            for module in getattr(network, f'stage{stage}'):
                module.layers = nn.Sequential(*map(FusedBlock, module.layers))
                for row in module.fuse_layers[1:] if module.with_fuse else ():
                    *_, last = (m for m in row[0].modules() if isinstance(m, nn.Conv2d))
                    last.weight.mul_(2)
                    last.bias.mul_(2)
    return network.requires_grad_(False)


def record_graph(network: nn.Module) -> Callable[[Tensor], tuple[Tensor, ...]] | None:
    """A TorchScript graph of a fused network for one image of any size.

    Args:
        network: that takes its short form.

    Returns:
        None if there is none: a plugin that computes with its input's size as with a constant.
    """
    first = next(network.parameters())
    channels = network.stem.conv1.conv.in_channels
    tall, wide = (
        torch.randn(1, channels, *size, dtype=first.dtype, generator=torch.Generator())
        for size in ((3 * network.step, 2 * network.step), (network.step, 4 * network.step))
    )
    with torch.no_grad(), warnings.catch_warnings():
        # what is constant in the graph is so for one image; and TorchScript is deprecated
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        try:
            graph = torch.jit.freeze(torch.jit.trace(network, tall, check_trace=False))
            for image in (tall, tall, wide):  # the first two optimise it
                for ours, theirs in zip(graph(image), network(image), strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max())
        except (RuntimeError, AssertionError):
            return None
    return graph
