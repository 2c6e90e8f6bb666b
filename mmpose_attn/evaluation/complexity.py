"""What a config costs: parameters, multiply-accumulates and time, in all and at every plugin.

Multiply-accumulates (MACs) are those of convolutions and matrix products, half of what
:class:`torch.utils.flop_counter.FlopCounterMode` counts; pooling, gates, normalisation and sampling
are not in them.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmpose_attn.files import printable
from mmpose_attn.models.backbones import PlacedPlugin
from mmpose_attn.yaml_files import read_yaml


@dataclass(frozen=True)
class SiteCost:
    """One plugin in one place.

    Args:
        kind: its class.
        place: ``position, stage S, branch B``.
        count: how many there are; the figures are their sum.
        parameters: of the plugin.
        macs: for one image.
        milliseconds: for one image; ``None`` if it was not measured.
    """

    kind: str
    place: str
    count: int
    parameters: int
    macs: int
    milliseconds: float | None = None


@dataclass(frozen=True)
class Cost:
    """A network: its config's name, input (width, height), and figures as in :class:`SiteCost`."""

    name: str
    input_size: tuple[int, int]
    parameters: int
    macs: int
    sites: Sequence[SiteCost] = ()
    milliseconds: float | None = None


def measure(config: str | Path, repeat: int = 0, device: str = 'cpu') -> Cost:
    """Count, and with ``repeat`` time, one forward pass of a single image.

    Args:
        config: a config file of a pose estimator whose ``codec`` names its ``input_size``.
        repeat: timed passes, of which the medians are reported; 0 only counts, on torch's meta
            device, without computing anything.
        device: torch device of the timed passes.

    Raises:
        ValueError: if the config cannot be read, or has no pose estimator or no input size.
    """
    try:
        cfg = Config.fromfile(str(config))
    except SyntaxError as error:
        raise ValueError(f'{config} is not valid Python: {error}') from error
    codec = cfg.get('codec')
    codec = codec[-1] if isinstance(codec, (list, tuple)) else codec
    if 'model' not in cfg or not codec or 'input_size' not in codec:
        raise ValueError(f"{config}: needs a pose estimator as 'model' and 'codec' with input_size")
    init_default_scope('mmpose')
    width, height = codec['input_size']
    shape = (1, 3, height, width)

    with torch.device('meta'):
        model = MODELS.build(_without_weights(cfg.model)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(shape), data_samples=None, mode='tensor')
    macs = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    times: dict[str, float] = {}
    if repeat:
        model = model.to_empty(device=device)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.fill_(0.01)  # memory as it was found may hold numbers that are slow
        times = _time(model, torch.rand(shape, device=device), repeat)

    groups: dict[tuple[str, str], list[tuple[int, int, float | None]]] = {}
    for plugin in _plugins(model):
        figures = (
            _parameters(plugin.module),
            macs.get(f'{type(model).__name__}.{plugin.name}', 0),
            times.get(plugin.name),
        )
        groups.setdefault((type(plugin.module).__name__, plugin.place), []).append(figures)
    sites = [
        SiteCost(*key, len(each), *map(_total, zip(*each, strict=True)))
        for key, each in groups.items()
    ]
    return Cost(
        Path(config).stem,
        (width, height),
        _parameters(model),
        macs.get('Global', 0),
        sites,
        times.get(''),
    )


