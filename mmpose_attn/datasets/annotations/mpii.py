"""MPII's people, as MMPose writes them: a list of image, center, scale, joints and joints_vis."""

import re
from typing import Any

import numpy as np

from .report import Report

_LAYOUT = (
    'MMPose makes of MPII a list with image, center [x, y], scale (the height of the person in '
    '200 pixels), joints [[x, y], ...] and joints_vis [0 or 1, ...] of each person'
)


def examine_mpii(people: Any, joints: int, report: Report) -> None:
    """Check the contents of a file of MPII's people."""
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        report.problem('', '', 'it is not a list of people', _LAYOUT)
        return
    for number, person in enumerate(people):
        for key, shape in (
            ('image', None),
            ('center', (2,)),
            ('scale', ()),
            ('joints', (joints, 2)),
            ('joints_vis', (joints,)),
        ):
            text = f'it has no {key!r}'
            if person.get(key) is not None:
                text = _image(person[key]) if shape is None else _numbers(person, key, shape)
            if text:
                report.problem(f'person {number}', key, text, _LAYOUT)
    if not report.problems:
        labelled = [
            np.array(person['joints'])[np.array(person['joints_vis']) != 0] for person in people
        ]
        if any(map(len, labelled)) and np.concatenate(labelled).max() <= 1:
            report.problem('', 'joints', 'all joints lie between 0 and 1', 'MPII has pixels')


def _image(name: Any) -> str:
    if isinstance(name, str) and re.fullmatch(r'[0-9]+\..+', name):
        return ''
    return f"its 'image' is {str(name)[:60]!r}, and MMPose needs the number of the image, 012.jpg"


def _numbers(person: dict, key: str, shape: tuple[int, ...]) -> str:
    try:
        values = np.array(person[key], float)
    except (TypeError, ValueError, OverflowError):
        return f'its {key!r} are not numbers: {str(person[key])[:40]}'
    if values.shape != shape:
        if key in ('joints', 'joints_vis'):
            return f'it does not have {shape[0]} joints, its {key!r} have shape {values.shape}'
        return f'its {key!r} is {str(person[key])[:40]}'
    if key == 'joints_vis' and not np.isin(values, (0, 1)).all():
        return f"its 'joints_vis' has {values[~np.isin(values, (0, 1))][0]:g}"
    if key == 'joints':
        try:
            values = values[np.array(person['joints_vis'], float) != 0]
        except (KeyError, IndexError, TypeError, ValueError):  # said of joints_vis itself
            return ''
    if not np.isfinite(values).all() or (key == 'scale' and not values > 0):
        return f'its {key!r} has a value that is no number, or not positive'
    return ''
