"""What people and their surroundings are drawn with: noise, colours, shapes."""

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """Fixed white noise (512, 512, 3) float32: cropping it is far cheaper than drawing anew."""
    return np.random.default_rng(0).standard_normal((512, 512, 3), dtype=np.float32)


def noise(rng: np.random.Generator, h: int, w: int, cell: float = 1.0, c: int = 1) -> np.ndarray:
    """Noise (h, w) or (h, w, 3) with a deviation of 1 or less and a grain of ``cell`` pixels."""
    gh, gw = min(512, math.ceil(h / cell) + 1), min(512, math.ceil(w / cell) + 1)
    y, x = rng.integers(513 - gh), rng.integers(513 - gw)
    patch = np.ascontiguousarray(_noise_bank()[y : y + gh, x : x + gw, :c])
    if (gh, gw) != (h, w):
        patch = cv2.resize(patch, (w, h), interpolation=cv2.INTER_CUBIC)
    return patch.reshape(h, w) if c == 1 else patch


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """A cloth or object colour, BGR float: as many greys as real wardrobes have."""
    hue, sat, val = rng.uniform(0, 180), rng.beta(1.3, 1.6) * 255, rng.uniform(25, 245)
    if rng.random() < 0.3:
        sat *= 0.15
    return cv2.cvtColor(np.uint8([[[hue, sat, val]]]), cv2.COLOR_HSV2BGR)[0, 0].astype(float)


def rot(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation (3, 3) about x, y or z."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array(
        (
            ((1, 0, 0), (0, c, -s), (0, s, c)),
            ((c, 0, s), (0, 1, 0), (-s, 0, c)),
            ((c, -s, 0), (s, c, 0), (0, 0, 1)),
        )[axis]
    )


def vec(*v: float) -> np.ndarray:
    return np.array(v, dtype=float)


class Shapes:
    """Convex hulls of two discs or rings each, gathered in body space and painted in one go."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []

    def add(
        self,
        part: int,
        material: str,
        colour: Any,
        p: np.ndarray,
        q: np.ndarray,
        rp: Any,
        rq: Any,
        depth: np.ndarray | None = None,
        bias: float = 0.0,
        shade: float = 1.0,
    ) -> None:
        """Joins the ends ``p`` and ``q``. ``rp`` and ``rq`` are radii of discs that always face
        the camera, or pairs of 3-D half axes. The shape sorts at the depth of the point ``depth``
        (the middle if None) plus ``bias``; pieces of one limb and material shade as one."""
        depth = (p + q) / 2 if depth is None else depth
        self.rows.append((part, material, colour, p, q, rp, rq, depth, bias, shade))

    def project(self, cam: np.ndarray) -> None:
        """Applies the (3, 3) camera: image x right, y down, z away."""
        self.centres = (np.array([row[3:5] for row in self.rows]) @ cam.T)[..., :2]  # (N, end, xy)
        flat = cam[:2].T
        radii = [
            ((r, 0), (0, r)) if isinstance(r, float) else np.array(r) @ flat
            for row in self.rows
            for r in row[5:7]
        ]
        self.axes = np.array(radii).reshape(-1, 2, 2, 2)  # (N, end, axis, xy)
        z = np.array([row[7] for row in self.rows]) @ cam[2] + [row[8] for row in self.rows]
        self.order = np.argsort(-z, kind='stable').tolist()

    def box(self) -> np.ndarray:
        """(x0, y0, x1, y1) of all."""
        reach = np.sqrt((self.axes**2).sum(2))
        low, high = self.centres - reach, self.centres + reach
        return np.concatenate([low.min((0, 1)), high.max((0, 1))])

    def hulls(
        self, scale: float, origin: np.ndarray, light: np.ndarray, levels: int, vertices: int
    ) -> np.ndarray:
        """Polygons (N, levels, vertices, 2) in 1/16 pixel; inner levels lean to the light."""
        angle = np.arange(vertices) * (2 * np.pi / vertices)
        d = np.stack([np.cos(angle), np.sin(angle)])  # (xy, V)
        grow = 1 - 0.93 * np.arange(levels) / levels  # (S,)
        centres, axes = self.centres * scale + origin, self.axes * scale
        reach = np.linalg.norm(axes @ light, axis=-1)[..., None] * light  # (N, end, xy)
        lean = (0.75 * (1 - grow))[:, None, None]
        c = centres[:, None] + lean * reach[:, None]  # (N, S, end, xy)
        # Support function: in each direction the hull reaches as far as the farther end does.
        dots = axes @ d  # (N, end, axis, V)
        norm = np.sqrt((dots**2).sum(2)) + 1e-9  # (N, end, V)
        rim = np.einsum('neav,neax->nevx', dots, axes) / norm[..., None]  # (N, end, V, xy)
        support = c @ d + grow[:, None, None] * norm[:, None]  # (N, S, end, V)
        points = c[..., None, :] + grow[:, None, None, None] * rim[:, None]
        first = (support[:, :, 0] >= support[:, :, 1])[..., None]
        return np.round(np.where(first, points[:, :, 0], points[:, :, 1]) * 16).astype(np.int32)


def fill(
    image: np.ndarray, owners: np.ndarray | None, polygon: Any, colour: np.ndarray, owner: int = 0
) -> None:
    """Paints a convex polygon (N, 2) into the picture and, unless None, the owner buffer."""
    points = np.round(np.asarray(polygon, dtype=float) * 16).astype(np.int32)
    cv2.fillConvexPoly(image, points, colour.tolist(), cv2.LINE_AA, 4)
    if owners is not None:
        cv2.fillConvexPoly(owners, points, owner, cv2.LINE_8, 4)


def rectangle(x: float, y: float, w: float, h: float, degrees: float = 0.0) -> np.ndarray:
    """Corners (4, 2) of a rectangle centred on (x, y)."""
    corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2
    return corners @ rot(2, degrees)[:2, :2].T + (x, y)


def ball(
    image: np.ndarray,
    owners: np.ndarray | None,
    x: float,
    y: float,
    r: float,
    colour: np.ndarray,
    owner: int = 0,
) -> None:
    """Fills a shaded disc of radius ``r`` around (x, y)."""
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    disc = np.stack([np.cos(t), np.sin(t)], 1) * r
    for k, tone in ((1.0, 0.65), (0.75, 0.85), (0.4, 1.0)):
        fill(image, owners, disc * k + (x, y) - (1 - k) * r * 0.4, colour * tone, owner)
