"""Videos, decoded by FFmpeg (PyAV), which gets to see no format and no protocol but ours."""

import math
import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .boxes import check_boxes
from .kinds import MP4, readable
from .limits import ORDINARY, Limits, UnknownKind, UnreadKind

av.logging.set_level(av.logging.PANIC)  # the errors here say what is wrong

FPS = 30.0  # where a video or camera does not say
# How many frames a video may lack at its end: containers often know their number only roughly.
_ROUGH = 0.01
_MOST_BAD = 1000  # frames in a row that cannot be decoded; after so many there is no other
_TOO_LARGE = 'the frame cannot be decoded, or has more than {} million pixels'
_THREADS = 8
_GENERATE_TIMES = 1  # AVFMT_FLAG_GENPTS, which PyAV sets: it looks for times through all of a file
# Decoders that are as old and as well tried as they are common. Others have been FFmpeg's holes.
CODECS = (
    'h264', 'hevc', 'vvc', 'libdav1d', 'av1', 'vp8', 'vp9', 'mpeg4', 'mpeg2video', 'mpeg1video',
    'h263', 'flv', 'mjpeg', 'msmpeg4v1', 'msmpeg4', 'msmpeg4v2', 'wmv1', 'wmv2', 'wmv3', 'vc1',
    'theora', 'prores', 'dnxhd', 'dvvideo', 'ffv1', 'huffyuv', 'ffvhuff', 'rawvideo', 'png', 'gif',
)  # fmt: skip


class Shot(NamedTuple):
    """A decoded frame.

    Attributes:
        image: (H, W, 3) uint8, BGR; None if it could not be decoded.
        time: seconds from the first frame; None of a picture.
        error: what is wrong, or None.
    """

    image: np.ndarray | None
    time: float | None = None
    error: str | None = None


class Video:
    """A video file that is open.

    Args:
        path: of an MP4, MOV, 3GP, Matroska, WebM, AVI, MPEG, Windows Media,
            Flash or Ogg file or animated GIF, whatever it is called.
        limits: frames that are larger are not decoded, a longer video is refused.

    Attributes:
        count: frames, as far as the file knows; None if it does not.
        fps: frames a second, 30 where the file does not say.

    Raises:
        UnreadKind: it is of a format or codec that is not read.
        MediaError: it is damaged or too large.
        OSError: it cannot be read.
    """

    medium = 'video'

    def __init__(self, path: str | os.PathLike, limits: Limits = ORDINARY) -> None:
        kind = readable(path, 'video')
        if kind is MP4:
            check_boxes(path)
        self._limits = limits
        path = os.path.abspath(path)
        self._container = open_container(
            f'file:{path}',
            limits,
            format=kind.demuxer,
            # external data of a MOV would be another file
            options=dict(
                format_whitelist=kind.demuxer, protocol_whitelist='file', enable_drefs='0'
            ),
        )
        try:
            self._stream = video_stream(self._container, kind.name, limits)
            self.fps = frame_rate(self._stream)
            self._seconds = _seconds(self._container, self._stream)
            limits.check_length(self._seconds, self._stream.frames)
            self.count = self._stream.frames or int(self._seconds * self.fps + 0.5) or None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._container.close()

    def frames(self) -> Iterator[Shot]:
        """Frame after frame, upright; of one that cannot be decoded, and of a lack at the end,
        what is wrong."""
        read, bad, last = 0, [], 0.0
        for shot in shots(self._container, self._stream, self._limits):
            if shot.error is not None:
                bad.append(shot.error)
                if len(bad) > _MOST_BAD:
                    break
                continue
            # what failed before a good frame was damaged, what fails at the end may be nothing
            for i, error in enumerate(bad):
                yield Shot(None, max(shot.time - (len(bad) - i) / self.fps, 0.0), error)
            read, bad, last = read + len(bad) + 1, [], shot.time
            if shot.time > self._limits.seconds:
                minutes = self._limits.seconds / 60
                yield Shot(None, shot.time, f'the video goes on after {minutes:g} minutes')
                return
            if read > self._limits.frames:
                yield Shot(None, shot.time, f'the video goes on after {read - 1} frames')
                return
            yield shot
        count, large = self.count or 0, _TOO_LARGE.format(self._limits.millions)
        if not read and (bad or count <= 1):
            why = f' and has at most {self._limits.millions} million pixels' if large in bad else ''
            yield Shot(None, 0.0, f'the video has no frame that can be decoded{why}')
        elif self._lacks(read, last):
            end = last + 1 / self.fps
            yield Shot(None, end, f'the video ends after {read} of {count} frames')

    def _lacks(self, read: int, last: float) -> bool:
        """Whether frames are missing after so many, the last of them at that time."""
        if self._stream.frames:
            missing, whole, one = self._stream.frames - read, self._stream.frames, 1
        else:  # a rate that changes says nothing of how many there are
            missing, whole, one = self._seconds - last - 1 / self.fps, self._seconds, 1 / self.fps
        return missing > max(one, _ROUGH * whole)


