"""What runs in a decoding process (:mod:`.worker`): one file, then the end."""

import ctypes
import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, where time is bounded but memory is not
    resource = None

from . import wire
from .files import open_media
from .limits import Limits, MediaError, UnreadKind

_NO_NEW_PRIVILEGES = 38  # of Linux's prctl


def main() -> None:
    memory, cpu = int(sys.argv[3]), int(sys.argv[4])
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no message

    def write(data: memoryview) -> None:
        while data:
            data = data[os.write(out, data) :]

    _close_doors(memory)
    order = json.loads(sys.stdin.buffer.readline() or 'null')
    if order is None:
        return  # never needed
    length = (math.inf if order[name] is None else order[name] for name in ('seconds', 'frames'))
    try:
        _allow(cpu)
        media = open_media(order['path'], Limits(order['pixels'], *length))
        numbers = media.count or math.nan, media.fps or math.nan
        wire.send(write, wire.Message(wire.OPENED, media.medium, None, *numbers))
        _allow(cpu)
        for shot in media.frames():
            moment = math.nan if shot.time is None else shot.time
            wire.send(write, wire.Message(wire.SHOT, shot.error or '', shot.image, moment))
            _allow(cpu)
        wire.send(write, wire.Message(wire.END))
    except UnreadKind as error:
        wire.send(write, wire.Message(wire.UNREAD, str(error)))
    except MediaError as error:
        wire.send(write, wire.Message(wire.REFUSED, str(error)))
    except MemoryError:
        wire.send(write, wire.Message(wire.REFUSED, 'cannot be decoded: it takes too much memory'))
    except OSError as error:
        wire.send(write, wire.Message(wire.REFUSED, f'cannot be read: {error.strerror}'))


def _close_doors(memory: int) -> None:
    """Bounds that this process cannot widen again."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if resource is None:
        return
    for name, most in (('RLIMIT_FSIZE', 0), ('RLIMIT_CORE', 0), ('RLIMIT_NOFILE', 32)):
        with suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (most, most))
    with suppress(OSError, ValueError):
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _allow(seconds: int) -> None:
    """So much more time of the processor, of all threads."""
    if resource is not None:
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        with suppress(OSError, ValueError):
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + seconds, hard))
