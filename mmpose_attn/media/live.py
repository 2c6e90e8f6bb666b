"""Streams that somebody named by their address: a door of its own, which no file can open."""

import errno
import math
import os
import re
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import av

from .limits import ORDINARY, Limits, MediaError
from .videos import Shot, frame_rate, open_container, shots, video_stream

RECONNECTS = 3
_STEADY = 60.0  # seconds after which a connection counts as good, and earlier losses as forgotten
_WAIT = 10.0  # seconds for something to come
_PAUSE = 1.0  # seconds before each try
# No playlist: whoever can write one could have us open addresses that nobody named.
_FORMATS = 'mpegts,mpjpeg,mjpeg,flv,matroska,webm,mov,mp4,ogg,asf,avi,mpeg'
_WEB = 'http,https,tcp,tls,httpproxy'
_PROTOCOLS = dict(http=_WEB, https=_WEB, rtsp='rtsp,rtp,udp,tcp', rtsps='rtsp,rtp,udp,tcp,tls')
_CONTENTS = errno.EIO, errno.EINVAL
_PIPE = re.compile(r'pipe:(\d*)')


def is_address(item: str) -> bool:
    """Whether an input is an address of any kind, a pipe included, and no path."""
    return bool(re.match(r'[A-Za-z][\w+.-]+://', item) or _PIPE.fullmatch(item) or _is_fifo(item))


def shown(address: str) -> str:
    """An address without the passwords and keys in it; anything else as it is."""
    if not re.match(r'[A-Za-z][\w+.-]+://', address):
        return address
    return re.sub(r'(?<=://)[^/@]*@', '', re.sub(r'\?.*', '?...', address, flags=re.DOTALL))


