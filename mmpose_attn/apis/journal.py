"""What inference goes on from where it was interrupted: a journal of what the networks said."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, where two runs into one folder do not notice each other
    fcntl = None

from mmpose_attn.files import parse_json, printable

from .results import Frame, People, PoseResult

_VERSION = 2  # of what is in a journal


class Journal:
    """What the networks said, frame by frame, in one file of JSON lines that only grows.

    Everything else is made from it. A chunk, the frames that were computed
    together, is closed by a line of its own; of a chunk that was interrupted
    nothing counts. The file is locked until it is closed or the process ends.

    Args:
        path: the file.
        settings: what results depend on.
        resume: go on after the last complete chunk, if the file was begun.

    Attributes:
        finished: names of the pictures that are in the file, with their
            ``image_id``, and of the videos that are there to their end (None).
        count: frames in the file.
        unfinished: the video that was interrupted, and how many of its frames
            are in the file.

    Raises:
        ValueError: the file was made with other settings, is no journal, or
            another version of this package has written it, or
            another run is writing to it.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.finished: dict[str, int | None] = {}
        self.count = 0
        self.unfinished: tuple[str | None, int] = (None, 0)
        self._offset = 0  # of the unfinished video's first frame
        resume = resume and self.begun(path)
        self._file = path.open('ab', buffering=0)
        with ExitStack() as on_error:
            on_error.callback(self._file.close)
            self._lock()
            if resume:
                self._file.truncate(self._read(settings))
            else:
                self._file.truncate(0)
                self._write(dict(journal=_VERSION, settings=settings), dict(end=0))
            on_error.pop_all()

    @staticmethod
    def begun(path: Path) -> bool:
        """Whether there is one; without room for its first line the file stays empty."""
        return path.exists() and path.stat().st_size > 0

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
                        self._check(record, settings)
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

    def _check(self, head: dict[str, Any], now: dict[str, Any]) -> None:
        if head['journal'] != _VERSION:
            raise ValueError(
                f'{printable(self.path)} is of another version of this package, without the times '
                'of frames: start anew (--overwrite), or write to another folder'
            )
        before = head['settings']
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
        if record['fps'] is None and record['time'] is None:
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
        except OSError as error:
            self._file.truncate(end)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        except BaseException:
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
        time=frame.time,
    )
    if frame.error is not None:
        return dict(record, error=frame.error)
    return dict(record, people=result.people.to_lists())


def _result(record: dict, joints: int) -> PoseResult:
    values = {k: record[k] for k in ('source', 'index', 'image_id', 'fps', 'time')}
    frame = Frame(record['frame'], size=tuple(record['size']), error=record.get('error'), **values)
    if frame.error is not None:
        return PoseResult(frame, People.nobody(joints))
    return PoseResult(frame, People.from_lists(record['people'], joints))
