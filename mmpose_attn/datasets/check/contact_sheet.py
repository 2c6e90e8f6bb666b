"""What a network is shown: annotations, its augmented input, and its targets, side by side."""

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from mmpose_attn.visualization import contact_sheet

from .contents import Contents

CELL = 420  # pixels of a picture in the sheet
_LEFT, _RIGHT, _MIDDLE = (0, 140, 255), (255, 140, 0), (90, 220, 90)  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE = 14  # pixels between lines of text
_LEGEND = (
    ('left', _LEFT),
    ('right', _RIGHT),
    ('no partner', _MIDDLE),
    ('ring: hidden', (90, 90, 90)),
    ('purple: no loss there', (150, 0, 150)),
)


def sheet(
    contents: Contents, codec=None, first: Collection[str] = (), rows: int = 6
) -> np.ndarray | None:
    """Rows of a picture as annotated, as it enters the network, and the targets over it.

    Left is orange, right is blue, what has no partner is green; after a flip they must still be
    left and right of the object. Hidden keypoints are rings.

    Args:
        contents: of the data set.
        codec: makes targets where the pipeline makes none, as in tests.
        first: paths of pictures to show before others.
        rows: at most; spread over the data set.

    Returns:
        (H, W, 3) uint8, or ``None`` without pictures that can be shown.
    """
    dataset = contents.dataset
    indices = _choose(dataset, first, rows)
    cells, captions = [], []
    for index in indices:
        try:
            info = dataset.get_data_info(index)
            shown, inputs, points, visible, targets, mask, turned = _run(dataset, index, codec)
        except Exception:  # a picture that cannot be used is named elsewhere
            continue
        path = info['img_path']
        image = shown if shown is not None else inputs
        cells += [
            _annotation(image, contents, path, None if 'invalid_segs' in info else info.get('id')),
            _draw(_enlarged(inputs), points, visible, dataset.metainfo, _grown(inputs)),
            _targets(inputs, targets, mask, dataset.metainfo),
        ]
        height, width = image.shape[:2]
        name = path.rsplit('/', 1)[-1].encode('ascii', 'replace').decode()[-28:]
        captions += [
            f'{name}  {width}x{height}',
            f'input {inputs.shape[1]}x{inputs.shape[0]}' + (', flipped' if turned else ''),
            'targets' if targets is not None else 'no targets in this pipeline',
        ]
    if not cells:
        return None
    grid = contact_sheet(cells, 3, (CELL, CELL), captions)
    return np.concatenate([_legend(grid.shape[1]), grid])


