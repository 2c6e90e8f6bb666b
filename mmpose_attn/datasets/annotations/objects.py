"""COCO annotations: keypoints, boxes, segmentations and what follows from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .report import Report

Size = tuple[int, int]

NOT_NUMBERS = 'labelled keypoints are not numbers; they are used as unlabelled'
OUTSIDE = 'labelled keypoints lie outside their image; they are used as unlabelled'
UNLABELLED = 'annotations have no keypoints; they are used as unlabelled'
NESTED = 'annotations have lists in their keypoints; they are read as one list'
TEXT = 'annotations have numbers written as text; they are read as numbers'
RECOUNTED = 'annotations have labelled keypoints and num_keypoints 0; they are counted anew'
BOXES = 'annotations have no bbox, or one without extent; it is taken around their keypoints'
NOWHERE = 'annotations have neither a labelled keypoint nor a bbox; they are left out'

FAR = 1e5  # pixels; pycocotools walks along the edges of polygons
_CHUNK = 4096  # annotations
_FLAGS = 'The third number of a keypoint is 0 (not labelled), 1 (labelled, hidden) or 2 (visible)'
_SIZED = 'It is x, y, width, height in pixels'
_SEGMENTED = (
    'COCO has a list of polygons [[x, y, x, y, ...]], or RLE {"size": [height, width], "counts": '
    '...}; an empty list says that there is none'
)
_FEW = 3  # boxes from which a rule may be read


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
    most, rule = _Most(), _Corners()
    kept = []
    for start in range(0, len(annotations), _CHUNK):
        chunk, points = _keypoints(annotations[start : start + _CHUNK], meta, report)
        chunk_sizes = np.array([sizes[ann['image_id']] for ann in chunk], float).reshape(-1, 2)
        most.add(points, chunk_sizes)
        labelled = _labelled(chunk, points, chunk_sizes, meta, report)
        _counts(chunk, points, labelled, meta, report)
        for ann, xy, box, size in _boxes(chunk, points, labelled, chunk_sizes, report):
            if box is not None:
                rule.add(box, size)
            if _finish(ann, xy, box, size, meta, report):
                kept.append(ann)
    most.judge(report)
    rule.judge(report)
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
    """Those whose keypoints can be read, and their keypoints (N, K, 3), NaN for what is no number."""
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
        if len(said) == joints and all(isinstance(each, list) for each in said):
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
    chunk: list[dict], points: np.ndarray, sizes: np.ndarray, meta: MetaInfo, report: Report
) -> np.ndarray:
    """Which keypoints are labelled, (N, K); corrects ``points`` and annotations where not as said."""
    xy, flags = points[..., :2], points[..., 2]
    number = np.isfinite(points).all(-1)
    for row in np.flatnonzero((np.isfinite(flags) & ~np.isin(flags, (0, 1, 2))).any(1)):
        odd = next(flag for flag in flags[row] if np.isfinite(flag) and flag not in (0, 1, 2))
        report.problem(
            _place(chunk[row]), 'keypoints', f'a keypoint has the visibility {odd:g}', _FLAGS
        )
    labelled = flags != 0
    keep = labelled & number
    if meta.training:
        outside = keep & ~((xy >= 0) & (xy <= sizes[:, None])).all(-1)
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


def _boxes(
    chunk: list[dict], points: np.ndarray, labelled: np.ndarray, sizes: np.ndarray, report: Report
) -> Iterator[tuple[dict, np.ndarray, np.ndarray | None, np.ndarray]]:
    """Every annotation with its labelled points (N, 2), box as given (x, y, w, h), and size."""
    for annotation, all_points, flags, size in zip(chunk, points, labelled, sizes):
        said = annotation.get('bbox')
        box = None
        if said is not None and said != []:
            try:
                box = np.array(said, float)
            except (TypeError, ValueError, OverflowError):
                box = np.empty(0)
            if box.shape != (4,) or not np.isfinite(box).all():
                many = isinstance(said, list) and all(map(_is_number, said)) and len(said) != 4
                text = f'has {len(said)} numbers, not 4' if many else f'is {str(said)[:60]}'
                report.problem(_place(annotation), 'bbox', f"its 'bbox' {text}", _SIZED)
                continue
            if any(isinstance(value, str) for value in said):
                annotation['bbox'] = box.tolist()
                report.notes[TEXT] += 1
        yield annotation, all_points[flags, :2], box, size


def _finish(
    annotation: dict,
    labelled: np.ndarray,
    box: np.ndarray | None,
    size: np.ndarray,
    meta: MetaInfo,
    report: Report,
) -> bool:
    """Box, segmentation and area of an annotation; False if it is nowhere."""
    masked = not len(labelled) or annotation.get('iscrowd')
    segmentation = annotation.get('segmentation')
    if masked and segmentation:
        segmentation = annotation['segmentation'] = _segmentation(annotation, size, report)
    if box is None or not _meets(box, size):
        if len(labelled):
            low, high = labelled.min(0), labelled.max(0)
            annotation['bbox'] = [*low.tolist(), *(high - low).tolist()]
            report.notes[BOXES] += 1
        elif box is None:
            extent = _extent(segmentation, size) if masked and segmentation else None
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
        annotation.pop('area')
    elif not isinstance(area, (int, float)) or isinstance(area, bool) or not 0 < area < np.inf:
        report.problem(
            _place(annotation),
            'area',
            f"its 'area' is {area!r}",
            'It is a number of square pixels; without one it is taken from the box',
        )
    return True


def _meets(box: np.ndarray, size: np.ndarray) -> bool:
    """Whether a box has an extent in the image."""
    x, y, w, h = box
    return w > 0 and h > 0 and x < size[0] and y < size[1] and x + w > 0 and y + h > 0


# ------------------------------------------------------------ segmentations


def _segmentation(annotation: dict, size: np.ndarray, report: Report) -> Any:
    """What is masked out, in one of COCO's forms."""
    said = annotation['segmentation']
    width, height = size.astype(int).tolist()
    text = ''
    if isinstance(said, list):
        if not isinstance(said[0], (list, dict)):  # one polygon, without the list around it
            said = [said]
        for polygon in said:
            try:
                corners = np.array(polygon, float)
            except (TypeError, ValueError, OverflowError):
                corners = np.empty((0, 0))
            if corners.ndim != 1 or len(corners) % 2:
                text = f'has {str(polygon)[:40]} in the place of a polygon'
            elif len(corners) and not np.abs(corners).max() < FAR:
                text = 'has a polygon with coordinates far outside of the image'
    elif isinstance(said, dict):
        counts = said.get('counts')
        if not isinstance(counts, (list, str)) or not isinstance(said.get('size'), list):
            text = 'has no "size" and "counts"'
        elif said['size'] != [height, width]:
            text = f'is of size {said["size"]}, in an image of height and width {[height, width]}'
        elif isinstance(counts, list):
            whole = all(type(count) is int and count >= 0 for count in counts)
            if not whole or sum(counts) != width * height:
                text = 'has counts that do not add up to the size of the image'
    else:
        text = f'is {str(said)[:40]}'
    if text:
        report.problem(
            _place(annotation), 'segmentation', f"its 'segmentation' {text}", _SEGMENTED
        )
        return []
    return said


