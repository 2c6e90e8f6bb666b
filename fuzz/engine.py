"""Runs cases, each in a process of its own that may crash, hang or take memory, and judges them."""

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
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .mutate import Mutator, mutate_bytes

MOST_SECONDS = 10.0
MOST_BYTES = 1_500_000_000  # over what the process has when the case begins
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
        """Ending and contents of a mutated file."""
        random = Random(f'{seed} {self.name} {number}')
        suffix, data = random.choice(self.seeds)
        return suffix, self.mutate(data, random, [other for _, other in self.seeds])


@dataclass
class Verdict:
    """``kind`` is ``result``, ``error``, ``crash``, ``hang``, ``memory`` or ``undocumented``."""

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


def judge(door: Door, path: Path) -> Verdict:
    """What becomes of one file, in a process forked for it."""
    reader, writer = os.pipe()
    sys.stdout.flush(), sys.stderr.flush()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _work(door, path, writer)
    os.close(writer)
    try:
        said, hung = _listen(reader, start + MOST_SECONDS)
    finally:
        os.close(reader)
        try:  # and whatever it has started
            os.killpg(pid, signal.SIGKILL) if hung else None
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - start
    before, _, answer = said.decode(errors='replace').partition('\n')
    peak = max(0, usage.ru_maxrss * 1024 - int(before or 0)) if before.isdigit() else 0
    if hung:
        return Verdict('hang', f'more than {MOST_SECONDS:g} s', seconds, peak)
    if peak > MOST_BYTES:
        return Verdict('memory', f'{peak / 1e9:.1f} GB more', seconds, peak)
    if not answer:
        code = os.waitstatus_to_exitcode(status)
        name = signal.Signals(-code).name if code < 0 else f'exit status {code}'
        return Verdict('crash', name, seconds, peak)
    return Verdict(*json.loads(answer), seconds, peak)


def _listen(reader: int, deadline: float) -> tuple[bytes, bool]:
    said = b''
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return said, True
        chunk = os.read(reader, 65536)
        if not chunk:
            return said, False
        said += chunk
        if said.endswith(b']\n'):
            return said, False


def _work(door: Door, path: Path, writer: int) -> None:
    """The forked process; does not return."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        pages = [int(number) for number in Path('/proc/self/statm').read_text().split()[:2]]
        room, memory = (number * os.sysconf('SC_PAGE_SIZE') for number in pages)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (room + _ROOM,) * 2)
        os.write(writer, f'{memory}\n'.encode())
        answer = _enter(door, path)
        os.write(writer, json.dumps(answer).encode() + b'\n')
    finally:
        os._exit(0)


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
        verdict = judge(door, path)
        tally.seconds += verdict.seconds
        if verdict.kind == 'hang':  # of the file, or because the machine was busy
            verdict = judge(door, path)
            tally.seconds += verdict.seconds
        tally.kinds[verdict.kind] += 1
        tally.slowest = max(tally.slowest, verdict.seconds)
        tally.peak = max(tally.peak, verdict.peak)
        if verdict.kind == 'error':
            tally.errors[verdict.detail] += 1
        what = f'{verdict.kind}: {verdict.detail.splitlines()[0]}' if verdict.bad else ''
        if what and what not in tally.findings:
            kept = out / f'{door.name}-{seed}-{number}{suffix}'
            path.replace(kept)
            kept.with_name(f'{kept.name}.txt').write_text(verdict.detail, encoding='utf-8')
            tally.findings[what] = f'--door {door.name} --file {kept}'
        path.unlink(missing_ok=True)
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