def open_container(
    address: str,
    limits: Limits,
    *,
    options: dict[str, str],
    format: str | None = None,
    timeout: tuple[float, float] | None = None,
    file=None,
) -> av.container.InputContainer:
    """What FFmpeg opens, within lists and limits. Raises :class:`MediaError`, OSError."""
    options = dict(
        options,
        codec_whitelist=','.join(CODECS),
        max_pixels=str(limits.pixels),
        max_streams='100',
        threads='1',  # of the look at the first frames; the decoding proper has its own
    )
    try:
        container = av.open(
            address if file is None else file,
            format=format,
            options=options,
            metadata_errors='replace',
            timeout=timeout,
        )
    except av.error.FFmpegError as error:
        if isinstance(error, av.error.FileNotFoundError | av.error.PermissionError):
            raise OSError(f'cannot be read: {error.strerror}') from error
        raise UnknownKind('it cannot be decoded (damaged, cut off, or something else)') from error
    container.flags &= ~_GENERATE_TIMES
    return container


def video_stream(container: av.container.InputContainer, name: str, limits: Limits):
    """The stream to decode, ready for it. Raises :class:`MediaError`."""
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise UnreadKind(f'has no pictures: the {name} file holds something else')
    stream = streams[0]
    context = stream.codec_context
    if context is None or context.name not in CODECS:
        codec = _unknown(container) if context is None else context.codec.canonical_name
        raise UnreadKind(f'is in {codec}, which is not decoded here: convert it to H.264')
    if context.width * context.height:
        limits.check_size(context.width, context.height)
    context.options = dict(max_pixels=str(limits.pixels))
    context.thread_type = 'AUTO'
    context.thread_count = min(_THREADS, (os.cpu_count() or 1) + 1)
    return stream


def _unknown(container: av.container.InputContainer) -> str:
    """The four letters of a codec that FFmpeg has no decoder for; it tells its log alone."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        found = re.search(r'Video: (\w+) \((.{4}) ', container.dumps_format())
    finally:
        av.logging.set_level(level)
    if found is None or not found[2].isprintable():
        return 'an unknown codec'
    return f'an unknown codec ({found[2] if found[1] == "none" else found[1]})'


def frame_rate(stream) -> float:
    rate = float(stream.guessed_rate or stream.average_rate or Fraction(0))
    # some files and cameras say 0 or their time base
    return rate if 1 <= rate <= 1000 else FPS


def shots(container: av.container.InputContainer, stream, limits: Limits) -> Iterator[Shot]:
    """All that a container gives, a bad frame as its error; times grow, from 0."""
    convert = VideoReformatter().reformat
    step = 1 / frame_rate(stream)
    first = last = None
    for decode in _decoders(container, stream):
        try:
            frames = decode()
        except av.error.EOFError:
            return
        except av.error.ArgumentError:  # what FFmpeg says of too many pixels, too
            yield Shot(None, None, _TOO_LARGE.format(limits.millions))
            continue
        except (av.error.FFmpegError, MemoryError):
            yield Shot(None, None, 'the frame cannot be decoded')
            continue
        for frame in frames:
            time = frame.time
            if time is not None and first is None:
                first = time - (0 if last is None else last + step)
            time = math.nan if time is None else time - first
            if last is None:
                time = 0.0
            elif not time > last:  # a damaged time, or none
                time = last + step
            last = time
            try:
                limits.check_size(frame.width, frame.height)
                image = _pixels(convert(frame, format='bgr24'))
            except (ValueError, av.error.FFmpegError, MemoryError) as error:
                yield Shot(None, time, f'the frame {error}')
                continue
            turns = round((frame.rotation or 0) / 90) % 4
            if turns:  # as a phone was held
                image = np.ascontiguousarray(np.rot90(image, turns))
            yield Shot(image, time)


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """Of a frame in bgr24, without a copy where its rows have no gaps."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height]
    return np.ascontiguousarray(rows[:, : 3 * frame.width]).reshape(frame.height, frame.width, 3)


def _decoders(container: av.container.InputContainer, stream) -> Iterator[Callable]:
    """What decodes the next packet; in the end what is left in the decoder."""
    try:
        for packet in container.demux(stream):
            yield packet.decode
    except av.error.FFmpegError:  # cut off, or a connection that is lost
        yield partial(stream.codec_context.decode, None)


def _seconds(container: av.container.InputContainer, stream) -> float:
    if container.duration:
        # Matroska counts from 0, and its first frame may be later
        late = (container.start_time or 0) if 'matroska' in container.format.name else 0
        return max(container.duration - max(late, 0), 0) / av.time_base
    return float((stream.duration or 0) * (stream.time_base or 0))