def _extent(segmentation: Any, size: np.ndarray) -> list[float] | None:
    """x, y, width, height of a segmentation."""
    if isinstance(segmentation, dict):
        rle = segmentation
        if isinstance(rle['counts'], list):
            rle = coco_mask.frPyObjects(rle, *rle['size'])
        return coco_mask.toBbox(rle).tolist()
    corners = np.array([value for polygon in segmentation for value in polygon]).reshape(-1, 2)
    if not len(corners):
        return None
    low, high = corners.min(0), corners.max(0)
    return [*low.tolist(), *(high - low).tolist()]


# ---------------------------------------------------------- the file as a whole


class _Most:
    """Notices keypoints that are shares of the image, as YOLO and Label Studio write them."""

    def __init__(self) -> None:
        self.largest, self.smallest, self.side = 0.0, np.inf, 0.0

    def add(self, points: np.ndarray, sizes: np.ndarray) -> None:
        labelled = points[points[..., 2] > 0][..., :2]
        labelled = labelled[np.isfinite(labelled).all(-1)]
        if len(labelled):
            self.largest = max(self.largest, labelled.max())
            self.smallest = min(self.smallest, labelled.min())
            self.side = max(self.side, sizes.max())

    def judge(self, report: Report) -> None:
        if 0 <= self.smallest and 0 < self.largest <= 1 and self.side > 2:
            report.problem(
                '',
                'keypoints',
                'all labelled keypoints lie between 0 and 1',
                'COCO has pixels: multiply x by the width and y by the height of the image, those '
                'of boxes, too',
            )


class _Corners:
    """Notices boxes that are two corners, or shares of the image."""

    def __init__(self) -> None:
        self.count = self.beyond = 0
        self.corners = self.shares = True

    def add(self, box: np.ndarray, size: np.ndarray) -> None:
        self.count += 1
        self.corners &= bool((box[2:] >= box[:2]).all())
        self.shares &= bool((box >= 0).all() and (box <= 1).all() and (size > 2).all())
        self.beyond += bool((box[:2] + box[2:] > size + 1).any())

    def judge(self, report: Report) -> None:
        if self.count and self.shares:
            report.problem(
                '', 'bbox', 'all boxes lie between 0 and 1', f'{_SIZED}: multiply by the size'
            )
        elif self.count >= _FEW and self.corners and 2 * self.beyond > self.count:
            report.problem(
                '',
                'bbox',
                f'{self.beyond} of {self.count} boxes reach beyond their image as x, y, width, '
                'height, and all can be x1, y1, x2, y2',
                f'{_SIZED}: subtract the first corner from the second',
            )
