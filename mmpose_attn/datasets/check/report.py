"""What a check found, as text; :mod:`.page` shows the same."""

from dataclasses import dataclass, field

MOST = 20  # problems of a kind that are listed one by one


@dataclass
class Table:
    """Rows of text under a title."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        rows = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            '  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        return '\n'.join([self.title, *(f'  {line}' for line in lines)])


@dataclass
class Section:
    """What is to be said of one data set, or of the config as a whole."""

    name: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def several(self, problems: list[str], what: str) -> None:
        """Add problems of one kind; beyond :data:`MOST` their number."""
        self.problems += problems[:MOST]
        if len(problems) > MOST:
            self.problems.append(f'... and {len(problems) - MOST} more {what}')

    def text(self) -> str:
        lines = [f'== {self.name}', *(table.text() for table in self.tables)]
        lines += [f'note: {note}' for note in self.notes]
        lines += [f'WRONG: {problem}' for problem in self.problems]
        return '\n'.join(lines)


@dataclass
class Report:
    """All of it. ``exit_status`` is 1 if anything is wrong."""

    config: str
    sections: list[Section] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [problem for section in self.sections for problem in section.problems]

    @property
    def exit_status(self) -> int:
        return int(bool(self.problems))

    def text(self) -> str:
        wrong = len(self.problems)
        end = f'{wrong} thing(s) are wrong, marked WRONG above' if wrong else 'nothing is wrong'
        return '\n\n'.join([*(section.text() for section in self.sections), end])
