"""What the pictures look like."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np


@lru_cache(maxsize=8)
def list_photos(folder: str) -> tuple[str, ...]:
    """Paths of the photographs in a folder, in alphabetical order; none if there is no such."""
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    return tuple(
        os.path.join(folder, n)
        for n in sorted(names)
        if n.lower().endswith(('.jpg', '.jpeg', '.png'))
    )


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
    backgrounds: str | Path | None = None

    def __post_init__(self) -> None:
        try:
            size = np.asarray(self.image_size)
            good = (
                size.shape in ((2,), (2, 2))
                and size.dtype.kind == 'i'
                and size.min() >= 64
                and size.max() <= 4096
                and (size.ndim == 1 or np.all(size[0] <= size[-1]))
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
        if self.backgrounds is not None:
            object.__setattr__(self, 'backgrounds', str(self.backgrounds))  # a Path is not JSON
            if not list_photos(self.backgrounds):
                raise ValueError(
                    'backgrounds must be a folder with .jpg or .png files, got '
                    f'{self.backgrounds!r}'
                )
