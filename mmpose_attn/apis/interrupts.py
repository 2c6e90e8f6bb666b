"""Ctrl-C and ``kill``, at moments at which nothing is half done."""

import signal
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar('T')
# with what Python or the system would do; what somebody else has set stays
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupts:
    """Within it, SIGINT and SIGTERM raise :class:`KeyboardInterrupt` while :meth:`next` waits.

    At all other moments they are kept for the next call of it. In another thread than the main
    one, where Python has no signals, nothing changes.

    Attributes:
        signal: the first one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._waiting = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> 'Interrupts':
        try:
            for number, default in _DEFAULTS.items():
                if signal.getsignal(number) is default:
                    self._before[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread
            pass
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def next(self, items: Iterator[T]) -> T | None:
        """The next item, None after the last one."""
        self._waiting = True
        try:
            if self.signal:
                raise KeyboardInterrupt
            return next(items, None)
        finally:
            self._waiting = False
