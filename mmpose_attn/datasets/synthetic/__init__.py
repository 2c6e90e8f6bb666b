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

from .config import SyntheticConfig
from .dataset import MARKER, make_dataset
from .scene import Scene, render, render_scene

__all__ = [
    'MARKER',
    'Scene',
    'SyntheticConfig',
    'make_dataset',
    'render',
    'render_scene',
]
