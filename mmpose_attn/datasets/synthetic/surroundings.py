"""What is behind people and in front of them."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .body import SKINS
from .config import list_photos
from .drawing import Shapes, ball, fill, noise, random_colour, rectangle, vec
from .parts import PARTS


def draw_background(rng: np.random.Generator, w: int, h: int, light: np.ndarray) -> np.ndarray:
    """A wall and a floor with textures, clutter, limbs without bodies and noise: (h, w, 3)."""
    wall, floor = random_colour(rng) * 0.8 + 30, random_colour(rng) * 0.7 + 25
    horizon = int(h * rng.uniform(0.35, 0.85))
    canvas = np.empty((h, w, 3), np.uint8)
    canvas[:horizon], canvas[horizon:] = wall, floor
    # Textures: bricks, grids, stripes; perspective lines on the floor.
    kind, step, thick = rng.integers(6), int(rng.integers(8, 48)), int(rng.integers(1, 3))
    line = np.clip(wall * rng.uniform(0.6, 1.3), 0, 255).tolist()
    if kind < 2:
        for n, y in enumerate(range(0, horizon, step)):
            cv2.line(canvas, (0, y), (w, y), line, thick, cv2.LINE_AA)
            for x in range(n % 2 * step * (kind == 0), w, step * 2):
                cv2.line(canvas, (x, y), (x, min(y + step, horizon)), line, thick, cv2.LINE_AA)
    elif kind == 2:
        for x in range(0, w, step):
            cv2.line(canvas, (x, 0), (x, horizon), line, step // 3, cv2.LINE_AA)
    if rng.random() < 0.5:
        line = np.clip(floor * rng.uniform(0.7, 1.3), 0, 255).tolist()
        vanish = rng.uniform(0, w)
        for x in range(-2 * w, 3 * w, step * 3):
            cv2.line(
                canvas, (int(vanish + (x - vanish) * 0.2), horizon), (x, h), line, 1, cv2.LINE_AA
            )
    for _ in range(rng.integers(3, 26)):
        x, y, size = rng.uniform(0, w), rng.uniform(0, h), h * rng.uniform(0.03, 0.35)
        colour, what = random_colour(rng), rng.integers(6)
        if what < 2:  # framed boards and blocks
            bw, bh = size * rng.uniform(0.3, 2, 2)
            tilt = 0.0 if rng.random() < 0.6 else rng.uniform(0, 90)
            fill(canvas, None, rectangle(x, y, bw, bh, tilt), colour)
            inner = rectangle(x, y, bw * 0.8, bh * 0.85, tilt)
            fill(canvas, None, inner, colour * rng.uniform(0.7, 1))
        elif what == 2:
            t = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
            fill(canvas, None, np.stack([np.cos(t), np.sin(t)], 1) * size / 2 + (x, y), colour)
        elif what == 3:
            ball(canvas, None, x, y, size * 0.4, colour)
        elif what == 4:
            stick = rectangle(x, y, rng.uniform(2, 10), size * 4, rng.normal(0, 8))
            fill(canvas, None, stick, colour)
        else:
            _lone_limb(rng, canvas, light)
    # Uneven light and octaves of noise, on a coarse grid and hardly coloured, then fine grain.
    gh, gw = h // 4, w // 4
    texture = noise(rng, gh, gw, h / 48, 3) * rng.uniform(0, 0.05) + sum(
        noise(rng, gh, gw, cell)[..., None] * amount
        for cell, amount in ((h / 16, 0.12), (h / 48, 0.08), (2, 0.04))
    )
    texture = cv2.resize(texture * rng.uniform(0.5, 1.6), (w, h), interpolation=cv2.INTER_LINEAR)
    texture += noise(rng, h, w)[..., None] * rng.uniform(0.01, 0.05)
    texture += (
        1
        + np.linspace(-1, 1, w)[None, :, None] * rng.uniform(-0.25, 0.25)
        + np.linspace(-1, 1, h)[:, None, None] * rng.uniform(-0.25, 0.25)
    )
    canvas = cv2.multiply(canvas, texture, dtype=cv2.CV_8U)
    sigma = rng.uniform(0, 1.6)
    return cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.4 else canvas


def _lone_limb(rng: np.random.Generator, image: np.ndarray, light: np.ndarray) -> None:
    """Shaded capsules without a body, so that a limb alone does not make a person."""
    h, w = image.shape[:2]
    shapes, point = Shapes(), np.zeros(3)
    colour = np.array(SKINS[rng.integers(len(SKINS))]) if rng.random() < 0.4 else random_colour(rng)
    angle, r = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.15)
    for _ in range(rng.integers(1, 4)):
        angle += rng.uniform(-1.4, 1.4)
        end = point + vec(math.cos(angle), math.sin(angle), 0) * rng.uniform(0.3, 1.0)
        shapes.add(0, '', colour, point, end, r, r * 0.8)
        point, r = end, r * 0.8
    shapes.project(np.eye(3))
    polygons = shapes.hulls(rng.uniform(0.05, 0.3) * h, rng.uniform((0, 0), (w, h)), light, 4, 16)
    for level in range(4):
        for polygon in polygons[:, level]:
            fill(image, None, polygon / 16, colour * (0.62 + 0.12 * level))


def crop_photo(rng: np.random.Generator, w: int, h: int, folder: str) -> np.ndarray:
    """A crop (h, w, 3) of one of the folder's photographs, perhaps mirrored."""
    paths = list_photos(folder)
    path = paths[rng.integers(len(paths))]
    photo = cv2.imread(path)
    if photo is None:
        raise ValueError(f'backgrounds: cannot read {path}')
    scale = max(w / photo.shape[1], h / photo.shape[0]) * rng.uniform(1, 1.5)
    size = max(w, round(photo.shape[1] * scale)), max(h, round(photo.shape[0] * scale))
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    x, y = rng.integers(size[0] - w + 1), rng.integers(size[1] - h + 1)
    return photo[y : y + h, x : x + w][:, :: rng.choice((-1, 1))].copy()


