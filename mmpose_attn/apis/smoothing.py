"""The one-euro filter: less jitter at rest, little lag in motion (Casiez et al., CHI 2012)."""

import numpy as np


def _weight(cutoff: np.ndarray | float, seconds: float) -> np.ndarray | float:
    """Share of the new value in a low-pass filter of this cutoff frequency in Hz."""
    turn = 2 * np.pi * cutoff * seconds
    return turn / (turn + 1)


class OneEuroFilter:
    """Filters one signal of any shape, element by element.

    The cutoff frequency is ``min_cutoff + beta * speed``, with the speed in
    units a second, itself filtered at ``speed_cutoff``.

    Args:
        min_cutoff: in Hz; lower filters more of what does not move.
        beta: higher lags less behind what moves.
        speed_cutoff: in Hz.

    Raises:
        ValueError: a cutoff is not positive or ``beta`` is negative.
    """

    def __init__(
        self, min_cutoff: float = 1.0, beta: float = 5.0, speed_cutoff: float = 1.0
    ) -> None:
        if min_cutoff <= 0 or speed_cutoff <= 0 or beta < 0:
            raise ValueError(
                'min_cutoff and speed_cutoff must be positive and beta not negative, got '
                f'{min_cutoff}, {speed_cutoff}, {beta}'
            )
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self._raw: np.ndarray | None = None

    def __call__(self, value: np.ndarray, seconds: float, unit: float = 1.0) -> np.ndarray:
        """The filtered value.

        Raises:
            ValueError: no time has passed.

        Args:
            value: the signal now.
            seconds: since the value before, positive; not read at the first value.
            unit: length that speed is measured in, such as a person's size, so
                that the same parameters serve near and far.
        """
        if self._raw is None:
            self._raw, self._smooth, self._speed = value, value, np.zeros_like(value)
            return value
        if not seconds > 0:
            raise ValueError(f'seconds since the value before must be positive, got {seconds}')
        speed = (value - self._raw) / seconds / unit
        self._speed = self._speed + _weight(self.speed_cutoff, seconds) * (speed - self._speed)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        self._smooth = self._smooth + _weight(cutoff, seconds) * (value - self._smooth)
        self._raw = value
        return self._smooth
