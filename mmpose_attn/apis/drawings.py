"""Drawn pictures and videos."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from mmpose_attn.files import path_inside, replacing
from mmpose_attn.visualization import draw_people

from .results import Frame, PoseResult

_LEAST_SIDE = 320  # pixels of a drawn picture: smaller ones are enlarged, to be legible
_MOST_SIDE = 4096  # but not further than this
_JPEG_SIDE = 65500  # pixels; what JPEG and WebP cannot hold is a PNG
_FPS = 30.0  # where a source does not say
# Both play everywhere, browsers included; the second has no patents on it. Then the unit of
# times in seconds: every usual frame rate has a whole number of the first, WebM has milliseconds.
# With x264's mbtree the same pictures do not always give the same file.
_CODECS = {
    '.mp4': ('libx264', dict(preset='veryfast', crf='20', mbtree='0'), Fraction(1, 60_000)),
    '.webm': ('libvpx', dict(deadline='realtime', crf='10'), Fraction(1, 1000)),
}


def draw_result(
    result: PoseResult, skeleton: Sequence[tuple[int, int]], threshold: float = 0.3
) -> np.ndarray:
    """The frame with its people, their scores and, after tracking, their ids.

    Args:
        result: with an image; who is below its ``person_score`` is left out.
        skeleton: pairs of keypoint indices.
        threshold: least score of a keypoint that is drawn.

    Returns:
        (H, W, 3) uint8; a small frame is enlarged by a whole factor.
    """
    image, people = result.frame.image, result.counted
    short, long = sorted(image.shape[:2])
    factor = min(-(-_LEAST_SIDE // short), max(_MOST_SIDE // long, 1))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    ids = people.track_ids
    labels = [f'{score:.2f}' for score in people.scores]
    if ids is not None:
        labels = [f'#{i} {label}' for i, label in zip(ids, labels, strict=True)]
    return draw_people(
        image,
        # pixel centres are whole numbers
        (people.keypoints + 0.5) * factor - 0.5,
        people.keypoint_scores,
        skeleton,
        threshold,
        boxes=(people.boxes + 0.5) * factor - 0.5,
        labels=labels,
        colors=ids,
    )


class Drawings:
    """Drawn pictures and videos in a folder; each appears when it is complete.

    Frames of a video are shown at their own times, whether these are regular or not.

    Args:
        folder: gets a file for every source.
        video: what a video becomes, ``'.mp4'`` or, slower, ``'.webm'``.
    """

    def __init__(self, folder: Path, video: str = '.mp4') -> None:
        self.folder, self._video = folder, video
        self._writer: _VideoFile | None = None

    def path(self, source: str, video: bool) -> Path:
        """The file that a picture or video is drawn to."""
        path = path_inside(self.folder, source, 'name of an input')
        kept = (self._video,) if video else ('.jpg', '.jpeg', '.png')
        if path.suffix.lower() in kept:
            return path
        return path.with_name(f'{path.name}{kept[0]}')

    def add(self, frame: Frame, picture: np.ndarray) -> None:
        """Write what was drawn of a frame.

        Raises:
            OSError: it cannot be written.
        """
        path = self.path(frame.source, frame.moving)
        path.parent.mkdir(parents=True, exist_ok=True)
        if frame.moving:
            if self._writer is None:
                self._writer = _VideoFile(path, picture.shape[1::-1], frame.fps)
            self._writer.add(picture, frame.seconds)
            return
        if max(picture.shape) > _JPEG_SIDE and path.suffix.lower() != '.png':
            path = path.with_name(f'{path.name}.png')
        with replacing(path, 'wb') as file:
            file.write(cv2.imencode(path.suffix, picture)[1])

    def end_video(self) -> None:
        """Complete the video that is being written, if there is one.

        Raises:
            OSError: not all of it could be written.
        """
        if self._writer is not None:
            self._writer.end()
            self._writer = None


class _VideoFile:
    """A video that is being written.

    Args:
        path: what it becomes in the end.
        size: (width, height) of the first picture; others are brought to it.
        fps: frames a second, roughly: every frame has its own time.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float | None) -> None:
        self._path, self._partial = path, path.with_name(f'.partial_{path.name}')
        self._size, self._last, self._over = size, -1, False
        codec, options, self._tick = _CODECS[path.suffix.lower()]
        with self._saying():
            self._file = av.open(str(self._partial), 'w')
            rate = Fraction(fps or _FPS).limit_denominator(1001)
            self._stream = self._file.add_stream(codec, rate, options=options)
            # colours have half the resolution
            self._stream.width, self._stream.height = (side + side % 2 for side in size)
            self._stream.pix_fmt = 'yuv420p'
            self._stream.codec_context.time_base = self._tick
            self._stream.bit_rate = _most_bits(size, rate)

    def add(self, picture: np.ndarray, seconds: float) -> None:
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        right, below = (side % 2 for side in self._size)
        if right or below:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(picture, format='bgr24')
        time = max(round(seconds / self._tick), self._last + 1)
        frame.pts, frame.time_base = time, self._tick
        with self._saying():
            self._file.mux(self._stream.encode(frame))
        self._last = time

    def end(self) -> None:
        try:
            if self._over or self._last < 0:  # there is nothing in it
                return
            self._over = True
            with self._saying():
                self._file.mux(self._stream.encode(None))
                self._file.close()
            os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """FFmpeg's errors as an OSError that names the video."""
        try:
            yield
        except av.error.FFmpegError as error:
            self._over = True
            full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            reason = 'is the disk full?' if full else error.strerror
            raise OSError(f'video {self._path} could not be written: {reason}') from error


def _most_bits(size: tuple[int, int], fps: Fraction) -> int:
    """A second, for the codec that wants a limit."""
    return min(int(size[0] * size[1] * fps), 2**30)
