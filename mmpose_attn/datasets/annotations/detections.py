"""Detection files: boxes found by another network, for testing top-down networks."""

from typing import Any

import numpy as np

from .report import Report

LAYOUT = 'A detection is image_id, category_id, bbox [x, y, width, height] in pixels and score'


def examine_detections(found: list, images: dict, report: Report, remedy: str = '') -> list[dict]:
    """Check detections; ids that are text become the numbers that they hold.

    Args:
        found: contents of the file.
        images: of the annotations, by id.
        remedy: what else to do.

    Returns:
        Those that can be used.
    """
    fine = []
    for number, box in enumerate(found):
        key, text = _odd(box, images)
        if text:
            report.problem(f'entry {number}', key, text, f'{LAYOUT}. {remedy}')
        else:
            fine.append(box)
    return fine


def _odd(box: Any, images: dict) -> tuple[str, str]:
    """Key of a detection that cannot be used, and what is wrong with it."""
    if not isinstance(box, dict):
        return '', f'it is {str(box)[:40]!r}, not an object'
    for key in ('image_id', 'category_id', 'bbox', 'score'):
        if box.get(key) is None:
            return key, f'it has no {key!r}'
    for key, known in (('image_id', images), ('category_id', ())):
        value = box[key]
        if not isinstance(value, (int, float, str)):
            return key, f'its {key!r} is {str(value)[:40]}'
        if value not in known and str(value).strip().removeprefix('-').isdecimal():
            box[key] = int(value)
    if box['image_id'] not in images:
        return 'image_id', f'the annotations have no image {box["image_id"]!r}'
    if type(box['category_id']) is not int:
        return 'category_id', f"its 'category_id' is {box['category_id']!r}"
    for key, least in (('bbox', 4), ('score', 0)):
        try:
            values = np.array(box[key], float)
        except (TypeError, ValueError, OverflowError):
            values = np.array(np.nan)
        if values.ndim != bool(least) or values.size < least or not np.isfinite(values).all():
            return key, f'its {key!r} is {str(box[key])[:40]}'
    return '', ''
