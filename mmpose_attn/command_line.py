"""How the command-line tools end where an argument or a file is bad."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from .files import printable

BAD_INPUT = (ValueError, TypeError, LookupError, OSError, ImportError, SyntaxError)


@contextmanager
def one_line_errors(
    parser: argparse.ArgumentParser, kinds: tuple[type[Exception], ...] = BAD_INPUT
) -> Iterator[None]:
    """Within it, an exception of these kinds is one line on stderr and exit status 2.

    Ctrl-C ends with status 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        parser.exit(130, f'{parser.prog}: interrupted\n')
    except kinds as error:
        parser.exit(2, f'{parser.prog}: error: {one_line(error)}\n')


def one_line(error: BaseException) -> str:
    """What an error says; names of files in it cannot steer the terminal."""
    # a KeyError's text is the quoted form of its message
    message = error.args[0] if type(error) is KeyError and error.args else error
    return printable(' '.join(str(message).split()))
