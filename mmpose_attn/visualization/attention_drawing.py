"""Attention maps as a PNG, and as an HTML page that needs nothing else."""

import base64
import html
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from mmpose_attn.files import replacing

from .attention_maps import SiteMaps

_HEIGHT = 180  # pixels of a panel
_MOST_WIDTH = 320  # of a picture
_BARS = 240  # pixels of all bars, if there are not more of them
_AXIS = 26  # pixels for its numbers
_WHITE, _GRID, _LINE, _INK = (255,) * 3, (225,) * 3, (150,) * 3, (60,) * 3
_BLUE = (180, 119, 31)
_ARROWS = 14  # pixels between them
_GAP = 18
_DPI = 100
_FEW = 24  # sites on a page whose groups are all open
_LARGE = 12_000  # bytes of a PNG that becomes a JPEG on the page

HINTS = (
    'Energy: root mean square over channels; before and after have one scale.',
    'RMS ×: root mean square of the output over that of the input.',
)


class Panel(NamedTuple):
    """A small picture with its words.

    Attributes:
        title: what it is.
        image: (h, w, 3) uint8, BGR.
        left, right: below its corners: the ends of its scale.
    """

    title: str
    image: np.ndarray
    left: str
    right: str


# ---------------------------------------------------------------------------------------- panels
def panels(maps: SiteMaps, picture: np.ndarray, image: int = 0) -> list[Panel]:
    """What was recorded at one site, as small pictures.

    Args:
        maps: one of :func:`collect`'s.
        picture: (H, W, 3) uint8, BGR, what the network saw.
        image: which of the batch.
    """

    def of(values: Tensor | None) -> np.ndarray | None:
        return None if values is None else np.nan_to_num(values[image].numpy())

    before, after = of(maps.before)[0], of(maps.after)[0]
    most = float(max(before.max(), after.max()))
    found = [_heat('energy before', before, picture, (0, most), over=0)]
    channel, spatial, gates, kernels, mask, offsets = map(
        of, (maps.channel, maps.spatial, maps.gates, maps.kernels, maps.mask, maps.offsets)
    )
    if kernels is not None:
        found.append(_bars('weights of kernels', kernels, 'kernels'))
    if mask is not None:
        found.append(_heat('pooling (even: 1)', mask[0] / mask.mean(), picture))
    if channel is not None:
        found.append(_bars('channel gates', channel, 'channels'))
    if spatial is not None:
        found.append(_heat('spatial gates', spatial[0], picture))
    if gates is not None:
        found.append(_bars('gates, mean of cells', gates.mean((1, 2)), 'channels'))
        found.append(_heat('gates, mean of channels', gates.mean(0), picture))
    if offsets is not None:
        found.append(_arrows('offsets, pixels', offsets, picture))
    return [*found, _heat('energy after', after, picture, (0, most), over=0)]


