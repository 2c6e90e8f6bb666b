"""Loss curves of trainings of different length, drawn so that their shapes can be compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmpose_attn.files import parse_json, printable, read_file


class Curve(NamedTuple):
    """A training's loss.

    Args:
        steps: (N,) where, counted from 1: in iterations, or in epochs.
        losses: (N,) of the steps up to there.
        length: steps of the whole schedule.
    """

    steps: np.ndarray
    losses: np.ndarray
    length: int

    @property
    def fractions(self) -> np.ndarray:
        """(N,) parts of the schedule."""
        return self.steps / self.length

    def until(self, fraction: float) -> 'Curve':
        """Its beginning."""
        kept = self.fractions <= fraction
        return Curve(self.steps[kept], self.losses[kept], self.length)

    def power_law(self, start: float) -> tuple[float, float]:
        """The law that fits best behind this part of the schedule: its exponent, and its loss at
        this part."""
        kept = self.fractions >= start
        if kept.sum() < 2:
            raise ValueError(f'fewer than two losses behind {start:g} of a schedule')
        x = np.log(self.fractions[kept] / start)
        exponent, constant = np.polyfit(x, np.log(self.losses[kept]), 1)
        return float(exponent), float(np.exp(constant))


def read_curve(path: str | Path, length: int | None = None) -> Curve:
    """The loss in a log.

    Args:
        path: MMEngine's ``vis_data/scalars.json``, a JSON object a line, whose steps are
            iterations; or a JSON object with a list ``train`` of epochs, each with ``epoch`` and
            ``loss``.
        length: steps of the whole schedule, if there were more than the log has.

    Raises:
        ValueError: if the file is neither, or has fewer than two losses.
    """
    text = read_file(path, 'log')
    try:
        try:
            lines, step = parse_json(text, 'it', dict)['train'], 'epoch'
        except (ValueError, KeyError):
            lines, step = (
                [parse_json(line, 'a line', dict, nan=True) for line in text.splitlines()],
                'step',
            )
        points = np.array([(line[step], line['loss']) for line in lines if 'loss' in line], float)
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{printable(path)}: neither MMEngine's vis_data/scalars.json nor a list of epochs "
            f'({error!r:.300})'
        ) from error
    if len(points) and not np.isfinite(points[:, 0]).all():
        raise ValueError(f'{printable(path)}: a step is not a number')
    if len(points) < 2:
        raise ValueError(f'{path}: {len(points)} losses, at least two are needed')
    steps, losses = points.T
    return Curve(steps, losses, length or int(steps[-1]))


def plot_curves(curves: Mapping[str, Curve], out: str | Path, start: float = 0.1) -> None:
    """Draw curves of different length over the part of their schedule, linearly, and with both
    axes logarithmic. Each is divided by what the power law that fits it gives at ``start``.

    Args:
        curves: by the names that the legend gives.
        out: the picture's file.
        start: part of the schedule, above 0, behind which the power law is fitted; before it a
            training warms up.

    Raises:
        ValueError: if a curve has fewer than two losses behind ``start``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import AutoLocator, NullLocator

    figure = Figure(figsize=(9, 3.6), layout='constrained')
    linear, log = figure.subplots(1, 2)
    for name, curve in curves.items():
        slope, level = curve.power_law(start)
        linear.plot(curve.fractions, curve.losses / level, label=name)
        (line,) = log.loglog(curve.fractions, curve.losses / level, label=name)
        behind = curve.fractions[curve.fractions >= start]
        law = (behind / start) ** slope
        log.loglog(behind, law, '--', color=line.get_color(), label=f'power {slope:.3f}')
    log.yaxis.set(major_locator=AutoLocator(), major_formatter='{x:g}', minor_locator=NullLocator())
    for axes in (linear, log):
        axes.set(xlabel='part of the schedule', ylabel=f'loss, relative to {start:g} of it')
        axes.grid(alpha=0.3, which='both')
        axes.legend(fontsize='small')
    figure.savefig(out, dpi=90)