class LiveStream:
    """A stream by its address.

    Args:
        address: ``rtsp://``, ``rtsps://``, ``http://`` or ``https://``, the path
            of a named pipe, ``'pipe:0'`` for the standard input, or ``'pipe:3'``
            for that descriptor.
        limits: frames that are larger are not decoded.
        reconnects: how often a connection that is lost is made again; a minute
            without a loss forgets earlier ones. A pipe ends when its writer does.
        wait: seconds for something to come, until a connection counts as lost.

    Attributes:
        name: of a source, without what is secret in the address.
        fps: frames a second, 30 if that is not known.
        live: whether it goes on without us; not of a file behind an address.
        count: frames of such a file, None if that is not known.

    Raises:
        MediaError: it cannot be reached or decoded, or is of a kind that is not read.
    """

    medium = 'stream'

    def __init__(
        self,
        address: str,
        limits: Limits = ORDINARY,
        reconnects: int = RECONNECTS,
        wait: float = _WAIT,
    ) -> None:
        self.address, self.reconnects = address, reconnects
        self._limits, self._wait = limits, wait
        self._pipe = '://' not in address
        words = re.sub(r'[^\w.-]+', '_', shown(address).split('?')[0]).strip('_.')
        self.name = words or 'stream'
        self._container = self._stream = None
        self.fps, self.live, self.count = 30.0, True, None
        if self._pipe:
            self._check_pipe()
        else:
            scheme, _, rest = address.partition('://')
            self.address = f'{scheme.lower()}://{rest}'  # as FFmpeg knows it
            if scheme.lower() not in _PROTOCOLS:
                raise MediaError(
                    f'is an address of a kind that is not read; these are: {", ".join(_PROTOCOLS)}'
                )
            try:
                parts = urlsplit(address)
                named = parts.port != 0 and bool(parts.hostname)
            except ValueError:
                named = False
            if not named:
                raise MediaError('is no address: a computer, or a port below 65536, is missing')
            self._connect()

    def _check_pipe(self) -> None:
        numbered = _PIPE.fullmatch(self.address)
        if numbered:
            try:
                os.fstat(int(numbered[1] or 0))
            except (OSError, OverflowError):
                raise MediaError('is not open: nobody has handed that descriptor over') from None

    def _connect(self) -> None:
        options = dict(format_whitelist=_FORMATS, protocol_whitelist='')
        format_ = file = None
        if self._pipe:
            file = _PipeReader(self.address, self._wait)
        else:
            scheme = self.address.partition('://')[0]
            options['protocol_whitelist'] = _PROTOCOLS[scheme]
            if scheme.startswith('rtsp'):
                format_ = options['format_whitelist'] = 'rtsp'
                options['rtsp_transport'] = 'tcp'  # nothing is lost, and firewalls let it through
        try:
            self._container = open_container(
                self.address,
                self._limits,
                options=options,
                format=format_,
                timeout=(self._wait, self._wait),
                file=file,
            )
        except MediaError as error:
            if file is not None and file.silent:
                raise MediaError(
                    f'cannot be read: nothing came for {self._wait:g} seconds'
                ) from None
            raise MediaError(f'cannot be read: {self._reason(error)}') from error
        self._stream = video_stream(self._container, 'stream', self._limits)
        self.fps = frame_rate(self._stream)
        seconds = (self._container.duration or 0) / av.time_base
        self.live = self._pipe or not seconds
        self.count = None if self.live else self._stream.frames or round(seconds * self.fps)

    def _reason(self, error: MediaError) -> str:
        cause = error.__cause__
        if isinstance(cause, av.error.ExitError):
            return f'nothing came for {self._wait:g} seconds'
        # what FFmpeg says of contents that no format on the list takes
        if isinstance(cause, av.error.InvalidDataError) or getattr(cause, 'errno', 0) in _CONTENTS:
            return (
                f'what comes is nothing, or of none of these kinds: {_FORMATS}. What else FFmpeg '
                'reads, such as the playlist of HLS, it can pass on to pipe:0'
            )
        return cause.strerror if isinstance(cause, av.error.FFmpegError) else str(error)

    def frames(self) -> Iterator[Shot]:
        """Frame after frame; the last one says that the connection was lost, if it was."""
        start, left, last = time.monotonic(), self.reconnects, -math.inf
        read = 0
        try:
            if self._container is None:
                self._connect()
            while True:
                began = time.monotonic()
                offset = began - start if math.isfinite(last) else 0.0
                for shot in shots(self._container, self._stream, self._limits):
                    if shot.error is not None and not math.isfinite(last):
                        continue  # it began in the middle
                    moment = last if shot.time is None else max(offset + shot.time, last)
                    last, read = moment, read + 1
                    yield shot._replace(time=moment)
                if not self.live and (not read or read < 0.99 * (self.count or 0) - 1):
                    raise MediaError(f'ended after {read} of {self.count or "its"} frames')
                if not self.live or self._pipe:
                    return
                if time.monotonic() - began > _STEADY:
                    left = self.reconnects
                while True:
                    if not left:
                        tries = f'{self.reconnects} time{"s" * (self.reconnects != 1)}'
                        raise MediaError(f'was lost for good: tried to reach it again {tries}')
                    left -= 1
                    time.sleep(_PAUSE)
                    with suppress(MediaError, OSError):
                        self._connect()
                        break
        except (MediaError, OSError) as error:
            yield Shot(None, max(last, 0.0), f'the stream {error}')
        finally:
            self.close()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


class _PipeReader:
    """A pipe as a file that ends when nobody writes any more, or for too long."""

    def __init__(self, address: str, wait: float) -> None:
        numbered = _PIPE.fullmatch(address)
        if numbered:
            self._pipe = int(numbered[1] or 0)
        else:  # does not wait for the one who writes
            self._pipe = os.open(address, os.O_RDONLY | os.O_NONBLOCK)
        self._wait, self._own = wait, not numbered
        self.silent, self._begun = False, False

    def read(self, size: int) -> bytes:
        deadline = time.monotonic() + self._wait
        while sys.platform != 'win32':
            if select.select([self._pipe], [], [], 0.2)[0]:
                with suppress(BlockingIOError):
                    data = os.read(self._pipe, size)
                    # before the first writer a named pipe seems to be at its end
                    if data or not self._own or self._begun:
                        self._begun = True
                        return data
                    time.sleep(0.05)
            if time.monotonic() > deadline:
                self.silent = True
                return b''
        return os.read(self._pipe, size)

    def close(self) -> None:
        if self._own:
            os.close(self._pipe)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(os.path.expanduser(path)).st_mode)
    except (OSError, ValueError):
        return False
