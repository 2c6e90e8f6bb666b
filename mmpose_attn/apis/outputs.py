"""What inference leaves in a folder: a journal, drawn pictures and videos, COCO JSON and CSV."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where two runs into one folder do not notice each other
    fcntl = None

from mmpose_attn.files import parse_json, path_inside, printable, replacing
from mmpose_attn.visualization import draw_people

from .results import Frame, People, PoseResult

PERSON = 1  # COCO's category
_FORMULA = tuple('=+-@\t\r\n\uff1d\uff0b\uff0d\uff20')  # how spreadsheets' begin, of full width too
TABLES = ('results.json', 'results.csv', 'images.json')
_LEAST_SIDE = 320  # pixels of a drawn picture: smaller ones are enlarged, to be legible
_MOST_SIDE = 4096  # but not further than this
_JPEG_SIDE = 65500  # pixels; what JPEG and WebP cannot hold is a PNG
# What OpenCV's wheels can write: the first everybody's players read, the second browsers as well.
_VIDEO_CODECS = {'.mp4': 'mp4v', '.webm': 'VP80'}


# ------------------------------------------------------------------ journal


class Journal:
    """What the networks said, frame by frame, in one file of JSON lines that only grows.

    Everything else is made from it. A chunk, the frames that were computed
    together, is closed by a line of its own; of a chunk that was interrupted
    nothing counts. The file is locked until it is closed or the process ends.

    Args:
        path: the file.
        settings: what results depend on.
        resume: go on after the last complete chunk, if the file exists.

    Attributes:
        finished: names of the pictures that are in the file, with their
            ``image_id``, and of the videos that are there to their end (None).
        count: frames in the file.
        unfinished: the video that was interrupted, and how many of its frames
            are in the file.

    Raises:
        ValueError: the file was made with other settings, is no journal, or
            another run is writing to it.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.finished: dict[str, int | None] = {}
        self.count = 0
        self.unfinished: tuple[str | None, int] = (None, 0)
        self._offset = 0  # of the unfinished video's first frame
        resume = resume and path.exists()
        self._file = path.open('ab', buffering=0)
        with ExitStack() as on_error:
            on_error.callback(self._file.close)
            self._lock()
            if resume:
                self._file.truncate(self._read(settings))
            else:
                self._file.truncate(0)
                self._write(dict(journal=1, settings=settings), dict(end=0))
            on_error.pop_all()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f'another run is writing to {self.path.parent}: wait for its end, or write to '
                'another folder'
            ) from None
        except OSError:  # a file system without locks
            pass

    def _read(self, settings: dict[str, Any]) -> int:
        """Take stock; returns the length of the complete part in bytes."""
        end = 0
        pending: list[tuple[int, dict]] = []
        with open(self.path, 'rb') as file:
            # without an end is the line that was being written
            while (line := file.readline()).endswith(b'\n'):
                try:
                    record = parse_json(line, '', dict)
                except ValueError:
                    break
                with self._own():
                    if 'journal' in record:
                        self._check(record['settings'], settings)
                    elif 'end' not in record:
                        pending.append((file.tell() - len(line), record))
                    else:
                        for offset, known in pending:
                            self._count(offset, known)
                        pending, end = [], file.tell()
        if not end:
            raise ValueError(f'{self.path} is no journal of inference: it cannot be resumed')
        return end

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Within it, what no journal holds is an error that names the file."""
        try:
            yield
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f'{printable(self.path)} was changed by something else ({error!r:.200}): start anew'
            ) from error

    @staticmethod
    def _check(before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if changed:
            raise ValueError(
                'this cannot resume what ran with other settings: '
                + ', '.join(f'{n} was {before.get(n)!r}, is {now.get(n)!r}' for n in changed)
            )

    def _count(self, offset: int, record: dict) -> None:
        if 'done' in record:
            self.finished[record['done']] = None
            self.unfinished = None, 0
            return
        self.count += 1
        name, frames = self.unfinished
        if record['fps'] is None:
            self.finished[record['source']] = record['image_id']
            return
        if name is None:
            self._offset = offset
        self.unfinished = record['source'], frames + 1

    def add(self, results: Sequence[PoseResult], done: str | None = None) -> None:
        """Write a chunk, and before it the name of a video that is at its end."""
        ended = [] if done is None else [dict(done=done)]
        self._write(*ended, *map(_record, results), dict(end=1))

    def _write(self, *records: dict) -> None:
        lines = [json.dumps(record, separators=(',', ':')) + '\n' for record in records]
        left = memoryview(''.join(lines).encode())
        end = self._file.seek(0, os.SEEK_END)
        try:
            while left:  # a disk that fills takes a part
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(end)
            raise

    def replay(self, joints: int) -> Iterator[People]:
        """The people in the frames of the unfinished video."""
        results = islice(self.results(joints, self._offset), self.unfinished[1])
        return (result.people for result in results)

    def results(self, joints: int, offset: int = 0) -> Iterator[PoseResult]:
        """What was written, without images."""
        with open(self.path, 'rb') as file:
            file.seek(offset)
            for line in file:
                with self._own():
                    record = parse_json(line, 'a line', dict)
                    result = _result(record, joints) if 'frame' in record else None
                if result is not None:
                    yield result

    def close(self) -> None:
        self._file.close()


def _record(result: PoseResult) -> dict:
    frame = result.frame
    record = dict(
        frame=frame.name,
        source=frame.source,
        index=frame.index,
        image_id=frame.image_id,
        size=frame.size,
        fps=frame.fps,
    )
    if frame.error is not None:
        return dict(record, error=frame.error)
    return dict(record, people=result.people.to_lists())


def _result(record: dict, joints: int) -> PoseResult:
    values = {k: record[k] for k in ('source', 'index', 'image_id', 'fps')}
    frame = Frame(record['frame'], size=tuple(record['size']), error=record.get('error'), **values)
    if frame.error is not None:
        return PoseResult(frame, People.nobody(joints))
    return PoseResult(frame, People.from_lists(record['people'], joints))


# ------------------------------------------------------------------- tables


def write_tables(folder: Path, results: Iterable[PoseResult], names: Sequence[str]) -> None:
    """Write ``results.json``, ``results.csv`` and ``images.json``, complete or not at all.

    Args:
        folder: where.
        results: frame by frame; none is kept.
        names: of the K keypoints.

    ``results.json`` is COCO's list of keypoint results: ``keypoints`` are x, y
    and score, ``bbox`` is x, y, width, height; ``track_id`` is there after
    tracking. ``images.json`` says which image every ``image_id`` is. In the CSV,
    names that a spreadsheet would compute begin with ``./``.
    """
    head = ['image_id', 'frame', 'person', 'track_id', 'score', 'box_score', 'x1', 'y1', 'x2', 'y2']
    head += [_cell(f'{name}_{part}') for name in names for part in ('x', 'y', 'score')]
    with ExitStack() as stack:
        files = [stack.enter_context(replacing(folder / name)) for name in TABLES]
        people_file, csv_file, image_file = files
        table = csv.writer(csv_file, lineterminator='\n')
        quoted = csv.writer(csv_file, lineterminator='\n', quoting=csv.QUOTE_ALL)
        table.writerow(head)
        people_file.write('[')
        image_file.write('{"images": [')
        person_comma = image_comma = ''
        for result in results:
            frame, people = result.frame, result.people
            image = dict(
                id=frame.image_id, file_name=frame.name, width=frame.size[0], height=frame.size[1]
            )
            image_file.write(f'{image_comma}\n{json.dumps(image)}')
            image_comma = ','
            for i in range(len(people)):
                person = _coco_person(frame, people, i)
                people_file.write(f'{person_comma}\n{json.dumps(person)}')
                person_comma = ','
                ids = frame.image_id, _cell(frame.name), i, person.get('track_id', '')
                box = people.box_scores[i], *people.boxes[i]
                # which the writer does not see as a line's end
                writer = quoted if '\r' in frame.name else table
                writer.writerow([*ids, person['score'], *box, *person['keypoints']])
        people_file.write('\n]\n')
        image_file.write('\n]}\n')


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula; of a file the same path."""
    return f'./{text}' if text.startswith(_FORMULA) else text


