"""What an address did of late, and what it does at the moment."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

_MOST_ADDRESSES = 4096  # the latest are remembered


class TooMuch(Exception):
    """An address asks for more than its share: (what it is told, seconds until it may again)."""

    def __init__(self, message: str, seconds: float = 1) -> None:
        super().__init__(message)
        self.seconds = max(1, round(seconds))


class Tally:
    """Amounts of the past ``seconds``, of every address by itself."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._entries: dict[str, deque[tuple[float, float]]] = {}

    def add(self, address: str, amount: float = 0) -> None:
        # the latest address is the last one
        entries = self._entries.pop(address, deque())
        entries.append((time.monotonic(), amount))
        self._entries[address] = entries
        if len(self._entries) > _MOST_ADDRESSES:
            del self._entries[next(iter(self._entries))]

    def total(self, address: str) -> tuple[int, float]:
        """How many there were, and their sum."""
        entries = self._entries.get(address, deque())
        while entries and entries[0][0] < time.monotonic() - self.seconds:
            entries.popleft()
        return len(entries), sum(amount for _, amount in entries)

    def wait(self, address: str) -> float:
        """Seconds until the oldest is forgotten."""
        entries = self._entries.get(address)
        return entries[0][0] + self.seconds - time.monotonic() if entries else 0


class AtOnce:
    """What goes on at the moment: at most ``each`` of an address, and ``all`` together."""

    def __init__(self, each: int, all: int) -> None:
        self.each, self.all = each, all
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """One more for as long as the context lasts.

        Raises:
            TooMuch: there are as many as may be.
        """
        if self._counts[address] >= self.each or self._counts.total() >= self.all:
            raise TooMuch('Too much at once: wait until what you have begun is done.')
        self._counts[address] += 1
        try:
            yield
        finally:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]
