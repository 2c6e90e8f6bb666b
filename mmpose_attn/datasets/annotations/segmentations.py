"""COCO's segmentations of what is masked out: polygons and run lengths."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .report import Report

Size = tuple[int, int]

FAR = 1e5  # pixels; pycocotools walks along the edges of polygons
_FORMS = (
    'COCO has a list of polygons [[x, y, x, y, ...]], or RLE {"size": [height, width], "counts": '
    '...}; an empty list says that there is none'
)


def examine_segmentation(annotation: dict, place: str, size: Size, report: Report) -> Any:
    """That of an annotation in an image of ``size`` (w, h), in a form of COCO; [] if in none."""
    said = annotation['segmentation']
    width, height = size
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
        report.problem(place, 'segmentation', f"its 'segmentation' {text}", _FORMS)
        return []
    return said


def extent_of(segmentation: Any) -> list[float] | None:
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
