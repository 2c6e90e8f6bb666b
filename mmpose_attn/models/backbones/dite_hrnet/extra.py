"""What ``extra``, the architecture in a config of :class:`.network.DiteHRNet`, must hold."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

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