def draw_shadows(
    image: np.ndarray, places: Sequence[tuple[float, np.ndarray]], boxes: Sequence[np.ndarray]
) -> np.ndarray:
    """The picture with a contact shadow below each person, given by scale and pixel box."""
    h, w = image.shape[:2]
    shade = np.zeros((h // 2, w // 2), np.uint8)
    for (scale, _), (x0, _, x1, y1) in zip(places, boxes):
        centre = int((x0 + x1) / 4), int(y1 / 2 - scale * 0.01)
        axes = int(scale * 0.12) + 1, int(scale * 0.02) + 1
        cv2.ellipse(shade, centre, axes, 0, 0, 360, 75, -1)
    shade = cv2.resize(cv2.GaussianBlur(shade, (0, 0), h / 120), (w, h))
    return cv2.multiply(image, cv2.merge([255 - shade] * 3), scale=1 / 255)


def draw_seat(
    rng: np.random.Generator,
    image: np.ndarray,
    owners: np.ndarray,
    hips: np.ndarray,
    bottom: float,
    scale: float,
    entity: int,
) -> None:
    """Stands a block below the middle (x, y) of a person's hips, down to ``bottom``."""
    (x, y), wide = hips, scale * rng.uniform(0.32, 0.48)
    low = max(bottom, y)
    block = rectangle(x, (y + low) / 2, wide, low - y)
    fill(image, owners, block, random_colour(rng), entity * PARTS)


def draw_occluder(
    rng: np.random.Generator, image: np.ndarray, owners: np.ndarray, box: np.ndarray, entity: int
) -> None:
    """Stands an object in front of a part of the pixel box (x0, y0, x1, y1)."""
    h, (bw, bh) = len(owners), box[2:] - box[:2]
    x, y = rng.uniform(box[0], box[2]), rng.uniform(box[1] + 0.3 * bh, box[3])
    colour, owner, kind = random_colour(rng), entity * PARTS, rng.integers(5)
    if kind == 0:
        width = bh * rng.uniform(0.03, 0.09)
        for k, tone in ((1, 0.65), (0.6, 0.85), (0.25, 1.0)):
            pole = rectangle(x - width * (1 - k) * 0.3, h / 2, width * k, 2 * h)
            fill(image, owners, pole, colour * tone, owner)
    elif kind == 1:  # a table or low wall before the legs
        top = box[3] - bh * rng.uniform(0.1, 0.4)
        fill(image, owners, rectangle(x, top + h, bw * 2, 2 * h), colour * 0.7, owner)
        fill(image, owners, rectangle(x, top, bw * 2.1, bh * 0.04), colour, owner)
    elif kind == 2:  # plant
        base = np.array([x, box[3] + bh * 0.03])
        for _ in range(rng.integers(8, 18)):
            angle, length = rng.normal(-np.pi / 2, 0.7), bh * rng.uniform(0.12, 0.42)
            stem = np.array([math.cos(angle), math.sin(angle)]) * length
            wide = np.array([-stem[1], stem[0]]) * rng.uniform(0.06, 0.16)
            leaf = base, base + stem * 0.4 + wide, base + stem, base + stem * 0.5 - wide
            fill(image, owners, leaf, vec(50, rng.uniform(80, 170), rng.uniform(40, 90)), owner)
    elif kind == 3:
        ball(image, owners, x, y, bh * rng.uniform(0.05, 0.12), colour, owner)
    else:  # box or bag
        (sw, sh), tilt = bh * rng.uniform(0.1, 0.32, 2), rng.normal(0, 12)
        fill(image, owners, rectangle(x, y, sw, sh, tilt), colour, owner)
        fill(image, owners, rectangle(x, y, sw * 0.94, sh * 0.2, tilt), colour * 0.75, owner)
