"""HRNet with attention plugins at named positions."""

from collections.abc import Sequence

from mmpose.models.backbones.hrnet import HRModule, HRNet
from mmpose.models.backbones.resnet import BasicBlock, Bottleneck
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpose_attn.engine.weights import register_shape_check
from mmpose_attn.models.layers.fusing import fold, fuse_for_inference

from .plugin_sites import PluginHost, PluginSite, numbers


class _PluginBlock:
    """The plugin sites of a residual block; goes before MMPose's block among the bases."""

    num_convs: int

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for i in range(1, self.num_convs + 1):
            channels = self.mid_channels if i < self.num_convs else self.out_channels
            site = PluginSite(position=f'after_conv{i}', channels=channels)
            self.add_module(site.position, site)
        self.names = [
            (f'conv{i}', getattr(self, f'norm{i}_name'), f'after_conv{i}')
            for i in range(1, self.num_convs + 1)
        ]
        self.after_block = PluginSite(position='block', channels=self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        out = x
        for i, (conv, norm, after) in enumerate(self.names, start=1):
            out = getattr(self, norm)(getattr(self, conv)(out))
            if i < self.num_convs:
                out = self.relu(out)
            site = getattr(self, after)
            out = site(out) if site else out  # to call what is empty costs 1 % of a network
        identity = x if self.downsample is None else self.downsample(x)
        # a plugin may need its output in the backward pass
        out = self.relu(out + identity if site else out.add_(identity))
        return self.after_block(out) if self.after_block else out

    def inference_form(self) -> nn.Module:
        return fold(self, [(conv, norm) for conv, norm, _ in self.names])


class AttnBasicBlock(_PluginBlock, BasicBlock):
    """MMPose's :class:`BasicBlock` with the sites after_conv1, after_conv2 and block."""

    num_convs = 2


class AttnBottleneck(_PluginBlock, Bottleneck):
    """MMPose's :class:`Bottleneck` with the sites after_conv1 to after_conv3 and block."""

    num_convs = 3


class AttnHRModule(HRModule):
    """MMPose's :class:`HRModule` with a choice of outputs and a plugin site on each of them.

    Args:
        outputs: the branches whose fused output is computed, in the order in
            which they are returned; only their rows of ``fuse_layers`` exist,
            under HRNet's indices. Empty: there is no exchange, and the
            output is every branch as it is.
        **kwargs: :class:`HRModule`'s arguments but ``multiscale_output``.
    """

    def __init__(self, *, outputs: Sequence[int], **kwargs) -> None:
        # HRModule's constructor builds the fuse layers
        self.outputs = tuple(outputs) if kwargs['num_branches'] > 1 else ()
        super().__init__(**kwargs)
        self.fuse_plugins = nn.ModuleDict(
            {
                str(i): PluginSite(position='fuse', channels=self.in_channels[i], branch=i)
                for i in self.outputs
            }
        )
        for branch, blocks in enumerate(self.branches):
            for site in blocks.modules():
                if isinstance(site, PluginSite):
                    site.branch = branch

    def _make_fuse_layers(self) -> nn.ModuleDict | None:
        if not self.outputs:
            return None
        # which rows HRModule builds: all, or the first alone
        self.multiscale_output = max(self.outputs) > 0
        rows = super()._make_fuse_layers()
        # a ModuleList with gaps would hide a checkpoint's other rows from load_state_dict
        return nn.ModuleDict({str(i): rows[i] for i in self.outputs})

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        """Every branch's tensor -> the fused ``outputs``."""
        outs = []
        for i in self.outputs:
            row = self.fuse_layers[str(i)]
            first, second, *others = (each if j == i else row[j](each) for j, each in enumerate(x))
            out = first + second
            for other in others:
                out += other
            outs.append(self.fuse_plugins[str(i)](self.relu(out)))
        return outs

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(each) for branch, each in zip(self.branches, x, strict=True)]
        return self.fuse(x) if self.outputs else x


