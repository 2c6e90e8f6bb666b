"""What a network is shown: annotations, its augmented input, and its targets, side by side."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from mmpose_attn.visualization import contact_sheet

from .contents import Contents

CELL = 420  # pixels of a picture in the sheet
_LEFT, _RIGHT, _MIDDLE = (0, 140, 255), (255, 140, 0), (90, 220, 90)  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def sheet(contents: Contents, codec=None, rows: int = 6) -> np.ndarray | None:
    """Rows of a picture as annotated, as it enters the network, and the targets over it.

    Left is orange, right is blue, what has no partner is green; after a flip they must still be
    left and right of the object. Hidden keypoints are rings.

    Args:
        contents: of the data set.
        codec: makes targets where the pipeline makes none, as in tests.
        rows: at most; spread over the data set.

    Returns:
        (H, W, 3) uint8, or ``None`` without pictures that can be shown.
    """
    dataset = contents.dataset
    indices = _choose(dataset, rows)
    cells, captions = [], []
    for index in indices:
        try:
            info = dataset.get_data_info(index)
            shown, inputs, points, visible, targets, mask = _run(dataset, index, codec)
        except Exception:  # a picture that cannot be used is named elsewhere
            continue
        path = info['img_path']
        image = shown if shown is not None else inputs
        cells += [
            _annotation(image, contents, path),
            _draw(_enlarged(inputs), points, visible, dataset.metainfo, _grown(inputs)),
            _targets(inputs, targets, mask, dataset.metainfo),
        ]
        height, width = image.shape[:2]
        name = path.rsplit('/', 1)[-1].encode('ascii', 'replace').decode()[-28:]
        captions += [
            f'{name}  {width}x{height}',
            f'input {inputs.shape[1]}x{inputs.shape[0]}',
            'targets' if targets is not None else 'no targets in this pipeline',
        ]
    return contact_sheet(cells, 3, (CELL, CELL), captions) if cells else None


def _choose(dataset: BaseDataset, rows: int) -> list[int]:
    """Samples that have something to show, spread over the data set."""
    labelled = [
        i
        for i in range(len(dataset))
        if np.any(np.asarray(dataset.get_data_info(i).get('keypoints_visible', 0)) > 0)
    ]
    if len(labelled) <= rows:
        return labelled
    return [labelled[i] for i in np.linspace(0, len(labelled) - 1, rows).round().astype(int)]


def _run(dataset: BaseDataset, index: int, codec) -> tuple:
    """Picture, input, its keypoints, their visibility, target maps (K, h, w), and loss mask."""
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
    return picture, inputs.astype(np.uint8), points, visible, maps, mask


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


def _annotation(image: np.ndarray, contents: Contents, path: str) -> np.ndarray:
    """A picture with all that is annotated in it: boxes, lines, keypoints, and their names."""
    objects = contents.objects
    own = np.flatnonzero(objects.image == contents.paths.index(path))
    factor = CELL / max(image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    out = cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)
    for i in own:
        x, y, w, h = objects.boxes[i] * factor
        corners = ((round(x), round(y)), (round(x + w), round(y + h)))
        cv2.rectangle(out, *corners, (255, 255, 255) if not objects.crowd[i] else (0, 0, 255), 1)
    largest = max(own, key=lambda i: objects.area[i] * objects.visible[i].any(), default=None)
    named = None if largest is None else int(np.flatnonzero(own == largest)[0])
    return _draw(
        out, objects.points[own], objects.visible[own], contents.dataset.metainfo, factor, named
    )


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
    """Names beside keypoints, each on its own line, with a stroke to its place."""
    taken: list[tuple[int, int, int]] = []
    for j in sorted(joints, key=lambda j: places[j][1]):
        text = str(names[int(j)]).encode('ascii', 'replace').decode()
        (width, height), _ = cv2.getTextSize(text, _FONT, 0.4, 1)
        x, y = places[j][0] + 9, places[j][1] + height // 2
        if x + width > image.shape[1]:
            x = places[j][0] - 9 - width
        for left, right, line in taken:
            if abs(line - y) < height + 3 and x < right and left < x + width:
                y = line + height + 3
        taken.append((x, x + width, y))
        cv2.line(
            image,
            places[j],
            (x if x > places[j][0] else x + width, y - height // 2),
            colors[j],
            1,
            cv2.LINE_AA,
        )
        cv2.putText(image, text, (x, y), _FONT, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(image, text, (x, y), _FONT, 0.4, colors[j], 1, cv2.LINE_AA)


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
