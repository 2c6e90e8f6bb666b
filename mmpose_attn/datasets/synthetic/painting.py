"""Paints a person into the picture and the owner buffer."""

import cv2
import numpy as np

from .body import Person
from .drawing import Shapes, noise
from .parts import PARTS, THIGH, TORSO, UPPER_ARM


def paint_person(
    rng: np.random.Generator,
    image: np.ndarray,
    owners: np.ndarray,
    person: Person,
    scale: float,
    origin: np.ndarray,
    light: np.ndarray,
    entity: int,
) -> None:
    """Paints a person back to front into the picture and the owner buffer."""
    rows = person.shapes.rows
    levels = int(min(max(scale / 28, 3), 9))
    polygons = person.shapes.hulls(scale, origin, light, levels, 12 if scale < 80 else 20)
    ramp = 0.46 * (np.arange(levels) / (levels - 1)) ** 0.8 - 0.34
    colours = (
        np.array([row[2] for row in rows])[:, None]
        * (1 + np.array([row[9] for row in rows])[:, None, None] * ramp[:, None])
    ).tolist()
    for run in _runs(person.shapes, polygons[:, 0]):
        for level in range(levels):
            for n in run:
                if level and not rows[n][9]:
                    break
                cv2.fillConvexPoly(image, polygons[n, level], colours[n][level], cv2.LINE_AA, 4)
                if not level:
                    cv2.fillConvexPoly(
                        owners, polygons[n, 0], entity * PARTS + rows[n][0], cv2.LINE_8, 4
                    )

    # Cloth: noise all over and a pattern on the shirt, as gains so that the shading stays.
    x0, y0 = np.maximum(person.box[:2] * scale + origin, 0).astype(int)
    x1, y1 = np.minimum(person.box[2:] * scale + origin + 2, owners.shape[::-1]).astype(int)
    if scale < 50 or x1 <= x0 or y1 <= y0:
        return  # too small to be seen
    own, view = owners[y0:y1, x0:x1], image[y0:y1, x0:x1]
    gain = 1 + 0.05 * noise(rng, y1 - y0, x1 - x0, scale * 0.03)
    gain[own < entity * PARTS] = 1
    gain = cv2.merge([gain] * 3)
    if person.pattern:
        kind, period, second = person.pattern
        a, b = (person.spine / (np.linalg.norm(person.spine) + 1e-6) / (scale * period)).tolist()
        xx = np.arange(x0, x1, dtype=np.float32)[None] - float(origin[0])
        yy = np.arange(y0, y1, dtype=np.float32)[:, None] - float(origin[1])
        along, across = xx * a + yy * b, xx * b - yy * a
        if kind == 4:
            ink = noise(rng, y1 - y0, x1 - x0, scale * period) + 0.5
        elif kind == 3:  # dots
            ink = 2.5 - 16 * ((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2)
        else:  # stripes, either way or both
            bars = [np.clip(0.5 + 2 * np.sin(2 * np.pi * t), 0, 1) for t in (along, across)]
            ink = bars[kind] if kind < 2 else (bars[0] + bars[1]) / 2
        ink = np.clip(ink, 0, 1) * (own == entity * PARTS + TORSO)
        gain *= 1 + ink[..., None] * ((second + 8) / (person.shirt + 8) - 1).astype(np.float32)
    cv2.multiply(view, gain, view, dtype=cv2.CV_8U)


def _runs(shapes: Shapes, outlines: np.ndarray) -> list[list[int]]:
    """The painter's order, cut into runs of one limb and material to be shaded together: a shape
    may join an earlier run if it touches nothing that would be painted in between."""
    low, high = outlines.min(1).tolist(), outlines.max(1).tolist()
    key = [
        (part if part < UPPER_ARM else (part >= THIGH, part % 2), material)
        for part, material, *_ in shapes.rows
    ]
    left, runs = shapes.order, []
    while left:
        run, skipped = left[:1], []
        for n in left[1:]:
            if key[n] == key[run[0]] and not any(
                low[n][0] < high[m][0]
                and low[m][0] < high[n][0]
                and low[n][1] < high[m][1]
                and low[m][1] < high[n][1]
                for m in skipped
            ):
                run.append(n)
            else:
                skipped.append(n)
        runs.append(run)
        left = skipped
    return runs
