"""Dite-HRNet: Li et al., IJCAI 2022, doi 10.24963/ijcai.2022/153."""

from collections.abc import Mapping, Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpose.models.backbones.litehrnet import LiteHRModule, LiteHRNet
from mmpose.models.backbones.utils import channel_shuffle
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmpose_attn.engine.checkpoint import register_shape_check

from ..layers.context_modeling import (
    DenseContextModeling,
    GlobalContextModeling,
    can_be_affine,
    enlarged_sum,
)
from ..layers.dynamic_conv import BN, DynamicSplitConv, conv_cfg, run


class DiteStem(BaseModule):
    """A 3x3/2 convolution, then the DGC block: two branches of dynamic convolutions, 1/4 in all.

    Args:
        in_channels: of the image.
        stem_channels: after the first convolution; each branch takes half of them.
        out_channels: half of them come from each branch.
        num_kernels: of every dynamic convolution.
        ratio: of the global context modelling.
        norm_cfg: config of the norms.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels, H / 4, W / 4)
    """

    def __init__(
        self,
        in_channels: int,
        stem_channels: int,
        out_channels: int,
        num_kernels: int = 4,
        ratio: int = 4,
        norm_cfg: Mapping = BN,
    ) -> None:
        super().__init__()
        self.fast = True
        if stem_channels % 8 or out_channels % 2:
            raise ValueError(
                'stem_channels must be a multiple of 8 and out_channels even, '
                f'got {stem_channels} and {out_channels}'
            )
        norm = dict(norm_cfg=dict(norm_cfg))
        kernels = dict(conv_cfg=conv_cfg(num_kernels, norm_cfg))
        width, out = stem_channels // 2, out_channels // 2

        def depthwise(stride, channels=width, **kwargs):
            return ConvModule(
                channels, channels, 3, stride, 1, groups=channels, **norm, **kernels, **kwargs
            )

        def pointwise(ins, outs, **kwargs):
            return ConvModule(ins, outs, 1, **norm, **kernels, **kwargs)

        self.conv1 = ConvModule(in_channels, stem_channels, 3, 2, 1, **norm)
        self.branch1 = nn.Sequential(
            depthwise(2, act_cfg=None),
            GlobalContextModeling(width, ratio, norm_cfg),
            pointwise(width, out),
        )
        self.branch2 = nn.Sequential(
            depthwise(1, act_cfg=None),
            GlobalContextModeling(width, ratio, norm_cfg),
            pointwise(width, width // 4),
            pointwise(width // 4, out, act_cfg=None),
            depthwise(2, out),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv1(x).chunk(2, dim=1)
        if self.fast and can_be_affine(self.conv1.bn, x):
            halves = [
                branch[2:](branch[1].after_norms(branch[0].conv(each), [branch[0].bn]))
                for branch, each in ((self.branch1, first), (self.branch2, second))
            ]
            return torch.stack(halves, dim=2).flatten(1, 2)
        return channel_shuffle(torch.cat((self.branch1(first), self.branch2(second)), dim=1), 2)


class DiteBlock(BaseModule):
    """The DMC block: in each branch, half of the channels through dense context modelling, dynamic
    split convolution and global context modelling.

    Args:
        channels: of every branch, from the highest resolution to the lowest.
        ratio: of the dense context modelling.
        num_groups: of every branch's dynamic split convolution.
        num_kernels: of every branch's dynamic split convolution.
        ratios: of every branch's global context modelling.
        pooling: of the dense context modelling.
        norm_cfg: config of the norms.
        with_cp: recompute the block in the backward pass.

    Shape:
        a list of (N, C_i, H_i, W_i) -> the same
    """

    def __init__(
        self,
        channels: Sequence[int],
        ratio: int,
        num_groups: Sequence[int],
        num_kernels: Sequence[int],
        ratios: Sequence[int],
        pooling: str = 'released',
        norm_cfg: Mapping = BN,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        halves = [width // 2 for width in channels]
        self.with_cp, self.fast = with_cp, True
        self.dcm = DenseContextModeling(halves, ratio, pooling, norm_cfg)
        self.conv = nn.ModuleList(
            DynamicSplitConv(*args, norm_cfg) for args in zip(halves, num_groups, num_kernels)
        )
        self.gcm = nn.ModuleList(
            GlobalContextModeling(*args, norm_cfg) for args in zip(halves, ratios)
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        if self.with_cp and any(each.requires_grad for each in x):
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: list[Tensor]) -> list[Tensor]:
        kept, changed = zip(*(each.chunk(2, dim=1) for each in x))
        changed = self.dcm(changed)
        if not (self.fast and can_be_affine(self.gcm[0].bn, x[0])):
            changed = [gcm(conv(each)) for each, conv, gcm in zip(changed, self.conv, self.gcm)]
            return [channel_shuffle(torch.cat(halves, dim=1), 2) for halves in zip(kept, changed)]
        outs = []
        for keep, each, conv, gcm in zip(kept, changed, self.conv, self.gcm):
            out = gcm.after_norms(conv.without_norm(each), [layer.bn for layer in conv.conv])
            # shuffled by interleaving
            out = torch.stack((keep, out), dim=2)
            outs.append(out.flatten(1, 2))
        return outs


class DiteModule(LiteHRModule):
    """A module of a stage: blocks, then the exchange between the branches.

    Args:
        blocks: the arguments of :class:`DiteBlock` but its channels and ratio.
        **kwargs: :class:`LiteHRModule`'s arguments.
    """

    def __init__(self, *, blocks: dict, **kwargs) -> None:
        # LiteHRModule's constructor builds the blocks
        self.block_args = blocks
        super().__init__(module_type='LITE', **kwargs)
        self.fast = True

    def _make_weighting_blocks(self, num_blocks: int, reduce_ratio: int) -> nn.Sequential:
        return nn.Sequential(
            *(
                DiteBlock(
                    self.in_channels,
                    reduce_ratio,
                    norm_cfg=self.norm_cfg,
                    with_cp=self.with_cp,
                    **self.block_args,
                )
                for _ in range(num_blocks)
            )
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = self.layers(x)
        return self.fuse(x) if self.with_fuse else x

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        """Every branch's tensor -> the fused ones.

        Branch 0's term counts twice in every output, and what the outputs after the first read of
        branch 0 is the first output: the authors add and rectify in place, and the published
        weights depend on it.
        """
        if self.fast:
            return self._fuse(x)
        x, outs = list(x), []
        for i, row in enumerate(self.fuse_layers):
            terms = [each if j == i else row[j](each) for j, each in enumerate(x)]
            outs.append(self.relu(sum(terms[1:], 2 * terms[0])))
            x[0] = outs[0]
        return outs

    def _fuse(self, x: list[Tensor]) -> list[Tensor]:
        x, outs = list(x), []
        for i, row in enumerate(self.fuse_layers):
            out = x[0] if i == 0 else run(row[0], x[0])
            weight = 2  # of what is in out
            for j in range(1, i + 1):
                term = x[j] if j == i else run(row[j], x[j])
                out, weight = torch.add(term, out, alpha=weight), 1
            # from the lowest resolution up, so that sums are small and the enlarged is added once
            below = None
            for j in reversed(range(i + 1, len(x))):
                term = row[j][:2](x[j])
                below = term if below is None else enlarged_sum(term, below)
            if below is not None:
                out, weight = enlarged_sum(out, below, weight), 1
            outs.append(F.relu(out if weight == 1 else weight * out, inplace=True))
            x[0] = outs[0]
        return outs


@MODELS.register_module()
class DiteHRNet(LiteHRNet):
    """Dite-HRNet, plain for now."""

    def __init__(self, extra: dict, pooling: str = 'released', **kwargs) -> None:
        self.pooling = pooling
        super().__init__(extra, **kwargs)
        self.stem = DiteStem(
            kwargs.get('in_channels', 3),
            extra['stem']['stem_channels'],
            extra['stem']['out_channels'],
            norm_cfg=self.norm_cfg,
        )
        register_shape_check(self)

    def _make_stage(self, spec, index, in_channels, multiscale_output=True):
        blocks = dict(
            num_groups=(1, 1, 2, 4),
            num_kernels=(4, 4, 2, 1),
            ratios=(4, 4, 8, 8),
            pooling=self.pooling,
        )
        modules = [
            DiteModule(
                blocks=blocks,
                num_branches=spec['num_branches'][index],
                num_blocks=spec['num_blocks'][index],
                in_channels=in_channels,
                reduce_ratio=spec['reduce_ratios'][index],
                multiscale_output=True,
                norm_cfg=self.norm_cfg,
                with_cp=self.with_cp,
            )
            for _ in range(spec['num_modules'][index])
        ]
        return nn.Sequential(*modules), in_channels
