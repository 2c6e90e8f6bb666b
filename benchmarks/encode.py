"""Targets of two resolutions, against MMPose's codec at each."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from mmpose.codecs.associative_embedding import AssociativeEmbedding

from mmpose_attn.codecs import HigherHRNetCodec

from .networks import NUM_KEYPOINTS
from .timing import Row, interleave


def rows(quick: bool, repeat: int | None, device: str) -> Iterator[Row]:
    """Targets are made where images are loaded: on the CPU, whatever the device."""
    size, people = (128, (2,)) if quick else (512, (2, 10, 30))
    sizes = [(size // 4, size // 4), (size // 2, size // 2)]
    stock = [AssociativeEmbedding((size, size), maps, sigma=2) for maps in sizes]
    codec = HigherHRNetCodec((size, size), sizes, sigma=2)
    for number in people:
        rng = np.random.default_rng(number)
        keypoints = rng.uniform(0, size, (number, NUM_KEYPOINTS, 2)).astype(np.float32)
        visible = (rng.random((number, NUM_KEYPOINTS)) > 0.3).astype(np.float32)
        yield Row(
            f'encode {number} people, targets at 1/4 and 1/2 of {size}x{size}',
            *interleave(
                lambda: [one.encode(keypoints, visible) for one in stock],  # noqa: B023
                partial(codec.encode, keypoints, visible),
                repeat or (2 if quick else 50),
            ),
            'not compared: the cells are floor here, rounded in MMPose (README)',
        )