def _legend(width: int) -> np.ndarray:
    strip, x = np.full((24, width, 3), 245, np.uint8), 6
    for text, color in _LEGEND:
        cv2.circle(strip, (x + 5, 13), 5, color, 1 if 'ring' in text else -1, cv2.LINE_AA)
        cv2.putText(strip, text, (x + 15, 17), _FONT, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
        x += 40 + cv2.getTextSize(text, _FONT, 0.45, 1)[0][0]
    return strip


def _choose(dataset: BaseDataset, first: Collection[str], rows: int) -> list[int]:
    """Samples that have something to show, spread over the data set."""
    before, others = [], []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        if np.any(np.asarray(info.get('keypoints_visible', 0)) > 0):
            (before if info['img_path'] in first else others).append(i)
    before = before[:rows]
    left = rows - len(before)
    if len(others) > left:
        others = [others[i] for i in np.linspace(0, len(others) - 1, left).round().astype(int)]
    return before + others


def _run(dataset: BaseDataset, index: int, codec) -> tuple:
    """Picture, input, its keypoints, their visibility, target maps (K, h, w), loss mask, flip."""
    results, picture = dataset.get_data_info(index), None
    for step in dataset.pipeline.transforms:
        if hasattr(step, 'meta_keys'):
            break
        results = step(results)
        if picture is None:
            picture = results['img'].copy()
    inputs = results['img']
    inputs = inputs[-1] if isinstance(inputs, list) else inputs
    points = results.get('transformed_keypoints')
    if points is None and 'input_scale' in results and 'warp_mat' not in results:
        points = _into_input(results)  # the bottom-up test resize moves the picture alone
    points = results.get('keypoints') if points is None else points
    visible = results.get('keypoints_visible')
    maps = results.get('heatmaps')
    if maps is None and codec is not None and points is not None:
        maps = codec(points, visible, results['input_size'])
    mask = results.get('heatmap_mask')
    maps, mask = (m[-1] if isinstance(m, list) else m for m in (maps, mask))
    turned = bool(results.get('flip'))
    return picture, inputs.astype(np.uint8), points, visible, maps, mask, turned


def _into_input(results: dict) -> np.ndarray:
    scale, center, size = (
        np.array(results[key]) for key in ('input_scale', 'input_center', 'input_size')
    )
    return (results['keypoints'] - center + 0.5 * scale) / scale * size


def _grown(image: np.ndarray) -> float:
    return max(1.0, CELL / max(image.shape[:2]))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """At least as large as its cell, so that lines drawn on it stay thin."""
    factor = _grown(image)
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def _annotation(image: np.ndarray, contents: Contents, path: str, ident: object) -> np.ndarray:
    """What is annotated in a picture, the object with that id in the middle and with names."""
    objects = contents.objects
    own = np.flatnonzero(objects.image == contents.paths.index(path))
    named = next((n for n, i in enumerate(own) if objects.ident[i] == ident), None)
    origin = np.zeros(2)
    if named is not None:  # top-down: the object and what is near
        x, y, w, h = objects.boxes[own[named]]
        reach = 0.9 * max(w, h)
        middle = np.array((x + w / 2, y + h / 2))
        low = np.clip(middle - reach, 0, np.array(image.shape[1::-1]) - 1).astype(int)
        high = np.ceil(middle + reach).astype(int)
        image, origin = image[low[1] : max(high[1], low[1] + 1), low[0] : high[0]], low
    elif len(own):
        size = objects.area[own] * (objects.visible[own] > 0).any(1)
        named = int(size.argmax())
    factor = CELL / max(image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    out = cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)
    for i in own:
        x, y = (objects.boxes[i, :2] - origin) * factor
        w, h = objects.boxes[i, 2:] * factor
        corners = ((round(x), round(y)), (round(x + w), round(y + h)))
        cv2.rectangle(out, *corners, (0, 0, 255) if objects.crowd[i] else (255, 255, 255), 1)
    points = objects.points[own] - origin
    return _draw(out, points, objects.visible[own], contents.dataset.metainfo, factor, named)


def _draw(
    image: np.ndarray,
    points: np.ndarray | None,
    visible: np.ndarray | None,
    meta: dict,
    factor: float = 1.0,
    named: int | None = None,
) -> np.ndarray:
    """Objects' lines and keypoints, one of them with names."""
    out = image.copy()
    if points is None or visible is None:
        return out
    colors = side_colors(meta)
    for number, (spots, seen) in enumerate(zip(points * factor, visible)):
        places = [tuple(int(v) for v in np.clip(np.round(spot), -9999, 9999)) for spot in spots]
        for a, b in meta['skeleton_links']:
            if seen[a] > 0 and seen[b] > 0:
                cv2.line(out, places[a], places[b], (235, 235, 235), 1, cv2.LINE_AA)
        for j in np.flatnonzero(seen > 0):
            hollow = seen[j] == 1 and (visible == 2).any()
            cv2.circle(out, places[j], 5, (20, 20, 20), -1, cv2.LINE_AA)
            cv2.circle(out, places[j], 4, colors[j], 1 if hollow else -1, cv2.LINE_AA)
        if number == named:
            _name(out, places, np.flatnonzero(seen > 0), meta['keypoint_id2name'], colors)
    return out


def _name(
    image: np.ndarray,
    places: Sequence[tuple[int, int]],
    joints: np.ndarray,
    names: dict[int, str],
    colors: list[tuple[int, int, int]],
) -> None:
    """Names at the nearer border, one below the other, with a stroke to each keypoint."""
    height, width = image.shape[:2]
    middle = np.median([places[j][0] for j in joints]) if len(joints) else 0
    for left in (True, False):
        own = sorted(
            (j for j in joints if (places[j][0] <= middle) == left), key=lambda j: places[j][1]
        )
        line = 0
        for number, j in enumerate(own):
            text = str(names[int(j)]).encode('ascii', 'replace').decode()
            (wide, tall), _ = cv2.getTextSize(text, _FONT, 0.4, 1)
            most = height - 4 - (len(own) - 1 - number) * _LINE  # those below need room as well
            line = min(max(places[j][1] + tall // 2, line + _LINE, _LINE), most)
            x = 3 if left else width - wide - 3
            end = (x + wide + 2 if left else x - 2, line - tall // 2)
            cv2.line(image, places[j], end, colors[j], 1, cv2.LINE_AA)
            plate = (x - 2, line - tall - 2), (x + wide + 2, line + 4)
            cv2.rectangle(image, *plate, (25, 25, 25), -1)
            cv2.putText(image, text, (x, line), _FONT, 0.4, colors[j], 1, cv2.LINE_AA)


def _targets(
    inputs: np.ndarray, maps: np.ndarray | None, mask: np.ndarray | None, meta: dict
) -> np.ndarray:
    """The input, darkened, under its target maps in the colours of the sides."""
    out = _enlarged(inputs).astype(np.float32) * 0.35
    if maps is None:
        return out.astype(np.uint8)
    size = out.shape[1::-1]
    for heat, color in zip(maps, side_colors(meta)):
        grown = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        out = np.maximum(out, np.clip(grown, 0, 1)[..., None] * np.float32(color))
    if mask is not None:
        without = cv2.resize(mask[0].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 0
        out[without] = out[without] * 0.5 + np.float32((90, 0, 90))
    return out.astype(np.uint8)


def side_colors(meta: dict) -> list[tuple[int, int, int]]:
    """Orange for left, blue for right, green in the middle; by name, or else by the lower id."""
    colors = []
    for i, other in enumerate(meta['flip_indices']):
        name = str(meta['keypoint_id2name'][i]).lower()
        partner = str(meta['keypoint_id2name'][other]).lower()
        if i == other:
            colors.append(_MIDDLE)
        elif 'left' in name or 'right' in partner:
            colors.append(_LEFT)
        elif 'right' in name or 'left' in partner:
            colors.append(_RIGHT)
        else:
            colors.append(_LEFT if i < other else _RIGHT)
    return colors
