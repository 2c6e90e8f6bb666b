"""Synthetic people with exact COCO keypoints, for demos and tests that cannot download COCO.

A person is a 3-D skeleton posed by forward kinematics inside human joint limits, seen through an
orthographic camera and painted back to front as shaded convex hulls. A second buffer records which
part of whom owns every pixel, so visibility, boxes, areas and masks are read off the picture
instead of being guessed. Left and right wear the same: only the direction a person faces (face or
back of the head) tells them apart, as in photographs.

Conventions: pictures are BGR; keypoints are in pixel indices (the centre of the top left pixel is
(0, 0)); boxes and polygons follow COCO (the top left *corner* of that pixel is (0, 0)). A picture
depends on ``(config, seed, split, index)`` alone, never on workers or order.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

# fmt: off
KEYPOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle')
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7))
# fmt: on
SPLITS = ('train', 'val')
VAL_ID_OFFSET = 10_000_000  # fixed, so a validation set does not depend on the training set's size
MARKER = 'synthetic.json'  # tells our own output, which may be overwritten, from anyone else's

# Body parts as they are recorded in the owner buffer: ``entity * PARTS + part``.
PARTS = 32
HEAD, NECK, TORSO, PELVIS, SKIRT, HAIR = range(6)
UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = 6, 8, 10, 12, 14, 16  # + 0 left, + 1 right
# The parts that meet at each keypoint and so do not hide it.
ADJACENT = tuple(
    [{HEAD}] * 5
    + [
        {base + side for base in limbs} | trunk
        for limbs, trunk in (
            ((UPPER_ARM,), {TORSO, NECK}),
            ((UPPER_ARM, FOREARM), set()),
            ((FOREARM, HAND), set()),
            ((THIGH,), {PELVIS, TORSO, SKIRT}),
            ((THIGH, SHIN), set()),
            ((SHIN, FOOT), set()),
        )
        for side in (0, 1)
    ]
)

# Poses in degrees: weight, then (lo, hi) of shoulder flexion, abduction, inward twist, elbow.
_ARMS = (
    (0.26, (-15, 15), (4, 18), (-15, 40), (0, 35)),  # hanging
    (0.10, (-45, 45), (3, 15), (0, 30), (10, 70)),  # swinging
    (0.09, (-25, 0), (35, 55), (60, 90), (75, 110)),  # hands on hips
    (0.12, (-10, 20), (110, 172), (-90, 20), (0, 60)),  # raised
    (0.10, (-20, 20), (55, 110), (-80, 60), (0, 80)),  # to the side
    (0.12, (35, 110), (0, 30), (-20, 50), (0, 90)),  # forward
    (0.07, (30, 75), (5, 35), (0, 40), (105, 145)),  # hand near the face
    (0.08, (10, 45), (5, 20), (35, 75), (60, 110)),  # folded, holding
    (0.06, (-50, -20), (5, 25), (20, 70), (5, 60)),  # behind
)
_STAND = ((-6, 6), (1, 10), (0, 25), (0, 8))
_SIT = ((70, 100), (3, 22), (0, 20), (65, 100))
_CROUCH = ((85, 115), (5, 30), (5, 25), (100, 140))
_STAR = ((-5, 10), (16, 38), (5, 30), (0, 25))
# Weight, trunk lean, then hip flexion, abduction, toe-out and knee of either leg.
_LEGS = (
    (0.36, (-3, 6), _STAND, _STAND),
    (0.12, (-3, 5), _STAND, ((0, 25), (3, 15), (10, 40), (10, 45))),
    (0.16, (0, 10), ((10, 35), (0, 6), (0, 12), (0, 25)), ((-30, -5), (0, 6), (0, 12), (5, 45))),
    (0.08, (5, 25), ((35, 80), (0, 8), (0, 8), (50, 110)), ((-35, -5), (0, 8), (0, 8), (15, 90))),
    (0.10, (-12, 20), _SIT, _SIT),
    (0.05, (15, 45), _CROUCH, _CROUCH),
    (0.05, (0, 20), ((55, 85), (2, 12), (0, 15), (60, 95)), ((-30, -5), (0, 9), (0, 9), (10, 50))),
    (0.05, (-5, 10), _STAR, _STAR),
    (0.03, (-15, 10), ((50, 100), (0, 25), (0, 15), (0, 40)), _STAND),
)
_WALKING, _SITTING = (2, 3), 4
# fmt: off
_SKINS = (
    (180, 200, 232), (160, 188, 228), (132, 165, 209), (98, 134, 182), (66, 98, 146),
    (44, 66, 104), (34, 48, 76))
_HAIRS = (
    (22, 22, 26), (26, 30, 38), (34, 44, 62), (44, 66, 98), (60, 90, 130), (92, 142, 186),
    (150, 196, 220), (52, 70, 140), (190, 190, 192))
# fmt: on


@dataclass(frozen=True)
class SyntheticConfig:
    """What the pictures look like; every value is checked on construction.

    Args:
        image_size: ``(w, h)`` in pixels, or ``((w_min, h_min), (w_max, h_max))``.
        people: least and most annotated people per image.
        size: range of a person's longer box side, relative to the image height.
        max_overlap: two people's boxes may share this much of the smaller one (0 to 1).
        occluder_prob: chance, per person, of an object standing in front of them.
        truncation_prob: chance, per person, of being cut by the image border.
        crowd_prob: chance, per image, of a far group annotated as one ``iscrowd`` region.
        back_prob: chance, per person, of being seen from behind.
        blur: range of the Gaussian blur's sigma in pixels.
        noise: range of the sensor noise's standard deviation in grey levels.
        jpeg_quality: range of the JPEG quality (1 to 100).
        backgrounds: folder of photographs to use as backgrounds; None draws them.

    Raises:
        ValueError: naming the field and what it got.
    """

    image_size: tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = ((256, 240), (352, 320))
    people: tuple[int, int] = (1, 6)
    size: tuple[float, float] = (0.2, 0.95)
    max_overlap: float = 0.35
    occluder_prob: float = 0.25
    truncation_prob: float = 0.12
    crowd_prob: float = 0.06
    back_prob: float = 0.18
    blur: tuple[float, float] = (0.0, 0.9)
    noise: tuple[float, float] = (0.0, 7.0)
    jpeg_quality: tuple[int, int] = (75, 95)
    backgrounds: str | None = None

    def __post_init__(self) -> None:
        try:
            size = np.asarray(self.image_size)
            good = (
                size.shape in ((2,), (2, 2))
                and size.dtype.kind == 'i'
                and size.min() >= 64
                and size.max() <= 4096
                and bool(np.all(size[0] <= size[-1]) or size.ndim == 1)
            )
        except ValueError:  # ragged
            good = False
        if not good:
            raise ValueError(
                'image_size must be (w, h) or ((w_min, h_min), (w_max, h_max)), '
                f'integers from 64 to 4096, got {self.image_size!r}'
            )
        for name, low, high, kinds in (
            ('people', 1, 20, int),
            ('size', 0.1, 1.5, (int, float)),
            ('blur', 0, 10, (int, float)),
            ('noise', 0, 64, (int, float)),
            ('jpeg_quality', 1, 100, int),
        ):
            value = getattr(self, name)
            if not (
                isinstance(value, (tuple, list))
                and len(value) == 2
                and all(isinstance(v, kinds) for v in value)
                and low <= value[0] <= value[1] <= high
            ):
                raise ValueError(
                    f'{name} must be {"integers" if kinds is int else "numbers"} '
                    f'(least, most) within [{low}, {high}], got {value!r}'
                )
        for name in ('max_overlap', 'occluder_prob', 'truncation_prob', 'crowd_prob', 'back_prob'):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise ValueError(f'{name} must be a number from 0 to 1, got {value!r}')
        if self.backgrounds is not None and not _photos(str(self.backgrounds)):
            raise ValueError(
                f'backgrounds must be a folder with .jpg or .png files, got {self.backgrounds!r}'
            )


class Scene(NamedTuple):
    """One rendered picture: image (H, W, 3) uint8 BGR; annotations, COCO dicts without ids (people
    first, then a crowd); owners (H, W) int32, ``entity * PARTS + part`` where a larger entity is
    nearer and 0 is the background; entities, the entity of each annotated person."""

    image: np.ndarray
    annotations: list[dict]
    owners: np.ndarray
    entities: list[int]


@lru_cache(maxsize=8)
def _photos(folder: str) -> tuple[str, ...]:
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    return tuple(
        os.path.join(folder, n)
        for n in sorted(names)
        if n.lower().endswith(('.jpg', '.jpeg', '.png'))
    )


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """Fixed white noise (512, 512, 3) float32: cropping it is far cheaper than drawing anew."""
    return np.random.default_rng(0).standard_normal((512, 512, 3), dtype=np.float32)


def _noise(rng: np.random.Generator, h: int, w: int, cell: float = 1.0, c: int = 1) -> np.ndarray:
    """Noise (h, w) or (h, w, 3) with a deviation of 1 or less and a grain of ``cell`` pixels."""
    gh, gw = min(512, math.ceil(h / cell) + 1), min(512, math.ceil(w / cell) + 1)
    y, x = rng.integers(513 - gh), rng.integers(513 - gw)
    patch = np.ascontiguousarray(_noise_bank()[y : y + gh, x : x + gw, :c])
    if (gh, gw) != (h, w):
        patch = cv2.resize(patch, (w, h), interpolation=cv2.INTER_CUBIC)
    return patch.reshape(h, w) if c == 1 else patch


def _pick(rng: np.random.Generator, table: Sequence) -> int:
    weights = np.array([row[0] for row in table])
    return int(rng.choice(len(table), p=weights / weights.sum()))


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A cloth or object colour, BGR float: as many greys as real wardrobes have."""
    hue, sat, val = rng.uniform(0, 180), rng.beta(1.3, 1.6) * 255, rng.uniform(25, 245)
    if rng.random() < 0.3:
        sat *= 0.15
    return cv2.cvtColor(np.uint8([[[hue, sat, val]]]), cv2.COLOR_HSV2BGR)[0, 0].astype(float)


