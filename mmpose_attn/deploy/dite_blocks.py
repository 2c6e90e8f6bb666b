"""Dite-HRNet's dynamic convolutions on onnxruntime's blocks of channels.

For one image at a time, whose kernels are those of a single convolution.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.backbones.dite_hrnet.fused import FusedBlock, FusedStem, Kernels, interleave
from .channel_blocks import conv, in_memory, mean, padded, reorder, reorder_back


class BlockedKernels(nn.Module):
    """:class:`Kernels` of dynamic depthwise convolutions.

    Args:
        kernels: what it does the same as.
        block: channels of one.
        before: how many gates come before those of these kernels,
        after: and after them.
    """

    def __init__(self, kernels: Kernels, block: int, before: int = 0, after: int = 0) -> None:
        super().__init__()
        table = in_memory(kernels.table.view(-1, *kernels.shape), block)
        self.register_buffer('table', F.pad(table, (0, 0, before, after)))
        self.channels, self.block = len(kernels.shift), block
        missing = padded(self.channels, block) - self.channels
        self.register_buffer('shift', F.pad(kernels.shift, (0, missing)))
        self.shape = (len(self.shift), *kernels.shape[1:])
        self.stride = kernels.stride

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """(1, C, H, W) in blocks and (1, gates) -> (1, C, H', W'), not in blocks"""
        kernels = (gates @ self.table).view(self.shape)
        out = conv(x, kernels, self.shift, self.block, self.stride, len(kernels))
        return reorder_back(out, self.channels)


class BlockedBlock(nn.Module):
    """:class:`FusedBlock`.

    Args:
        fused: what it does the same as.
        block: channels of one.
    """

    def __init__(self, fused: FusedBlock, block: int) -> None:
        super().__init__()
        self.fused, self.block = fused, block
        self.kernels, before = nn.ModuleList(), 0
        for each in fused.kernels:
            count = len(each.table) if each.dynamic else 0
            after = sum(fused.counts) - before - count
            self.kernels.append(BlockedKernels(each, block, before, after) if count else each)
            before += count

    @staticmethod
    def suits(fused: FusedBlock) -> bool:
        """Whether onnxruntime can reorder all dynamic convolutions' channels."""
        channels = [len(each.shift) for each in fused.kernels if each.dynamic]
        return bool(channels) and not any(count % 4 for count in channels)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return self.fused(x, self.convolve)

    def convolve(self, x: list[Tensor]) -> list[Tensor]:
        """:meth:`FusedBlock.convolve`, every table with rows of zeros for the others' gates."""
        pairs = list(zip(x, self.kernels))
        means = [each.mean((2, 3)) for each, kernels in pairs if type(kernels) is BlockedKernels]
        gates = self.fused.gates.rows(torch.cat(means, dim=1))
        return [
            kernels(reorder(each, self.block), gates)
            if type(kernels) is BlockedKernels
            else kernels(each, None)
            for each, kernels in pairs
        ]


class BlockedHead(nn.Module):
    """A half of the stem up to the ReLU after its first dynamic 1x1 convolution.

    Args:
        weight: kernels (O, I, k, k) of the first convolution, their memory in blocks.
        bias: its (O,).
        branch: the modules of :class:`FusedStem`'s branch.
        block: channels of one.
        ones: whether another channel of the result is one everywhere.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, branch: nn.ModuleList, block: int, ones: bool
    ) -> None:
        super().__init__()
        self.register_buffer('weight', weight)
        self.register_buffer('bias', bias)
        depthwise, self.context, point = branch[:3]
        self.kernels, self.gates = BlockedKernels(depthwise, block), depthwise.gates
        outs, ins = point.shape[:2]
        self.shape, self.point_gates = (outs + ones, ins), point.gates
        self.register_buffer('table', F.pad(point.table, (0, ones * ins)))
        self.register_buffer('shift', F.pad(point.shift, (0, int(ones)), value=1)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, C, H / 2 or H / 4, ...)"""
        x = conv(x, self.weight, self.bias, self.kernels.block, stride=2, relu=True)
        x = self.kernels(x, self.gates.rows(mean(x)))
        # the context's gate and norm are of every channel: they become part of the kernels
        scale, shift = self.context.scales([x]), self.context.shifts[0]
        gates = self.point_gates.rows(torch.addcmul(shift, x.mean((2, 3)), scale))
        weight = (gates @ self.table).view(self.shape)
        maps = (weight * scale) @ x.reshape(x.shape[1], -1)
        maps = (maps + (weight @ shift[:, None] + self.shift)).relu()
        return maps.view(1, -1, *x.shape[2:])


