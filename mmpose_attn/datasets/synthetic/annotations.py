"""COCO annotations, read off the owner buffer."""

import cv2
import numpy as np

from .body import Person
from .parts import ADJACENT, PARTS, UPPER_ARM


def see(
    person: Person, scale: float, origin: np.ndarray, entity: int, owners: np.ndarray
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


def annotate(mask: np.ndarray, keypoints: np.ndarray, crowd: bool = False) -> dict:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return {
        'segmentation': to_rle(mask) if crowd else to_polygons(mask),
        'num_keypoints': int((keypoints[:, 2] > 0).sum()),
        'area': float(mask.sum()),
        'iscrowd': int(crowd),
        'keypoints': [v for x, y, seen in keypoints.tolist() for v in (x, y, int(seen))],
        'bbox': [float(v) for v in (xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1)],
        'category_id': 1,
    }


def to_polygons(mask: np.ndarray) -> list[list[int]]:
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


def to_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths, column by column, of a mask (H, W) bool."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(edges, prepend=0, append=mask.size).tolist()
    return {'counts': counts, 'size': list(mask.shape)}
