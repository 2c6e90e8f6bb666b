"""What is found in an annotation file: problems, which end in one error, and notes."""

from collections import Counter
from dataclasses import dataclass

_MOST = 5  # kinds of problems in one error


@dataclass(frozen=True)
class Problem:
    """Something that is wrong in a file and cannot be put right without asking.

    Attributes:
        place: ``'annotation 3 of image 7'``; empty for the file as a whole.
        key: of the JSON that is wrong.
        text: what is wrong with it.
        remedy: what to do.
        missing: whether it is a file that is not there.
    """

    place: str
    key: str
    text: str
    remedy: str
    missing: bool = False

    def __str__(self) -> str:
        place = f'{self.place}: ' if self.place else ''
        return f'{place}{self.text}. {self.remedy}'


class Report:
    """All that was found in one file.

    Args:
        file: what to call the file.

    Attributes:
        problems: what must be mended in the file.
        notes: what was put right or left out, and how often.
        categories: of the objects that have keypoints, as the file lists them.
        unannotated: whether it only lists images, as for a submission.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.notes: Counter[str] = Counter()
        self.categories: list[dict] = []
        self.unannotated = False

    @property
    def objects(self) -> str:
        """What one of the objects is called: ``'beetle'``, ``'cat or dog'``."""
        names = [str(category.get('name') or 'object') for category in self.categories]
        return ' or '.join(dict.fromkeys(names)) or 'object'

    def problem(self, place: str, key: str, text: str, remedy: str, missing: bool = False) -> None:
        self.problems.append(Problem(place, key, text, remedy, missing))

    def lines(self) -> list[str]:
        """The notes, one a line, with the file's name."""
        return [f'{self.file}: {count} {text}' for text, count in self.notes.items()]

    def raise_problems(self) -> None:
        """One error for all problems: the first of every kind, and how many are like it.

        Raises:
            FileNotFoundError: if there are only files that are not there.
            ValueError: if there is any other problem.
        """
        kinds: dict[tuple, list[Problem]] = {}
        for problem in self.problems:
            kinds.setdefault((problem.key, problem.remedy), []).append(problem)
        lines = [
            str(first) + (f' ({len(more)} more like it)' if more else '')
            for first, *more in kinds.values()
        ]
        if len(lines) > _MOST:
            lines[_MOST:] = [f'and problems of {len(lines) - _MOST} other kinds']
        if lines:
            kind = FileNotFoundError if all(p.missing for p in self.problems) else ValueError
            raise kind(f'{self.file}: ' + '\n'.join(lines))
