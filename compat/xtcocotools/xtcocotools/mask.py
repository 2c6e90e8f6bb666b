"""Run-length encoded masks, as in ``pycocotools.mask``.

A mask of H x W is a dict of ``size`` [H, W] and ``counts``; a set of N masks
is a list of those, or an array (H, W, N) when decoded. Boxes are x, y, width,
height.
"""

import numpy as np
from faster_coco_eval.core import mask as _mask
from faster_coco_eval.core.mask import decode, encode, frPyObjects, iou, merge, toBbox

__all__ = ['area', 'decode', 'encode', 'frPyObjects', 'iou', 'merge', 'toBbox']


def area(rleObjs: dict | list[dict]) -> np.uint32 | np.ndarray:
    """Number of pixels of a mask, or (N,) of a list of masks."""
    # faster-coco-eval counts in uint64; pycocotools and xtcocotools in uint32.
    return _mask.area(rleObjs).astype(np.uint32)
