"""DE-HRNet: PLoS One 20(9), 2025, e0325540, doi 10.1371/journal.pone.0325540."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from mmpose.registry import MODELS
from torch import Tensor, nn

from .attn_hrnet import AttnHRModule, AttnHRNet
from .plugin_sites import PlacedPlugin, numbers

DYSAMPLE = MappingProxyType(dict(type='DySample', style='lp', groups=4))
DETAIL = MappingProxyType(dict(type='DetailEnhancement'))
POSITIONS = ('before_fuse', 'after_fuse', 'stage_end')


class DEHRModule(AttnHRModule):
    """An HRModule whose fusion upsamples by any layer and enhances details.

    Args:
        upsample: config of what takes the place of nearest upsampling; ``None`` keeps it.
        **kwargs: :class:`AttnHRModule`'s arguments.
    """

    def __init__(self, *, upsample: Mapping | None, **kwargs) -> None:
        # HRModule's constructor builds the fuse layers
        self.upsample = upsample
        super().__init__(**kwargs)
        self.details_first = False
        self.details = nn.ModuleDict()

    def _make_fuse_layers(self) -> nn.ModuleDict | None:
        rows = super()._make_fuse_layers()
        for i, row in () if rows is None or self.upsample is None else rows.items():
            for j in range(int(i) + 1, len(row)):
                row[j][2] = MODELS.build(
                    dict(
                        self.upsample,
                        in_channels=self.in_channels[int(i)],
                        scale_factor=2 ** (j - int(i)),
                    )
                )
        return rows

    def add_details(
        self, cfg: Mapping, first: bool, highest: bool, chosen: Sequence[int] | None
    ) -> None:
        """Put a module on every tensor that enters (``first``) or leaves the fusion.

        Its second input is the next higher resolution there, or the
        ``highest``; a tensor above which there is none has one input. Branches
        that are not ``chosen`` have none; ``None`` chooses all.
        """
        self.details_first = first
        branches = range(self.num_branches) if first else self.outputs
        for i in branches if chosen is None else [i for i in branches if i in chosen]:
            high = 0 if highest else i - 1
            args = dict(in_channels=self.in_channels[i])
            if i > 0 and high in branches:
                args.update(high_channels=self.in_channels[high], stride=2 ** (i - high))
            detail = MODELS.build(dict(cfg, **args))
            detail.high_branch = high if 'stride' in args else None
            self.details[str(i)] = detail

    def _enhance(self, x: list[Tensor], branches: Sequence[int]) -> list[Tensor]:
        at = dict(zip(branches, x, strict=True))
        outs = dict(at)
        for i, detail in self.details.items():
            high = () if detail.high_branch is None else (at[detail.high_branch],)
            outs[int(i)] = detail(at[int(i)], *high)
        return [*outs.values()]

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        if self.details_first:
            return super().fuse(self._enhance(x, range(self.num_branches)))
        return self._enhance(super().fuse(x), self.outputs)


@MODELS.register_module()
class DEHRNet(AttnHRNet):
    """HRNet with detail enhancement modules (DEM) and DySample in its fusions.

    The paper states: DySample takes the place of nearest upsampling; a DEM
    with one input stands on the highest resolution, one with two inputs, this
    branch and a higher one, on every other
    (:class:`mmpose_attn.models.DetailEnhancement` has their formulas). Its
    full text was not at hand and no code is known, so this was chosen, each
    an argument:

    * where: after every fusion, beside DySample (``dem_position``);
    * on which branches: on all (``dem_branches``), one reading of the
      figure's "selective identity mappings" being that others stay as they are;
    * the second input: the next higher resolution (``dem_high``);
    * how two inputs become one, reduction and dropout (``dem``);
    * DySample's variant, the linear one with static scope and 4 groups, after
      the fusion's 1x1 convolution, which keeps HRNet's parameter names
      (``upsample``).

    Where no higher resolution leaves a fusion, as in stage 4's last one, which
    has one output, the form with one input is used, so that every parameter
    has a gradient. HRNet checkpoints load with the keys of both layers missing.

    Args:
        upsample: config of the upsampling layer; ``in_channels`` and
            ``scale_factor`` are filled in. ``None``: HRNet's own.
        dem: config of the detail enhancement; ``in_channels``,
            ``high_channels`` and ``stride`` are filled in. ``None``: without.
        dem_position: ``'after_fuse'``: on each output of every fusion;
            ``'before_fuse'``: on each tensor that enters one;
            ``'stage_end'``: on each output of a stage's last fusion.
        dem_high: ``'next'`` or ``'highest'``, the resolution that is the
            second input.
        dem_branches: the branches that have one, 0 being the highest
            resolution; the others stay as they are. ``None``: all.
        **kwargs: :class:`AttnHRNet`'s arguments.

    Raises:
        ValueError: if an argument has no meaning, or the upsampling does not
            fit the channels (DySample's ``groups`` must divide them all).
    """

    def __init__(
        self,
        extra: dict,
        upsample: Mapping | None = DYSAMPLE,
        dem: Mapping | None = DETAIL,
        dem_position: str = 'after_fuse',
        dem_high: str = 'next',
        dem_branches: int | Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        if dem_position not in POSITIONS:
            raise ValueError(f'dem_position must be one of {POSITIONS}, got {dem_position!r}')
        if dem_high not in ('next', 'highest'):
            raise ValueError(f"dem_high must be 'next' or 'highest', got {dem_high!r}")
        if dem_branches is not None:
            there, dem_branches = (
                extra['stage4']['num_branches'],
                numbers('dem_branches', dem_branches),
            )
            if not dem_branches or not {*dem_branches} <= {*range(there)}:
                raise ValueError(
                    f'dem_branches must name branches, 0 to {there - 1}, got {dem_branches!r}; '
                    'dem=None is a network without detail enhancement'
                )
        # AttnHRNet's constructor builds the stages
        self.upsample = None if upsample is None else dict(upsample)
        self.dem = None if dem is None else dict(dem)
        self.dem_position, self.dem_high = dem_position, dem_high
        self.dem_branches = dem_branches
        super().__init__(extra, **kwargs)
        if dem is not None and not any(p.position == 'detail' for p in self.named_plugins()):
            raise ValueError(
                f'dem_branches={dem_branches} with dem_position={dem_position!r}: no fusion has '
                'these branches there, so that there would be no detail enhancement'
            )

    def _make_module(self, **kwargs) -> DEHRModule:
        return DEHRModule(upsample=self.upsample, **kwargs)

    def _make_stage(self, *args, **kwargs):
        stage, channels = super()._make_stage(*args, **kwargs)
        modules = stage[-1:] if self.dem_position == 'stage_end' else stage
        for module in modules if self.dem is not None else ():
            if module.outputs:
                first = self.dem_position == 'before_fuse'
                highest = self.dem_high == 'highest'
                module.add_details(self.dem, first, highest, self.dem_branches)
        return stage, channels

    def named_plugins(self) -> Iterator[PlacedPlugin]:
        """As :class:`AttnHRNet`'s; then upsamplers (``'upsample'``, at the branch they serve) and
        detail enhancement (``'detail'``)."""
        yield from super().named_plugins()
        for stage in (2, 3, 4):
            for index, module in enumerate(getattr(self, f'stage{stage}')):
                name = f'stage{stage}.{index}'
                rows = {} if self.upsample is None else module.fuse_layers or {}
                for i, row in rows.items():
                    for j in range(int(i) + 1, len(row)):
                        path = f'{name}.fuse_layers.{i}.{j}.2'
                        yield PlacedPlugin(path, 'upsample', stage, int(i), row[j][2])
                for i, detail in module.details.items():
                    yield PlacedPlugin(f'{name}.details.{i}', 'detail', stage, int(i), detail)
