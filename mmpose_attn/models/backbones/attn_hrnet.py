"""HRNet with attention plugins at named positions."""

from collections.abc import Iterable, Sequence

from mmcv.cnn import build_plugin_layer
from mmengine.logging import print_log
from mmengine.model import BaseModule, initialize
from mmpose.models.backbones.hrnet import HRModule, HRNet
from mmpose.registry import MODELS
from torch import Tensor, nn

from mmpose_attn.engine.checkpoint import register_shape_check

# (stage, branch) -> channels, for every place a position offers
Sites = dict[tuple[int, int], int]


class AttnHRModule(HRModule):
    """MMPose's :class:`HRModule` with optional plugins on its fused outputs."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fuse_plugins: nn.ModuleDict | None = None

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        outs = super().forward(x)
        if self.fuse_plugins is not None:
            for branch, plugin in self.fuse_plugins.items():
                outs[int(branch)] = plugin(outs[int(branch)])
        return outs


@MODELS.register_module()
class AttnHRNet(HRNet):
    """MMPose's HRNet plus attention plugins, by config alone.

    Without plugins it is bit-identical to :class:`mmpose.models.HRNet`; with
    them it keeps every one of HRNet's parameter names, so a stock HRNet
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
            * ``'fuse'``: each output of every HRModule's fusion, after ReLU.

            ``stages`` (of 2, 3, 4 for ``'fuse'``) and ``branches`` (0 is the
            highest resolution) select among the places; absent means all.
        **kwargs: HRNet's own arguments (``in_channels``, ``conv_cfg``,
            ``norm_cfg``, ``norm_eval``, ``with_cp``, ``zero_init_residual``,
            ``frozen_stages``, ``init_cfg``). Plugins of a frozen stage are
            frozen with it.

    Raises:
        ValueError: if a plugin names an unknown position or key, or selects
            nothing; the message lists what there is.
        KeyError: if a plugin's type is not registered.
    """

    def __init__(self, extra: dict, plugins: Sequence[dict] | None = None, **kwargs) -> None:
        super().__init__(extra, **kwargs)
        self.stem_plugins: nn.Sequential | None = None
        self._add_plugins(plugins or ())
        self._freeze_stages()
        register_shape_check(self)

    def _make_stage(self, layer_config, in_channels, multiscale_output=True):
        block = self.blocks_dict[layer_config['block']]
        modules = []
        for index in range(layer_config['num_modules']):
            last = index == layer_config['num_modules'] - 1
            module = AttnHRModule(
                layer_config['num_branches'],
                block,
                layer_config['num_blocks'],
                in_channels,
                layer_config['num_channels'],
                multiscale_output or not last,
                with_cp=self.with_cp,
                norm_cfg=self.norm_cfg,
                conv_cfg=self.conv_cfg,
                upsample_cfg=self.upsample_cfg,
            )
            modules.append(module)
            in_channels = module.in_channels
        return nn.Sequential(*modules), in_channels

    # ------------------------------------------------------------ plugins
    def _hr_modules(self) -> Iterable[tuple[int, AttnHRModule]]:
        for stage in (2, 3, 4):
            for module in getattr(self, f'stage{stage}'):
                yield stage, module

    def plugin_sites(self) -> dict[str, Sites]:
        """The places of every position: ``{position: {(stage, branch): channels}}``."""
        fuse = {
            (stage, branch): module.in_channels[branch]
            for stage, module in self._hr_modules()
            for branch in range(len(module.fuse_layers))
        }
        return {'stem': {(1, 0): self.conv1.out_channels}, 'fuse': fuse}

    def _add_plugins(self, plugins: Sequence[dict]) -> None:
        sites = self.plugin_sites()
        added = []
        for plugin in plugins:
            plugin = dict(plugin)
            cfg = plugin.pop('cfg', None)
            position = plugin.pop('position', None)
            stages, branches = plugin.pop('stages', None), plugin.pop('branches', None)
            if not isinstance(cfg, dict) or 'type' not in cfg:
                raise ValueError(f'plugins: each needs cfg=dict(type=...), got cfg={cfg!r}')
            name = cfg['type']
            if plugin:
                raise ValueError(
                    f'plugins: unknown key {sorted(plugin)} beside {name}; '
                    'the keys are cfg, position, stages, branches'
                )
            if position not in sites:
                raise ValueError(
                    f'plugins: {name} asks for position {position!r}; '
                    f'the positions are {sorted(sites)}'
                )
            chosen = {
                place: channels
                for place, channels in sites[position].items()
                if (stages is None or place[0] in stages)
                and (branches is None or place[1] in branches)
            }
            if not chosen:
                raise ValueError(
                    f'plugins: {name} at {position!r} with stages={stages}, branches={branches} '
                    f'matches nothing; the (stage, branch) there are {sorted(sites[position])}'
                )
            before = sum(p.numel() for p in self.parameters())
            count = self._place(dict(cfg), position, chosen)
            cost = sum(p.numel() for p in self.parameters()) - before
            added.append(f'{name} at {position} x{count} (+{cost:,} parameters)')
        if added:
            print_log('AttnHRNet plugins: ' + '; '.join(added), 'current')

    def _place(self, cfg: dict, position: str, chosen: Sites) -> int:
        if position == 'stem':
            layer = self._build_plugin(cfg, chosen[1, 0])
            self.stem_plugins = nn.Sequential(*(self.stem_plugins or ()), layer)
            return 1
        count = 0
        for stage, module in self._hr_modules():
            for branch in range(len(module.fuse_layers)):
                if (stage, branch) in chosen:
                    if module.fuse_plugins is None:
                        module.fuse_plugins = nn.ModuleDict()
                    chain = (
                        module.fuse_plugins[str(branch)]
                        if (str(branch) in module.fuse_plugins)
                        else ()
                    )
                    layer = self._build_plugin(cfg, chosen[stage, branch])
                    module.fuse_plugins[str(branch)] = nn.Sequential(*chain, layer)
                    count += 1
        return count

    @staticmethod
    def _build_plugin(cfg: dict, channels: int) -> nn.Module:
        try:
            return build_plugin_layer(dict(cfg), in_channels=channels)[1]
        except KeyError as error:
            if 'registry' not in str(error):
                raise
            raise KeyError(
                f'plugins: no plugin is registered as {cfg["type"]!r}. Is its module imported '
                '(custom_imports in the config), and is default_scope mmpose?'
            ) from error

    def plugin_modules(self) -> Iterable[nn.Module]:
        """Every plugin in the network, in no particular order."""
        if self.stem_plugins is not None:
            yield from self.stem_plugins
        for _, module in self._hr_modules():
            for chain in (module.fuse_plugins or nn.ModuleDict()).values():
                yield from chain

    # ------------------------------------------------------ initialisation
    def init_weights(self) -> None:
        """HRNet's initialisation, which leaves the plugins' own untouched.

        HRNet's default is Normal(0, 0.001) on *every* convolution below it
        and MMEngine never reaches an ``init_cfg`` inside a plain Sequential,
        so the plugins are put back and initialised by themselves. Pretrained
        weights come last: they may hold the plugins' weights as well.
        """
        if self.is_init:  # MMEngine warns and changes nothing
            super().init_weights()
            return
        cfgs = self.init_cfg or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else list(cfgs)
        pretrained = [cfg for cfg in cfgs if cfg['type'] == 'Pretrained']
        plugins = list(self.plugin_modules())
        saved = [{k: v.clone() for k, v in p.state_dict().items()} for p in plugins]

        whole, self.init_cfg = self.init_cfg, [c for c in cfgs if c['type'] != 'Pretrained']
        try:
            super().init_weights()
        finally:
            self.init_cfg = whole
        for plugin, state in zip(plugins, saved, strict=True):
            plugin.load_state_dict(state)
            if isinstance(plugin, BaseModule) and plugin.init_cfg:
                initialize(plugin, plugin.init_cfg)
        for cfg in pretrained:
            initialize(self, cfg)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        # HRNet's constructor calls this before there are plugins
        if self.frozen_stages >= 0 and getattr(self, 'stem_plugins', None) is not None:
            self.stem_plugins.eval()
            self.stem_plugins.requires_grad_(False)

    # -------------------------------------------------------------- forward
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) image -> branch outputs of stage 4, highest resolution first."""
        x = self.relu(self.norm1(self.conv1(x)))
        if self.stem_plugins is not None:
            x = self.stem_plugins(x)
        x = self.relu(self.norm2(self.conv2(x)))
        outs = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # new branches grow from the lowest resolution there is
            ins = [
                outs[min(i, len(outs) - 1)] if layer is None else layer(outs[-1])
                for i, layer in enumerate(transition)
            ]
            outs = stage(ins)
        return tuple(outs)
