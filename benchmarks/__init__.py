"""Speed against MMPose: both in one process, on the same inputs, in interleaved pairs.

A figure is the ratio of the medians of both sides, so it does not depend on what else the machine
did for a moment, and every comparison first checks that both sides computed the same. One file a
benchmark; ``make bench`` prints their rows.
"""

from collections.abc import Iterator, Sequence

from . import attention, decode, dite, encode, flip, loss
from .timing import Row

__all__ = ['BENCHMARKS', 'DEFAULT', 'run']

BENCHMARKS = {
    'decode': decode.rows,
    'loss': loss.rows,
    'encode': encode.rows,
    'attention': attention.rows,
    'dite': dite.rows,
    'flip': flip.rows,
}
DEFAULT = tuple(name for name in BENCHMARKS if name != 'flip')


def run(
    parts: Sequence[str] = DEFAULT,
    quick: bool = False,
    repeat: int | None = None,
    device: str = 'cpu',
) -> Iterator[Row]:
    """Measure, row by row.

    Args:
        parts: Names in :data:`BENCHMARKS`, which gives the order.
        quick: Tiny inputs and few repetitions: shows that it runs, not how fast.
        repeat: Interleaved pairs per input; by default what takes some seconds a row.
        device: Torch device of all but the targets.

    Raises:
        RuntimeError: if the two sides do not compute the same.
        ValueError: if a part is not known.
    """
    unknown = sorted(set(parts) - set(BENCHMARKS))
    if unknown:
        raise ValueError(f'unknown parts {unknown}; there are {tuple(BENCHMARKS)}')
    for name, rows in BENCHMARKS.items():
        if name in parts:
            yield from rows(quick, repeat, device)
