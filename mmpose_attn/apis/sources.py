"""Where frames come from: pictures, folders, patterns, videos, cameras, lists and arrays."""

import glob
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from mmpose_attn.datasets import LoadPoseImage

from .results import Frame

Input = str | os.PathLike | int | np.ndarray

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
VIDEOS = ('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv')
_KNOWN = (*IMAGES, *VIDEOS, '.gif')  # that is either
_FPS = 30.0  # where a video or camera does not say
# How many frames a video may lack at its end: containers often know their number only roughly.
_ROUGH = 0.01
_MOST_BAD = 1000  # frames in a row that cannot be decoded; after so many there is no other
_LOAD = LoadPoseImage()


@dataclass(frozen=True, eq=False)
class Source:
    """A picture, video or camera that could be opened.

    Attributes:
        name: path below the input folder, or a file's own name, with forward
            slashes; below what all inputs have in common if two would be equal.
        kind: ``'image'``, ``'video'`` or ``'camera'``.
        origin: path, camera index, or picture (H, W, 3).
        image_id: of a picture; videos and cameras count on.
        count: frames, as far as the file knows; None for a camera.
        fps: frames a second, None for a picture.
    """

    name: str
    kind: str
    origin: str | int | np.ndarray
    image_id: int | None = None
    count: int | None = 1
    fps: float | None = None


def find_sources(
    inputs: Input | Sequence[Input],
    ann_file: str | os.PathLike | None = None,
    stdin: TextIO | None = None,
) -> list[Source]:
    """Look for inputs, and open each video and camera once to see that it can be read.

    Pictures without ``ann_file`` have the number in their file name as
    ``image_id`` if all are named by different numbers, as COCO's are, and
    otherwise their place in the list, from 1. A frame of a video has its place
    in the whole sequence, from 1, and then so do pictures.

    Args:
        inputs: any of: path of a picture or video, folder (its pictures and
            videos, sorted), pattern (``'shots/**/*.jpg'``), index of a camera,
            ``'-'`` (a list of paths on ``stdin``, one a line), array (H, W, 3)
            uint8 in BGR; or a sequence of these.
        ann_file: COCO file with the ``image_id`` of every picture.
        stdin: where ``'-'`` reads; the process's by default.

    Raises:
        FileNotFoundError: an input does not exist or holds nothing.
        ValueError: it cannot be read, what it is cannot be told, or two have
            one name or id.
        TypeError: it is none of the above.
    """
    if isinstance(inputs, (str, os.PathLike, int, np.ndarray)):
        inputs = [inputs]
    sources: list[Source] = []
    files: dict[str, str] = {}  # path -> folder that its name is relative to
    for item in _with_lists(inputs, stdin or sys.stdin):
        if isinstance(item, np.ndarray):
            if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or not item.size:
                raise ValueError(
                    'a picture given as an array is (H, W, 3) uint8 in BGR order; '
                    f'got {item.shape} {item.dtype}'
                )
            sources.append(Source(f'array_{len(sources):06}', 'image', item))
        elif isinstance(item, int) or (item.isdecimal() and not os.path.exists(item)):
            sources.append(_opened(f'camera_{int(item)}', 'camera', int(item)))
        else:
            root, paths = _files(item)
            for path in paths:
                if path not in files:
                    files[path] = root
                    sources.append(Source('', '', path))
    if not sources:
        raise FileNotFoundError('no input: give a picture, folder, pattern, video or camera index')
    names = {path: os.path.relpath(path, root) for path, root in files.items()}
    if len(set(names.values())) < len(names):
        common = os.path.commonpath(files.values())
        names = {path: os.path.relpath(path, common) for path in files}
    for i, source in enumerate(sources):
        if not source.kind:
            name = names[source.origin].replace(os.sep, '/')
            if _is_image(source.origin):
                sources[i] = Source(name, 'image', source.origin)
            else:
                sources[i] = _opened(name, 'video', source.origin)
    for name, number in Counter(source.name for source in sources).items():
        if number > 1:
            raise ValueError(f'{number} inputs are called {name}: give each once')
    return _with_ids(sources, ann_file)


def read_frames(sources: Iterable[Source], first_id: int = 1) -> Iterator[Frame]:
    """Decode frame after frame; one that cannot be decoded has ``error`` instead of an image.

    Args:
        sources: from :func:`find_sources`.
        first_id: ``image_id`` of the first frame, where the source has none.
    """
    number = first_id
    for source in sources:
        for frame in [_picture(source)] if source.kind == 'image' else _video(source):
            image_id = number if source.image_id is None else source.image_id
            yield replace(frame, image_id=image_id)
            number += 1


def _with_lists(inputs: Sequence[Input], stdin: TextIO) -> Iterator[str | int | np.ndarray]:
    for item in inputs:
        if isinstance(item, (int, np.ndarray)):
            yield item
        elif not isinstance(item, (str, os.PathLike)):
            raise TypeError(f'an input is a path, a camera index or an array, got {item!r:.80}')
        elif os.fspath(item) == '-':
            if hasattr(stdin, 'reconfigure'):  # file names may be any bytes
                stdin.reconfigure(errors='surrogateescape')
            yield from filter(None, (line.rstrip('\r\n') for line in stdin))
        else:
            yield os.fspath(item)


