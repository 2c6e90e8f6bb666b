"""Dite-HRNet for inference: the same function by fewer and larger operations.

Norms are folded into static and dynamic kernels, a branch's convolutions are one, and the small
layers of all branches are one. Each class's ``forward`` takes (N, C, H, W), in the forms that
onnxruntime computes fastest; :mod:`.hwnc` runs the same modules on (H, W, N, C).
"""

import copy
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmpose_attn.models.layers import nchw
from mmpose_attn.models.layers.context_modeling import GlobalContextModeling
from mmpose_attn.models.layers.dynamic_conv import DynamicConv
from mmpose_attn.models.layers.fusing import scale_and_shift

if TYPE_CHECKING:
    from .network import DiteBlock, DiteModule, DiteStem


class Gates(nn.Module):
    """Several pairs of 1x1 convolutions of single pixels, ReLU and sigmoid, as one.

    Args:
        pairs: convolutions, the norms folded.
        scale: of every gate, or None.

    Shape:
        (..., ins) -> (..., gates), of all pairs side by side
    """

    scale: Tensor | None

    def __init__(
        self, pairs: Sequence[tuple[nn.Conv2d, nn.Conv2d]], scale: Tensor | None = None
    ) -> None:
        super().__init__()
        self.first, self.second = (
            self._block_diagonal(convs) for convs in zip(*pairs, strict=True)
        )
        self.register_buffer('scale', scale)

    @staticmethod
    def _block_diagonal(convs: Sequence[nn.Conv2d]) -> nn.Linear:
        weight = torch.block_diag(*(conv.weight.flatten(1) for conv in convs))
        linear = nn.Linear(*weight.shape[::-1])
        linear.weight = nn.Parameter(weight)
        linear.bias = nn.Parameter(torch.cat([conv.bias for conv in convs]))
        return linear

    def forward(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        weight, bias = self.second.weight, self.second.bias
        if order is not None:  # these gates alone
            weight, bias = weight[order], bias[order]
        x = F.linear(x, self.first.weight, self.first.bias).relu_()  # (..., hidden)
        x = F.linear(x, weight, bias).sigmoid_()  # (..., gates)
        return x if self.scale is None else x.mul_(self.scale)

    def transposed(self, x: Tensor) -> Tensor:
        """(places, ins) -> (gates, places), without a scale"""
        x = F.linear(x, self.first.weight, self.first.bias).relu_()  # (places, hidden)
        return torch.addmm(self.second.bias[:, None], self.second.weight, x.t()).sigmoid_()


class Kernels(nn.Module):
    """The convolutions of one branch, side by side: one of the largest kernel size.

    Args:
        layers: of equal stride, all dynamic or none.
    """

    table: Tensor
    shift: Tensor

    def __init__(self, layers: Sequence[ConvModule]) -> None:
        super().__init__()
        conv = layers[-1].conv
        self.dynamic, self.layers = isinstance(conv, DynamicConv), len(layers)
        size = conv.kernel_size[0]
        weights, shifts = [], []
        for layer in layers:
            scale, shift = scale_and_shift(layer.norm)
            weight = layer.conv.aggregation.weight if self.dynamic else layer.conv.weight[None]
            weight = weight * scale.view(-1, 1, 1, 1)  # (kernels, out, in / groups, k, k)
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
        self.stride = conv.stride if isinstance(conv.stride, int) else conv.stride[0]
        self.groups = self.shape[0] if conv.groups > 1 else 1
        # of the gates that forward takes: those of large kernels once for every channel
        self.order = torch.arange(len(table))
        if self.dynamic and size > 3:
            ones = torch.block_diag(*(torch.ones(1, w.shape[1]) for w in weights)).long()
            self.order = (self.order.view(len(weights), -1).t() @ ones).flatten()

    def forward(self, x: Tensor, gates: Tensor | None) -> Tensor:
        """(N, in, H, W) and (N, kernels) gates in the order ``order`` -> (N, out, H', W')"""
        batch, stride, padding = len(x), self.stride, self.shape[-1] // 2
        if gates is None:
            return F.conv2d(x, self.table[0], self.shift, stride, padding, 1, self.groups)
        if self.shape[-1] > 3:
            # rather as many static convolutions as kernels: onnxruntime needs a third of the time
            kernels = self.table.view(self.layers, -1, *self.shape).sum(0)  # (kernels, out, ...)
            gates = gates.view(batch, -1, 1, 1)  # (N, kernels * in, 1, 1)
            parts = []
            for kernel, gate in zip(kernels, gates.chunk(len(kernels), dim=1), strict=True):
                shift = None if parts else self.shift
                parts.append(F.conv2d(x * gate, kernel, shift, stride, padding, 1, self.groups))
            return sum(parts[1:], parts[0])
        kernels = gates @ self.table  # (N, out * in / groups * k * k)
        if self.groups == 1:
            kernels = kernels.view(batch, *self.shape[:2])  # (N, out, in)
            maps = torch.baddbmm(self.shift[:, None], kernels, x.flatten(2))  # (N, out, H W)
            return maps.unflatten(2, x.shape[2:])
        kernels = kernels.view(-1, *self.shape[1:])  # (N * out, 1, k, k)
        if batch == 1:
            return F.conv2d(x, kernels, self.shift, stride, padding, 1, self.groups)
        x = x.reshape(1, -1, *x.shape[2:])  # (1, N * in, H, W)
        shift = self.shift.repeat(batch)  # (N * out,)
        maps = F.conv2d(x, kernels, shift, stride, padding, 1, batch * self.groups)
        return maps.view(batch, -1, *maps.shape[2:])


class Contexts(nn.Module):
    """The global context modelling of several branches, the hidden layers in one.

    Args:
        gcms: of every branch, the norms of their gates folded.
        groups: into which the channels of every branch's input are still to be shuffled.

    Shape:
        a list of (N, C_i, H_i, W_i) -> the same
    """

    def __init__(self, gcms: Sequence[GlobalContextModeling], groups: Sequence[int]) -> None:
        super().__init__()
        self.groups, pairs, scales = list(groups), [], []
        self.shifts, self.masks = nn.ParameterList(), nn.ParameterList()
        for gcm, parts in zip(gcms, groups, strict=True):
            order = torch.arange(gcm.bn.num_features).view(-1, parts).t().flatten()
            first, *_, second, _ = copy.deepcopy(gcm.channel_attention)
            first.weight = nn.Parameter(first.weight[:, order])
            second.weight = nn.Parameter(second.weight[order])
            second.bias = nn.Parameter(second.bias[order])
            pairs.append((first, second))
            scale, shift = scale_and_shift(gcm.bn)
            scales.append(scale[order])
            self.shifts.append(shift[order])
            self.masks.append(gcm.conv_mask.weight[:, order].flatten(1))
        self.widths = [len(scale) for scale in scales]
        self.gates = Gates(pairs, torch.cat(scales))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        batch = len(x[0])
        gates = self._gates(x)  # (N, sum of C_i)
        gates = (gates.flatten() if batch == 1 else gates).split(self.widths, dim=-1)
        outs = []
        for each, gate, shift, groups in zip(x, gates, self.shifts, self.groups, strict=True):
            # a batch norm is a single operation for onnxruntime
            shift = shift.repeat(batch)  # (N * C,)
            half = torch.full_like(shift, 0.5)
            flat = each if batch == 1 else each.reshape(1, -1, *each.shape[2:])  # (1, N * C, H, W)
            out = F.batch_norm(flat, 0 * half, half, gate.flatten(), shift, eps=0.5)
            outs.append(nchw.channel_shuffle(out if batch == 1 else out.view_as(each), groups))
        return outs

    def _gates(self, x: Sequence[Tensor]) -> Tensor:
        """(N, C_i, H_i, W_i) of every branch -> (N, sum of C_i), what multiplies each channel."""
        batch, contexts = len(x[0]), []
        for each, mask in zip(x, self.masks, strict=True):
            # ([N,] C, H W)
            each = each.reshape(each.shape[1], -1) if batch == 1 else each.flatten(2)
            weights = (mask @ each).softmax(-1)  # ([N,] 1, H W); a bias would not change it
            contexts.append(weights @ each.transpose(-1, -2))  # ([N,] 1, C)
        joined = torch.cat(contexts, dim=-1)
        return self.gates(joined if batch == 1 else joined.flatten(1))


class OneContext(Contexts):
    """The global context modelling of one tensor (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward([x])[0]


class FusedConv(nn.Module):
    """A ``ConvModule`` with a dynamic convolution.

    Args:
        layer: the norm of its kernels' attention folded.

    Shape:
        (N, in, H, W) -> (N, out, H', W')
    """

    def __init__(self, layer: ConvModule) -> None:
        super().__init__()
        attention = layer.conv.attention
        self.kernels, self.relu = Kernels([layer]), layer.with_activation
        self.gates = Gates([(attention.conv1, attention.conv2)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.kernels(x, self.gates(x.mean((2, 3))))
        return x.relu_() if self.relu else x


class FusedStem(nn.Module):
    """:class:`.network.DiteStem`.

    Args:
        stem: the norms after plain convolutions folded.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H / 4, W / 4)
    """

    def __init__(self, stem: 'DiteStem') -> None:
        super().__init__()
        self.conv1 = stem.conv1
        self.branch1, self.branch2 = (
            nn.Sequential(*map(self._fused, branch)) for branch in (stem.branch1, stem.branch2)
        )

    @staticmethod
    def _fused(layer: nn.Module) -> nn.Module:
        if isinstance(layer, GlobalContextModeling):
            return OneContext([layer], [1])
        return FusedConv(layer) if isinstance(layer.conv, DynamicConv) else layer

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv1(x).chunk(2, dim=1)  # (N, stem_channels / 2, H / 2, W / 2)
        return nchw.shuffle_halves(self.branch1(first), self.branch2(second))


class FusedBlock(nn.Module):
    """:class:`.network.DiteBlock`, the small layers of all branches in one.

    Args:
        block: the norms after plain convolutions folded.

    Shape:
        a list of (N, C_i, H_i, W_i) -> the same
    """

    order: Tensor | None

    def __init__(self, block: 'DiteBlock') -> None:
        super().__init__()
        self.masks, self.pooling = block.dcm.conv_mask[:-1], block.dcm.pooling
        first, *_, second, _ = block.dcm.channel_attention
        self.attention, self.widths = Gates([(first, second)]), block.dcm.channels
        self.kernels = nn.ModuleList(Kernels(conv.conv) for conv in block.conv)
        pairs = [
            (layer.conv.attention.conv1, layer.conv.attention.conv2)
            for conv in block.conv
            for layer in conv.conv
            if isinstance(layer.conv, DynamicConv)
        ]
        self.gates = Gates(pairs) if pairs else None
        orders = [each.order for each in self.kernels if each.dynamic]
        self.counts = [len(each.table) for each in self.kernels if each.dynamic]
        self.ordered_counts = [len(order) for order in orders]
        self.register_buffer('order', None)
        if pairs:
            starts = accumulate(self.counts, initial=0)
            order = torch.cat([order + start for order, start in zip(orders, starts)])
            self.order = order.to(first.weight.device)
        self.sites = block.sites
        self.contexts = Contexts(block.gcm, [conv.num_groups for conv in block.conv])

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        kept, changed = zip(*(each.chunk(2, dim=1) for each in x))  # (N, C_i / 2, H_i, W_i)
        batch, size = len(x[0]), changed[-1].shape[2:]
        pooled = [
            nchw.pool_places(each, mask.weight.flatten(1), size, self.pooling)
            for each, mask in zip(changed, self.masks)
        ]
        # (N h w, C_i / 2), of the last branch as it is
        pooled.append(changed[-1].permute(0, 2, 3, 1).reshape(len(pooled[0]), -1))
        gates = self.attention.transposed(torch.cat(pooled, dim=1))  # (sum of C_i / 2, N h w)
        gates = gates.view(*((1, -1) if batch == 1 else (-1, batch)), *size)
        gates = gates.split(self.widths, dim=1 if batch == 1 else 0)
        changed = [nchw.multiply_upsampled(*pair) for pair in zip(changed, gates)]
        gates = self.kernel_gates([each.mean((2, 3)) for each in changed], ordered=True)
        changed = [kernels(*args) for kernels, *args in zip(self.kernels, changed, gates)]
        outs = []
        for i, each in enumerate(self.contexts(changed)):
            out = nchw.shuffle_halves(kept[i], self.sites['after_context'][i](each))
            outs.append(self.sites['block'][i](out))  # (N, C_i, H_i, W_i)
        return outs

    def kernel_gates(self, means: list[Tensor], ordered: bool = False) -> list[Tensor | None]:
        """The gates of every branch's kernels, None where they are not dynamic.

        Args:
            means: of every branch's input, (N, C_i / 2).
            ordered: as ``Kernels.forward`` takes them; else one a kernel, (N, kernels).
        """
        if self.gates is None:
            return [None] * len(means)
        chosen = [each for each, kernels in zip(means, self.kernels) if kernels.dynamic]
        gates = self.gates(torch.cat(chosen, dim=1), self.order if ordered else None)
        parts = iter(gates.split(self.ordered_counts if ordered else self.counts, dim=1))
        return [next(parts) if kernels.dynamic else None for kernels in self.kernels]


class FusedModule(nn.Module):
    """:class:`.network.DiteModule`; the doubled terms of branch 0 are in the weights of its ways
    down.

    Args:
        module: its blocks fused, the norms folded.

    Shape:
        a list of (N, C_i, H_i, W_i) -> the same
    """

    def __init__(self, module: 'DiteModule') -> None:
        super().__init__()
        self.layers, self.with_fuse = module.layers, module.with_fuse
        if self.with_fuse:
            self.fuse_layers = module.fuse_layers
            for row in self.fuse_layers[1:]:
                *_, last = (layer for layer in row[0].modules() if isinstance(layer, nn.Conv2d))
                last.weight.mul_(2)
                last.bias.mul_(2)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = self.layers(x)
        return self.fuse(x) if self.with_fuse else x

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        """:meth:`.network.DiteModule.fuse`."""
        x, outs = list(x), []
        for i, row in enumerate(self.fuse_layers):
            # from the lowest resolution up, so that sums are small and the upsampled is added once
            total = None
            for j in reversed(range(i + 1, len(x))):
                term = row[j][1](row[j][0](x[j]))  # (N, C_i, H_j, W_j), not upsampled yet
                term = term if total is None else term + total
                total = nchw.upsample_nearest(term, x[j - 1])  # (N, C_i, H_j-1, W_j-1)
            for j in range(i):
                term = row[j](x[j])  # (N, C_i, H_i, W_i)
                total = term if total is None else term + total
            outs.append(F.relu(nchw.scale(x[i], 1 if i else 2) + total, inplace=True))
            x[0] = outs[0]
        return outs
