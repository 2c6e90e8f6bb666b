"""Where frames come from: pictures, folders, patterns, videos, cameras, streams, lists, arrays."""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from mmengine.logging import print_log

from mmpose_attn.files import printable, read_json, whole_number
from mmpose_attn.media import (
    ORDINARY,
    Limits,
    LiveStream,
    MediaError,
    Shot,
    UnknownKind,
    UnreadKind,
    Video,
    is_address,
    open_media,
    shown,
)
from mmpose_attn.media.kinds import readable

from .listing import IMAGES, KNOWN, files_of, left_out_line
from .results import Frame
from .streams import Stream, check_image, stream_or_list
from .threads import newest

_FPS = 30.0  # where a camera does not say


@dataclass(frozen=True, eq=False)
class Source:
    """A picture, video, camera or stream that could be opened.

    Attributes:
        name: path below the input folder, or a file's own name, with forward
            slashes; below what all inputs have in common if two would be equal.
        kind: ``'image'``, ``'video'``, ``'camera'`` or ``'stream'``.
        origin: path, camera index, picture (H, W, 3), or an object whose
            ``frames()`` gives one :class:`~mmpose_attn.media.Shot` after another.
        image_id: of a picture; the others count on.
        count: frames, as far as that is known; None for what goes on.
        fps: frames a second, None for a picture.
        live: it goes on without us, as a camera does.
    """

    name: str
    kind: str
    origin: Any
    image_id: int | None = None
    count: int | None = 1
    fps: float | None = None
    live: bool = False


Input = str | os.PathLike | int | np.ndarray | Stream | Source


def find_sources(
    inputs: Input | Iterable[Input],
    ann_file: str | os.PathLike | None = None,
    stdin: TextIO | None = None,
    limits: Limits = ORDINARY,
) -> list[Source]:
    """Look for inputs, and open each video, camera and stream once to see that it can be read.

    Pictures without ``ann_file`` have the number in their file name as
    ``image_id`` if all are named by different numbers, as COCO's are, and
    otherwise their place in the list, from 1. A frame of a video has its place
    in the whole sequence, from 1, and then so do pictures.

    What files are is told by their first bytes. What a folder or pattern holds
    that cannot be read here is left out, and one warning says what and why.

    Args:
        inputs: any of: path of a picture or video, folder (its pictures and
            videos, sorted), pattern (``'shots/**/*.jpg'``), index of a camera,
            address of a stream or pipe (:class:`~mmpose_attn.media.LiveStream`),
            ``'-'`` (a list of paths on ``stdin``, one a line), array (H, W, 3)
            uint8 in BGR, :class:`Stream`; or several of these. An iterator of
            arrays is taken for a :class:`Stream`.
        ann_file: COCO file with the ``image_id`` of every picture.
        stdin: where ``'-'`` reads; the process's by default.
        limits: of pictures and frames; what is larger is not decoded.

    Raises:
        FileNotFoundError: an input does not exist or holds nothing.
        ValueError: it cannot be read, what it is cannot be told, or two have
            one name or id.
        TypeError: it is none of the above.
    """
    if isinstance(inputs, Input):
        inputs = [inputs]
    if isinstance(inputs, Iterator):
        inputs = stream_or_list(inputs)
        inputs = [inputs] if isinstance(inputs, Stream) else inputs
    sources: list[Source] = []
    files: dict[str, str] = {}  # path -> folder that its name is relative to
    listed: set[str] = set()  # paths that nobody named
    left_out: dict[str, str] = {}
    for item in _with_lists(inputs, stdin or sys.stdin):
        if isinstance(item, Source):
            sources.append(item)
        elif isinstance(item, np.ndarray):
            sources.append(Source(f'array_{len(sources):06}', 'image', check_image(item)))
        elif isinstance(item, Stream):
            name = item.name or f'stream_{len(sources)}'
            sources.append(Source(name, 'stream', item, None, item.count, item.fps, item.live))
        elif isinstance(item, int) or (item.isdecimal() and not os.path.exists(item)):
            sources.append(_camera(int(item)))
        elif is_address(item):
            sources.append(_live(item, limits))
        else:
            root, paths, unread = files_of(item)
            left_out |= unread
            listed.update(paths if paths != [os.path.abspath(item)] else ())
            for path in paths:
                if path not in files:
                    files[path] = root
                    sources.append(Source('', '', path))
    names = {path: os.path.relpath(path, root) for path, root in files.items()}
    if len(set(names.values())) < len(names):
        common = os.path.commonpath(files.values())
        names = {path: os.path.relpath(path, common) for path in files}
    for i, source in enumerate(sources):
        if source.kind:
            continue
        path = source.origin
        try:
            sources[i] = _file(names[path].replace(os.sep, '/'), path, limits)
        except MediaError as error:
            known = path.lower().endswith(KNOWN)
            if path not in listed or (known and not isinstance(error, UnreadKind)):
                raise ValueError(f'{path} {error}') from error
            left_out[path] = str(error)
    sources = [source for source in sources if source.kind]
    if left_out:
        print_log(printable(left_out_line(left_out)), 'current', logging.WARNING)
    if not sources:
        raise FileNotFoundError(
            left_out_line(left_out)
            if left_out
            else 'no input: give a picture, folder, pattern, video, camera index or stream'
        )
    for name, number in Counter(source.name for source in sources).items():
        if number > 1:
            raise ValueError(f'{number} inputs are called {name}: give each once')
    return with_ids(sources, ann_file)