def _coco_person(frame: Frame, people: People, i: int) -> dict:
    x1, y1, x2, y2 = people.boxes[i].tolist()
    poses = np.concatenate((people.keypoints[i], people.keypoint_scores[i][:, None]), 1)
    person = dict(
        image_id=frame.image_id,
        category_id=PERSON,
        keypoints=poses.ravel().tolist(),
        score=float(people.scores[i]),
        bbox=[x1, y1, round(x2 - x1, 4), round(y2 - y1, 4)],
    )
    if people.track_ids is not None:
        person['track_id'] = int(people.track_ids[i])
    return person


# ------------------------------------------------------------------ drawing


def draw_result(
    result: PoseResult, skeleton: Sequence[tuple[int, int]], threshold: float = 0.3
) -> np.ndarray:
    """The frame with its people, their scores and, after tracking, their ids.

    Args:
        result: with an image.
        skeleton: pairs of keypoint indices.
        threshold: least score of a keypoint that is drawn.

    Returns:
        (H, W, 3) uint8; a small frame is enlarged by a whole factor.
    """
    image, people = result.frame.image, result.people
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

    Args:
        folder: gets a file for every source.
        video: what a video becomes, ``'.mp4'`` or, slower, ``'.webm'`` for browsers.
    """

    def __init__(self, folder: Path, video: str = '.mp4') -> None:
        self.folder, self._video = folder, video
        self._writer: cv2.VideoWriter | None = None

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
        video = frame.fps is not None
        path = self.path(frame.source, video)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not video:
            if max(picture.shape) > _JPEG_SIDE and path.suffix.lower() != '.png':
                path = path.with_name(f'{path.name}.png')
            with replacing(path, 'wb') as file:
                file.write(cv2.imencode(path.suffix, picture)[1])
            return
        if self._writer is None:
            self._path, self._partial = path, path.with_name(f'.partial_{path.name}')
            self._size, self._frames = picture.shape[1::-1], 0
            codec = cv2.VideoWriter_fourcc(*_VIDEO_CODECS[self._video])
            self._writer = cv2.VideoWriter(str(self._partial), codec, frame.fps, self._size)
            if not self._writer.isOpened():
                raise OSError(f'video {path} cannot be written: no encoder, or no space')
        if picture.shape[1::-1] != self._size:  # the writer would leave it out without a word
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)
        self._frames += 1

    def end_video(self) -> None:
        """Complete the video that is being written, if there is one.

        Raises:
            OSError: not all of it could be written, which OpenCV does not say.
        """
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            written = cv2.VideoCapture(str(self._partial))
            frames = int(written.get(cv2.CAP_PROP_FRAME_COUNT))
            written.release()
            if frames != self._frames:
                self._partial.unlink(missing_ok=True)
                raise OSError(f'video {self._path} could not be written: is the disk full?')
            os.replace(self._partial, self._path)