def _without_weights(cfg: dict) -> dict:
    cfg = cfg.copy()
    cfg['backbone'] = dict(cfg['backbone'], init_cfg=None)
    return cfg


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _total(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if None in values else sum(values)


def _plugins(model: nn.Module) -> Iterator[PlacedPlugin]:
    """Every plugin of the backbone, by its path in the model."""
    named = getattr(model.backbone, 'named_plugins', None)
    for plugin in named() if named else ():
        yield plugin._replace(name=f'backbone.{plugin.name}')


def _time(model: nn.Module, image: Tensor, repeat: int) -> dict[str, float]:
    """Median milliseconds of the network, under ``''``, and of every plugin's calls."""
    watched = {'': model, **{plugin.name: plugin.module for plugin in _plugins(model)}}
    passes: dict[str, list[float]] = {name: [] for name in watched}
    clock = _events if image.device.type == 'cuda' else _wall
    with torch.no_grad():
        for run in range(repeat + 2):
            marks: dict[str, list] = {name: [] for name in watched}
            handles = [
                handle
                for name, module in watched.items()
                for handle in (
                    module.register_forward_pre_hook(lambda *_, m=marks[name]: m.append(clock())),
                    module.register_forward_hook(lambda *_, m=marks[name]: m.append(clock())),
                )
            ]
            model(image, data_samples=None, mode='tensor')
            for handle in handles:
                handle.remove()
            if image.device.type == 'cuda':
                torch.cuda.synchronize()
            if run < 2:  # the first passes choose kernels and take memory
                continue
            for name, ticks in marks.items():
                pairs = zip(ticks[::2], ticks[1::2], strict=True)
                passes[name].append(sum(_between(*pair) for pair in pairs))
    return {name: statistics.median(each) for name, each in passes.items()}


def _wall() -> float:
    return 1e3 * perf_counter()


def _events() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    return end - start if isinstance(start, float) else start.elapsed_time(end)


# ---------------------------------------------------------------------------------------- tables
def _row(cells: Sequence[str], widths: Sequence[int] | None) -> str:
    if widths is None:
        return '| ' + ' | '.join(cells) + ' |'
    left = f'{cells[0]:<{widths[0]}}'
    rest = (f'{cell:>{width}}' for cell, width in zip(cells[1:], widths[1:], strict=True))
    return '  '.join((left, *rest)).rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    widths = None if markdown else [max(map(len, column)) for column in zip(head, *rows)]
    lines = [_row(head, widths)]
    if markdown:
        lines.append('|---|' + '---:|' * (len(head) - 1))
    return '\n'.join((*lines, *(_row(row, widths) for row in rows)))


def format_cost(cost: Cost, markdown: bool = False) -> str:
    """One network as a table: a line in all, then a line a kind of plugin and place."""

    def line(name: str, count: str, one: Cost | SiteCost) -> tuple[str, ...]:
        cells = (name, count, f'{one.parameters:,}', f'{one.macs / 1e6:,.2f}')
        if cost.milliseconds is None:
            return cells
        share = 100 * one.milliseconds / cost.milliseconds
        return (*cells, f'{one.milliseconds:.2f}', f'{share:.1f} %')

    head = ('', 'sites', 'parameters', 'MMACs')
    if cost.milliseconds is not None:
        head += ('ms', 'of all')
    width, height = cost.input_size
    rows = [line(f'{cost.name}, {width}x{height}', '', cost)]
    rows += [line(f'{site.kind} at {site.place}', str(site.count), site) for site in cost.sites]
    return _table(head, rows, markdown)


def published(metafiles: Iterable[Path]) -> dict[str, dict]:
    """``{config name: its entry}`` of metafiles in OpenMMLab's format."""
    found = {}
    for path in metafiles:
        try:
            entries = read_yaml(path, 'metafile', dict)['Models']
            found.update({entry['Name']: entry for entry in entries})
        except (LookupError, TypeError) as error:
            raise ValueError(
                f'metafile {printable(path)} lists no models ({error!r:.200})'
            ) from error
    return found


def overview(costs: Iterable[Cost], entries: dict[str, dict]) -> str:
    """A Markdown table of many networks, counted beside published.

    Args:
        costs: from :func:`measure`.
        entries: from :func:`published`. What was published about a network stands in its entry's
            ``Metadata``, as ``Published Parameters (M)`` and ``Published GFLOPs``.
    """
    head = (
        'Config',
        'input',
        'parameters',
        'published, M',
        'GMACs',
        'published GFLOPs',
        'plugins',
    )
    return _table(head, [overview_row(cost, entries.get(cost.name, {})) for cost in costs], True)


def overview_row(cost: Cost, entry: dict) -> tuple[str, ...]:
    """One line's cells of :func:`overview`."""
    metadata = entry.get('Metadata', {})
    kinds: dict[str, list[int]] = {}
    for site in cost.sites:
        total = kinds.setdefault(site.kind, [0, 0])
        total[0] += site.count
        total[1] += site.parameters
    return (
        f'`{cost.name}`',
        '{}x{}'.format(*cost.input_size),
        f'{cost.parameters:,}',
        str(metadata.get('Published Parameters (M)', '')),
        f'{cost.macs / 1e9:.3f}',
        str(metadata.get('Published GFLOPs', '')),
        '; '.join(f'{kind} x{count}, {size:,}' for kind, (count, size) in kinds.items()),
    )


def write_overview(
    page: Path, configs: Sequence[Path], metafiles: Iterable[Path], progress: Callable = iter
) -> None:
    """Replace the table of a Markdown page, which is everything from its first ``| Config``."""
    before, start, _ = page.read_text(encoding='utf-8').partition('| Config')
    if not start:
        raise ValueError(f'{page} has no table that begins with | Config')
    table = overview([measure(config) for config in progress(configs)], published(metafiles))
    page.write_text(before + table + '\n', encoding='utf-8')
