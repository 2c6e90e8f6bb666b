"""Attention maps of a network on a picture, as files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmpose_attn.visualization.attention_drawing import draw_html, draw_png
from mmpose_attn.visualization.attention_maps import attention_sites, collect, prepare

from .building import check_count
from .pose import PosePredictor
from .results import Frame
from .sources import find_sources, read_frames


def save_attention_maps(
    image: str | os.PathLike,
    config: str | os.PathLike | Config,
    out: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    *,
    bbox: Sequence[float] | np.ndarray | None = None,
    sites: str = '*',
    limit: int = 12,
    device: str = 'auto',
    cfg_options: dict | None = None,
) -> tuple[Path, Path]:
    """Draw what a network's attention modules do with a picture.

    Args:
        image: the picture's file.
        config: of a top-down or bottom-up pose network, as for :class:`PosePredictor`.
        out: folder for ``IMAGE.attention.png`` and ``IMAGE.attention.html``.
        checkpoint: weights; None leaves them random, which the files then say.
        bbox: (x, y, w, h) of one person in pixels, for a top-down network; None is the whole
            picture.
        sites: pattern of the modules' paths.
        limit: sites in the PNG, evenly spread; the page has all, up to 400.
        device: as for :class:`PosePredictor`.
        cfg_options: changes of the config.

    Returns:
        Both files' paths.

    Raises:
        OSError: a file is missing or cannot be read or written.
        ValueError: the config has no attention, or an argument has no meaning.
    """
    image, out = Path(image), Path(out)
    check_count('limit', limit)
    frame = _read(image)
    boxes = None if bbox is None else _box(bbox, frame.size)
    model = PosePredictor(config, checkpoint, device=device, cfg_options=cfg_options).model
    name = config.filename if isinstance(config, Config) else config
    if not attention_sites(model):
        raise ValueError(f'{name} has no attention: no plugin, and no module with maps')
    seen = prepare(model, frame.image, boxes)
    found = collect(model, seen, sites=sites)
    words = dict(
        title=f'{Path(name).stem}, {image.name}',
        notes=() if checkpoint else ('Random weights: no checkpoint was given.',),
    )
    out.mkdir(parents=True, exist_ok=True)
    png, page = (out / f'{image.stem}.attention.{kind}' for kind in ('png', 'html'))
    draw_png(found, seen.pictures[0], png, limit=limit, **words)
    draw_html(found, seen.pictures[0], page, **words)
    return png, page


def _read(image: Path) -> Frame:
    sources = find_sources(image)
    if [source.kind for source in sources] != ['image']:
        raise ValueError(f'{image} is not one picture')
    (frame,) = read_frames(sources)
    if frame.error:
        raise ValueError(f'{image} cannot be read: {frame.error}')
    return frame


def _box(bbox: Sequence[float] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(x, y, w, h) -> (1, 4) x1, y1, x2, y2."""
    try:
        if isinstance(bbox, (str, bytes)):  # four digits would be numbers as well
            raise TypeError
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError):
        raise ValueError(f'bbox is four numbers x, y, w, h in pixels, got {bbox!r}') from None
    box = np.array([[x, y, x + width, y + height]])
    inside = np.minimum(box[0, 2:], size) - np.maximum(box[0, :2], 0)
    if not (np.isfinite(box).all() and width > 0 and height > 0 and (inside > 0).all()):
        raise ValueError(
            f'bbox {x:g},{y:g},{width:g},{height:g} (x,y,w,h) has no area inside the picture, '
            f'which is {size[0]}x{size[1]}'
        )
    return box