@MODELS.register_module()
class AttnHRNet(PluginHost, HRNet):
    """MMPose's HRNet with attention plugins, less fusion or other outputs, by config alone.

    By default it is bit-identical to :class:`mmpose.models.HRNet`. With
    plugins it keeps every one of HRNet's parameter names, so a stock HRNet
    checkpoint loads with exactly the plugins' keys missing.

    Args:
        extra: HRNet's architecture, as for :class:`mmpose.models.HRNet`.
        plugins: a list of ``dict(cfg=dict(type=..., ...), position=...,
            stages=..., branches=...)``. ``cfg`` is any plugin that
            :func:`mmcv.cnn.build_plugin_layer` builds; ``in_channels`` is
            filled in. Several plugins at one place chain in list order.
            ``position`` is one of

            * ``'stem'``: between the stem's first and second convolution,
              after norm and ReLU, (N, 64, H/2, W/2);
            * ``'after_conv1'``, ``'after_conv2'``, and ``'after_conv3'`` in a
              Bottleneck: inside every residual block, after the convolution's
              norm and, but for the last one, ReLU; before the addition;
            * ``'block'``: after every residual block's last ReLU;
            * ``'transition'``: each tensor that leaves stage s (1 to 3) for a
              branch of stage s + 1, after HRNet's transition layer, where
              there is one; counted as stage s and that branch;
            * ``'fuse'``: each output of every HRModule's fusion, after ReLU.

            ``stages`` (1 to 4; stage 1 is ``layer1``) and ``branches`` (0 is
            the highest resolution), an int or a list, select among the
            places; absent means all.
        fusion: ``'all'``: branches are fused at the end of every HRModule;
            ``'stages'``: only in the last one of every stage; ``'final'``:
            only in the last one of stage 4. (Table 6 c, b, a in Sun et al.,
            CVPR 2019, arXiv 1902.09212.)
        out_branch: the branch or branches of stage 4 to return, in this
            order; nothing else is computed for the others in the last
            fusion. ``None``: as ``multiscale_output`` in ``extra['stage4']``
            says, the highest resolution by default.
        **kwargs: HRNet's own arguments (``in_channels``, ``conv_cfg``,
            ``norm_cfg``, ``norm_eval``, ``with_cp``, ``zero_init_residual``,
            ``frozen_stages``, ``init_cfg``). Plugins of a frozen stage are
            frozen with it, those of a transition with the stage it leaves.
            ``with_cp`` recomputes plugins inside and after a block with it.

    Raises:
        ValueError: if a plugin names a position, stage, branch or key that
            there is not, or selects nothing; the message lists what there is.
            If ``fusion``, ``out_branch`` or ``frozen_stages`` has no meaning.
        KeyError: if a plugin's type is not registered.
    """

    blocks_dict = {'BASIC': AttnBasicBlock, 'BOTTLENECK': AttnBottleneck}

    def __init__(
        self,
        extra: dict,
        plugins: Sequence[dict] | None = None,
        fusion: str = 'all',
        out_branch: int | Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        if fusion not in ('all', 'stages', 'final'):
            raise ValueError(f"fusion must be 'all', 'stages' or 'final', got {fusion!r}")
        if kwargs.get('frozen_stages', -1) not in range(-1, 5):
            raise ValueError(
                'frozen_stages must be -1 (none), 0 (the stem) or 1 to 4, '
                f'got {kwargs["frozen_stages"]!r}'
            )
        if out_branch is not None:
            there, wanted = extra['stage4']['num_branches'], numbers('out_branch', out_branch)
            if not wanted or len(set(wanted)) < len(wanted) or not {*wanted} <= {*range(there)}:
                raise ValueError(
                    f'out_branch must name different branches of stage 4, 0 to {there - 1}, '
                    f'got {out_branch!r}'
                )
            out_branch = wanted
        # HRNet's constructor builds the stages
        self.fusion, self.out_branch = fusion, out_branch
        super().__init__(extra, **kwargs)

        self.stem_plugins = PluginSite(position='stem', channels=64, stage=1)
        for stage in (1, 2, 3):
            sites = (
                PluginSite(position='transition', channels=channels, stage=stage, branch=branch)
                for branch, channels in enumerate(getattr(self, f'stage{stage + 1}')[0].in_channels)
            )
            self.add_module(f'transition{stage}_plugins', nn.ModuleList(sites))
        for stage in (1, 2, 3, 4):
            for site in getattr(self, 'layer1' if stage == 1 else f'stage{stage}').modules():
                if isinstance(site, PluginSite):
                    site.stage = stage
        self._add_plugins(plugins or ())
        self._freeze_stages()
        register_shape_check(self)

    def _make_stage(self, layer_config, in_channels, multiscale_output=True):
        count, branches = layer_config['num_modules'], layer_config['num_branches']
        # HRNet's constructor makes one stage after the other
        is_stage4 = hasattr(self, 'stage3')
        exchanges = {'all': count, 'stages': 1, 'final': int(is_stage4)}[self.fusion]
        modules = []
        for left in reversed(range(count)):
            if left >= exchanges:
                outputs = ()
            elif left > 0:
                outputs = range(branches)
            elif is_stage4 and self.out_branch is not None:
                outputs = self.out_branch
            else:
                outputs = range(branches if multiscale_output else 1)
            module = self._make_module(
                num_branches=branches,
                blocks=self.blocks_dict[layer_config['block']],
                num_blocks=layer_config['num_blocks'],
                in_channels=in_channels,
                num_channels=layer_config['num_channels'],
                outputs=outputs,
                with_cp=self.with_cp,
                norm_cfg=self.norm_cfg,
                conv_cfg=self.conv_cfg,
                upsample_cfg=self.upsample_cfg,
            )
            modules.append(module)
            in_channels = module.in_channels
        return nn.Sequential(*modules), in_channels

    def _make_module(self, **kwargs) -> AttnHRModule:
        """Build one module of a stage; a network with another kind overrides this."""
        return AttnHRModule(**kwargs)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        for plugin in self.named_plugins():
            if (0 if plugin.position == 'stem' else plugin.stage) <= self.frozen_stages:
                plugin.module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'AttnHRNet':
        super().train(mode)
        return self  # HRNet returns nothing

    def inference_form(self) -> 'AttnHRNet':
        return fold(self, [('conv1', self.norm1_name), ('conv2', self.norm2_name)])

    def fuse_for_inference(self) -> 'AttnHRNet':
        """:func:`mmpose_attn.models.fuse_for_inference` of this network."""
        return fuse_for_inference(self)

    # -------------------------------------------------------------- forward
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) image -> outputs of stage 4, highest resolution or ``out_branch`` first."""
        x = self.stem_plugins(self.relu(self.norm1(self.conv1(x))))
        outs = [self.layer1(self.relu(self.norm2(self.conv2(x))))]
        for stage in (1, 2, 3):
            layers, plugins = (
                getattr(self, f'transition{stage}{kind}') for kind in ('', '_plugins')
            )
            ins = []
            for i, (layer, plugin) in enumerate(zip(layers, plugins, strict=True)):
                # new branches grow from the lowest resolution there is
                out = outs[min(i, len(outs) - 1)]
                ins.append(plugin(out if layer is None else layer(out)))
            outs = getattr(self, f'stage{stage + 1}')(ins)
        return tuple(outs)