class BlockedTail(nn.Module):
    """The stem's last dynamic 1x1 convolution and the depthwise one after it, as one.

    The input's last channel is one everywhere: the first convolution's bias, which zeros around
    the image have no part in.

    Args:
        point: the one convolution,
        depthwise: and the other.
        block: channels of one.
    """

    def __init__(self, point: Kernels, depthwise: Kernels, block: int) -> None:
        super().__init__()
        self.point, self.depthwise, self.block = point.gates, depthwise.gates, block
        first = self.point.first
        first.weight = nn.Parameter(F.pad(first.weight, (0, 1)), requires_grad=False)
        outs, ins = point.shape[:2]
        # (gates, blocks, ins, channels of one), as kernels lie in memory
        table = point.table.view(-1, outs, ins).transpose(1, 2)
        table, shift = F.pad(table, (0, 0, 0, 1)), F.pad(point.shift[None], (0, 0, ins, 0))
        table, shift = (
            each.unflatten(-1, (-1, block)).transpose(-2, -3).flatten(-3) for each in (table, shift)
        )
        self.register_buffer('table', table)
        self.register_buffer('shift', shift)
        kernels = depthwise.table.view(-1, *depthwise.shape)
        self.register_buffer('kernels', in_memory(kernels, block))
        self.register_buffer('bias', depthwise.shift)
        self.ins, self.size = ins + 1, depthwise.shape[-1]
        self.stride, self.relu = depthwise.stride, depthwise.relu

    def forward(self, x: Tensor) -> Tensor:
        """(1, C + 1, H, W) -> (1, C', H / 2, W / 2)"""
        place = x.mean((2, 3))
        weight = torch.addmm(self.shift, self.point.rows(place), self.table)
        weight = weight.view(-1, self.ins, self.block)
        place = (place @ weight).view(1, -1)
        kernels = (self.depthwise.rows(place) @ self.kernels).view(len(weight), 1, -1, self.block)
        kernels = weight[:, :, None] * kernels
        kernels = kernels.view(-1, self.ins, self.size, self.size)
        out = conv(x, kernels, self.bias, self.block, self.stride, relu=self.relu)
        return reorder_back(out, len(self.bias))


class BlockedStem(nn.Module):
    """:class:`FusedStem`.

    Args:
        stem: what it does the same as.
        block: channels of one.
    """

    def __init__(self, stem: FusedStem, block: int) -> None:
        super().__init__()
        first = stem.conv1.conv
        weights = in_memory(first.weight, block).view(2, -1, *first.weight.shape[1:])
        branches = stem.branch1, stem.branch2
        self.heads = nn.ModuleList(
            BlockedHead(weight, bias, branch, block, ones=len(branch) > 3)
            for weight, bias, branch in zip(weights, first.bias.chunk(2), branches)
        )
        self.tail = BlockedTail(*stem.branch2[3:], block)

    @staticmethod
    def suits(stem: FusedStem, block: int) -> bool:
        """Whether the stem's halves are whole blocks, what is not in blocks less than one."""
        first, outs = stem.conv1.conv, len(stem.branch2[-1].shift)
        return (
            max(first.in_channels, stem.branch2[3].shape[1] + 1) < block
            and first.out_channels % (2 * block) == 0
            and outs % block == 0
        )

    def forward(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, C, H / 4, W / 4)"""
        first, second = (head(x) for head in self.heads)
        return interleave(first, self.tail(second))


def in_blocks(network: nn.Module, block: int) -> nn.Module:
    """Change, in place, a fused :class:`DiteHRNet` to onnxruntime's blocks of channels.

    Parts with other numbers of channels than onnxruntime's operators take stay as they are.

    Args:
        network: of ``fuse_for_inference(record=False)``.
        block: channels of one, see :func:`.channel_blocks.channel_block`.
    """
    network.fast = False
    if BlockedStem.suits(network.stem, block):
        network.stem = BlockedStem(network.stem, block)
    for stage in range(network.num_stages):
        for module in getattr(network, f'stage{stage}'):
            module.layers = nn.Sequential(
                *(
                    BlockedBlock(each, block) if BlockedBlock.suits(each) else each
                    for each in module.layers
                )
            )
    return network
