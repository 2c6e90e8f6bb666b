"""Files of strangers, decoded in a process that may die.

It inherits nothing but two pipes, has bounds of memory and time, and says what it sees in messages
that hold pixels and a line of text (:mod:`.wire`). Whatever becomes of it, the one who asked gets a
:class:`MediaError`.
"""

import atexit
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import av
import cv2
import numpy as np

from . import wire
from .limits import ORDINARY, Limits, MediaError, UnreadKind
from .videos import Shot

# No import of the package, which would take seconds and all of torch.
_START = """
import importlib.util, sys
folder = sys.argv[1]
sys.path += sys.argv[2].split('\\n')
spec = importlib.util.spec_from_file_location(
    'media', folder + '/__init__.py', submodule_search_locations=[folder]
)
sys.modules['media'] = media = importlib.util.module_from_spec(spec)
spec.loader.exec_module(media)
from media.worker_main import main
main()
"""
_GONE = 'cannot be decoded: it took too much memory, or its decoder failed'
# One thread in each library that is not asked to decode, for they take memory; and glibc keeps what
# one frame gives back for the next.
_VARIABLES = dict(
    OPENBLAS_NUM_THREADS='1',
    OMP_NUM_THREADS='1',
    LC_ALL='C.UTF-8',
    MALLOC_MMAP_THRESHOLD_=str(2**25),
    MALLOC_TRIM_THRESHOLD_=str(2**27),
)
_PIPE = 2**20  # bytes that may wait in it
_SLOW = 'cannot be decoded: it took too long'


@dataclass(frozen=True)
class Bounds:
    """Of a decoding process.

    Attributes:
        memory: bytes on top of what it has when it is ready.
        cpu: seconds of all its threads, a frame.
        wait: seconds until a frame is there, on a machine that is busy.
    """

    memory: int = 2**30
    cpu: int = 10
    wait: float = 30.0


USUAL = Bounds()


class IsolatedMedia:
    """As :func:`open_media`, in a process of its own.

    Args:
        path: of a picture or video.
        limits: of what it may hold.
        bounds: of the process.

    Attributes:
        medium, count, fps: as of :class:`Video` and :class:`Picture`.

    Raises:
        UnreadKind, MediaError: as for :func:`open_media`, or it took too much memory or time.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        limits: Limits = ORDINARY,
        bounds: Bounds = USUAL,
    ) -> None:
        self._limits, self._bounds = limits, bounds
        self._process = _ready(bounds)
        try:
            order = dict(
                path=os.path.abspath(path),
                pixels=limits.pixels,
                seconds=None if math.isinf(limits.seconds) else limits.seconds,
                frames=None if math.isinf(limits.frames) else limits.frames,
            )
            with suppress(OSError):  # it is dead: receive says so
                self._process.stdin.write(json.dumps(order).encode() + b'\n')
            opened = self._receive()
            if opened.what != wire.OPENED or opened.text not in ('image', 'video'):
                raise MediaError(_GONE)
        except BaseException:
            self.close()
            raise
        self.medium = opened.text
        count, fps = opened.first, opened.second
        self.count = int(count) if 0 < count < 2**53 else None
        self.fps = (fps if 1 <= fps <= 1000 else 30.0) if self.medium == 'video' else None

    def frames(self) -> Iterator[Shot]:
        """As of :class:`Video`; ends with an error if the process does not reach the end."""
        while True:
            try:
                message = self._receive()
            except MediaError as error:
                yield Shot(None, None, f'it {error}')
                return
            if message.what == wire.END:
                return
            seconds = message.first if math.isfinite(message.first) else None
            yield Shot(message.image, seconds, message.text or None)

    def close(self) -> None:
        """End the process. :func:`prepare` starts the next one, once nothing else is to do."""
        _end(self._process)

    def _receive(self) -> wire.Message:
        slow = threading.Timer(self._bounds.wait, self._process.kill)
        slow.start()
        try:
            message = wire.receive(self._fill, self._limits)
        except EOFError:
            raise MediaError(self._reason(slow.is_alive())) from None
        finally:
            slow.cancel()
        if message.what == wire.REFUSED:
            raise MediaError(message.text)
        if message.what == wire.UNREAD:
            raise UnreadKind(message.text)
        return message

    def _fill(self, room: memoryview) -> None:
        while room:
            count = self._process.stdout.readinto(room)
            if not count:
                raise EOFError
            room = room[count:]

    def _reason(self, in_time: bool) -> str:
        """Why it is gone."""
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(1) == -getattr(signal, 'SIGXCPU', 0):
                in_time = False
        return _GONE if in_time else _SLOW


_lock = threading.Lock()
_spare: list[tuple[Bounds, subprocess.Popen]] = []


def _ready(bounds: Bounds) -> subprocess.Popen:
    """A process that waits for a file."""
    with _lock:
        kept, process = _spare.pop() if _spare else (None, None)
    if process is not None and kept == bounds and process.poll() is None:
        return process
    if process is not None:
        _end(process)
    return _start(bounds)


def prepare(bounds: Bounds = USUAL) -> None:
    """Start a process for the next file, so that it need not be waited for."""
    with _lock:
        if not _spare:
            _spare.append((bounds, _start(bounds)))


@atexit.register
def dismiss() -> None:
    """End the process that waits for a file, if there is one."""
    with _lock:
        while _spare:
            _end(_spare.pop()[1])


def _start(bounds: Bounds) -> subprocess.Popen:
    homes = dict.fromkeys(str(Path(module.__file__).parents[1]) for module in (np, cv2, av))
    arguments = os.path.dirname(os.path.abspath(__file__)), '\n'.join(homes)
    process = subprocess.Popen(
        # isolated: neither variables, nor the user's packages, nor the working directory
        [sys.executable, '-I', '-c', _START, *arguments, str(bounds.memory), str(bounds.cpu)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        bufsize=0,
        cwd='/',
        env=_VARIABLES,
        start_new_session=True,  # Ctrl-C is for the one who asked
    )
    if hasattr(fcntl, 'F_SETPIPE_SZ'):  # a frame has megabytes, a pipe 64 kilobytes
        with suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
    return process


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.stdin.close()
    process.stdout.close()
    process.wait()
