"""People: poses inside human joint limits, bodies and what they wear, as a camera sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .drawing import Shapes, random_colour, rot, vec
from .parts import (
    FOOT,
    FOREARM,
    HAIR,
    HAND,
    HEAD,
    NECK,
    PELVIS,
    SHIN,
    SKIRT,
    THIGH,
    TORSO,
    UPPER_ARM,
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
SKINS = (
    (180, 200, 232), (160, 188, 228), (132, 165, 209), (98, 134, 182), (66, 98, 146),
    (44, 66, 104), (34, 48, 76))
_HAIRS = (
    (22, 22, 26), (26, 30, 38), (34, 44, 62), (44, 66, 98), (60, 90, 130), (92, 142, 186),
    (150, 196, 220), (52, 70, 140), (190, 190, 192))
# fmt: on


class Person(NamedTuple):
    """A posed body in units of its height. keypoints (17, 3) in camera space; far (17,) bool, on
    the far side of the head or trunk; box (x0, y0, x1, y1)."""

    shapes: Shapes
    keypoints: np.ndarray
    far: np.ndarray
    box: np.ndarray
    shirt: np.ndarray
    pattern: tuple | None
    spine: np.ndarray
    sitting: bool


def _pick(rng: np.random.Generator, table: Sequence) -> int:
    weights = np.array([row[0] for row in table])
    return int(rng.choice(len(table), p=weights / weights.sum()))


def _ring(frame: np.ndarray, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Half axes of a horizontal ring of a body frame: ``a`` to the side, ``b`` forward."""
    return frame[:, 0] * a, frame[:, 2] * b