def _rot(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation (3, 3) about x, y or z."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array(
        (
            ((1, 0, 0), (0, c, -s), (0, s, c)),
            ((c, 0, s), (0, 1, 0), (-s, 0, c)),
            ((c, -s, 0), (s, c, 0), (0, 0, 1)),
        )[axis]
    )


class _Shapes:
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
        self.rows.append(
            (
                part,
                material,
                colour,
                p,
                q,
                rp,
                rq,
                (p + q) / 2 if depth is None else depth,
                bias,
                shade,
            )
        )

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


class _Person(NamedTuple):
    """A posed body in units of its height. keypoints (17, 3) in camera space; far (17,) bool, on
    the far side of the head or trunk; box (x0, y0, x1, y1)."""

    shapes: _Shapes
    keypoints: np.ndarray
    far: np.ndarray
    box: np.ndarray
    shirt: np.ndarray
    pattern: tuple | None
    spine: np.ndarray
    sitting: bool


def _vec(*v: float) -> np.ndarray:
    return np.array(v, dtype=float)


def _ring(frame: np.ndarray, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Half axes of a horizontal ring of a body frame: ``a`` to the side, ``b`` forward."""
    return frame[:, 0] * a, frame[:, 2] * b


def _build_person(rng: np.random.Generator, back_prob: float) -> _Person:
    """Draws a body, a wardrobe and a pose, and poses the body. Body axes: left, up, forward."""
    uni, chance = rng.uniform, rng.random
    skin = np.clip(np.array(_SKINS[rng.integers(len(_SKINS))]) * uni(0.9, 1.08), 0, 255)
    shirt, legwear, shoe = _colour(rng), _colour(rng), _colour(rng) * 0.8
    sleeve = rng.choice([0.0, 0.5, 0.9, 1.95], p=[0.1, 0.35, 0.1, 0.45])  # in upper arms; 2: wrist
    trouser = rng.choice([0.35, 0.8, 1.9], p=[0.12, 0.2, 0.68])  # in thighs; 2: ankle
    skirt = uni(0.14, 0.34) if chance() < 0.13 else 0.0
    if skirt:
        trouser, legwear = 0.0, shirt if chance() < 0.5 else legwear
    girth, child = uni(0.85, 1.25), max(1.0, rng.normal(1.02, 0.12))
    shoulder, hip, trunk = uni(0.105, 0.125) * girth**0.3, uni(0.054, 0.068), uni(0.275, 0.305)
    upper, fore, thigh, shin = uni(0.16, 0.18), uni(0.14, 0.16), uni(0.225, 0.255), uni(0.22, 0.25)

    kind = _pick(rng, _LEGS)
    _, leans, *leg_ranges = _LEGS[kind]
    if chance() < 0.5:
        leg_ranges.reverse()
    legs = [[uni(*span) for span in leg] for leg in leg_ranges]
    first = _pick(rng, _ARMS)
    arms = [
        [uni(*span) for span in _ARMS[row][1:]]
        for row in (first, first if chance() < 0.5 else _pick(rng, _ARMS))
    ]
    if kind in _WALKING and chance() < 0.6:  # arms swing against the legs
        arms = [
            [-leg[0] * uni(0.6, 1.1), uni(3, 14), uni(0, 30), uni(10, 90 if kind == 3 else 35)]
            for leg in legs
        ]
    lean = uni(*leans) + (uni(20, 60) if chance() < 0.05 else 0)
    pelvis = _rot(0, lean * 0.4) @ _rot(2, rng.normal(0, 4))
    chest = pelvis @ _rot(2, rng.normal(0, 6)) @ _rot(1, rng.normal(0, 9)) @ _rot(0, lean * 0.6)
    nod = min(max(rng.normal(3, 13) - lean * 0.4, -35), 40)
    head = (
        chest
        @ _rot(1, min(max(rng.normal(0, 25), -65), 65))
        @ _rot(0, nod)
        @ _rot(2, rng.normal(0, 7))
    )
    yaw = rng.normal(0, 32) if chance() < 0.7 else rng.choice((-90, 90)) + rng.normal(0, 18)
    yaw += 180 * (chance() < back_prob)
    roll = rng.normal(0, 5 if chance() < 0.9 else 35)
    if chance() < 0.03:
        roll += rng.choice((-90, 90))  # lying
    cam = np.diag([1.0, -1.0, -1.0]) @ _rot(2, roll) @ _rot(0, rng.normal(6, 9)) @ _rot(1, yaw)

    shapes, k = _Shapes(), np.zeros((17, 3))
    add = shapes.add

    def limb(part: int, p: np.ndarray, q: np.ndarray, rp: float, rq: float, worn: float) -> None:
        """A limb with skin from the fraction ``worn`` on and cloth up to there."""
        cloth, colour = ('shirt', shirt) if part < THIGH else ('legs', legwear)
        bias = -0.03 if part < THIGH else 0.02 if part < SHIN else 0.01  # arms before the trunk
        worn = min(max(worn, 0.0), 1.0)
        split, r, middle = p + (q - p) * worn, float(rp + (rq - rp) * worn), (p + q) / 2
        if worn < 1:
            add(part, 'skin', skin, split, q, r, rq, middle, bias)
        if worn > 0:
            add(part, cloth, colour, p, split, rp * 1.06, r * 1.14, middle, bias - 0.001)

    # Trunk: rings from the shoulders to the crotch, at one depth so that they shade as one.
    waist = pelvis @ _vec(0, trunk * 0.34, 0)
    neck = waist + chest @ _vec(0, trunk * 0.66, 0)
    body, bust = waist + chest @ _vec(0, 0.03, 0), waist + chest @ _vec(0, trunk * 0.42, 0.008)
    wide = 0.088 * girth
    top, mid = _ring(chest, shoulder * 0.82, 0.036), _ring(chest, 0.092 * girth**0.6, 0.066 * girth)
    belly, low = _ring(pelvis, wide * 0.92, 0.058 * girth), _ring(pelvis, wide, 0.062 * girth)
    belt, crotch = pelvis @ _vec(0, 0.05, 0), pelvis @ _vec(0, -0.03, 0)
    seat = _ring(pelvis, wide * 0.75, 0.05 * girth)
    add(PELVIS, 'legs', legwear, belt, crotch, low, seat, np.zeros(3), 0.006)
    hem = pelvis @ _vec(0, uni(-0.035, 0.03), 0)
    for a, b, ra, rb in (
        (neck - chest @ _vec(0, 0.012, 0), bust, top, mid),
        (bust, waist, mid, belly),
        (waist, hem, belly, low),
    ):
        add(TORSO, 'shirt', shirt, a, b, ra, rb, body)
    a, b = neck - chest @ _vec(0, 0.018, -0.01), neck + head @ _vec(0, 0.045, 0.012)
    add(NECK, 'skin', skin * 0.9, a, b, 0.030, 0.027, body, -0.004)

    for side, sign in enumerate((1, -1)):
        # Arm: twisted, flexed, abducted, in this order; raising it lifts the shoulder as well.
        flex, abduct, twist, elbow = arms[side]
        lift = max(0.0, abduct - 30) / 150
        frame = chest @ _rot(2, sign * abduct) @ _rot(0, -flex) @ _rot(1, -sign * twist)
        lower = frame @ _rot(0, -elbow)
        sh = neck + chest @ _vec(sign * (shoulder - 0.018 * lift), 0.035 * lift - 0.022, 0)
        k[5 + side] = sh
        k[7 + side] = el = sh - frame[:, 1] * upper
        k[9 + side] = wr = el - lower[:, 1] * fore
        ra, rb = 0.031 * girth**0.5, 0.025 * girth**0.5
        add(TORSO, 'shirt', shirt, neck + chest @ _vec(sign * 0.03, -0.012, 0), sh, 0.026, ra, body)
        limb(UPPER_ARM + side, sh, el, ra, rb, sleeve)
        limb(FOREARM + side, el, wr, rb, 0.018, sleeve - 1)
        palm = lower @ _rot(0, uni(-35, 15))
        root, tip = wr - palm[:, 1] * 0.018, wr - palm[:, 1] * 0.062
        thumb = wr - palm[:, 1] * 0.045 + palm[:, 2] * 0.02
        add(HAND + side, 'skin', skin, root, tip, 0.0185, 0.014, bias=-0.026)
        add(HAND + side, 'skin', skin, root, thumb, 0.011, 0.008, bias=-0.027)
        # Leg; the sole is kept level where the ankle allows it.
        flex, abduct, out, knee = legs[side]
        frame = _rot(2, sign * abduct) @ _rot(0, -flex) @ _rot(1, sign * out)
        lower = frame @ _rot(0, knee)
        k[11 + side] = hp = pelvis @ _vec(sign * hip, -0.005, 0)
        k[13 + side] = kn = hp - frame[:, 1] * thigh
        k[15 + side] = an = kn - lower[:, 1] * shin
        rb = 0.035 * girth**0.5
        limb(THIGH + side, hp, kn, 0.050 * girth**0.6, rb, trouser)
        limb(SHIN + side, kn, an, rb, 0.022, trouser - 1)
        if trouser < 1:
            calf = kn * 0.8 + an * 0.2 - lower[:, 2] * 0.008
            end = calf + (an - kn) * 0.25
            add(SHIN + side, 'skin', skin, calf, end, 0.03, 0.029, (kn + an) / 2, 0.01)
        foot = lower @ _rot(0, min(max(flex - knee, -40), 25) + uni(-8, 8))
        heel = an - foot[:, 1] * 0.022 - foot[:, 2] * 0.012
        toe = heel + foot[:, 2] * 0.105 - foot[:, 1] * 0.008
        add(FOOT + side, 'shoe', shoe, heel, toe, 0.025, 0.018, bias=0.005)
    if skirt:  # falls between the knees
        fall = k[13] + k[14] - k[11] - k[12]
        fall *= skirt / (np.linalg.norm(fall) + 1e-6)
        spread = abs((k[13] - k[14]) @ pelvis[:, 0]) * skirt * 2 + wide * uni(0.9, 1.25)
        a, b = _ring(pelvis, wide, 0.06), _ring(pelvis, spread, 0.09)
        add(SKIRT, 'skirt', legwear, belt, fall, a, b, fall * 0.4, -0.012)
    r = 0.056 * child
    far = np.zeros(17, bool)
    centre = neck + chest @ _vec(0, 0.03, 0.004) + head @ _vec(0, 0.03 + r, 0.012)
    far[:5] = _add_head(rng, shapes, k, head, centre, r, skin, -cam[2])
    shapes.project(cam)
    keypoints = k @ cam.T
    for left, limit in ((5, 0.075), (11, 0.045)):  # of a shoulder or hip pair seen from the side
        pair = keypoints[left : left + 2, 2]
        far[left : left + 2] = pair - pair.mean() > limit
    pattern = (int(rng.integers(5)), uni(0.03, 0.08), _colour(rng)) if chance() < 0.5 else None
    spine, sitting = (cam @ chest[:, 1])[:2], kind == _SITTING
    return _Person(shapes, keypoints, far, shapes.box(), shirt, pattern, spine, sitting)


def _add_head(
    rng: np.random.Generator,
    shapes: _Shapes,
    k: np.ndarray,
    head: np.ndarray,
    centre: np.ndarray,
    r: float,
    skin: np.ndarray,
    toward: np.ndarray,
) -> np.ndarray:
    """Adds head, hair and face, sets ``k[:5]`` and returns which of them (5,) cannot be seen."""

    def at(x: float, y: float, z: float) -> np.ndarray:
        return centre + head @ _vec(x, y, z) * r

    def add(
        colour: Any, p: np.ndarray, q: np.ndarray, rp: Any, rq: Any, shade: float = 1.0
    ) -> None:
        # All at one depth: here the order of the calls is the order of painting.
        shapes.add(HEAD, f'head{len(shapes.rows)}', colour, p, q, rp, rq, centre, -0.02, shade)

    def ears(far_side: bool) -> None:
        for ear in (3, 4):
            if (away[ear] > 0.3) == far_side and style != 'long':
                lobe = k[ear] + head @ _vec(0, -0.12, 0.03) * r
                add(skin * 0.88, k[ear], lobe, r * 0.19, r * 0.13)

    hair = np.clip(np.array(_HAIRS[rng.integers(len(_HAIRS))]) * rng.uniform(0.7, 1.2), 0, 255)
    style = rng.choice(['short', 'long', 'bald', 'bun', 'hat'], p=[0.42, 0.27, 0.07, 0.08, 0.16])
    facing = float(head[:, 2] @ toward)
    k[0], k[1], k[2] = at(0, -0.2, 1.06), at(0.37, 0.08, 0.84), at(-0.37, 0.08, 0.84)
    k[3], k[4] = at(0.96, -0.08, -0.08), at(-0.96, -0.08, -0.08)
    away = (centre - k[:5]) @ toward / r  # how far on the far side
    ears(True)
    for layer in ('hair', 'face') if facing > -0.2 else ('face', 'hair'):
        if layer == 'face':
            add(skin, at(0, -0.08, 0.2), at(0, -0.98, 0.42), r * 0.82, r * 0.40)
        elif style == 'bald':
            add(skin * 0.97, at(0, 0.08, -0.1), at(0, 0.02, 0.05), r, r * 0.97)
        else:
            add(hair, at(0, 0.12, -0.14), at(0, -0.15, -0.22), r * 1.05, r * 0.96)
            if style == 'bun':
                add(hair, at(0, 0.9, -0.7), at(0, 0.95, -0.8), r * 0.42, r * 0.42)
    ears(False)
    if style == 'long':  # falls behind the shoulders: sorts before or after the trunk
        for i in (1, -1):
            a, b = at(0.45 * i, -0.1, -0.45), at(0.55 * i, rng.uniform(-2.6, -1.5), -0.55)
            shapes.add(HAIR, 'hair', hair, a, b, r * 0.72, r * 0.5)
    ink, glasses = np.minimum(hair, 60), rng.random() < 0.1
    for sign, eye in ((1, 1), (-1, 2)):
        if away[eye] < -0.12 and facing > -0.35:
            if glasses:
                rim = head[:, 0] * r * 0.3, head[:, 1] * r * 0.22
                add(ink * 0.5, k[eye], k[eye], rim, rim, 0.0)
            white = head[:, 0] * r * 0.17, head[:, 1] * r * 0.10
            add(np.full(3, 225.0), k[eye], k[eye], white, white, 0.0)
            add(ink * 0.6, k[eye], k[eye], r * 0.09, r * 0.09, 0.0)
            a, b = at(sign * 0.2, 0.3, 0.86), at(sign * 0.54, 0.27, 0.74)
            add(ink, a, b, r * 0.05, r * 0.04, 0.0)
    if away[0] < 0.25:
        add(skin * 0.93, at(0, 0.02, 0.9), at(0, -0.2, 0.98), r * 0.07, r * 0.13)
    if head @ _vec(0, -0.6, 0.85) @ toward > 0.15:
        lips = skin * (0.62, 0.6, 0.86)
        add(lips, at(-0.2, -0.6, 0.82), at(0.2, -0.6, 0.82), r * 0.05, r * 0.05, 0.0)
    if style == 'hat':
        cloth = _colour(rng)
        rim, crown = _ring(head, r * 1.1, r * 1.12), _ring(head, r * 0.7, r * 0.75)
        add(cloth, at(0, 0.38, -0.05), at(0, 0.86, -0.08), rim, crown)
        if facing > -0.5:
            rim = _ring(head, r * 0.8, r * 0.6)
            add(cloth * 0.8, at(0, 0.4, 0.7), at(0, 0.38, 0.8), rim, rim)
    hidden = away > (0.1, -0.05, -0.05, 0.3, 0.3)
    hidden[3:] |= style == 'long'
    return hidden


def _fill(
    image: np.ndarray, owners: np.ndarray | None, polygon: Any, colour: np.ndarray, owner: int = 0
) -> None:
    points = np.round(np.asarray(polygon, dtype=float) * 16).astype(np.int32)
    cv2.fillConvexPoly(image, points, colour.tolist(), cv2.LINE_AA, 4)
    if owners is not None:
        cv2.fillConvexPoly(owners, points, owner, cv2.LINE_8, 4)


def _runs(shapes: _Shapes, outlines: np.ndarray) -> list[list[int]]:
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


def _paint_person(
    rng: np.random.Generator,
    image: np.ndarray,
    owners: np.ndarray,
    person: _Person,
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
    gain = 1 + 0.05 * _noise(rng, y1 - y0, x1 - x0, scale * 0.03)
    gain[own < entity * PARTS] = 1
    gain = cv2.merge([gain] * 3)
    if person.pattern:
        kind, period, second = person.pattern
        a, b = (person.spine / (np.linalg.norm(person.spine) + 1e-6) / (scale * period)).tolist()
        xx = np.arange(x0, x1, dtype=np.float32)[None] - float(origin[0])
        yy = np.arange(y0, y1, dtype=np.float32)[:, None] - float(origin[1])
        along, across = xx * a + yy * b, xx * b - yy * a
        if kind == 4:
            ink = _noise(rng, y1 - y0, x1 - x0, scale * period) + 0.5
        elif kind == 3:  # dots
            ink = 2.5 - 16 * ((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2)
        else:  # stripes, either way or both
            bars = [np.clip(0.5 + 2 * np.sin(2 * np.pi * t), 0, 1) for t in (along, across)]
            ink = bars[kind] if kind < 2 else (bars[0] + bars[1]) / 2
        ink = np.clip(ink, 0, 1) * (own == entity * PARTS + TORSO)
        gain *= 1 + ink[..., None] * ((second + 8) / (person.shirt + 8) - 1).astype(np.float32)
    cv2.multiply(view, gain, view, dtype=cv2.CV_8U)


def _rectangle(x: float, y: float, w: float, h: float, degrees: float = 0.0) -> np.ndarray:
    """Corners (4, 2) of a rectangle centred on (x, y)."""
    corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2
    return corners @ _rot(2, degrees)[:2, :2].T + (x, y)


def _ball(
    image: np.ndarray,
    owners: np.ndarray | None,
    x: float,
    y: float,
    r: float,
    colour: np.ndarray,
    owner: int = 0,
) -> None:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for k, tone in ((1.0, 0.65), (0.75, 0.85), (0.4, 1.0)):
        _fill(
            image,
            owners,
            np.stack([np.cos(t), np.sin(t)], 1) * r * k + (x, y) - (1 - k) * r * 0.4,
            colour * tone,
            owner,
        )


def _lone_limb(rng: np.random.Generator, image: np.ndarray, light: np.ndarray) -> None:
    """Shaded capsules without a body, so that a limb alone does not make a person."""
    h, w = image.shape[:2]
    shapes, point = _Shapes(), np.zeros(3)
    colour = np.array(_SKINS[rng.integers(len(_SKINS))]) if rng.random() < 0.4 else _colour(rng)
    angle, r = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.15)
    for _ in range(rng.integers(1, 4)):
        angle += rng.uniform(-1.4, 1.4)
        end = point + _vec(math.cos(angle), math.sin(angle), 0) * rng.uniform(0.3, 1.0)
        shapes.add(0, '', colour, point, end, r, r * 0.8)
        point, r = end, r * 0.8
    shapes.project(np.eye(3))
    polygons = shapes.hulls(rng.uniform(0.05, 0.3) * h, rng.uniform((0, 0), (w, h)), light, 4, 16)
    for level in range(4):
        for polygon in polygons[:, level]:
            _fill(image, None, polygon / 16, colour * (0.62 + 0.12 * level))


def _photo(rng: np.random.Generator, w: int, h: int, folder: str) -> np.ndarray:
    """A crop (h, w, 3) of one of the folder's photographs, perhaps mirrored."""
    path = _photos(folder)[rng.integers(len(_photos(folder)))]
    photo = cv2.imread(path)
    if photo is None:
        raise ValueError(f'backgrounds: cannot read {path}')
    scale = max(w / photo.shape[1], h / photo.shape[0]) * rng.uniform(1, 1.5)
    size = max(w, round(photo.shape[1] * scale)), max(h, round(photo.shape[0] * scale))
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    x, y = rng.integers(size[0] - w + 1), rng.integers(size[1] - h + 1)
    return photo[y : y + h, x : x + w][:, :: rng.choice((-1, 1))].copy()


def _background(rng: np.random.Generator, w: int, h: int, light: np.ndarray) -> np.ndarray:
    """A wall and a floor with textures, clutter, limbs without bodies and noise: (h, w, 3)."""
    wall, floor = _colour(rng) * 0.8 + 30, _colour(rng) * 0.7 + 25
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
        colour, what = _colour(rng), rng.integers(6)
        if what < 2:  # framed boards and blocks
            bw, bh = size * rng.uniform(0.3, 2, 2)
            tilt = 0.0 if rng.random() < 0.6 else rng.uniform(0, 90)
            _fill(canvas, None, _rectangle(x, y, bw, bh, tilt), colour)
            _fill(
                canvas,
                None,
                _rectangle(x, y, bw * 0.8, bh * 0.85, tilt),
                colour * rng.uniform(0.7, 1),
            )
        elif what == 2:
            t = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
            _fill(canvas, None, np.stack([np.cos(t), np.sin(t)], 1) * size / 2 + (x, y), colour)
        elif what == 3:
            _ball(canvas, None, x, y, size * 0.4, colour)
        elif what == 4:
            _fill(
                canvas,
                None,
                _rectangle(x, y, rng.uniform(2, 10), size * 4, rng.normal(0, 8)),
                colour,
            )
        else:
            _lone_limb(rng, canvas, light)
    # Uneven light and octaves of noise, on a coarse grid and hardly coloured, then fine grain.
    gh, gw = h // 4, w // 4
    texture = _noise(rng, gh, gw, h / 48, 3) * rng.uniform(0, 0.05) + sum(
        _noise(rng, gh, gw, cell)[..., None] * amount
        for cell, amount in ((h / 16, 0.12), (h / 48, 0.08), (2, 0.04))
    )
    texture = cv2.resize(texture * rng.uniform(0.5, 1.6), (w, h), interpolation=cv2.INTER_LINEAR)
    texture += _noise(rng, h, w)[..., None] * rng.uniform(0.01, 0.05)
    texture += (
        1
        + np.linspace(-1, 1, w)[None, :, None] * rng.uniform(-0.25, 0.25)
        + np.linspace(-1, 1, h)[:, None, None] * rng.uniform(-0.25, 0.25)
    )
    canvas = cv2.multiply(canvas, texture, dtype=cv2.CV_8U)
    sigma = rng.uniform(0, 1.6)
    return cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.4 else canvas


def _occluder(
    rng: np.random.Generator, image: np.ndarray, owners: np.ndarray, box: np.ndarray, entity: int
) -> None:
    """Stands an object in front of a part of the pixel box (x0, y0, x1, y1)."""
    h, (bw, bh) = len(owners), box[2:] - box[:2]
    x, y = rng.uniform(box[0], box[2]), rng.uniform(box[1] + 0.3 * bh, box[3])
    colour, owner, kind = _colour(rng), entity * PARTS, rng.integers(5)
    if kind == 0:  # pole
        width = bh * rng.uniform(0.03, 0.09)
        for k, tone in ((1, 0.65), (0.6, 0.85), (0.25, 1.0)):
            _fill(
                image,
                owners,
                _rectangle(x - width * (1 - k) * 0.3, h / 2, width * k, 2 * h),
                colour * tone,
                owner,
            )
    elif kind == 1:  # a table or low wall before the legs
        top = box[3] - bh * rng.uniform(0.1, 0.4)
        _fill(image, owners, _rectangle(x, top + h, bw * 2, 2 * h), colour * 0.7, owner)
        _fill(image, owners, _rectangle(x, top, bw * 2.1, bh * 0.04), colour, owner)
    elif kind == 2:  # plant
        base = np.array([x, box[3] + bh * 0.03])
        for _ in range(rng.integers(8, 18)):
            angle, length = rng.normal(-np.pi / 2, 0.7), bh * rng.uniform(0.12, 0.42)
            stem = np.array([math.cos(angle), math.sin(angle)]) * length
            wide = np.array([-stem[1], stem[0]]) * rng.uniform(0.06, 0.16)
            leaf = base, base + stem * 0.4 + wide, base + stem, base + stem * 0.5 - wide
            _fill(image, owners, leaf, _vec(50, rng.uniform(80, 170), rng.uniform(40, 90)), owner)
    elif kind == 3:
        _ball(image, owners, x, y, bh * rng.uniform(0.05, 0.12), colour, owner)
    else:  # box or bag
        (sw, sh), tilt = bh * rng.uniform(0.1, 0.32, 2), rng.normal(0, 12)
        _fill(image, owners, _rectangle(x, y, sw, sh, tilt), colour, owner)
        _fill(image, owners, _rectangle(x, y, sw * 0.94, sh * 0.2, tilt), colour * 0.75, owner)


def _to_polygons(mask: np.ndarray) -> list[list[int]]:
    """COCO polygons along the pixel edges of a mask (H, W) bool, holes joined by a seam."""
    double = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Twice as large, the sub-pixel (c + 1) // 2 is the pixel edge that the contour runs along.
    rings = [cv2.approxPolyDP((c + 1) // 2, 0.1, True)[:, 0] for c in contours]
    polygons = []
    for ring, (_, _, hole, parent) in zip(rings, tree[0]):
        if parent >= 0:
            continue
        while hole >= 0:
            inner = rings[hole]
            gap = np.abs(ring[:, None] - inner[None]).sum(-1)
            a, b = np.unravel_index(gap.argmin(), gap.shape)
            ring = np.concatenate([ring[: a + 1], inner[b:], inner[: b + 1], ring[a:]])
            hole = tree[0][hole][0]
        polygons.append(ring.ravel().tolist())
    return polygons


def _to_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths, column by column, of a mask (H, W) bool."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(edges, prepend=0, append=mask.size).tolist()
    return {'counts': counts, 'size': list(mask.shape)}


def _annotation(mask: np.ndarray, keypoints: np.ndarray, crowd: bool = False) -> dict:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return {
        'segmentation': _to_rle(mask) if crowd else _to_polygons(mask),
        'num_keypoints': int((keypoints[:, 2] > 0).sum()),
        'area': float(mask.sum()),
        'iscrowd': int(crowd),
        'keypoints': [v for x, y, seen in keypoints.tolist() for v in (x, y, int(seen))],
        'bbox': [float(v) for v in (xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1)],
        'category_id': 1,
    }


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes (x0, y0, x1, y1) have in common."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _place(
    rng: np.random.Generator, people: Sequence[_Person], w: int, h: int, config: SyntheticConfig
) -> list[tuple[float, np.ndarray]]:
    """Scale and origin of as many people, in the given order, as the overlap limit lets in."""
    placed, boxes = [], []
    for person in people:
        x0, y0, x1, y1 = person.box.tolist()
        cut = rng.random() < config.truncation_prob
        target = rng.uniform(*config.size) * h * (rng.uniform(1, 1.5) if cut else 1)
        for trial in range(60):
            if trial % 8 == 7:
                target = max(target * 0.85, config.size[0] * h)
            scale = target / max(x1 - x0, y1 - y0)
            if not cut:
                scale = min(scale, 0.98 * w / (x1 - x0), 0.98 * h / (y1 - y0))
            bw, bh = (x1 - x0) * scale, (y1 - y0) * scale
            if cut:  # a third outside at the sides, any amount of the legs, hardly ever the head
                x = rng.uniform(min(0, w - bw) - bw / 3, max(0, w - bw) + bw / 3)
                y = rng.uniform(-0.1 * bh, max(0, h - 0.4 * bh))
            else:
                x, y = rng.uniform(0, w - bw), rng.uniform(0, h - bh)
            box = max(x, 0), max(y, 0), min(x + bw, w), min(y + bh, h)
            area = _shared(box, box)
            if area >= 0.35 * bw * bh and all(
                _shared(box, other) <= config.max_overlap * min(area, _shared(other, other))
                for other in boxes
            ):
                boxes.append(box)
                placed.append((scale, np.array([x - scale * x0, y - scale * y0])))
                break
        else:
            break
    return placed


def render_scene(
    index: int, config: SyntheticConfig | None = None, seed: int = 0, split: str = 'train'
) -> Scene:
    """Renders picture ``index`` of a split.

    Args:
        index: which picture, from 0.
        config: what it looks like; the defaults if None.
        seed: of the whole data set, from 0.
        split: 'train' or 'val'; the same index differs between them.

    Returns:
        See :class:`Scene`; equal arguments give equal scenes.

    Raises:
        ValueError: for a negative index or seed, an unknown split, an unreadable background, or a
            ``people`` count that ``size`` and ``max_overlap`` leave no room for.
    """
    config = config or SyntheticConfig()
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    for name, value in (('index', index), ('seed', seed)):
        if value < 0:
            raise ValueError(f'{name} must not be negative, got {value}')
    for attempt in range(40):
        rng = np.random.default_rng([seed, SPLITS.index(split), index, attempt])
        scene = _try_scene(rng, config)
        if scene is not None:
            return scene
    raise ValueError(
        f'people={config.people} do not fit with size={config.size} and '
        f'max_overlap={config.max_overlap}: allow fewer, smaller or more overlap'
    )


def _try_scene(rng: np.random.Generator, config: SyntheticConfig) -> Scene | None:
    """A scene, or None if people do not fit or somebody ends up all but hidden."""
    size = np.atleast_2d(config.image_size)
    w, h = rng.integers(size[0], size[-1], endpoint=True).tolist()
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.1)])
    light /= np.linalg.norm(light) + 1e-6
    wanted = rng.integers(*config.people, endpoint=True)
    people = [_build_person(rng, config.back_prob) for _ in range(wanted)]
    places = _place(rng, people, w, h, config)
    if len(places) < config.people[0]:
        return None
    boxes = [p.box * scale + np.tile(origin, 2) for p, (scale, origin) in zip(people, places)]
    # Larger people are nearer, roughly.
    order = sorted(range(len(places)), key=lambda i: places[i][0] * rng.uniform(0.85, 1.15))

    image = (
        _background(rng, w, h, light)
        if config.backgrounds is None
        else _photo(rng, w, h, str(config.backgrounds))
    )
    if rng.random() < 0.8:  # contact shadows
        shade = np.zeros((h // 2, w // 2), np.uint8)
        for (scale, _), (x0, _, x1, y1) in zip(places, boxes):
            cv2.ellipse(
                shade,
                (int((x0 + x1) / 4), int(y1 / 2 - scale * 0.01)),
                (int(scale * 0.12) + 1, int(scale * 0.02) + 1),
                0,
                0,
                360,
                75,
                -1,
            )
        shade = cv2.resize(cv2.GaussianBlur(shade, (0, 0), h / 120), (w, h))
        image = cv2.multiply(image, cv2.merge([255 - shade] * 3), scale=1 / 255)
    owners, entity = np.zeros((h, w), np.int32), 0
    if rng.random() < config.crowd_prob:
        height = rng.uniform(0.1, 0.2) * h
        x, y = rng.uniform(0, 0.6) * w, rng.uniform(0.35, 0.7) * h
        for entity in range(1, rng.integers(9, 19)):
            x += rng.uniform(0.12, 0.3) * height
            _paint_person(
                rng,
                image,
                owners,
                _build_person(rng, config.back_prob),
                height * rng.uniform(0.85, 1.15),
                np.array([x, y + rng.normal(0, 0.08) * height]),
                light,
                entity,
            )
    crowd, entities = entity, [0] * len(places)
    for i in order:
        person, (scale, origin) = people[i], places[i]
        if person.sitting:
            x, y = person.keypoints[[11, 12], :2].mean(0) * scale + origin
            low, wide = max(boxes[i][3], y), scale * rng.uniform(0.32, 0.48)
            entity += 1
            _fill(
                image,
                owners,
                _rectangle(x, (y + low) / 2, wide, low - y),
                _colour(rng),
                entity * PARTS,
            )
        entity += 1
        entities[i] = entity
        _paint_person(rng, image, owners, person, scale, origin, light, entity)
        if rng.random() < config.occluder_prob:
            entity += 1
            _occluder(rng, image, owners, boxes[i], entity)

    annotations = []
    for person, (scale, origin), entity in zip(people, places, entities):
        mask = cv2.inRange(owners, entity * PARTS, entity * PARTS + PARTS - 1) > 0
        if mask.sum() < max(48, 0.08 * scale**2 * _shared(person.box, person.box)):
            return None  # nobody would have labelled so little
        annotations.append(_annotation(mask, _see(person, scale, origin, entity, owners)))
    if crowd:
        mask = (owners >= PARTS) & (owners < (crowd + 1) * PARTS)
        if mask.sum() < 64:
            return None
        annotations.append(_annotation(mask, np.zeros((17, 3)), crowd=True))
    return Scene(_finish(rng, image, config), annotations, owners, entities)


def _see(
    person: _Person, scale: float, origin: np.ndarray, entity: int, owners: np.ndarray
) -> np.ndarray:
    """COCO keypoints (17, 3): x, y and 0 outside, 1 hidden, 2 visible, read off the owners."""
    h, w = owners.shape
    points = np.zeros((17, 3))
    for j, (x, y) in enumerate(np.round(person.keypoints[:, :2] * scale + origin, 2).tolist()):
        if 0 <= x <= w - 1 and 0 <= y <= h - 1:
            who, part = divmod(int(owners[int(y + 0.5), int(x + 0.5)]), PARTS)
            hidden = person.far[j] and not (
                who == entity and part >= UPPER_ARM and part in ADJACENT[j]
            )
            hidden |= who > entity or (who == entity and part not in ADJACENT[j])
            points[j] = x, y, 1 if hidden else 2
    return points


def _finish(rng: np.random.Generator, image: np.ndarray, config: SyntheticConfig) -> np.ndarray:
    """The camera: blur, exposure, contrast, colour cast and sensor noise."""
    h, w = image.shape[:2]
    sigma, level = rng.uniform(*config.blur), rng.uniform(*config.noise)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if sigma > 0.3 and rng.random() < 0.05:  # shaken
        image = cv2.blur(image, (5, 1) if rng.random() < 0.5 else (1, 5))
    ramp = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.75, 1.35)
    ramp = (ramp - 0.5) * rng.uniform(0.7, 1.15) + 0.5 + rng.uniform(-0.08, 0.08)
    table = np.clip(ramp * rng.uniform(0.93, 1.07, 3) * 255, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None])
    grain = _noise(rng, h, w, max(1.0, max(h, w) / 500), 3)
    return cv2.addWeighted(image, 1, grain, level, 0, dtype=cv2.CV_8U)


