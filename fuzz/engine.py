"""Runs cases in processes that may crash, hang or take memory, and judges them."""

import gc
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .mutate import Mutator, mutate_bytes

MOST_SECONDS = 10.0
MOST_BYTES = 1_500_000_000  # over what the process has when the case begins
_MOST_CASES = 500  # in a process
_ROOM = 8 * 2**30  # of addresses, which are not yet memory


@dataclass
class Door:
    """Where files from outside come in.

    Attributes:
        name: for the table and ``--door``.
        seeds: good files: ending and contents.
        enter: what is called with the path of a mutated one.
        errors: that it documents.
        mutate: how seeds are mutated.
    """

    name: str
    seeds: Sequence[tuple[str, bytes]]
    enter: Callable[[Path], object]
    errors: tuple[type[BaseException], ...]
    mutate: Mutator = mutate_bytes

    def case(self, seed: int, number: int) -> tuple[str, bytes]:
        """Ending and contents of a mutated file; of the first good one for number 0."""
        if not number:
            return self.seeds[0]
        random = Random(f'{seed} {self.name} {number}')
        suffix, data = random.choice(self.seeds)
        return suffix, self.mutate(data, random, [other for _, other in self.seeds])


@dataclass
class Verdict:
    """``kind`` is result, error, crash, hang, memory, undocumented, or refused (of a good file)."""

    kind: str
    detail: str = ''
    seconds: float = 0.0
    peak: int = 0

    @property
    def bad(self) -> bool:
        return self.kind not in ('result', 'error')


@dataclass
class Tally:
    """What came of a door's cases."""

    kinds: Counter = field(default_factory=Counter)
    errors: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0
    findings: dict[str, str] = field(default_factory=dict)  # what it is -> how to repeat it

    def add(self, verdict: Verdict) -> None:
        self.kinds[verdict.kind] += 1
        self.slowest = max(self.slowest, verdict.seconds)
        self.peak = max(self.peak, verdict.peak)
        if verdict.kind == 'error':
            self.errors[verdict.detail] += 1


class Worker:
    """A forked process that enters a door with one file after the other.

    Args:
        door: which.
    """

    def __init__(self, door: Door) -> None:
        self._orders, orders = os.pipe()[::-1]
        answers, self._answers = os.pipe()[::-1]
        sys.stdout.flush(), sys.stderr.flush()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._orders), os.close(self._answers)
            _work(door, orders, answers)
        os.close(orders), os.close(answers)
        self.cases = 0

    def judge(self, path: Path) -> Verdict:
        """What becomes of a file; after a bad verdict the process has ended."""
        self.cases += 1
        start = time.monotonic()
        try:
            os.write(self._orders, f'{path}\n'.encode())
            answer = self._listen(start + MOST_SECONDS)
        except BrokenPipeError:
            answer = b''
        seconds = time.monotonic() - start
        if answer is None:
            self.end()
            return Verdict('hang', f'more than {MOST_SECONDS:g} s', seconds)
        if not answer:
            code = os.waitstatus_to_exitcode(self.end())
            name = signal.Signals(-code).name if code < 0 else f'exit status {code}'
            return Verdict('crash', name, seconds)
        kind, detail, peak = json.loads(answer)
        if peak > MOST_BYTES:
            kind, detail = 'memory', f'more than {MOST_BYTES / 1e9:g} GB'
        verdict = Verdict(kind, detail, seconds, peak)
        if verdict.bad:
            self.end()
        return verdict

    def _listen(self, deadline: float) -> bytes | None:
        """A line, nothing if the process has ended, None if it does not answer in time."""
        said = b''
        while not said.endswith(b'\n'):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                return None
            chunk = os.read(self._answers, 65536)
            if not chunk:
                return b''
            said += chunk
        return said

    def end(self) -> int:
        """End the process and whatever it has started; returns its status."""
        if self._pid is None:
            return 0
        pid, self._pid = self._pid, None
        ended, status = os.waitpid(pid, os.WNOHANG)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.close(self._orders), os.close(self._answers)
        return status if ended else os.waitpid(pid, 0)[1]


def judge(door: Door, path: Path) -> Verdict:
    """What becomes of one file in a process of its own."""
    worker = Worker(door)
    try:
        return worker.judge(path)
    finally:
        worker.end()