def build_person(rng: np.random.Generator, back_prob: float) -> Person:
    """Draws a body, a wardrobe and a pose, and poses the body. Body axes: left, up, forward."""
    uni, chance = rng.uniform, rng.random
    skin = np.clip(np.array(SKINS[rng.integers(len(SKINS))]) * uni(0.9, 1.08), 0, 255)
    shirt, legwear, shoe = random_colour(rng), random_colour(rng), random_colour(rng) * 0.8
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
    pelvis = rot(0, lean * 0.4) @ rot(2, rng.normal(0, 4))
    chest = pelvis @ rot(2, rng.normal(0, 6)) @ rot(1, rng.normal(0, 9)) @ rot(0, lean * 0.6)
    nod = min(max(rng.normal(3, 13) - lean * 0.4, -35), 40)
    head = (
        chest
        @ rot(1, min(max(rng.normal(0, 25), -65), 65))
        @ rot(0, nod)
        @ rot(2, rng.normal(0, 7))
    )
    yaw = rng.normal(0, 32) if chance() < 0.7 else rng.choice((-90, 90)) + rng.normal(0, 18)
    yaw += 180 * (chance() < back_prob)
    roll = rng.normal(0, 5 if chance() < 0.9 else 35)
    if chance() < 0.03:
        roll += rng.choice((-90, 90))  # lying
    cam = np.diag([1.0, -1.0, -1.0]) @ rot(2, roll) @ rot(0, rng.normal(6, 9)) @ rot(1, yaw)

    shapes, k = Shapes(), np.zeros((17, 3))
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
    waist = pelvis @ vec(0, trunk * 0.34, 0)
    neck = waist + chest @ vec(0, trunk * 0.66, 0)
    body, bust = waist + chest @ vec(0, 0.03, 0), waist + chest @ vec(0, trunk * 0.42, 0.008)
    wide = 0.088 * girth
    top, mid = _ring(chest, shoulder * 0.82, 0.036), _ring(chest, 0.092 * girth**0.6, 0.066 * girth)
    belly, low = _ring(pelvis, wide * 0.92, 0.058 * girth), _ring(pelvis, wide, 0.062 * girth)
    belt, crotch = pelvis @ vec(0, 0.05, 0), pelvis @ vec(0, -0.03, 0)
    seat = _ring(pelvis, wide * 0.75, 0.05 * girth)
    add(PELVIS, 'legs', legwear, belt, crotch, low, seat, np.zeros(3), 0.006)
    hem = pelvis @ vec(0, uni(-0.035, 0.03), 0)
    for a, b, ra, rb in (
        (neck - chest @ vec(0, 0.012, 0), bust, top, mid),
        (bust, waist, mid, belly),
        (waist, hem, belly, low),
    ):
        add(TORSO, 'shirt', shirt, a, b, ra, rb, body)
    a, b = neck - chest @ vec(0, 0.018, -0.01), neck + head @ vec(0, 0.045, 0.012)
    add(NECK, 'skin', skin * 0.9, a, b, 0.030, 0.027, body, -0.004)

    for side, sign in enumerate((1, -1)):
        # Arm: twisted, flexed, abducted, in this order; raising it lifts the shoulder as well.
        flex, abduct, twist, elbow = arms[side]
        lift = max(0.0, abduct - 30) / 150
        frame = chest @ rot(2, sign * abduct) @ rot(0, -flex) @ rot(1, -sign * twist)
        lower = frame @ rot(0, -elbow)
        sh = neck + chest @ vec(sign * (shoulder - 0.018 * lift), 0.035 * lift - 0.022, 0)
        k[5 + side] = sh
        k[7 + side] = el = sh - frame[:, 1] * upper
        k[9 + side] = wr = el - lower[:, 1] * fore
        ra, rb = 0.031 * girth**0.5, 0.025 * girth**0.5
        add(TORSO, 'shirt', shirt, neck + chest @ vec(sign * 0.03, -0.012, 0), sh, 0.026, ra, body)
        limb(UPPER_ARM + side, sh, el, ra, rb, sleeve)
        limb(FOREARM + side, el, wr, rb, 0.018, sleeve - 1)
        palm = lower @ rot(0, uni(-35, 15))
        root, tip = wr - palm[:, 1] * 0.018, wr - palm[:, 1] * 0.062
        thumb = wr - palm[:, 1] * 0.045 + palm[:, 2] * 0.02
        add(HAND + side, 'skin', skin, root, tip, 0.0185, 0.014, bias=-0.026)
        add(HAND + side, 'skin', skin, root, thumb, 0.011, 0.008, bias=-0.027)
        # Leg; the sole is kept level where the ankle allows it.
        flex, abduct, out, knee = legs[side]
        frame = rot(2, sign * abduct) @ rot(0, -flex) @ rot(1, sign * out)
        lower = frame @ rot(0, knee)
        k[11 + side] = hp = pelvis @ vec(sign * hip, -0.005, 0)
        k[13 + side] = kn = hp - frame[:, 1] * thigh
        k[15 + side] = an = kn - lower[:, 1] * shin
        rb = 0.035 * girth**0.5
        limb(THIGH + side, hp, kn, 0.050 * girth**0.6, rb, trouser)
        limb(SHIN + side, kn, an, rb, 0.022, trouser - 1)
        if trouser < 1:
            calf = kn * 0.8 + an * 0.2 - lower[:, 2] * 0.008
            end = calf + (an - kn) * 0.25
            add(SHIN + side, 'skin', skin, calf, end, 0.03, 0.029, (kn + an) / 2, 0.01)
        foot = lower @ rot(0, min(max(flex - knee, -40), 25) + uni(-8, 8))
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
    centre = neck + chest @ vec(0, 0.03, 0.004) + head @ vec(0, 0.03 + r, 0.012)
    far[:5] = _add_head(rng, shapes, k, head, centre, r, skin, -cam[2])
    shapes.project(cam)
    keypoints = k @ cam.T
    for left, limit in ((5, 0.075), (11, 0.045)):  # of a shoulder or hip pair seen from the side
        pair = keypoints[left : left + 2, 2]
        far[left : left + 2] = pair - pair.mean() > limit
    pattern = (
        (int(rng.integers(5)), uni(0.03, 0.08), random_colour(rng)) if chance() < 0.5 else None
    )
    spine, sitting = (cam @ chest[:, 1])[:2], kind == _SITTING
    return Person(shapes, keypoints, far, shapes.box(), shirt, pattern, spine, sitting)


class _Head(NamedTuple):
    """Where the parts of a head go: by its ``frame``, in radii ``r`` from its ``centre``."""

    shapes: Shapes
    frame: np.ndarray
    centre: np.ndarray
    r: float

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        return self.centre + self.frame @ vec(x, y, z) * self.r

    def add(
        self, colour: Any, p: np.ndarray, q: np.ndarray, rp: Any, rq: Any, shade: float = 1.0
    ) -> None:
        # All at one depth: here the order of the calls is the order of painting.
        part = f'head{len(self.shapes.rows)}'
        self.shapes.add(HEAD, part, colour, p, q, rp, rq, self.centre, -0.02, shade)


