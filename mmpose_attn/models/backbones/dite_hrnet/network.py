"""Dite-HRNet: Li et al., IJCAI 2022, doi 10.24963/ijcai.2022/153."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpose.models.backbones.litehrnet import LiteHRModule, LiteHRNet
from mmpose.models.backbones.utils import channel_shuffle
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpose_attn.engine.weights import register_shape_check
from mmpose_attn.models.backbones.plugin_sites import PluginHost, PluginSite
from mmpose_attn.models.defaults import BN
from mmpose_attn.models.layers.context_modeling import DenseContextModeling, GlobalContextModeling
from mmpose_attn.models.layers.dynamic_conv import DynamicSplitConv, conv_cfg
from mmpose_attn.models.layers.fusing import can_fold, fold, fuse_for_inference

from . import hwnc
from .extra import PER_BRANCH, check_extra
from .fused import FusedBlock, FusedModule, FusedStem
from .recording import Recording


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
        first, second = self.conv1(x).chunk(2, dim=1)  # (N, stem_channels / 2, H / 2, W / 2)
        x = torch.cat((self.branch1(first), self.branch2(second)), dim=1)
        return channel_shuffle(x, 2)  # (N, out_channels, H / 4, W / 4)

    def inference_form(self) -> nn.Module:
        fused = can_fold(self.conv1.norm)
        fold(self, ())
        return FusedStem(self) if fused else self


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
        if self.with_cp and any(each.requires_grad for each in x):
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: list[Tensor]) -> list[Tensor]:
        kept, changed = zip(*(each.chunk(2, dim=1) for each in x))  # (N, C_i / 2, H_i, W_i)
        outs = []
        for i, each in enumerate(self.dcm(changed)):
            each = self.gcm[i](self.conv[i](each))  # (N, C_i / 2, H_i, W_i)
            each = self.sites['after_context'][i](each)
            out = channel_shuffle(torch.cat((kept[i], each), dim=1), 2)  # (N, C_i, H_i, W_i)
            outs.append(self.sites['block'][i](out))
        return outs

    def inference_form(self) -> nn.Module:
        fused = can_fold(self.gcm[0].bn)
        fold(self, ())
        return FusedBlock(self) if fused else self


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
        return self.fuse(x) if self.with_fuse else x

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        """Every branch's tensor (N, C_i, H_i, W_i) -> the fused ones.

        Branch 0's term counts twice in every output, and what the outputs after the first read of
        branch 0 is the first output: the authors add and rectify in place, and the published
        weights depend on it.
        """
        x, outs = list(x), []
        for i, row in enumerate(self.fuse_layers):
            # all (N, C_i, H_i, W_i)
            terms = [each if j == i else row[j](each) for j, each in enumerate(x)]
            outs.append(self.relu(sum(terms[1:], 2 * terms[0])))
            x[0] = outs[0]
        return outs

    def inference_form(self) -> nn.Module:
        fold(self, ())
        fused = any(isinstance(block, FusedBlock) for block in self.layers)
        return FusedModule(self) if fused else self


@MODELS.register_module()
class DiteHRNet(PluginHost, LiteHRNet):
    """Dite-HRNet, with the parameter names of the authors' released checkpoints.

    On a CPU it computes what the authors' code computes by fewer operations and in another order of
    dimensions, in training as in evaluation (:mod:`.hwnc`); ``fast=False`` is the plain arithmetic,
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
        self.fast, self.recording = fast, Recording()
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
        if self.fast and hwnc.suits(self, x):
            recorded = self.recording.suits(x)
            return self.recording(x) if recorded else hwnc.forward(self, x)
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

    def fuse_for_inference(self, record: bool = True) -> 'DiteHRNet':
        """:func:`mmpose_attn.models.fuse_for_inference` of this network, and a recording.

        Batch norms are folded into static and dynamic kernels, the convolutions of a branch
        become one, and the gates of all branches one product of matrices.

        Args:
            record: on a CPU the network is also recorded (some seconds, :mod:`.recording`), which
                saves Python's share of the time for one image, of any size; a batch is computed
                as without it. Copies and pickles of the network have no recording, and a plugin
                that computes with its input's size as with a constant prevents it.
        """
        fused = fuse_for_inference(self)
        image = next(fused.parameters()).new_empty(1)
        if record and fused.fast and hwnc.suits(fused, image):
            fused.recording = Recording.of(fused)
            fused.register_load_state_dict_post_hook(_forget_recording)
        return fused


def _forget_recording(network: DiteHRNet, _: NamedTuple) -> None:
    network.recording = Recording()  # of the weights before
