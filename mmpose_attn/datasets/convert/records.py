"""What every format of annotations is read into and written from."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpose.datasets.datasets import CocoDataset
from mmpose.datasets.datasets.utils import parse_pose_metainfo

SIGMA = 0.05  # of keypoints whose annotators' spread nobody has measured
# COCO's area is that of the person's mask; without a mask, this share of the box, as MMPose
# (use_area=False) and CrowdPose have it
AREA_OF_BOX = 0.53
SLACK = 1.0  # pixels by which a box may stick out: tools round them


@dataclass(frozen=True)
class Keypoints:
    """The kinds of keypoints of a data set.

    Args:
        names: of the K keypoints, in their order.
        swaps: for each its partner in a mirror image, itself if it has none.
        sigmas: for each the spread of OKS.
        skeleton: pairs of keypoints to draw lines between.

    Raises:
        ValueError: the four do not belong together.
    """

    names: tuple[str, ...]
    swaps: tuple[int, ...]
    sigmas: tuple[float, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if not count or not all(self.names) or twice:
            raise ValueError(
                f'keypoints need names, each used once; got {list(self.names)}'
                + (f', {twice[0]!r} twice' if twice else '')
            )
        if len(self.swaps) != count or any(
            not 0 <= other < count or self.swaps[other] != i for i, other in enumerate(self.swaps)
        ):
            raise ValueError(
                f'{list(self.swaps)} does not say for each of {count} keypoints which one it is in '
                'a mirror image: a partner must name its partner, the others themselves'
            )
        if len(self.sigmas) != count or not all(0 < sigma < 10 for sigma in self.sigmas):
            raise ValueError(f'{count} keypoints need {count} sigmas above 0, got {self.sigmas}')
        if any(not (0 <= a < count and 0 <= b < count) for a, b in self.skeleton):
            raise ValueError(
                f'the skeleton {list(self.skeleton)} names keypoints beyond 0 to {count - 1}'
            )

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class Item:
    """One annotated object.

    Args:
        category: index into the data set's classes.
        points: (x, y, v) of every keypoint in pixels; v is 0 not labelled, 1 hidden, 2 seen.
        bbox: (x, y, w, h) in pixels.
        area: in square pixels.
        segmentation: COCO's polygons, if there are any.
        where: file and place, for messages.
    """

    category: int
    points: list[tuple[float, float, int]]
    bbox: tuple[float, float, float, float]
    area: float
    segmentation: list[list[float]] = field(default_factory=list)
    where: str = ''


@dataclass
class Picture:
    """One picture: its file, the name that annotations give it, (width, height), and objects."""

    path: Path
    name: str
    size: tuple[int, int]
    items: list[Item]


@dataclass
class Annotated:
    """A data set: its classes, keypoints, pictures by split, and what to tell its owner."""

    classes: list[str]
    keypoints: Keypoints
    splits: dict[str, list[Picture]]
    notes: list[str] = field(default_factory=list)


def make_keypoints(
    names: Sequence[str],
    swaps: Sequence[int] | None = None,
    sigma: float | None = None,
    skeleton: Sequence[Sequence[int]] = (),
) -> Keypoints:
    """Keypoints by name; without ``swaps``, left and right in the names say who is whose partner.

    COCO's own seventeen have COCO's sigmas, others :data:`SIGMA` unless ``sigma`` is given.
    """
    names = tuple(map(str, names))
    sigmas = (SIGMA if sigma is None else float(sigma),) * len(names)
    if sigma is None and len(names) == 17:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of where MMPose found its file
            coco = parse_pose_metainfo(CocoDataset.METAINFO)
        if list(names) == [coco['keypoint_id2name'][i] for i in range(17)]:
            sigmas = tuple(map(float, coco['sigmas']))
    return Keypoints(
        names,
        tuple(mirrored(names) if swaps is None else swaps),
        sigmas,
        tuple((int(a), int(b)) for a, b in skeleton),
    )


_SIDES = {'left': 'right', 'right': 'left', 'l': 'r', 'r': 'l'}


def mirrored(names: Sequence[str]) -> list[int]:
    """Every name's place after left and right, or l and r, have changed places in the words."""
    # words of snake_case, kebab-case, camelCase and plain text
    words = [
        tuple(w.lower() for w in re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+', n))
        for n in map(str, names)
    ]
    place = {key: i for i, key in enumerate(words)}
    partners = [place.get(tuple(_SIDES.get(w, w) for w in key), i) for i, key in enumerate(words)]
    return [other if partners[other] == i else i for i, other in enumerate(partners)]


def make_item(
    category: int,
    points: list[tuple[float, float, int]],
    bbox: tuple[float, float, float, float],
    size: tuple[int, int],
    where: str,
    outside: str = 'error',
    segmentation: Sequence[Sequence[float]] = (),
) -> Item:
    """An object whose numbers are possible in a picture of that (width, height).

    Args:
        outside: what becomes of keypoints and boxes beyond the picture: ``'error'``, or
            ``'unlabel'``: keypoints become unlabelled, boxes end at the border.

    Raises:
        ValueError: they are not; ``where`` is named.
    """
    width, height = size
    kept = []
    for number, (x, y, v) in enumerate(points):
        if v not in (0, 1, 2):
            raise ValueError(
                f'{where}: keypoint {number} has visibility {v}, which is 0 (not labelled), '
                '1 (hidden) or 2 (seen). Is it a file of predictions, with scores?'
            )
        if v and not (0 <= x <= width and 0 <= y <= height):
            if outside == 'error':
                raise ValueError(
                    f'{where}: keypoint {number} lies at ({x:g}, {y:g}), outside its picture of '
                    f'{width}x{height}. Correct it, or have such keypoints made unlabelled '
                    '(--outside unlabel)'
                )
            x, y, v = 0.0, 0.0, 0
        kept.append((x, y, v))
    x, y, w, h = bbox
    if w <= 0 or h <= 0:
        raise ValueError(f'{where}: its box is {w:g} by {h:g} pixels')
    if min(x, y) < -SLACK or x + w > width + SLACK or y + h > height + SLACK:
        if outside == 'error':
            raise ValueError(
                f'{where}: its box ({x:g}, {y:g}, {w:g}, {h:g}) reaches beyond its picture of '
                f'{width}x{height}. Correct it, or have such boxes cut (--outside unlabel)'
            )
        right, below = min(x + w, width), min(y + h, height)
        x, y = max(x, 0.0), max(y, 0.0)
        w, h = right - x, below - y
        if w <= 0 or h <= 0:
            raise ValueError(f'{where}: its box lies outside its picture of {width}x{height}')
    polygons = [list(map(float, polygon)) for polygon in segmentation]
    area = sum(map(_polygon_area, polygons)) or AREA_OF_BOX * w * h
    return Item(category, kept, (x, y, w, h), area, polygons, where)


def _polygon_area(flat: Sequence[float]) -> float:
    xs, ys = flat[::2], flat[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