def _add_head(
    rng: np.random.Generator,
    shapes: Shapes,
    k: np.ndarray,
    frame: np.ndarray,
    centre: np.ndarray,
    r: float,
    skin: np.ndarray,
    toward: np.ndarray,
) -> np.ndarray:
    """Adds head, hair and face, sets ``k[:5]`` and returns which of them (5,) cannot be seen."""
    head = _Head(shapes, frame, centre, r)
    at, add = head.at, head.add
    hair = np.clip(np.array(_HAIRS[rng.integers(len(_HAIRS))]) * rng.uniform(0.7, 1.2), 0, 255)
    style = rng.choice(['short', 'long', 'bald', 'bun', 'hat'], p=[0.42, 0.27, 0.07, 0.08, 0.16])
    facing = float(frame[:, 2] @ toward)
    k[0], k[1], k[2] = at(0, -0.2, 1.06), at(0.37, 0.08, 0.84), at(-0.37, 0.08, 0.84)
    k[3], k[4] = at(0.96, -0.08, -0.08), at(-0.96, -0.08, -0.08)
    away = (centre - k[:5]) @ toward / r  # how far on the far side
    far, near = ([ear for ear in (3, 4) if (away[ear] > 0.3) == side] for side in (True, False))
    covered = style == 'long'  # the ears
    _add_ears(head, skin, k[[] if covered else far])
    for layer in ('hair', 'face') if facing > -0.2 else ('face', 'hair'):
        if layer == 'face':
            add(skin, at(0, -0.08, 0.2), at(0, -0.98, 0.42), r * 0.82, r * 0.40)
        elif style == 'bald':
            add(skin * 0.97, at(0, 0.08, -0.1), at(0, 0.02, 0.05), r, r * 0.97)
        else:
            add(hair, at(0, 0.12, -0.14), at(0, -0.15, -0.22), r * 1.05, r * 0.96)
            if style == 'bun':
                add(hair, at(0, 0.9, -0.7), at(0, 0.95, -0.8), r * 0.42, r * 0.42)
    _add_ears(head, skin, k[[] if covered else near])
    if style == 'long':  # falls behind the shoulders: sorts before or after the trunk
        for i in (1, -1):
            a, b = at(0.45 * i, -0.1, -0.45), at(0.55 * i, rng.uniform(-2.6, -1.5), -0.55)
            shapes.add(HAIR, 'hair', hair, a, b, r * 0.72, r * 0.5)
    ink, glasses = np.minimum(hair, 60), rng.random() < 0.1
    for sign, eye in ((1, 1), (-1, 2)):
        if away[eye] < -0.12 and facing > -0.35:
            _add_eye(head, k[eye], sign, ink, glasses)
    if away[0] < 0.25:
        add(skin * 0.93, at(0, 0.02, 0.9), at(0, -0.2, 0.98), r * 0.07, r * 0.13)
    if frame @ vec(0, -0.6, 0.85) @ toward > 0.15:
        lips = skin * (0.62, 0.6, 0.86)
        add(lips, at(-0.2, -0.6, 0.82), at(0.2, -0.6, 0.82), r * 0.05, r * 0.05, 0.0)
    if style == 'hat':
        _add_hat(head, random_colour(rng), facing > -0.5)
    hidden = away > (0.1, -0.05, -0.05, 0.3, 0.3)
    hidden[3:] |= covered
    return hidden


def _add_ears(head: _Head, skin: np.ndarray, ears: np.ndarray) -> None:
    for ear in ears:
        lobe = ear + head.frame @ vec(0, -0.12, 0.03) * head.r
        head.add(skin * 0.88, ear, lobe, head.r * 0.19, head.r * 0.13)


def _add_eye(head: _Head, eye: np.ndarray, sign: int, ink: np.ndarray, glasses: bool) -> None:
    """One eye with its brow; ``sign`` 1 is the left one."""
    frame, r = head.frame, head.r
    if glasses:
        rim = frame[:, 0] * r * 0.3, frame[:, 1] * r * 0.22
        head.add(ink * 0.5, eye, eye, rim, rim, 0.0)
    white = frame[:, 0] * r * 0.17, frame[:, 1] * r * 0.10
    head.add(np.full(3, 225.0), eye, eye, white, white, 0.0)
    head.add(ink * 0.6, eye, eye, r * 0.09, r * 0.09, 0.0)
    a, b = head.at(sign * 0.2, 0.3, 0.86), head.at(sign * 0.54, 0.27, 0.74)
    head.add(ink, a, b, r * 0.05, r * 0.04, 0.0)


def _add_hat(head: _Head, cloth: np.ndarray, peaked: bool) -> None:
    r = head.r
    rim, crown = _ring(head.frame, r * 1.1, r * 1.12), _ring(head.frame, r * 0.7, r * 0.75)
    head.add(cloth, head.at(0, 0.38, -0.05), head.at(0, 0.86, -0.08), rim, crown)
    if peaked:
        rim = _ring(head.frame, r * 0.8, r * 0.6)
        head.add(cloth * 0.8, head.at(0, 0.4, 0.7), head.at(0, 0.38, 0.8), rim, rim)
