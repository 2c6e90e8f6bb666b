"""What is found, and the error that says it."""

from collections.abc import Sequence
from typing import NamedTuple


class Disagreement(NamedTuple):
    """One thing that does not go together with the rest of a config.

    Attributes:
        key: where in the config, ``'model.head.num_keypoints'``.
        problem: what is wrong there.
        remedy: what to write there.
    """

    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f'{self.key}: {self.problem}. {self.remedy}'


class DisagreementError(ValueError):
    """Data, network, codec and metric of a config do not agree."""

    def __init__(self, found: Sequence[Disagreement]) -> None:
        self.found = list(found)
        lines = '\n  '.join(map(str, self.found))
        super().__init__(
            f'the config cannot be right, what does not agree ({len(self.found)}):\n  {lines}'
        )
