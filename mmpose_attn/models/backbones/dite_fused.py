"""Dite-HRNet for inference: the same function by fewer and larger operations.

Tensors are (H, W, N, C), see :mod:`..layers.rows`.
"""

import copy
import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..layers import rows
from ..layers.context_modeling import GlobalContextModeling
from ..layers.dynamic_conv import DynamicConv, KernelAttention


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
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
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

    def forward(self, x: Tensor) -> Tensor:
        """(N, ins) -> (N, gates)"""
        x = F.linear(x, self.first.weight, self.first.bias).relu_()
        x = F.linear(x, self.second.weight, self.second.bias).sigmoid_()
        return x if self.scale is None else x.mul_(self.scale)


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
        self.register_buffer('shift', torch.cat(shifts))
        stride = layers[-1].conv.stride
        self.stride = stride if isinstance(stride, int) else stride[0]
        self.depthwise = layers[-1].conv.groups > 1

    def forward(self, x: Tensor, gates: Tensor | None) -> Tensor:
        """(H, W, N, in) and (N, kernels) gates -> (H', W', N, out)"""
        batch = x.shape[2]
        kernels = self.table[0].repeat(batch, 1, 1, 1) if gates is None else gates @ self.table
        if self.depthwise:
            shift = self.shift.repeat(batch) if batch > 1 else self.shift
            return rows.depthwise(x, kernels.view(-1, *self.shape[1:]), shift, self.stride)
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
        for i, (gcm, parts) in enumerate(zip(gcms, groups)):
            channels = gcm.bn.num_features
            order = torch.arange(channels).view(-1, parts).t().flatten()
            first, *_, second, _ = copy.deepcopy(gcm.channel_attention)
            first.weight = nn.Parameter(first.weight[:, order])
            second.weight = nn.Parameter(second.weight[order])
            second.bias = nn.Parameter(second.bias[order])
            pairs.append((first, second))
            scale, shift = affine(gcm.bn)
            scales.append(scale[order])
            self.register_buffer(f'shift{i}', shift[order])
            self.register_buffer(f'mask{i}', gcm.conv_mask.weight[:, order].flatten(1).t())
        self.widths = [len(scale) for scale in scales]
        self.gates = Gates(pairs, torch.cat(scales))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        """(H, W, N, C) of every branch -> the same"""
        contexts = []
        for i, each in enumerate(x):
            # a bias would not change the softmax
            contexts.append(rows.weighted_mean(each, each @ getattr(self, f'mask{i}')))
        gates = self.gates(contexts[0] if len(x) == 1 else torch.cat(contexts, dim=1))
        outs = []
        for i, (each, gate) in enumerate(zip(x, gates.split(self.widths, dim=1))):
            out = torch.addcmul(getattr(self, f'shift{i}'), each, gate)
            if self.groups[i] > 1:
                out = out.unflatten(3, (self.groups[i], -1)).transpose(3, 4).flatten(3, 4)
            outs.append(out)
        return outs


def join(kept: Sequence[Tensor], changed: Sequence[Tensor], sites) -> list[Tensor]:
    """The halves of every branch's channels shuffled by interleaving, with plugins."""

    def at(site: nn.Module, x: Tensor) -> Tensor:
        return rows.to_rows(site(rows.from_rows(x))) if site else x

    outs = []
    for keep, change, inner, outer in zip(kept, changed, sites['after_context'], sites['block']):
        outs.append(at(outer, rows.interleave(keep, at(inner, change))))
    return outs


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

    def rows(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (H / 4, W / 4, N, C)"""
        x = self.conv1(x.contiguous(memory_format=torch.channels_last)).permute(2, 3, 0, 1)
        halves = []
        for half, branch in zip(x.chunk(2, dim=3), (self.branch1, self.branch2)):
            half = half.contiguous()
            for step in branch:
                if isinstance(step, Contexts):
                    (half,) = step([half])
                else:
                    half = step(half, step.gates(half.mean((0, 1))) if step.dynamic else None)
                    half = half.relu_() if step.relu else half
            halves.append(half)
        return rows.interleave(*halves)


class FusedBlock(nn.Module):
    """:class:`DiteBlock`, the norms folded and the small layers of all branches in one."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for i, mask in enumerate(block.dcm.conv_mask[:-1]):
            self.register_buffer(f'mask{i}', mask.weight.flatten(1).t())
        self.attention, self.pooling = Gates2(block.dcm.channel_attention), block.dcm.pooling
        self.widths = block.dcm.channels
        self.kernels = nn.ModuleList(Kernels(conv.conv) for conv in block.conv)
        pairs = [
            (layer.conv.attention.conv1, layer.conv.attention.conv2)
            for conv in block.conv
            for layer in conv.conv
            if isinstance(layer.conv, DynamicConv)
        ]
        self.counts = [len(each.table) for each in self.kernels if each.dynamic]
        self.gates = Gates(pairs) if pairs else None
        self.sites = block.sites
        self.contexts = Contexts(block.gcm, [conv.num_groups for conv in block.conv])

    def rows(self, x: list[Tensor]) -> list[Tensor]:
        kept, changed = zip(*(each.chunk(2, dim=3) for each in x))
        size = changed[-1].shape[:2]
        pooled = [
            rows.masked_pool(each, each @ getattr(self, f'mask{i}'), size, self.pooling)
            for i, each in enumerate(changed[:-1])
        ]
        gates = self.attention(torch.cat([*pooled, changed[-1]], dim=3))
        changed = [
            rows.enlarged_product(each, gate)
            for each, gate in zip(changed, gates.split(self.widths, dim=3))
        ]
        gates = iter(())
        if self.gates is not None:
            means = [each.mean((0, 1)) for each, k in zip(changed, self.kernels) if k.dynamic]
            gates = iter(self.gates(torch.cat(means, dim=1)).split(self.counts, dim=1))
        changed = [
            kernels(each, next(gates) if kernels.dynamic else None)
            for each, kernels in zip(changed, self.kernels)
        ]
        return join(kept, self.contexts(changed), self.sites)


def Gates2(attention):
    first, *_, second, _ = attention
    return Gates([(first, second)])


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
    return network.requires_grad_(False)


def record(network: nn.Module, size: tuple[int, int], batch: int) -> nn.Module:
    """Let a fused network run a TorchScript graph for images of one size and number."""
    first = next(network.parameters())
    channels = network.stem.conv1.conv.in_channels
    image = first.new_zeros(batch, channels, *size[::-1])
    with torch.no_grad(), warnings.catch_warnings():
        # sizes become constants, as they should; and TorchScript is deprecated
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        graph = torch.jit.freeze(torch.jit.trace(network, image, check_trace=False))
        for _ in range(3):  # the first runs optimise it
            graph(image)
    network.recorded = {(image.shape, image.dtype, image.device): graph}
    return network
