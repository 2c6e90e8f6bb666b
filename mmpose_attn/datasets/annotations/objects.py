"""COCO annotations: keypoints, boxes, segmentations and what follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .report import Report
from .segmentations import Size, examine_segmentation, extent_of
from .whole import SIZED, Apart, Areas, Corners, Shares

NOT_NUMBERS = 'labelled keypoints are not numbers; they are used as unlabelled'
OUTSIDE = 'labelled keypoints lie outside their image; they are used as unlabelled'
UNLABELLED = 'annotations have no keypoints; they are used as unlabelled'
NESTED = 'annotations have lists in their keypoints; they are read as one list'
TEXT = 'annotations have numbers written as text; they are read as numbers'
RECOUNTED = 'annotations have labelled keypoints and num_keypoints 0; they are counted anew'
BOXES = 'annotations have no bbox, or one without extent; it is taken around their keypoints'
NOWHERE = 'annotations have neither a labelled keypoint nor a bbox; they are left out'

_CHUNK = 4096  # annotations
_PLAIN = (int, float)
_HUGE = float('inf')
_FAR = 1e9  # pixels
_FLAGS = 'The third number of a keypoint is 0 (not labelled), 1 (labelled, hidden) or 2 (visible)'


@dataclass(frozen=True)
class MetaInfo:
    """What a file of annotations is read for.

    Attributes:
        joints: K, the number of keypoints.
        names: of the keypoints, in order.
        reader: what needs K keypoints, for messages.
        object: what to call an object where the file names no category.
        training: labelled keypoints that cannot be used become unlabelled;
            else they are a problem, for the metric reads them, too.
        own_counts: ``num_keypoints`` may be less than what is labelled, as in CrowdPose.
        boxes_mask: unlabelled objects without a segmentation are masked by their box.
    """

    joints: int
    names: Sequence[str] = ()
    reader: str = 'the metainfo'
    object: str = 'object'
    training: bool = False
    own_counts: bool = False
    boxes_mask: bool = False


def examine_objects(
    annotations: list[dict], sizes: dict[Any, Size], meta: MetaInfo, report: Report
) -> list[dict]:
    """Check the annotations of images of known ``sizes`` (w, h), and complete them in place.

    Returns:
        Those that can be used.
    """
    _crowds(annotations, report)
    shares, corners, areas, apart = Shares(meta.training), Corners(), Areas(), Apart()
    kept = []
    for start in range(0, len(annotations), _CHUNK):
        chunk, points = _keypoints(annotations[start : start + _CHUNK], meta, report)
        all_sizes = [sizes[annotation['image_id']] for annotation in chunk]
        shares.add(points, all_sizes)
        labelled = _labelled(chunk, points, all_sizes, meta, report)
        _counts(chunk, points, labelled, meta, report)
        for i, (annotation, size) in enumerate(zip(chunk, all_sizes)):
            box = _box(annotation, report)
            if box:
                corners.add(box, size)
            if box != [] and _complete(annotation, points[i], labelled[i], size, box, meta, report):
                kept.append(annotation)
                areas.add(annotation, size, report)
                apart.add(points[i][labelled[i], :2], annotation['bbox'])
    for whole in (shares, corners, areas, apart):
        whole.judge(report)
    return kept


def _place(annotation: dict) -> str:
    return f'annotation {annotation["id"]} of image {annotation["image_id"]}'


def _crowds(annotations: list[dict], report: Report) -> None:
    for annotation in annotations:
        crowd = annotation.get('iscrowd', 0)
        if type(crowd) is int and crowd in (0, 1):
            continue
        known = {None: 0, '0': 0, '1': 1, 0: 0, 1: 1}  # false is 0, true is 1
        if isinstance(crowd, (list, dict)) or crowd not in known:
            report.problem(
                _place(annotation), 'iscrowd', f"its 'iscrowd' is {crowd!r}", 'It is 0 or 1'
            )
        else:
            annotation['iscrowd'] = known[crowd]


# ---------------------------------------------------------------- keypoints


def _keypoints(
    annotations: list[dict], meta: MetaInfo, report: Report
) -> tuple[list[dict], np.ndarray]:
    """Those whose keypoints can be read, and these, (N, K, 3), with NaN for null."""
    joints = meta.joints
    chunk = [ann for ann in annotations if _has_all(ann, meta, report)]
    rows = [ann['keypoints'] for ann in chunk]
    try:
        points = np.array(rows)
    except ValueError:  # of different depth
        points = np.empty(0, object)
    if points.dtype.kind not in 'iuf' or points.ndim != 2:  # slowly, one by one
        chunk = [ann for ann in chunk if _as_numbers(ann, meta, report)]
        points = np.array([ann['keypoints'] for ann in chunk], float)
    return chunk, points.astype(float).reshape(-1, joints, 3)


def _has_all(annotation: dict, meta: MetaInfo, report: Report) -> bool:
    said = annotation.get('keypoints', [])
    joints = meta.joints
    if isinstance(said, list):
        if len(said) == joints and all(isinstance(each, list) and len(each) == 3 for each in said):
            said = annotation['keypoints'] = [value for each in said for value in each]
            report.notes[NESTED] += 1
        if len(said) == 3 * joints:
            return True
        if not said:
            annotation['keypoints'] = [0] * (3 * joints)
            report.notes[UNLABELLED] += 1
            return True
        report.problem(
            _place(annotation),
            'keypoints',
            f'{len(said)} keypoint numbers, but {meta.reader} needs (x, y, visible) for each of '
            f'{joints} keypoints, {3 * joints} numbers',
            'Is it the annotation file of another dataset? An own one needs its own keypoints: '
            'metainfo=dict(from_file=...) of the dataset, for training, validation and test',
        )
        return False
    kind = 'null' if said is None else str(said)[:40]
    report.problem(
        _place(annotation),
        'keypoints',
        f"its 'keypoints' are {kind}, not a list",
        f'Write the {3 * joints} numbers x, y, visible, ..., or [] if nothing is labelled',
    )
    return False


def _as_numbers(annotation: dict, meta: MetaInfo, report: Report) -> bool:
    said = annotation['keypoints']
    if any(isinstance(value, (list, dict)) for value in said):
        odd = next(value for value in said if isinstance(value, (list, dict)))
    else:
        try:
            numbers = np.array(said, float)  # null is not a number; true is 1
        except (TypeError, ValueError, OverflowError):
            odd = next(value for value in said if not _is_number(value))
        else:
            if any(isinstance(value, str) for value in said):
                report.notes[TEXT] += 1
            annotation['keypoints'] = numbers.tolist()
            return True
    report.problem(
        _place(annotation),
        'keypoints',
        f"its 'keypoints' have {str(odd)[:40]!r} among their numbers",
        'They are x, y, visible of every keypoint, in one list of numbers',
    )
    return False


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return value is None
    return True


def _labelled(
    chunk: list[dict], points: np.ndarray, sizes: list[Size], meta: MetaInfo, report: Report
) -> np.ndarray:
    """Which keypoints are labelled, (N, K); makes the others so in ``points`` and annotations."""
    xy, flags = points[..., :2], points[..., 2]
    number = (np.abs(points) < _FAR).all(-1)  # nor are NaN and infinity
    for row in np.flatnonzero((np.isfinite(flags) & ~np.isin(flags, (0, 1, 2))).any(1)):
        odd = next(flag for flag in flags[row] if np.isfinite(flag) and flag not in (0, 1, 2))
        report.problem(
            _place(chunk[row]), 'keypoints', f'a keypoint has the visibility {odd:g}', _FLAGS
        )
    labelled = flags != 0
    keep = labelled & number
    if meta.training:
        far = np.array(sizes, float).reshape(-1, 1, 2)
        outside = keep & ~((xy >= 0) & (xy <= far)).all(-1)
        for what, odd in ((NOT_NUMBERS, labelled & ~number), (OUTSIDE, outside)):
            if odd.any():
                report.notes[what] += int(odd.sum())
        keep &= ~outside
    else:
        for row in np.flatnonzero((labelled & ~number).any(1)):
            report.problem(
                _place(chunk[row]),
                'keypoints',
                'a labelled keypoint is not a number',
                'The metric reads this file, too: correct it, or give it the visibility 0',
            )
    xy[~number] = 0
    flags[~keep] = 0
    for row in np.flatnonzero((~number | (labelled & ~keep)).any(1)):
        chunk[row]['keypoints'] = points[row].ravel().tolist()
    return keep


def _counts(
    chunk: list[dict], points: np.ndarray, labelled: np.ndarray, meta: MetaInfo, report: Report
) -> None:
    visible = (points[..., 2] == 2).sum(1).tolist()
    for annotation, count, seen in zip(chunk, labelled.sum(1).tolist(), visible):
        said = annotation.get('num_keypoints')
        if type(said) is int and said == count:
            continue
        if said == 0 and count and not (meta.own_counts and not seen):
            report.notes[RECOUNTED] += 1
        if meta.own_counts and type(said) is int and 0 <= said <= meta.joints:
            # CrowdPose does not count what is hidden, and tests without who has nothing else
            agrees = bool(said) == bool(count) if meta.training else said or not seen
            if agrees:
                continue
        annotation['num_keypoints'] = count


# -------------------------------------------------------------------- boxes


def _box(annotation: dict, report: Report) -> list[float] | None:
    """x, y, width, height as given; empty if they are something else, None if there are none."""
    said = annotation.get('bbox')
    if said is None or said == []:
        return None
    if type(said) is list and len(said) == 4:
        if all(type(value) in _PLAIN and -_HUGE < value < _HUGE for value in said):
            return said
        if all(_is_number(value) and value is not None for value in said):
            box = [float(value) for value in said]
            if all(-_HUGE < value < _HUGE for value in box):
                report.notes[TEXT] += 1
                annotation['bbox'] = box
                return box
    many = isinstance(said, list) and len(said) != 4 and all(map(_is_number, said))
    text = f'has {len(said)} numbers, not 4' if many else f'is {str(said)[:60]}'
    report.problem(_place(annotation), 'bbox', f"its 'bbox' {text}", SIZED)
    return []


def _complete(
    annotation: dict,
    points: np.ndarray,
    labelled: np.ndarray,
    size: Size,
    box: list[float] | None,
    meta: MetaInfo,
    report: Report,
) -> bool:
    """Box, segmentation and area of an annotation; False if it is nowhere."""
    masked = not annotation['num_keypoints'] or annotation.get('iscrowd', 0)
    segmentation = annotation.get('segmentation')
    if masked and segmentation:
        segmentation = annotation['segmentation'] = examine_segmentation(
            annotation, _place(annotation), size, report
        )
    if box is None or not _meets(box, size):
        if labelled.any():
            xy = points[labelled, :2]
            low, high = xy.min(0), xy.max(0)
            annotation['bbox'] = [*low.tolist(), *(high - low).tolist()]
            report.notes[BOXES] += 1
        elif box is None:
            extent = extent_of(segmentation) if masked and segmentation else None
            if extent is None:
                report.notes[NOWHERE] += 1
                return False
            annotation['bbox'] = extent
    if masked and meta.boxes_mask and not segmentation:
        x, y, w, h = annotation['bbox']
        if w > 0 and h > 0:
            annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    area = annotation.get('area', 1)
    if area is None or area == 0:
        del annotation['area']
    elif type(area) not in _PLAIN or not 0 < area < _HUGE:
        report.problem(
            _place(annotation),
            'area',
            f"its 'area' is {area!r}",
            'It is a number of square pixels; without one it is taken from the box',
        )
    return True


def _meets(box: list[float], size: Size) -> bool:
    """Whether a box has an extent in the image."""
    x, y, w, h = box
    return w > 0 and h > 0 and x < size[0] and y < size[1] and x + w > 0 and y + h > 0
