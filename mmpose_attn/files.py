"""Files that are never half-written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path, mode: str = 'w') -> Iterator[IO]:
    """A file, of text by default, that takes the place of ``path`` when it is complete."""
    partial = path.with_name(f'.{path.name}.partial')
    text = dict(encoding='utf-8', newline='') if mode == 'w' else {}
    try:
        with open(partial, mode, **text) as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
