"""Dite-HRNet: Li et al., IJCAI 2022, doi 10.24963/ijcai.2022/153."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpose.models.backbones.litehrnet import LiteHRModule, LiteHRNet
from mmpose.models.backbones.utils import channel_shuffle
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmpose_attn.engine.weights import register_shape_check

from ...layers import hwnc
from ...layers.context_modeling import DenseContextModeling, GlobalContextModeling
from ...layers.dynamic_conv import BN, DynamicSplitConv, conv_cfg
from ..plugin_sites import PluginHost, PluginSite
from .fused import exchange, fuse, record_graph


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
        return channel_shuffle(torch.cat((self.branch1(first), self.branch2(second)), dim=1), 2)

    def rows(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (H / 4, W / 4, N, out_channels)"""
        x = self.conv1(x.contiguous(memory_format=torch.channels_last)).permute(2, 3, 0, 1)
        halves = []
        for half, branch in zip(x.chunk(2, dim=3), (self.branch1, self.branch2)):
            first, context, *others = branch
            half = first.conv.convolve_rows(half.contiguous(), half.mean((0, 1)))
            half = context.rows_after_norms(half, [first.norm])
            for layer in others:
                half = layer.conv.convolve_rows(half, half.mean((0, 1)))
                half = hwnc.run(layer.norm, half)
                half = layer.activate(half) if layer.with_activation else half
            halves.append(half)
        return hwnc.interleave(*halves)


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
        self.with_cp = with_cp
        self.dcm = DenseContextModeling(halves, ratio, pooling, norm_cfg)
        self.conv = nn.ModuleList(
            DynamicSplitConv(*args, norm_cfg) for args in zip(halves, num_groups, num_kernels)
        )
        self.gcm = nn.ModuleList(
            GlobalContextModeling(*args, norm_cfg) for args in zip(halves, ratios)
        )
        self.sites = nn.ModuleDict(
            {
                position: nn.ModuleList(
                    PluginSite(position=position, channels=width, branch=branch)
                    for branch, width in enumerate(widths)
                )
                for position, widths in (('after_context', halves), ('block', channels))
            }
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return self._checkpointed(self._forward, x)

    def rows(self, x: list[Tensor]) -> list[Tensor]:
        """The same of (H, W, N, C)."""
        return self._checkpointed(self._rows, x)

    def _checkpointed(self, forward: Callable, x: list[Tensor]) -> list[Tensor]:
        if self.with_cp and any(each.requires_grad for each in x):
            return checkpoint(forward, x, use_reentrant=False)
        return forward(x)

    def _forward(self, x: list[Tensor]) -> list[Tensor]:
        kept, changed = zip(*(each.chunk(2, dim=1) for each in x))
        outs = []
        for i, each in enumerate(self.dcm(changed)):
            each = self.sites['after_context'][i](self.gcm[i](self.conv[i](each)))
            out = channel_shuffle(torch.cat((kept[i], each), dim=1), 2)
            outs.append(self.sites['block'][i](out))
        return outs

    def _rows(self, x: list[Tensor]) -> list[Tensor]:
        kept, changed = zip(*(each.chunk(2, dim=3) for each in x))
        changed = [
            gcm.rows_after_norms(conv.rows_without_norm(each), [layer.norm for layer in conv.conv])
            for each, conv, gcm in zip(self.dcm.rows(changed), self.conv, self.gcm)
        ]
        return hwnc.join(kept, changed, self.sites)


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
        if not self.with_fuse:
            return x
        return exchange(self.fuse_layers, x) if self.fused else self.fuse(x)

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        """Every branch's tensor -> the fused ones.

        Branch 0's term counts twice in every output, and what the outputs after the first read of
        branch 0 is the first output: the authors add and rectify in place, and the published
        weights depend on it.
        """
        x, outs = list(x), []
        for i, row in enumerate(self.fuse_layers):
            terms = [each if j == i else row[j](each) for j, each in enumerate(x)]
            outs.append(self.relu(sum(terms[1:], 2 * terms[0])))
            x[0] = outs[0]
        return outs

    @property
    def fused(self) -> bool:
        """Whether norms are folded, and branch 0's doubled terms into the ways down."""
        return not isinstance(self.layers[0], DiteBlock)

    def rows(self, x: list[Tensor]) -> list[Tensor]:
        """The same of (H, W, N, C)."""
        for block in self.layers:
            x = block.rows(x)
        if not self.with_fuse:
            return x
        x, outs = list(x), []
        for i, row in enumerate(self.fuse_layers):
            out = x[0] if i == 0 else hwnc.run(row[0], x[0])
            weight = 2 if i == 0 or not self.fused else 1  # of what is in out
            for j in range(1, i + 1):
                term = x[j] if j == i else hwnc.run(row[j], x[j])
                out, weight = torch.add(term, out, alpha=weight), 1
            # from the lowest resolution up, so that sums are small and the enlarged is added once
            below = None
            for j in reversed(range(i + 1, len(x))):
                term = hwnc.run(row[j][1], hwnc.run(row[j][0], x[j]))
                below = term if below is None else hwnc.enlarged_sum(term, below)
            if below is not None:
                out, weight = hwnc.enlarged_sum(out, below, weight), 1
            outs.append(F.relu(out if weight == 1 else weight * out, inplace=True))
            x[0] = outs[0]
        return outs


PER_BRANCH = MappingProxyType(
    dict(num_groups=(1, 1, 2, 4), num_kernels=(4, 4, 2, 1), ratios=(4, 4, 8, 8))
)


def check_extra(extra: Mapping) -> None:
    """Raise a :class:`ValueError` that names what does not fit together."""
    lists = {'num_modules', 'num_branches', 'num_blocks', 'num_channels'}
    for where, keys in (
        ('', {'stem', 'num_stages', 'stages_spec', 'with_head'}),
        ('stem', {'stem_channels', 'out_channels'}),
        ('stages_spec', lists),
    ):
        missing = keys - (extra[where] if where else extra).keys()
        if missing:
            raise ValueError(f'extra{where and [where]} has no {sorted(missing)}')
    spec, stages = extra['stages_spec'], extra['num_stages']
    for key in sorted(lists | (spec.keys() & {'reduce_ratios', 'with_fuse'})):
        if not isinstance(spec[key], Sequence) or len(spec[key]) != stages:
            raise ValueError(
                f"extra['stages_spec'][{key!r}] must have num_stages={stages} entries, "
                f'got {spec[key]!r}'
            )
    for stage, (count, widths) in enumerate(zip(spec['num_branches'], spec['num_channels'])):
        if count < 2:
            raise ValueError(f'stage {stage} needs at least two branches, got {count}')
        if len(widths) != count:
            raise ValueError(
                f'num_channels of stage {stage} must have num_branches={count} entries, '
                f'got {widths!r}'
            )
        if any(width % 2 for width in widths):
            raise ValueError(f'num_channels of stage {stage} must be even, got {widths!r}')
        for key, default in PER_BRANCH.items():
            table = spec.get(key, default)
            if len(table) < count:
                raise ValueError(
                    f'stage {stage} has {count} branches, but {key} only {len(table)} entries: '
                    f"{table!r}; give extra['stages_spec'][{key!r}] one for every branch"
                )


@MODELS.register_module()
class DiteHRNet(PluginHost, LiteHRNet):
    """Dite-HRNet, with the parameter names of the authors' released checkpoints.

    On a CPU it computes what the authors' code computes by fewer operations and in another order of
    dimensions, in training as in evaluation (:mod:`..layers.hwnc` and
    :meth:`GlobalContextModeling.rows_after_norms` say how); ``fast=False`` is the plain arithmetic,
    which other devices, other norms than ``BN``, half precision and training with one or two images
    always take. What is the authors' code and not the paper is on the documentation's page
    ``docs/dite_hrnet.md``.

    Args:
        extra: the architecture, as for :class:`mmpose.models.LiteHRNet`, less ``module_type``;
            ``stages_spec`` need not have ``reduce_ratios`` (8) and ``with_fuse`` (True), and may
            also hold, each with an entry for every branch from the highest
            resolution to the lowest, ``num_groups`` (1, 1, 2, 4) and ``num_kernels`` (4, 4, 2, 1)
            of the dynamic split convolutions and ``ratios`` (4, 4, 8, 8) of the global context
            modelling.
        pooling: of the dense context modelling: ``'released'`` as in the authors' code, which
            their weights need, or ``'spatial'`` as in the paper.
        plugins: attention, as for :class:`AttnHRNet`. ``position`` is ``'block'``, each tensor that
            leaves a DMC block, or ``'after_context'``, half of the channels, after the global
            context modelling and before they are joined with the other half. ``stages`` are
            counted as HRNet's: stage s has s branches, so that ``stage0`` is stage 2.
        all_branches: return a tensor of every branch, for a neck such as :class:`CSPPAN`; for it
            set ``with_head=False`` in ``extra``.
        fast: False computes everything as it is written down.
        **kwargs: LiteHRNet's own arguments (``in_channels``, ``norm_cfg``, ``norm_eval``,
            ``with_cp``, ``init_cfg``).

    Shape:
        (N, in_channels, H, W) -> a tuple of one tensor (N, C, H / 4, W / 4), or of all; H and W
        are multiples of 32 for four branches

    Raises:
        ValueError: if an argument has no meaning, lists of ``extra`` differ in length, or an image
            has a wrong size or there is none.
    """

    def __init__(
        self,
        extra: dict,
        pooling: str = 'released',
        plugins: Sequence[dict] | None = None,
        all_branches: bool = False,
        fast: bool = True,
        **kwargs,
    ) -> None:
        check_extra(extra)
        # LiteHRNet's constructor builds the stages, and a stem of its own
        self.pooling, self.all_branches = pooling, all_branches
        extra = dict(extra, stem=dict(expand_ratio=1) | dict(extra['stem']))
        super().__init__(extra, **kwargs)
        stem = self.extra['stem']
        self.stem = DiteStem(
            kwargs.get('in_channels', 3),
            stem['stem_channels'],
            stem['out_channels'],
            norm_cfg=self.norm_cfg,
        )
        self.fast = fast
        self._add_plugins(plugins or ())
        register_shape_check(self)

    def _make_stage(self, stages_spec, stage_index, in_channels, multiscale_output=True):
        spec, count = stages_spec, stages_spec['num_branches'][stage_index]
        blocks = {key: spec.get(key, default)[:count] for key, default in PER_BRANCH.items()}
        modules = [
            DiteModule(
                blocks=dict(blocks, pooling=self.pooling),
                num_branches=count,
                num_blocks=spec['num_blocks'][stage_index],
                in_channels=in_channels,
                reduce_ratio=spec.get('reduce_ratios', (8,) * (stage_index + 1))[stage_index],
                with_fuse=spec.get('with_fuse', (True,) * (stage_index + 1))[stage_index],
                multiscale_output=multiscale_output,
                norm_cfg=self.norm_cfg,
                with_cp=self.with_cp,
            )
            for _ in range(spec['num_modules'][stage_index])
        ]
        for module in modules:
            for site in module.modules():
                if isinstance(site, PluginSite):
                    site.stage = count
        return nn.Sequential(*modules), in_channels

    def train(self, mode: bool = True) -> 'DiteHRNet':
        super().train(mode)
        return self  # LiteHRNet returns nothing

    @property
    def step(self) -> int:
        """What an image's height and width are multiples of."""
        return 2 ** (1 + len(self.stages_spec['num_channels'][-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if len(x) == 0 or x.shape[2] % self.step or x.shape[3] % self.step:
            raise ValueError(
                f'{type(self).__name__} needs at least one image, whose height and width are '
                f'multiples of {self.step}; got {tuple(x.shape)}'
            )
        if self._can_be_short(x):
            dtype, graph = self.__dict__.get('recorded', (None, None))
            # a recording, which is no submodule, cannot be part of another
            usable = len(x) == 1 and x.dtype == dtype and not torch.jit.is_tracing()
            return graph(x) if usable else self._rows(x)
        x = [self.stem(x)]
        for stage in range(self.num_stages):
            # new branches grow from the lowest resolution there is
            x = [
                x[min(i, len(x) - 1)] if layers is None else layers(x[min(i, len(x) - 1)])
                for i, layers in enumerate(getattr(self, f'transition{stage}'))
            ]
            x = getattr(self, f'stage{stage}')(x)
        if self.with_head:
            x = self.head_layer(x)
        return tuple(x) if self.all_branches else (x[0],)

    def _can_be_short(self, x: Tensor) -> bool:
        if not self.fast:
            return False
        norm = self.stem.conv1.norm
        return (
            # a norm of one or two images' means is little but signs, so that rounding decides what
            # training sees: there the authors' order of operations is kept
            (len(x) > 2 or not self.training)
            and x.device.type == 'cpu'
            and x.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled(x.device.type)
            and (type(norm) is nn.Identity or (type(norm) is nn.BatchNorm2d and norm.momentum))
        )

    def _rows(self, x: Tensor) -> tuple[Tensor, ...]:
        x = [self.stem.rows(x)]
        for stage in range(self.num_stages):
            x = [
                x[min(i, len(x) - 1)] if layers is None else hwnc.run(layers, x[min(i, len(x) - 1)])
                for i, layers in enumerate(getattr(self, f'transition{stage}'))
            ]
            for module in getattr(self, f'stage{stage}'):
                x = module.rows(x)
        if self.with_head:
            outs = []
            for each, layers in zip(reversed(x), self.head_layer.projects):
                if outs:
                    each = each + hwnc.enlarge(outs[-1], each.shape[:2])
                outs.append(hwnc.run(layers, each))
            x = outs[::-1]
        x = x if self.all_branches else x[:1]
        return tuple(map(hwnc.turned, x))

    def fuse_for_inference(self, record: bool = True) -> 'DiteHRNet':
        """An equal network of fewer operations, for inference alone; this one stays as it is.

        Batch norms are folded into static and dynamic kernels, the convolutions of a branch
        become one, and the gates of all branches one product of matrices. Parameter names change:
        load a checkpoint first.

        Args:
            record: on a CPU the network is also recorded (TorchScript, some seconds), which saves
                Python's share of the time for one image, of any size; a batch is computed
                as without it. Copies and pickles of the network have no recording, and a plugin
                that computes with its input's size as with a constant prevents it.
        """
        fused = fuse(self)
        image = next(fused.parameters()).new_empty(1)
        graph = record_graph(fused) if record and fused._can_be_short(image) else None
        if graph is not None:
            fused.__dict__['recorded'] = image.dtype, graph  # no submodule: no parameters of it
        return fused

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != 'recorded'}