def _files(item: str) -> tuple[str, list[str]]:
    """The folder that names are relative to, and absolute paths."""
    if re.match(r'[A-Za-z][\w+.-]+://', item):
        raise ValueError(f'{item} is a URL, which is not read: download it and give the file')
    if not item or '\0' in item:
        raise ValueError(f'an input is {item!r}, which names no file; . is the working directory')
    path = os.path.abspath(os.path.expanduser(item))
    if os.path.isdir(path):
        names = sorted(os.listdir(path))
        paths = [os.path.join(path, n) for n in names if n.lower().endswith(_KNOWN)]
        paths = [p for p in paths if not os.path.isdir(p)]
        root, what = path, f'folder {item} holds'
    elif os.path.exists(path):
        root, what, paths = os.path.dirname(path), '', [path]
    elif glob.has_magic(item):
        paths = [p for p in sorted(glob.glob(path, recursive=True)) if os.path.isfile(p)]
        paths = [p for p in paths if p.lower().endswith(_KNOWN)]
        # the part of the pattern that is a plain folder
        root = path
        while glob.has_magic(root):
            root = os.path.dirname(root)
        what = f'pattern {item} finds'
    else:
        raise FileNotFoundError(f'input not found: {item} (working directory: {os.getcwd()})')
    if not paths:
        raise FileNotFoundError(f'{what} no picture or video ({", ".join(_KNOWN)})')
    for file in paths:
        try:
            file.encode()
        except UnicodeEncodeError:  # OpenCV crashes on such names
            raise ValueError(f'the name of input {file!r} is not UTF-8: rename it') from None
        if not os.path.exists(file):
            raise FileNotFoundError(f'input {file} is a link to nothing')
        if not os.path.isfile(file):
            raise ValueError(f'input {file} is no file; a camera is given by its index')
        if not os.access(file, os.R_OK):
            raise ValueError(f'input {file} may not be read: see its permissions')
    return root, paths


def _is_image(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    if suffix in IMAGES or suffix in VIDEOS:
        return suffix in IMAGES
    if cv2.haveImageReader(path):
        return cv2.imcount(path) < 2
    return suffix == '.gif'  # damaged: skipped like other pictures, where a video would end the run


def _opened(name: str, kind: str, origin: str | int) -> Source:
    try:
        capture = cv2.VideoCapture(origin)
    except cv2.error:  # an index beyond 32 bits
        capture = cv2.VideoCapture()
    try:
        if not capture.isOpened():
            if kind == 'camera':
                raise ValueError(f'camera {origin} cannot be opened: is it there, and free?')
            raise ValueError(
                f'{origin} cannot be opened as a picture or video: damaged, cut off, or neither'
            )
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if kind == 'video' else 0
        fps = capture.get(cv2.CAP_PROP_FPS)
        # some files and cameras say 0, NaN or their time base
        fps = fps if 1 <= fps <= 1000 else _FPS
        return Source(name, kind, origin, count=count if count > 0 else None, fps=fps)
    finally:
        capture.release()


def _with_ids(sources: list[Source], ann_file: str | os.PathLike | None) -> list[Source]:
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
    elif all(map(str.isdecimal, stems)) and len(set(map(int, stems))) == len(stems):
        ids = list(map(int, stems))
    else:
        ids = range(1, len(pictures) + 1)
    return [replace(source, image_id=i) for source, i in zip(pictures, ids, strict=True)]


def _ids_of(ann_file: str | os.PathLike) -> dict[str, int]:
    try:
        images = json.loads(Path(ann_file).read_text(encoding='utf-8'))['images']
        return {image['file_name']: int(image['id']) for image in images}
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f'{ann_file} is no COCO file whose "images" have id and file_name ({error!r})'
        ) from error


def _picture(source: Source) -> Frame:
    frame = Frame(source.name, source.name, 0, 0)
    image = source.origin
    if isinstance(image, str):
        try:
            image = _LOAD.transform(dict(img_path=image))['img']
        except (OSError, ValueError) as error:
            return replace(frame, error=str(error.__cause__ or error))
    return replace(frame, image=image, size=image.shape[1::-1])


def _video(source: Source) -> Iterator[Frame]:
    capture = cv2.VideoCapture(source.origin)
    count = source.count or 0

    def frame(index: int, **values) -> Frame:
        name, live = source.name, source.kind == 'camera'
        time = index / source.fps
        return Frame(
            f'{name}#{index}', name, index, 0, fps=source.fps, time=time, live=live, **values
        )

    try:
        index = read = 0
        while True:
            good = capture.grab()
            image = None
            if good:
                good, image = capture.retrieve()
            if good:
                # what failed before a good frame was damaged, what fails at the end may be nothing
                for bad in range(read, index):
                    yield frame(bad, error='the frame cannot be decoded')
                yield frame(index, image=image, size=image.shape[1::-1])
                read = index + 1
            elif index + 1 >= count or index - read > _MOST_BAD:
                break
            index += 1
        if not read and count <= 1:
            yield frame(0, error='the video has no frame that can be decoded')
        elif count - read > max(1, _ROUGH * count):
            yield frame(read, error=f'the video ends after {read} of {count} frames')
    finally:
        capture.release()