def render(
    index: int, config: SyntheticConfig | None = None, seed: int = 0, split: str = 'train'
) -> tuple[np.ndarray, list[dict]]:
    """Picture (H, W, 3) uint8 BGR and its COCO annotations without ids; see `render_scene`."""
    scene = render_scene(index, config, seed, split)
    return scene.image, scene.annotations


def _write(
    job: tuple[str, int, int], folder: Path, config: SyntheticConfig, seed: int
) -> tuple[dict, list[dict]]:
    """Renders and stores one picture; returns its entries for the JSON file."""
    split, index, image_id = job
    image, annotations = render(index, config, seed, split)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    quality = int(rng.integers(*config.jpeg_quality, endpoint=True))
    name, (h, w) = f'{image_id:012d}.jpg', image.shape[:2]
    data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    (folder / f'{split}2017' / name).write_bytes(data.tobytes())
    return (
        {'id': image_id, 'file_name': name, 'width': w, 'height': h, 'license': 1},
        [{**a, 'id': image_id * 100 + i, 'image_id': image_id} for i, a in enumerate(annotations)],
    )


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(1)


def _progress(items: Iterable, total: int) -> Iterable:
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return items
    return track(items, 'rendering', total, console=Console(stderr=True))


def make_dataset(
    out_dir: str | os.PathLike,
    num_train: int = 2000,
    num_val: int = 200,
    seed: int = 0,
    config: SyntheticConfig | None = None,
    workers: int = 0,
    overwrite: bool = False,
) -> Path:
    """Writes a data set in COCO's layout, usable as a ``data_root`` in its place.

    ``OUT/{train,val}2017/*.jpg``, ``OUT/annotations/person_keypoints_{train,val}2017.json`` and
    ``OUT/synthetic.json``, which says how it was made. Equal arguments give files that are equal
    byte for byte, whatever ``workers`` is. All is written beside ``out_dir`` and moved there at
    the end, so an interrupted run leaves nothing.

    Args:
        out_dir: must be absent or empty, unless ``overwrite``.
        num_train: pictures for training, from 0.
        num_val: pictures for validation, from 0.
        seed: from 0.
        config: what they look like; the defaults if None.
        workers: processes; 0 or 1 renders in this one.
        overwrite: replace a data set that this function wrote; nothing else is ever removed.

    Returns:
        ``out_dir`` as an absolute path.

    Raises:
        ValueError: naming the argument that is out of range.
        FileExistsError: ``out_dir`` has files and ``overwrite`` does not apply.
    """
    for name, value, top in (
        ('num_train', num_train, VAL_ID_OFFSET),
        ('num_val', num_val, VAL_ID_OFFSET),
        ('seed', seed, 2**63),
        ('workers', workers, 257),
    ):
        if not isinstance(value, int) or not 0 <= value < top:
            raise ValueError(f'{name} must be an integer from 0 to {top - 1}, got {value!r}')
    if num_train + num_val == 0:
        raise ValueError('num_train and num_val must not both be 0')
    out = Path(out_dir).resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise FileExistsError(
                f'{out} exists and is not an empty folder: choose another or overwrite it'
            )
        if not (out / MARKER).is_file():
            raise FileExistsError(
                f'{out} has no {MARKER}: it was not written by this tool, so it is not overwritten'
            )
    temp = out.with_name(f'.{out.name}.{os.getpid()}.new')
    old = out.with_name(f'.{out.name}.{os.getpid()}.old')
    temp.mkdir(parents=True)
    try:
        _fill_folder(
            temp, {'train': num_train, 'val': num_val}, seed, config or SyntheticConfig(), workers
        )
        if out.exists():
            out.rename(old)
        temp.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(temp, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return out


def _fill_folder(
    folder: Path, counts: dict[str, int], seed: int, config: SyntheticConfig, workers: int
) -> None:
    for name in ('annotations', *(f'{split}2017' for split in SPLITS)):
        (folder / name).mkdir()
    jobs = [
        (split, i, i + 1 + (VAL_ID_OFFSET if split == 'val' else 0))
        for split in SPLITS
        for i in range(counts[split])
    ]
    work = partial(_write, folder=folder, config=config, seed=seed)
    # A forked child waits forever for OpenCV's threads, which stay behind: end them before.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if workers > 1:
            with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
                try:
                    results = list(_progress(pool.map(work, jobs, chunksize=8), len(jobs)))
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        else:
            results = [work(job) for job in _progress(jobs, len(jobs))]
    finally:
        cv2.setNumThreads(threads)
    info = {'description': 'Synthetic people in COCO format', 'version': '1', 'seed': seed}
    category = {
        'supercategory': 'person',
        'id': 1,
        'name': 'person',
        'keypoints': KEYPOINTS,
        'skeleton': SKELETON,
    }
    for split in SPLITS:
        part = [result for job, result in zip(jobs, results) if job[0] == split]
        path = folder / 'annotations' / f'person_keypoints_{split}2017.json'
        path.write_text(
            json.dumps(
                {
                    'info': info,
                    'licenses': [{'id': 1, 'name': 'none', 'url': ''}],
                    'images': [image for image, _ in part],
                    'annotations': [a for _, several in part for a in several],
                    'categories': [category],
                },
                separators=(',', ':'),
            )
        )
    (folder / MARKER).write_text(
        json.dumps({**info, 'images': counts, 'config': asdict(config)}, indent=1) + '\n'
    )
