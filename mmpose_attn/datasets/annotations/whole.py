"""What shows only over a whole file: numbers that are in another unit, or mean something else."""

import numpy as np

from .report import Report
from .segmentations import Size

APART = (
    'of {} labelled keypoints lie far outside of the boxes of their objects: are x and y '
    'exchanged, or do boxes and keypoints belong to other objects?'
)
OUTSIDE = 'of {} labelled keypoints lie outside of their images'
SIZED = 'It is x, y, width, height in pixels'
_FEW = 3  # boxes from which a rule may be read
_FAR = 1e9  # pixels; beyond it, and NaN, is no place


class Shares:
    """Notices keypoints that are shares of the image, as YOLO and Label Studio write them.

    And those of images of another size, of which most are outside of the images that there are.
    """

    def __init__(self, training: bool) -> None:
        self.training = training
        self.smallest, self.largest, self.side = np.inf, 0.0, 0
        self.count = self.outside = 0

    def add(self, points: np.ndarray, sizes: list[Size]) -> None:
        used = (points[..., 2] > 0) & (np.abs(points) < _FAR).all(-1)
        labelled = points[used][..., :2]
        if len(labelled):
            limits = np.repeat(np.array(sizes, float), used.sum(1), axis=0)
            self.outside += int(((labelled < 0) | (labelled > limits)).any(-1).sum())
            self.count += len(labelled)
        if len(labelled):
            self.smallest = min(self.smallest, labelled.min())
            self.largest = max(self.largest, labelled.max())
            self.side = max(self.side, *map(max, sizes))

    def judge(self, report: Report) -> None:
        if self.smallest >= 0 and 0 < self.largest <= 1 and self.side > 2:
            report.problem(
                '',
                'keypoints',
                'all labelled keypoints lie between 0 and 1',
                'COCO has pixels: multiply x by the width and y by the height of the image, in '
                'boxes as well',
            )
        elif 2 * self.outside > self.count:
            what = OUTSIDE.format(self.count)
            question = (
                'Are they of images of another size, are x and y exchanged, or width and height?'
            )
            # in training these are not used; some predictions lie outside, if not all
            if self.training or self.outside == self.count:
                report.problem('', 'keypoints', f'{self.outside} {what}', question)
            else:
                report.notes[f'{what}. {question}'] += self.outside


class Areas:
    """Notices areas that are shares of the image, or not of objects in it."""

    def __init__(self) -> None:
        self.largest, self.boxes = 0.0, 0.0

    def add(self, annotation: dict, size: Size, report: Report) -> None:
        area, (_, _, w, h) = annotation.get('area'), annotation['bbox']
        if not isinstance(area, int | float):
            return
        self.largest, self.boxes = max(self.largest, area), max(self.boxes, w * h)
        if area > 2 * max(w * h, size[0] * size[1]):
            report.problem(
                f'annotation {annotation["id"]} of image {annotation["image_id"]}',
                'area',
                f"its 'area' is {area:g}, but its image has {size[0] * size[1]} pixels",
                'It is a number of square pixels; without one it is taken from the box',
            )

    def judge(self, report: Report) -> None:
        if 0 < self.largest <= 1 and self.boxes > 4:
            report.problem(
                '',
                'area',
                'no area is more than 1',
                'COCO has square pixels: multiply by width and height of the image, or leave it '
                'out, and it is taken from the box',
            )


class Apart:
    """Notices keypoints that are not where the boxes of their objects are."""

    def __init__(self) -> None:
        self.count = self.apart = 0

    def add(self, points: np.ndarray, box: list[float]) -> None:
        x, y, w, h = box
        low, high = np.array((x, y)), np.array((x + w, y + h))
        slack = (high - low) / 2
        away = ((points < low - slack) | (points > high + slack)).any(-1)
        self.count += len(points)
        self.apart += int(away.sum())

    def judge(self, report: Report) -> None:
        if 2 * self.apart > self.count:
            report.notes[APART.format(self.count)] += self.apart


class Corners:
    """Notices boxes that are two corners, or shares of the image."""

    def __init__(self) -> None:
        self.count = self.beyond = 0
        self.corners = self.shares = True

    def add(self, box: list[float], size: Size) -> None:
        x, y, w, h = box
        if w == h == 0:  # how some tools write that there is none
            return
        self.count += 1
        inside = w <= size[0] + 1 and h <= size[1] + 1  # as a second corner
        self.corners = self.corners and w >= x and h >= y and inside
        self.shares = self.shares and min(box) >= 0 and max(box) <= 1 and max(size) > 2
        self.beyond += x + w > size[0] + 1 or y + h > size[1] + 1

    def judge(self, report: Report) -> None:
        if self.count and self.shares:
            report.problem(
                '', 'bbox', 'all boxes lie between 0 and 1', f'{SIZED}: multiply by the size'
            )
        elif self.count >= _FEW and self.corners and 2 * self.beyond > self.count:
            report.problem(
                '',
                'bbox',
                f'{self.beyond} of {self.count} boxes reach beyond their image as x, y, width, '
                'height, and all can be two corners, x1, y1, x2, y2',
                f'{SIZED}: subtract the first corner from the second',
            )
