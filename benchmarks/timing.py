"""Timing two sides in turns."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        name: what was measured.
        theirs: milliseconds of every run of MMPose's side.
        ours: the same of this package's side.
        note: what was verified about the results.
    """

    name: str
    theirs: Sequence[float]
    ours: Sequence[float]
    note: str = ''

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.theirs), statistics.median(self.ours)

    @property
    def ratio(self) -> float:
        theirs, ours = self.medians
        return theirs / ours

    @property
    def overhead(self) -> float:
        """Median over the pairs of how much longer ours took: small differences are lost in a
        ratio of medians, because the machine's speed drifts by more than them."""
        return statistics.median(b / a for a, b in zip(self.theirs, self.ours, strict=True)) - 1


def interleave(
    theirs: Callable[[], Any],
    ours: Callable[[], Any],
    repeat: int,
    device: str = 'cpu',
    calls: int = 1,
) -> tuple[list[float], list[float]]:
    """Milliseconds of ``repeat`` calls of each, after one of each that does not count.

    They take turns, and turns in going first: the second of a pair finds the caches as the first
    left them. A turn may be of several ``calls``, whose median counts: for different libraries,
    of which one's threads still wait on the cores when the other begins.
    """

    def milliseconds(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(calls):
            wait()
            start = perf_counter()
            call()
            wait()
            times.append(1e3 * (perf_counter() - start))
        return statistics.median(times)

    wait = torch.cuda.synchronize if device.startswith('cuda') else lambda: None
    milliseconds(theirs), milliseconds(ours)
    first, second = [], []
    for index in range(repeat):
        turns = [(theirs, first), (ours, second)]
        for call, times in turns[:: -1 if index % 2 else 1]:
            times.append(milliseconds(call))
    return first, second
