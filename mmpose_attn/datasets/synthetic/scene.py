"""Places people and renders pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .annotations import annotate, see
from .body import Person, build_person
from .config import SyntheticConfig
from .drawing import noise
from .painting import paint_person
from .parts import PARTS
from .surroundings import crop_photo, draw_background, draw_occluder, draw_seat, draw_shadows

SPLITS = ('train', 'val')


class Scene(NamedTuple):
    """One rendered picture: image (H, W, 3) uint8 BGR; annotations, COCO dicts without ids (people
    first, then a crowd); owners (H, W) int32, ``entity * PARTS + part`` where a larger entity is
    nearer and 0 is the background; entities, the entity of each annotated person."""

    image: np.ndarray
    annotations: list[dict]
    owners: np.ndarray
    entities: list[int]


def render(
    index: int, config: SyntheticConfig | None = None, seed: int = 0, split: str = 'train'
) -> tuple[np.ndarray, list[dict]]:
    """Picture (H, W, 3) uint8 BGR and its COCO annotations without ids; see `render_scene`."""
    scene = render_scene(index, config, seed, split)
    return scene.image, scene.annotations


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
    people = [build_person(rng, config.back_prob) for _ in range(wanted)]
    places = _place(rng, people, w, h, config)
    if len(places) < config.people[0]:
        return None
    boxes = [p.box * scale + np.tile(origin, 2) for p, (scale, origin) in zip(people, places)]
    # Larger people are nearer, roughly.
    order = sorted(range(len(places)), key=lambda i: places[i][0] * rng.uniform(0.85, 1.15))

    image = (
        draw_background(rng, w, h, light)
        if config.backgrounds is None
        else crop_photo(rng, w, h, config.backgrounds)
    )
    if rng.random() < 0.8:
        image = draw_shadows(image, places, boxes)
    owners, crowd = np.zeros((h, w), np.int32), 0
    if rng.random() < config.crowd_prob:
        crowd = _paint_crowd(rng, image, owners, light, config.back_prob)
    entity, entities = crowd, [0] * len(places)
    for i in order:
        person, (scale, origin) = people[i], places[i]
        if person.sitting:
            hips = person.keypoints[[11, 12], :2].mean(0) * scale + origin
            entity += 1
            draw_seat(rng, image, owners, hips, boxes[i][3], scale, entity)
        entity += 1
        entities[i] = entity
        paint_person(rng, image, owners, person, scale, origin, light, entity)
        if rng.random() < config.occluder_prob:
            entity += 1
            draw_occluder(rng, image, owners, boxes[i], entity)

    annotations = []
    for person, (scale, origin), entity in zip(people, places, entities):
        mask = cv2.inRange(owners, entity * PARTS, entity * PARTS + PARTS - 1) > 0
        if mask.sum() < max(48, 0.08 * scale**2 * _shared(person.box, person.box)):
            return None  # nobody would have labelled so little
        annotations.append(annotate(mask, see(person, scale, origin, entity, owners)))
    if crowd:
        mask = (owners >= PARTS) & (owners < (crowd + 1) * PARTS)
        if mask.sum() < 64:
            return None
        annotations.append(annotate(mask, np.zeros((17, 3)), crowd=True))
    return Scene(_finish(rng, image, config), annotations, owners, entities)


def _place(
    rng: np.random.Generator, people: Sequence[Person], w: int, h: int, config: SyntheticConfig
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


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes (x0, y0, x1, y1) have in common."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _paint_crowd(
    rng: np.random.Generator,
    image: np.ndarray,
    owners: np.ndarray,
    light: np.ndarray,
    back_prob: float,
) -> int:
    """Paints a far group, as the entities from 1 to the returned one."""
    h, w = owners.shape
    height = rng.uniform(0.1, 0.2) * h
    x, y = rng.uniform(0, 0.6) * w, rng.uniform(0.35, 0.7) * h
    for entity in range(1, rng.integers(9, 19)):
        x += rng.uniform(0.12, 0.3) * height
        person, scale = build_person(rng, back_prob), height * rng.uniform(0.85, 1.15)
        origin = np.array([x, y + rng.normal(0, 0.08) * height])
        paint_person(rng, image, owners, person, scale, origin, light, entity)
    return entity


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
    grain = noise(rng, h, w, max(1.0, max(h, w) / 500), 3)
    return cv2.addWeighted(image, 1, grain, level, 0, dtype=cv2.CV_8U)
