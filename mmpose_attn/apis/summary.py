"""What a run of inference did, in figures and words."""

import signal
from dataclasses import dataclass
from pathlib import Path

from mmpose_attn.files import printable


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        frames: in the results, skipped ones included.
        people: in the results, with at least ``person_score``.
        computed: frames of this run, without what it resumed.
        seconds: of this run.
        skipped: names of frames that could not be read, and why.
        interrupted: whether it ended before its inputs did.
        out: the folder.
        faint: others in the results, whose score is below ``person_score``.
        person_score: least score of who is drawn and counted.
        category: what the network finds.
        signal: what interrupted it, if a signal did.
    """

    frames: int
    people: int
    computed: int
    seconds: float
    skipped: tuple[tuple[str, str], ...]
    interrupted: bool
    out: Path
    faint: int = 0
    person_score: float = 0.0
    category: str = 'person'
    signal: int | None = None

    @property
    def exit_status(self) -> int:
        """0, 1 if something was skipped, 130 if it was interrupted, 143 by SIGTERM."""
        if self.interrupted:
            return 128 + (self.signal or signal.SIGINT)
        return 1 if self.skipped else 0

    def __str__(self) -> str:
        speed = self.computed / max(self.seconds, 1e-9)
        lines = [
            f'{self.people} {plural(self.category)} in {self.frames} images; {self.computed} of '
            f'them now, in {self.seconds:.1f} s, {speed:.1f} images/s. Results: '
            f'{printable(self.out)}'
        ]
        if self.faint:
            lines.append(
                f'{self.faint} more with a score below {self.person_score:g} are in the tables '
                'alone, neither drawn nor counted (--person-score).'
            )
        if self.skipped:
            lines.append(f'Skipped {len(self.skipped)}:')
            for name, reason in self.skipped:
                lines.append(f'  {name if name.isprintable() else repr(name)}: {printable(reason)}')
        if self.interrupted:
            lines.append('Interrupted; the same command with --resume goes on.')
        return '\n'.join(lines)


def plural(category: str) -> str:
    """``'people'``, ``'beetles'``."""
    if category == 'person':
        return 'people'
    return category if category.endswith('s') else f'{category}s'