def _work(door: Door, orders: int, answers: int) -> None:
    """The forked process; does not return."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        room = _memory('VmSize') + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        with os.fdopen(orders, 'rb') as lines:
            for line in lines:
                Path('/proc/self/clear_refs').write_text('5')  # forgets the peak
                before = _memory('VmRSS')
                kind, detail = _enter(door, Path(os.fsdecode(line[:-1])))
                peak = max(0, _memory('VmHWM') - before)
                # before a process becomes another program it has what this one has
                children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
                if children > 1.1 * _memory('VmRSS'):
                    peak = max(peak, children)
                os.write(answers, json.dumps((kind, detail, peak)).encode() + b'\n')
                gc.collect()
    finally:
        os._exit(0)


def _memory(name: str) -> int:
    """Bytes of this process, by their name in ``/proc``."""
    status = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f'{name}:')) * 1024


def _enter(door: Door, path: Path) -> tuple[str, str]:
    try:
        door.enter(path)
    except MemoryError:
        return 'memory', 'MemoryError'
    except door.errors as error:
        return 'error', type(error).__name__
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = f'{Path(frames[-1].filename).name}:{frames[-1].lineno}'
        trace = ''.join(traceback.format_exception(error))[-8000:]
        return 'undocumented', f'{type(error).__name__} at {place}\n{trace}'
    return 'result', ''


def run(
    doors: Sequence[Door], seconds: float, seed: int, out: Path, first: int = 0
) -> dict[str, Tally]:
    """Mutated files through doors in turn, each for an equal part of the time.

    Args:
        doors: which.
        seconds: in all.
        seed: of the mutations.
        out: folder; gets the file and the details of every finding.
        first: number of the first case.

    Returns:
        What came of it, by doors' names.
    """
    tallies = {door.name: Tally() for door in doors}
    workers: dict[str, Worker] = {}
    gc.collect(), gc.freeze()  # so that less memory is copied
    numbers = dict.fromkeys(tallies, first)
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        door = min(doors, key=lambda door: tallies[door.name].seconds)
        tally, number = tallies[door.name], numbers[door.name]
        numbers[door.name] += 1
        suffix, data = door.case(seed, number)
        path = out / f'case{suffix}'
        path.write_bytes(data)
        start = time.monotonic()
        worker = workers.pop(door.name, None) or Worker(door)
        verdict = worker.judge(path)
        if verdict.bad:  # of the file, or of those before it, or because the machine was busy
            verdict = judge(door, path)
        elif worker.cases < _MOST_CASES:
            workers[door.name] = worker
        if door.name not in workers:
            worker.end()
        if not number and verdict.kind == 'error':
            verdict = Verdict('refused', f'a good file: {verdict.detail}', verdict.seconds)
        tally.seconds += time.monotonic() - start
        tally.add(verdict)
        what = f'{verdict.kind}: {verdict.detail.splitlines()[0]}' if verdict.bad else ''
        if what and what not in tally.findings:
            kept = out / f'{door.name}-{seed}-{number}{suffix}'
            path.replace(kept)
            kept.with_name(f'{kept.name}.txt').write_text(verdict.detail, encoding='utf-8')
            tally.findings[what] = f'--door {door.name} --file {kept}'
        path.unlink(missing_ok=True)
    for worker in workers.values():
        worker.end()
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """Door by door: cases, results, errors by their classes, findings, the slowest, the peak."""
    lines = [
        f'{"door":12} {"cases":>6} {"results":>8} {"errors":>7} {"findings":>9} {"slowest":>8} '
        f'{"memory":>8}  errors by class'
    ]
    for name, tally in tallies.items():
        kinds, total = tally.kinds, sum(tally.kinds.values())
        bad = total - kinds['result'] - kinds['error']
        classes = ', '.join(f'{error} {count}' for error, count in tally.errors.most_common(4))
        lines.append(
            f'{name:12} {total:6} {kinds["result"]:8} {kinds["error"]:7} {bad:9} '
            f'{tally.slowest:6.1f} s {tally.peak / 1e6:5.0f} MB  {classes}'
        )
    return '\n'.join(lines)
