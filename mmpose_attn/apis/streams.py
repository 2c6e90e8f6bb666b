"""Frames that a program makes itself, as an input."""

from collections.abc import Iterable, Iterator
from itertools import chain
from numbers import Integral, Real

import numpy as np

from mmpose_attn.media import Shot

_FPS = 30.0


class Stream:
    """Frames from Python, taken one by one while they are worked at, and tracked like a video's.

    .. code-block:: python

        def camera():
            while True:
                yield time.monotonic(), grab()

        for result in predictor(Stream(camera(), live=True), track=True):
            ...

    Args:
        frames: any iterable of arrays (H, W, 3) uint8 in BGR, or of pairs of a
            time in seconds, which grows, and such an array. Five batches at
            most are read ahead.
        fps: frames a second of a drawn video, and of frames without times; 30
            by default.
        name: in results; ``stream_0`` and so on by default.
        live: give each result as soon as it is there, instead of a batch.
        count: frames there will be, if that is known.

    Raises:
        TypeError: ``frames`` cannot be iterated over.
        ValueError: fps, name or count is none.
    """

    def __init__(
        self,
        frames: Iterable,
        fps: float | None = None,
        name: str | None = None,
        live: bool = False,
        count: int | None = None,
    ) -> None:
        fps = _FPS if fps is None else fps
        if not isinstance(fps, Real) or isinstance(fps, bool) or not 0 < fps < float('inf'):
            raise ValueError(f'fps is frames a second, got {fps!r}')
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f'name is a text, got {name!r}')
        known = isinstance(count, Integral) and not isinstance(count, bool) and count >= 0
        if count is not None and not known:
            raise ValueError(f'count is a number of frames, got {count!r}')
        self._frames = iter(frames)
        self.fps, self.name, self.live = float(fps), name, live
        self.count = None if count is None else int(count)

    def frames(self) -> Iterator[Shot]:
        """The frames, from where an earlier call ended.

        Raises:
            TypeError, ValueError: one is no picture, or times do not grow.
        """
        first = last = None
        for i, item in enumerate(self._frames):
            image, time = item, i / self.fps
            timed = isinstance(item, tuple) and len(item) == 2
            if i and timed != (last is not None):
                raise ValueError(
                    f'all frames of a stream have times or none has; frame {i} has '
                    f'{"one" if timed else "none"}, those before it are different'
                )
            if timed:
                time, image = _seconds(item[0], i), item[1]
                if not abs(time) < float('inf') or (last is not None and time <= last):
                    raise ValueError(f'times of frames grow; frame {i} has {item[0]} after {last}')
                last, first = time, time if first is None else first
                time -= first
            yield Shot(check_image(image, f'frame {i} of a stream'), time)

    def close(self) -> None:
        if hasattr(self._frames, 'close'):
            self._frames.close()


def _seconds(time: object, frame: int) -> float:
    try:
        if isinstance(time, (str, bytes)):
            raise TypeError
        return float(time)
    except (TypeError, ValueError):
        raise TypeError(
            f'a frame with a time is a tuple (seconds, array); frame {frame} of a stream has '
            f'{type(time).__name__} where the seconds are'
        ) from None


def check_image(image, what: str = 'a picture given as an array') -> np.ndarray:
    """``image`` if it is one. Raises TypeError, ValueError."""
    if not isinstance(image, np.ndarray):
        got = ' '.join(f'{image!r:.80}'.split())
        raise TypeError(f'{what} is an array (H, W, 3) uint8 in BGR order, got {got}')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f'{what} is (H, W, 3) uint8 in BGR order; got {image.shape} {image.dtype}')
    return image


def stream_or_list(items: Iterator) -> Stream | list:
    """What an iterator is, by its first item: frames stay where they are, paths are listed."""
    first = list(next(([item] for item in items), ()))
    if first and isinstance(first[0], (np.ndarray, tuple)):
        return Stream(chain(first, items))
    return [*first, *items]