def read_frames(
    sources: Iterable[Source], first_id: int = 1, limits: Limits = ORDINARY
) -> Iterator[Frame]:
    """Decode frame after frame; one that cannot be decoded has ``error`` instead of an image.

    Args:
        sources: from :func:`find_sources`.
        first_id: ``image_id`` of the first frame, where the source has none.
        limits: as for :func:`find_sources`.
    """
    number = first_id
    for source in sources:
        with closing(_shots(source, limits)) as shots:
            for index, shot in shots:
                image_id = number if source.image_id is None else source.image_id
                yield _frame(source, index, image_id, shot)
                number += 1


def check_trackable(sources: Iterable[Source]) -> None:
    """Raises ValueError for pictures given as arrays, which nothing says to follow each other."""
    if any(isinstance(source.origin, np.ndarray) for source in sources):
        raise ValueError(
            'arrays in a list are pictures that have nothing to do with each other, and get no '
            'track ids: give Stream(arrays, fps=...) for the frames of a video'
        )


def _frame(source: Source, index: int, image_id: int, shot: Shot) -> Frame:
    image, seconds, error = shot
    size = (0, 0) if image is None else image.shape[1::-1]
    if source.kind == 'image':
        return Frame(source.name, source.name, 0, image_id, size, image, error=error)
    fps = source.fps
    if isinstance(source.origin, LiveStream):
        fps = source.origin.fps  # which a pipe says only when it is read
    return Frame(
        f'{source.name}#{index}',
        source.name,
        index,
        image_id,
        size,
        image,
        fps=fps,
        time=index / fps if seconds is None else seconds,
        live=source.live,
        error=error,
    )


def _shots(source: Source, limits: Limits) -> Iterator[tuple[int, Shot]]:
    """What a source shows, with numbers that tell what was left out."""
    origin = source.origin
    if isinstance(origin, np.ndarray):
        yield 0, Shot(origin)
    elif isinstance(origin, LiveStream) and source.live and '://' in origin.address:
        yield from newest(origin.frames())
    else:
        if isinstance(origin, int):
            shots = _camera_shots(origin)
        elif isinstance(origin, str):
            shots = _file_shots(origin, limits)
        else:
            shots = origin.frames()
        with closing(shots):
            yield from enumerate(shots)


def _file_shots(path: str, limits: Limits) -> Iterator[Shot]:
    try:
        media = open_media(path, limits)
    except UnknownKind as error:
        yield Shot(None, None, error.reason)
        return
    except MediaError as error:
        yield Shot(None, None, f'it {error}')
        return
    except FileNotFoundError:
        yield Shot(None, None, 'the file is not found, which was there before')
        return
    except OSError as error:
        yield Shot(None, None, f'it cannot be read: {error.strerror or error}')
        return
    with closing(media):
        yield from media.frames()


