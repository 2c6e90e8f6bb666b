"""Objects out of loose points and regions, as labelling tools store them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .coco import hull
from .records import Annotated, Item, make_item

Box = tuple[float, float, float, float]

# how annotators say that a keypoint is hidden, or not there
_VISIBILITY = {
    **dict.fromkeys(('0', 'absent', 'unlabelled', 'unlabeled', 'not labelled', 'missing'), 0),
    **dict.fromkeys(('1', 'hidden', 'occluded', 'invisible', 'not visible', 'obscured'), 1),
    **dict.fromkeys(('2', 'visible', 'seen'), 2),
}


@dataclass
class Point:
    """A labelled point in pixels; ``group`` ties it to others, ``where`` is for messages."""

    label: str
    x: float
    y: float
    v: int
    group: object
    where: str


@dataclass
class Region:
    """A labelled box (x, y, w, h), or a polygon with its box, in pixels."""

    label: str
    bbox: Box
    polygon: list[float] | None
    group: object
    where: str


def visibility(text: object) -> int | None:
    """0, 1 or 2 for a word that says it, otherwise ``None``."""
    return _VISIBILITY.get(str(text).strip().lower())


def assemble(
    points: Sequence[Point],
    regions: Sequence[Region],
    data: Annotated,
    size: tuple[int, int],
    where: str,
    outside: str,
    tie: str,
) -> list[Item]:
    """The objects of one picture; new labels of regions become classes of ``data``.

    What has one ``group`` is one object. A point without a group belongs to the only region that
    it lies in, or, in a picture without regions and groups, all points are one object.

    Args:
        tie: how points are tied together in this format, for messages.

    Raises:
        ValueError: a label is unknown or used twice in an object, or a point belongs nowhere.
    """
    objects: dict[object, tuple[list[Point], list[Region]]] = {}
    for number, region in enumerate(regions):
        key = ('alone', number) if region.group is None else region.group
        objects.setdefault(key, ([], []))[1].append(region)
    keys = {id(region): key for key, (_, several) in objects.items() for region in several}
    whole = not regions and all(point.group is None for point in points)
    for point in points:
        if point.label not in data.keypoints.names:
            raise ValueError(
                f'{point.where}: the label {point.label!r} is none of the keypoints '
                f'{", ".join(data.keypoints.names)}'
            )
        key = point.group
        if key is None and not whole:
            around = {keys[id(region)] for region in regions if _inside(point, region.bbox)}
            if len(around) != 1:
                raise ValueError(
                    f'{point.where}: {point.label!r} at ({point.x:g}, {point.y:g}) has no {tie}, '
                    f'and lies in {len(around)} boxes, so it could belong to any object'
                )
            key = around.pop()
        objects.setdefault(key, ([], []))[0].append(point)
    return [_item(own, shapes, data, size, where, outside) for own, shapes in objects.values()]


def _inside(point: Point, box: Box) -> bool:
    x, y, w, h = box
    return x <= point.x <= x + w and y <= point.y <= y + h


def _item(
    points: list[Point],
    regions: list[Region],
    data: Annotated,
    size: tuple[int, int],
    where: str,
    outside: str,
) -> Item:
    place = (regions or points)[0].where
    for label, count in Counter(point.label for point in points).items():
        if count > 1:
            several = [point.where for point in points if point.label == label]
            raise ValueError(f'{several[1]}: {label!r} again for the object of {several[0]}')
    labels = {region.label for region in regions}
    boxes = [region for region in regions if region.polygon is None]
    if len(labels) > 1 or len(boxes) > 1:
        raise ValueError(
            f'{regions[1].where}: a second box or class for the object of {regions[0].where}'
        )
    by_label = {point.label: (point.x, point.y, point.v) for point in points}
    flat = [by_label.get(name, (0.0, 0.0, 0)) for name in data.keypoints.names]
    polygons = [region.polygon for region in regions if region.polygon is not None]
    if boxes:
        bbox = boxes[0].bbox
    elif regions:
        x, y = (min(region.bbox[i] for region in regions) for i in (0, 1))
        right, below = (
            max(region.bbox[i] + region.bbox[i + 2] for region in regions) for i in (0, 1)
        )
        bbox = (x, y, right - x, below - y)
    else:
        bbox = hull(flat, size, place)
    return make_item(_category(labels, data, place), flat, bbox, size, place, outside, polygons)


def _category(labels: set[str], data: Annotated, where: str) -> int:
    if not labels:
        if not data.classes:
            data.classes.append('object')
        if len(data.classes) > 1:
            raise ValueError(
                f'{where}: it has no box that says which of {", ".join(data.classes)} it is'
            )
        return 0
    (label,) = labels
    if label not in data.classes:
        data.classes.append(label)
    return data.classes.index(label)
