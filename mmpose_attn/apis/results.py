"""What inference takes and gives: frames and the people in them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import NamedTuple

import numpy as np

# Decimals that are kept: below what float32 resolves in a picture of 1000 pixels, and short enough
# that a file of results reads back to the very same numbers.
_DECIMALS = dict(keypoints=4, boxes=4, keypoint_scores=6, box_scores=7, scores=7)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, or one frame of a video or camera.

    Attributes:
        name: ``photos/1.jpg``, or ``clip.mp4#12`` for the frame with index 12.
        source: name of the picture, video or camera.
        index: place in its source, counted from 0.
        image_id: COCO's.
        size: (width, height) in pixels; (0, 0) if it cannot be read.
        image: (H, W, 3) uint8, BGR; None if it cannot be read or was not kept.
        fps: frames a second of its source, None for a picture.
        time: when it is shown, in seconds from the first frame of its source;
            None for a picture.
        live: from a camera or a stream by address, which goes on by itself.
        error: why it was skipped, or None.
        recorded: its people, if an earlier run has found them already.
    """

    name: str
    source: str
    index: int
    image_id: int
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    fps: float | None = None
    time: float | None = None
    live: bool = False
    error: str | None = None
    recorded: 'People | None' = None

    @property
    def moving(self) -> bool:
        """Whether it is one of many that follow each other, and no picture."""
        return self.fps is not None or self.time is not None

    @property
    def seconds(self) -> float:
        """Its ``time``; where nobody has said it, by its place at ``fps``."""
        return self.index / self.fps if self.time is None else self.time


@dataclass(frozen=True, eq=False)
class People:
    """The N people of a frame, with K keypoints each, in pixels of the frame.

    Attributes:
        keypoints: (N, K, 2) x and y.
        keypoint_scores: (N, K).
        boxes: (N, 4) x1, y1, x2, y2: what was given to a top-down network, or
            the extent of a bottom-up network's keypoints.
        box_scores: (N,) of the detector; of a bottom-up network its own.
        scores: (N,) of the people, as the config's metric ranks them.
        track_ids: (N,) from 1, or 0 for who is too faint to be tracked; None without tracking.
    """

    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    scores: np.ndarray
    track_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def nobody(cls, joints: int) -> 'People':
        """No people, with ``joints`` keypoints each."""
        shapes = (0, joints, 2), (0, joints), (0, 4), (0,), (0,)
        return cls(*(np.zeros(shape) for shape in shapes))

    def take(self, index: np.ndarray) -> 'People':
        """Some of the people, in the order of ``index``."""
        values = (getattr(self, field.name) for field in fields(self))
        return People(*(None if value is None else value[index] for value in values))

    def rounded(self) -> 'People':
        """In float64, as many decimals as are written to files; what is no number becomes 0."""
        finite = np.isfinite(self.keypoints).all(-1)
        people = replace(self, keypoint_scores=np.where(finite, self.keypoint_scores, 0))
        return replace(
            people,
            **{
                name: np.round(np.nan_to_num(getattr(people, name).astype(float)), decimals)
                for name, decimals in _DECIMALS.items()
            },
        )

    def to_lists(self) -> dict:
        """For JSON; :meth:`from_lists` reads it."""
        return {name: getattr(self, name).tolist() for name in _DECIMALS}

    @classmethod
    def from_lists(cls, lists: dict, joints: int) -> 'People':
        if not lists['scores']:
            return cls.nobody(joints)
        return cls(**{name: np.array(lists[name], float) for name in _DECIMALS})


@dataclass(frozen=True, eq=False)
class PoseResult:
    """A frame and its people; nobody if it was skipped (``frame.error`` says why).

    Attributes:
        frame: what was looked at.
        people: all that were found.
        person_score: least score of who is drawn, counted and tracked.
    """

    frame: Frame
    people: People
    person_score: float = 0.0

    @property
    def sure(self) -> np.ndarray:
        """(N,) whether somebody's score is at least ``person_score``."""
        return self.people.scores >= self.person_score

    @property
    def counted(self) -> People:
        """The people whose score is at least ``person_score``."""
        return self.people.take(np.flatnonzero(self.sure))


class Category(NamedTuple):
    """What a network finds, as in COCO's ``categories``."""

    id: int = 1
    name: str = 'person'

    @classmethod
    def of(cls, meta: Mapping) -> 'Category':
        """That of MMPose's description of a data set, in which training leaves ``CLASSES``.

        Of several the one with keypoints, and then the one with the least id, as in tests.
        """
        listed = meta.get('CLASSES')
        listed = listed if isinstance(listed, (list, tuple)) else ()
        known = [each for each in listed if isinstance(each, Mapping) and _is_id(each.get('id'))]
        known = [each for each in known if each.get('keypoints')] or known
        if not known:
            return cls()
        first = min(known, key=lambda each: each['id'])
        return cls(int(first['id']), str(first.get('name') or 'object'))


def _is_id(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
