"""What shows only over a whole file: numbers that are in another unit, or mean something else."""

import numpy as np

from .report import Report
from .segmentations import Size

SIZED = 'It is x, y, width, height in pixels'
_FEW = 3  # boxes from which a rule may be read


class Shares:
    """Notices keypoints that are shares of the image, as YOLO and Label Studio write them."""

    def __init__(self) -> None:
        self.smallest, self.largest, self.side = np.inf, 0.0, 0

    def add(self, points: np.ndarray, sizes: list[Size]) -> None:
        labelled = points[points[..., 2] > 0][..., :2]
        labelled = labelled[np.isfinite(labelled).all(-1)]
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


class Corners:
    """Notices boxes that are two corners, or shares of the image."""

    def __init__(self) -> None:
        self.count = self.beyond = 0
        self.corners = self.shares = True

    def add(self, box: list[float], size: Size) -> None:
        x, y, w, h = box
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
