"""Files: read with limits, whoever wrote them, and never half-written."""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

Name = str | os.PathLike

MOST_BYTES = 2**31  # of a text file; read into memory it takes up to some twenty times as much
MOST_DEPTH = 64  # of JSON and YAML; COCO's annotations nest five deep
_MOST_DIGITS = 18  # that fit into 64 bits, whatever they are
_ZEROS = bytes(ord('0') if chr(i).isdecimal() else ord(' ') for i in range(256))
_STEPS = bytes(1 if i in b'[{' else 255 if i in b']}' else 0 for i in range(256))
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}'))


def printable(text: object) -> str:
    """Text for a terminal or a log: what steers a terminal, or cannot be encoded, is escaped.

    Line breaks and tabs stay. File names may hold anything else: escape sequences, signs that turn
    the direction of writing, bytes that are no UTF-8.
    """
    text = str(text)
    if text.isprintable():
        return text
    return ''.join(
        c if c.isprintable() or c in '\n\t' else c.encode('unicode_escape').decode() for c in text
    )


def read_file(path: Name, what: str = 'file', most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file; a pipe or device, which may never end, is not waited for.

    Args:
        path: of the file.
        what: it is, for the error.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is something else, or too large.
    """
    name = f'{what} {printable(os.fspath(path))}'
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
    except FileNotFoundError:
        raise FileNotFoundError(f'{name} does not exist: No such file or directory') from None
    except OSError as error:
        raise type(error)(f'{name} cannot be read: {error.strerror}') from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f'{name} is a folder, not a file')
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f'{name} is a pipe or device; write its contents to a file')
        if status.st_size > most:
            raise ValueError(f'{name} has {status.st_size:,} bytes, at most {most:,} are read')
        with open(descriptor, 'rb', closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def read_json(path: Name, what: str = 'file', kind: type = object, nan: bool = False) -> Any:
    """Contents of a JSON file from outside.

    Args:
        path: of the file; UTF-8, with or without a byte order mark.
        what: it is, for the error: ``'annotation file'``.
        kind: ``dict`` or ``list``, if it must be one of these.
        nan: whether ``NaN`` and ``Infinity``, which are not JSON, may stand for numbers.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is empty, cut off or not JSON, not of that kind, too large, nested too deep,
            has one key twice in an object or an integer beyond 64 bits. The message names the file.
    """
    return parse_json(read_file(path, what), f'{what} {printable(os.fspath(path))}', kind, nan)


def parse_json(data: bytes, name: str, kind: type = object, nan: bool = False) -> Any:
    """As :func:`read_json`, what has been read; ``name`` is for the error.

    Raises:
        ValueError: see there.
    """
    try:
        # both are sure or else looked at more closely, which is not for files of 100 MB
        long = b'0' * (_MOST_DIGITS + 1) in data.translate(_ZEROS)
        steps = np.frombuffer(data.translate(_STEPS, _NO_BRACKETS), np.int8)
        deep = steps.size and steps.cumsum(dtype=np.int32).max() > MOST_DEPTH
        half = re.search(rb'\\u[dD][89a-fA-F]', data)
        text = data.decode('utf-8-sig')
        del data, steps
        contents = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer if long else None,
            parse_constant=None if nan else _no_constant,
        )
        if deep:
            _check_depth(contents)
        if half:
            _check_text(contents)
    except UnicodeDecodeError as error:
        raise ValueError(f'{name} is not valid JSON: not UTF-8 ({error})') from None
    except RecursionError:
        raise ValueError(f'{name} is nested deeper than {MOST_DEPTH}') from None
    except json.JSONDecodeError as error:
        if not text.strip():
            reason = 'it is empty'
        else:
            cut = error.msg != 'Extra data' and len(text.rstrip()) <= error.pos + 1
            cut = cut or error.msg.startswith('Unterminated')
            reason = f'{error}{", it may be cut off" if cut else ""}'
        raise ValueError(f'{name} is not valid JSON: {reason}; get it again') from error
    except ValueError as error:
        raise ValueError(f'{name} cannot be used: {error}') from None
    if not isinstance(contents, kind):
        names = {dict: 'an object', list: 'a list', str: 'a text', type(None): 'null'}
        found = names.get(type(contents), 'a number or truth value')
        raise ValueError(f'{name} holds {found} and not {names[kind]}')
    return contents


def whole_number(entry: dict, key: str) -> int:
    """An id in JSON; raises LookupError, TypeError or ValueError if it is none."""
    value = entry[key]
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(f'{key} is {value!r:.40}, no whole number')
    return int(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'an object has the key {twice[:80]!r} twice')
    return found


def _integer(text: str) -> int:
    if len(text) <= _MOST_DIGITS + 2 and -(2**63) <= (number := int(text)) < 2**63:
        return number
    raise ValueError(f'the integer {text[:24]}{"..." * (len(text) > 24)} is beyond 64 bits')


def _no_constant(text: str) -> None:
    raise ValueError(f'{text} is no number')


def _check_text(contents: Any) -> None:
    try:
        json.dumps(contents, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'a text has half a character ({error.reason})') from None


def _check_depth(contents: Any) -> None:
    level = [contents]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise RecursionError


def path_inside(folder: Name, name: Name, what: str = 'file name') -> Path:
    """``folder/name`` of a name from outside, which must not lead out of the folder.

    Links that are in the folder already are followed: they are its owner's.

    Raises:
        ValueError: the name is empty, absolute or has steps upwards.
    """
    text = os.fspath(name)
    steps = text.replace('\\', '/').split('/')
    if not text.strip() or '\0' in text or '..' in steps or os.path.isabs(text) or steps[0] == '':
        raise ValueError(
            f'{what} {printable(text)!r} leads out of the folder {printable(os.fspath(folder))}'
        )
    return Path(folder, text)


@contextmanager
def replacing(path: Path, mode: str = 'w') -> Iterator[IO]:
    """A file, of text by default, that takes the place of ``path`` when it is complete.

    Raises:
        OSError: it cannot be written; that there is no room names the folder.
    """
    partial = path.with_name(f'.{path.name}.partial')
    text = dict(encoding='utf-8', newline='') if mode == 'w' else {}
    try:
        with open(partial, mode, **text) as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # as a write has it
            raise OSError(error.errno, error.strerror, str(path.parent)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