def _size(picture: np.ndarray) -> tuple[int, int]:
    height, width = picture.shape[:2]
    scale = min(_HEIGHT / height, _MOST_WIDTH / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _heat(
    title: str,
    values: np.ndarray,
    picture: np.ndarray,
    ends: tuple[float, float] | None = None,
    over: float = 0.4,
) -> Panel:
    """(h, w) values as colours, dark to bright, with this share of the picture in grey below."""
    low, high = ends or (float(values.min()), float(values.max()))
    flat = high - low <= 1e-5 * max(abs(low), abs(high))  # rounding is no pattern
    shares = np.full_like(values, 0.5) if flat else (values - low) / (high - low)
    levels = np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    size = _size(picture)
    shrinks = values.shape[1] > size[0]
    levels = cv2.resize(
        levels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST_EXACT
    )
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    if over:
        grey = cv2.cvtColor(cv2.resize(picture, size), cv2.COLOR_BGR2GRAY)[..., None]
        colours = np.round((1 - over) * colours + over * grey).astype(np.uint8)
    strip = np.tile(np.linspace(0, 255, size[0]).astype(np.uint8), (9, 1))
    strip = cv2.applyColorMap(strip, cv2.COLORMAP_VIRIDIS)
    gap = np.full((4, size[0], 3), 255, np.uint8)
    texts = (f'{high:.4g} everywhere', '') if flat else _numbers(low, high)
    strip = np.full_like(strip, 255) if flat else strip
    return Panel(title, np.concatenate((colours, gap, strip)), *texts)


def _bars(title: str, values: np.ndarray, of: str) -> Panel:
    """(n,) values as bars from 0, in their order."""
    count = len(values)
    low, high = min(0, math.floor(values.min())), max(1, math.ceil(values.max() - 1e-6))
    height, width = _HEIGHT + 13, max(1, _BARS // count) * count
    image = np.full((height, _AXIS + width, 3), 255, np.uint8)

    def row(value: float | np.ndarray) -> np.ndarray:
        return np.round((height - 10) * (high - value) / (high - low) + 5).astype(int)

    step = 0.5 if high - low <= 3 else math.ceil((high - low) / 6)
    for tick in np.arange(low, high + step / 2, step):
        image[row(tick), _AXIS:] = _LINE if tick == 1 else _GRID
        text = f'{tick:g}'
        cv2.putText(
            image,
            text,
            (_AXIS - 4 - 7 * len(text), int(row(tick)) + 4),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.36,
            _INK,
            1,
            cv2.LINE_AA,
        )
    pixels = width // count
    rows = np.arange(height)[:, None]
    top, end = row(np.maximum(values, 0)), row(np.minimum(values, 0))
    filled = ((rows >= top) & (rows <= end)).repeat(pixels, 1)
    if pixels >= 4:
        filled[:, ::pixels] = False
    image[:, _AXIS:][filled] = _BLUE
    return Panel(title, image, f'{count} {of}', ' to '.join(_numbers(values.min(), values.max())))


def _arrows(title: str, offsets: np.ndarray, picture: np.ndarray) -> Panel:
    """(2, h, w) offsets as arrows, the longest of the length between two of them, over lengths."""
    lengths = np.linalg.norm(offsets, axis=0)
    panel = _heat(title, lengths, picture, (0, max(float(lengths.max()), 1e-12)))
    width, height = _size(picture)
    for y in range(_ARROWS // 2, height, _ARROWS):
        for x in range(_ARROWS // 2, width, _ARROWS):
            cell = y * lengths.shape[0] // height, x * lengths.shape[1] // width
            arrow = offsets[:, cell[0], cell[1]] * _ARROWS / max(lengths.max(), 1e-12)
            end = np.round((np.array((x, y)) + arrow) * 16).astype(int)
            cv2.arrowedLine(
                panel.image, (x * 16, y * 16), tuple(end), _WHITE, 1, cv2.LINE_AA, 4, 0.3
            )
    return panel


def _numbers(low: float, high: float) -> tuple[str, str]:
    """Both with as many digits as tell them apart."""
    span = abs(float(high) - float(low)) or abs(float(high)) or 1
    digits = min(6, max(2, 1 - math.floor(math.log10(span))))
    if span < 1e-6 or max(abs(low), abs(high)) >= 1e5:
        return f'{low:.3g}', f'{high:.3g}'
    return f'{low:.{digits}f}', f'{high:.{digits}f}'


def _heading(maps: SiteMaps, image: int) -> str:
    words = [maps.name, maps.kind]
    if maps.place:
        words.append(maps.place)
    if maps.call:
        words.append(f'call {maps.call + 1}')
    words.append(f'RMS × {float(maps.gain[image]):.3f}')
    return ' · '.join(words)


def spread(sites: Sequence[SiteMaps], limit: int | None) -> list[SiteMaps]:
    """At most ``limit`` of the sites, evenly from the first to the last."""
    if limit is None or len(sites) <= limit:
        return list(sites)
    return [sites[round(i)] for i in np.linspace(0, len(sites) - 1, limit)]


def _left_out(sites: Sequence[SiteMaps], shown: Sequence[SiteMaps]) -> list[str]:
    if len(shown) == len(sites):
        return []
    return [
        f'{len(shown)} of {len(sites)} sites, evenly spread; for others: '
        'tools/attention_map.py --sites PATTERN'
    ]


# ------------------------------------------------------------------------------------------- PNG
def _width(panel: Panel) -> int:
    """Pixels of the picture, or of the words above and below it."""
    words = max(len(panel.title), len(panel.left) + len(panel.right) + 2)
    return max(panel.image.shape[1], 6 * words)


def draw_png(
    sites: Sequence[SiteMaps],
    picture: np.ndarray,
    path: str | os.PathLike,
    *,
    image: int = 0,
    title: str = '',
    notes: Sequence[str] = (),
    limit: int | None = 12,
) -> None:
    """Draw sites one below the other.

    Args:
        sites: from :func:`collect`, at least one.
        picture: (H, W, 3) uint8, BGR, what the network saw: one of ``prepare(...).pictures``.
        path: the file, which appears when it is complete.
        image: which of the batch.
        title: the first line.
        notes: further lines, such as that the weights are random.
        limit: sites that are shown, evenly spread; what is left out is said. None shows all.

    Raises:
        ValueError: if there is no site.
        OSError: if the file cannot be written.
    """
    shown = _checked(sites, limit)
    rows = [panels(maps, picture, image) for maps in shown]
    line = 17
    head = [text for text in (title, *notes, *_left_out(sites, shown), *HINTS) if text]
    widths = [sum(_width(panel) + _GAP for panel in row) + _GAP for row in rows]
    heights = [3 * line + max(p.image.shape[0] for p in row) + 2 * line for row in rows]
    width = max(*widths, 760)
    seen = cv2.resize(picture, _size(picture))
    header = max(seen.shape[0], len(head) * line) + 2 * line
    height = sum(heights) + header
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor='white')
    canvas = FigureCanvasAgg(figure)

    def text(x: float, y: float, words: str, size: float = 8, **kwargs) -> None:
        figure.text(x / width, 1 - y / height, words, fontsize=size, va='top', **kwargs)

    figure.figimage(seen[..., ::-1] / 255, _GAP, height - line - seen.shape[0])
    for i, words in enumerate(head):
        bold = 'bold' if title and i == 0 else 'normal'
        text(2 * _GAP + seen.shape[1], (i + 1) * line, words, 9, weight=bold)
    y = header
    for maps, row, tall in zip(shown, rows, heights):
        text(_GAP, y + line, _heading(maps, image), 8.5, weight='bold')
        if maps.note:
            text(_GAP, y + 2 * line - 2, maps.note, color='firebrick')
        x, top = _GAP, y + 3 * line
        for panel in row:
            deep, wide = panel.image.shape[:2]
            text(x, top - line + 3, panel.title)
            figure.figimage(panel.image[..., ::-1] / 255, x, height - top - deep)
            text(x, top + deep + 3, panel.left, 7.5)
            text(x + wide, top + deep + 3, panel.right, 7.5, ha='right')
            x += _width(panel) + _GAP
        y += tall
    canvas.draw()
    page = cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
    with replacing(Path(path), 'wb') as file:
        file.write(cv2.imencode('.png', page, (cv2.IMWRITE_PNG_COMPRESSION, 9))[1])


# ------------------------------------------------------------------------------------------ HTML
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; }
.note { color: #a00; } table { border-collapse: collapse; font-size: 13px; }
td, th { padding: 1px 10px 1px 0; text-align: left; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; font-weight: 600; padding: .3em 0; }
h3 { font-size: 14px; margin: 1em 0 .3em; } h3 span { font-weight: 400; color: #555; }
section { display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start; }
figure { margin: 0; } figcaption { font-size: 12px; } img { display: block; }
.ends { display: flex; justify-content: space-between; gap: 10px; }
"""


def draw_html(
    sites: Sequence[SiteMaps],
    picture: np.ndarray,
    path: str | os.PathLike,
    *,
    image: int = 0,
    title: str = 'Attention maps',
    notes: Sequence[str] = (),
    limit: int | None = 400,
) -> None:
    """Write a page with everything in it: a table of all sites, and their pictures by groups.

    Arguments and errors are those of :func:`draw_png`.
    """
    page = ''.join(_page(sites, picture, image, title, notes, limit))
    with replacing(Path(path), 'wb') as file:
        file.write(page.encode())


def _page(sites, picture, image, title, notes, limit) -> Iterator[str]:
    shown = _checked(sites, limit)
    escape = html.escape
    yield f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
    yield f'</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>'
    for note in (*notes, *_left_out(sites, shown)):
        yield f'<p class="note">{escape(note)}</p>'
    yield f'<p>{escape(" ".join(HINTS))}</p>'
    yield _picture(cv2.resize(picture, _size(picture)), 'what the network saw')
    groups: dict[str, list[SiteMaps]] = {}
    for maps in shown:
        groups.setdefault(_group(maps), []).append(maps)
    for i, (name, members) in enumerate(groups.items()):
        opened = ' open' if i == 0 or len(shown) <= _FEW else ''
        yield f'<details{opened}><summary>{escape(name)}, {len(members)}'
        yield ' sites</summary>' if len(members) > 1 else ' site</summary>'
        for maps in members:
            yield f'<h3>{escape(_heading(maps, image))}</h3>'
            yield f'<p class="note">{escape(maps.note)}</p>' if maps.note else ''
            yield '<section>'
            for panel in panels(maps, picture, image):
                yield (
                    f'<figure><figcaption>{escape(panel.title)}</figcaption>'
                    f'{_picture(panel.image, panel.title)}<figcaption class="ends">'
                    f'<span>{escape(panel.left)}</span><span>{escape(panel.right)}</span>'
                    '</figcaption></figure>'
                )
            yield '</section>'
        yield '</details>'
    yield '<details><summary>All sites in numbers</summary><table><tr>'
    columns = ('site', 'kind', 'place', 'channel gates', 'spatial gates', 'RMS ×')
    yield from (f'<th>{name}</th>' for name in columns)
    yield '</tr>'
    for maps in sites:
        ranges = (
            '' if values is None else ' to '.join(_numbers(values.min(), values.max()))
            for values in (
                None if each is None else each[image].numpy()
                for each in (maps.channel, maps.spatial)
            )
        )
        cells = (maps.name, maps.kind, maps.place, *ranges, f'{float(maps.gain[image]):.3f}')
        yield '<tr>' + ''.join(f'<td>{escape(cell)}</td>' for cell in cells) + '</tr>'
    yield '</table></details></body></html>\n'


def _group(maps: SiteMaps) -> str:
    """That of a plugin, or the first two steps of a module's path."""
    return maps.group or '.'.join(maps.name.split('.')[:2])


def _picture(image: np.ndarray, alt: str) -> str:
    kind, data = 'png', cv2.imencode('.png', image)[1]
    if len(data) > _LARGE:
        kind, data = 'jpeg', cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    height, width = image.shape[:2]
    return (
        f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
    )


def _checked(sites: Sequence[SiteMaps], limit: int | None) -> list[SiteMaps]:
    if not sites or (limit is not None and limit < 1):
        raise ValueError(f'there must be sites to draw, got {len(sites)} and limit={limit}')
    return spread(sites, limit)
