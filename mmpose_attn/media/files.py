"""One way to open whatever file it is."""

import os
from collections.abc import Iterator

from .kinds import readable
from .limits import ORDINARY, Limits
from .pictures import decoded, picture_bytes
from .videos import Shot, Video


class Picture:
    """A picture as a video of one frame; arguments and errors as :func:`read_picture`."""

    medium, count, fps = 'image', 1, None

    def __init__(self, path: str | os.PathLike, limits: Limits = ORDINARY) -> None:
        self._data, self._limits = picture_bytes(path, limits), limits

    def frames(self) -> Iterator[Shot]:
        try:
            yield Shot(decoded(self._data, self._limits))
        except ValueError as error:
            yield Shot(None, None, f'it {error}')

    def close(self) -> None:
        self._data = b''


def open_media(path: str | os.PathLike, limits: Limits = ORDINARY) -> Picture | Video:
    """Open a picture or video; both have ``medium``, ``count``, ``fps``, ``frames()``, ``close()``.

    Raises:
        UnreadKind: it is of a format or codec that is not read.
        MediaError: it is damaged, too large, or nothing that is known.
        OSError: it cannot be read.
    """
    return (Picture if readable(path).medium == 'image' else Video)(path, limits)
