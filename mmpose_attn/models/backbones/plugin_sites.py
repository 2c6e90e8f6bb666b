"""The plugin grammar: places in a backbone, and attention modules in them by config alone."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mmcv.cnn import build_plugin_layer
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit, initialize
from mmengine.registry import MODELS
from torch import nn


class PluginSite(nn.Sequential):
    """A place for plugins, which run in order; as long as it is empty, the identity without keys.

    Args:
        *plugins: what it holds from the start.
        position: its name in the plugin grammar.
        channels: of the tensor that passes.
        stage: 1 to 4; 0 as long as the network has not numbered it.
        branch: 0 is the highest resolution.
    """

    def __init__(
        self,
        *plugins: nn.Module,
        position: str = '',
        channels: int = 0,
        stage: int = 0,
        branch: int = 0,
    ) -> None:
        super().__init__(*plugins)
        self.position, self.channels = position, channels
        self.stage, self.branch = stage, branch


class PlacedPlugin(NamedTuple):
    """A plugin and where it is; ``name`` is its module path, as in ``get_submodule(name)``."""

    name: str
    position: str
    stage: int
    branch: int
    module: nn.Module

    @property
    def place(self) -> str:
        return f'{self.position}, stage {self.stage}, branch {self.branch}'

    @property
    def group(self) -> str:
        """What it shares with the plugins of the other branches."""
        return f'stage {self.stage}, {self.position}'


def numbers(name: str, value: Any) -> tuple[int, ...]:
    """An int or a list of ints as a tuple."""
    values = (value,) if isinstance(value, int) else value
    kinds = (list, tuple, set, frozenset, range)
    if not isinstance(values, kinds) or any(type(each) is not int for each in values):
        raise ValueError(f'{name} must be an int or a list of ints, got {value!r}')
    return tuple(values)


class PluginHost:
    """What a backbone does with its plugin sites; goes before the backbone among the bases."""

    def _sites(self) -> list[tuple[str, PluginSite]]:
        """Every place for plugins with its module path, in the order of the forward pass."""
        sites = [
            (name, site)
            for name, site in self.named_modules()
            if isinstance(site, PluginSite) and site.stage
        ]
        return sorted(
            sites,
            key=lambda item: (
                item[1].position != 'stem',
                item[1].stage,
                item[1].position == 'transition',
            ),
        )

    def plugin_sites(self) -> dict[str, dict[tuple[int, int], int]]:
        """The places of every position: ``{position: {(stage, branch): channels}}``."""
        places = {}
        for _, site in self._sites():
            places.setdefault(site.position, {})[site.stage, site.branch] = site.channels
        return places

    def named_plugins(self) -> Iterator[PlacedPlugin]:
        """Every plugin in the network with its place, in the order of the forward pass."""
        for name, site in self._sites():
            for index, plugin in site.named_children():
                yield PlacedPlugin(
                    f'{name}.{index}', site.position, site.stage, site.branch, plugin
                )

    def _add_plugins(self, plugins: Sequence[dict]) -> None:
        if not isinstance(plugins, Sequence) or not all(isinstance(p, dict) for p in plugins):
            raise ValueError(
                f'plugins: must be a list of dict(cfg=..., position=...), got {plugins!r}'
            )
        added = []
        for plugin in plugins:
            plugin = dict(plugin)
            cfg, position = plugin.pop('cfg', None), plugin.pop('position', None)
            stages, branches = plugin.pop('stages', None), plugin.pop('branches', None)
            if not isinstance(cfg, dict) or not isinstance(cfg.get('type'), (str, type)):
                raise ValueError(f'plugins: each needs cfg=dict(type=...), got cfg={cfg!r}')
            name = getattr(cfg['type'], '__name__', cfg['type'])
            if plugin:
                raise ValueError(
                    f'plugins: unknown key {sorted(map(str, plugin))} beside {name}; '
                    'the keys are cfg, position, stages, branches'
                )
            if 'in_channels' in cfg:
                raise ValueError(f'plugins: in_channels of {name} is filled in; leave it out')
            layers = []
            for site in self._select(name, position, stages, branches):
                layers.append(self._build_plugin(cfg, site.channels))
                site.append(layers[-1])
            cost = sum(p.numel() for layer in layers for p in layer.parameters())
            added.append(f'{name} at {position} x{len(layers)} (+{cost:,} parameters)')
        if added:
            print_log(f'{type(self).__name__} plugins: ' + '; '.join(added), 'current')

    def _select(self, name: str, position: Any, stages: Any, branches: Any) -> list[PluginSite]:
        sites = [site for _, site in self._sites()]
        positions = sorted({site.position for site in sites})
        if position not in positions:
            raise ValueError(
                f'plugins: {name} asks for position {position!r}; the positions are {positions}'
            )
        chosen = sites = [site for site in sites if site.position == position]
        absent = []
        for key, attribute, value in (
            ('stages', 'stage', stages),
            ('branches', 'branch', branches),
        ):
            if value is not None:
                wanted = set(numbers(f'plugins: {key} of {name}', value))
                there = {getattr(site, attribute) for site in sites}
                absent += [f'{attribute} {number}' for number in sorted(wanted - there)]
                chosen = [site for site in chosen if getattr(site, attribute) in wanted]
        if absent or not chosen:
            places = sorted({(site.stage, site.branch) for site in sites})
            raise ValueError(
                f'plugins: {name} at {position!r} with stages={stages}, branches={branches}: '
                f'{" and ".join(absent) or "this"} matches nothing; '
                f'the (stage, branch) there are {places}'
            )
        return chosen

    @staticmethod
    def _build_plugin(cfg: dict, channels: int) -> nn.Module:
        kind = cfg['type']
        if isinstance(kind, str):
            with MODELS.switch_scope_and_registry(None) as registry, suppress(RuntimeError):
                kind = registry.get(kind)
        if not isinstance(kind, type):
            raise KeyError(
                f'plugins: no plugin is registered as {cfg["type"]!r}. Is its module imported '
                '(custom_imports in the config), and is default_scope mmpose?'
            )
        try:
            return build_plugin_layer(dict(copy.deepcopy(cfg), type=kind), in_channels=channels)[1]
        except KeyError as error:  # of something inside, such as its norm
            raise KeyError(f'plugins: {kind.__name__} cannot be built: {error.args[0]}') from error

    # ------------------------------------------------------ initialisation
    def init_weights(self) -> None:
        """The backbone's initialisation, which leaves the plugins' own untouched.

        The default is Normal(0, 0.001) on *every* convolution below it
        and MMEngine never reaches an ``init_cfg`` inside a plain Sequential,
        so the plugins are put back as constructed; then their own ``init_cfg``
        or, where they define it, ``init_weights`` is applied. Pretrained
        weights come last: they may hold the plugins' weights as well.
        """
        if self.is_init:  # MMEngine warns and changes nothing
            super().init_weights()
            return
        cfgs = self.init_cfg or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else list(cfgs)
        pretrained = [cfg for cfg in cfgs if cfg['type'] in ('Pretrained', PretrainedInit)]
        plugins = [plugin.module for plugin in self.named_plugins()]
        saved = copy.deepcopy([plugin.state_dict() for plugin in plugins])

        whole, self.init_cfg = self.init_cfg, [cfg for cfg in cfgs if cfg not in pretrained]
        try:
            super().init_weights()
        finally:
            self.init_cfg = whole
        for plugin, state in zip(plugins, saved, strict=True):
            plugin.load_state_dict(state)
            if not isinstance(plugin, BaseModule):
                continue
            if type(plugin).init_weights is not BaseModule.init_weights:
                plugin.init_weights()
            elif plugin.init_cfg:
                initialize(plugin, plugin.init_cfg)
        for cfg in pretrained:
            initialize(self, cfg)