def _camera_shots(index: int) -> Iterator[Shot]:
    capture = cv2.VideoCapture(index)
    start = None
    try:
        while True:
            good, image = capture.read()
            if not good:
                return
            now = time.monotonic()
            start = now if start is None else start
            yield Shot(image, now - start)
    finally:
        capture.release()


def _with_lists(inputs: Iterable[Input], stdin: TextIO) -> Iterator[Any]:
    for item in inputs:
        if isinstance(item, Iterator):
            items = stream_or_list(item)
            yield from [items] if isinstance(items, Stream) else _with_lists(items, stdin)
        elif isinstance(item, (int, np.ndarray, Stream, Source)):
            yield item
        elif not isinstance(item, (str, os.PathLike)):
            got = ' '.join(f'{item!r:.80}'.split())
            raise TypeError(f'an input is a path, a camera index, an array or a Stream, got {got}')
        elif os.fspath(item) == '-':
            if hasattr(stdin, 'reconfigure'):  # file names may be any bytes
                stdin.reconfigure(errors='surrogateescape')
            yield from filter(None, (line.rstrip('\r\n') for line in stdin))
        else:
            yield os.fspath(item)


def _file(name: str, path: str, limits: Limits) -> Source:
    try:
        medium = readable(path).medium
    except UnknownKind:
        if not path.lower().endswith(IMAGES):
            raise
        medium = 'image'  # damaged: skipped like other pictures, where a video would end the run
    if medium == 'image':
        return Source(name, 'image', path)
    with closing(Video(path, limits)) as video:
        return Source(name, 'video', path, count=video.count, fps=video.fps)


def _live(address: str, limits: Limits) -> Source:
    try:
        stream = LiveStream(address, limits)
    except MediaError as error:
        raise ValueError(f'input {shown(address)} {error}') from None
    return Source(stream.name, 'stream', stream, None, stream.count, stream.fps, stream.live)


def _camera(index: int) -> Source:
    try:
        capture = cv2.VideoCapture(index)
    except cv2.error:  # an index beyond 32 bits
        capture = cv2.VideoCapture()
    try:
        if not capture.isOpened():
            raise ValueError(f'camera {index} cannot be opened: is it there, and free?')
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if 1 <= fps <= 1000 else _FPS  # some say 0, NaN or their time base
        return Source(f'camera_{index}', 'camera', index, count=None, fps=fps, live=True)
    finally:
        capture.release()


def with_ids(sources: list[Source], ann_file: str | os.PathLike | None = None) -> list[Source]:
    """Sources whose pictures have ids; arguments and errors as for :func:`find_sources`."""
    pictures = [source for source in sources if source.kind == 'image']
    stems = [Path(source.name).stem for source in pictures]
    if ann_file is not None:
        known = _ids_of(ann_file)
        ids = [known.get(s.name, known.get(os.path.basename(s.name))) for s in pictures]
        missing = [s.name for s, i in zip(pictures, ids, strict=True) if i is None]
        if missing or len(pictures) < len(sources):
            missing += [source.name for source in sources if source.kind != 'image']
            raise ValueError(
                f'{len(missing)} inputs are not in {ann_file}: {", ".join(missing[:5])}'
            )
        for image_id, number in Counter(ids).items():
            if number > 1:
                raise ValueError(f'{number} inputs have the id {image_id} in {ann_file}')
    elif len(pictures) < len(sources):
        return sources
    elif all(map(_is_id, stems)) and len(set(map(int, stems))) == len(stems):
        ids = list(map(int, stems))
    else:
        ids = range(1, len(pictures) + 1)
    return [replace(source, image_id=i) for source, i in zip(pictures, ids, strict=True)]


def _is_id(stem: str) -> bool:
    return stem.isdecimal() and int(stem) < 2**63  # which file systems keep below 256 digits


def _ids_of(ann_file: str | os.PathLike) -> dict[str, int]:
    try:
        images = read_json(ann_file, 'annotation file', nan=True)['images']
        ids = {image['file_name']: whole_number(image, 'id') for image in images}
        if len(ids) < len(images):
            names = Counter(image['file_name'] for image in images)
            raise ValueError(f'{names.most_common(1)[0][0]!r} is there twice')
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f'{printable(ann_file)} is no COCO file whose "images" have id and file_name '
            f'({error!r:.500})'
        ) from error
    return ids
