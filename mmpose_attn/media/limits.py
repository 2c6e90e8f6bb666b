"""How much a file or stream may ask for, whatever its header says."""

import math
from dataclasses import dataclass


class MediaError(ValueError):
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


class UnreadKind(MediaError):
    """The file is what it claims to be, and that is not read."""


class UnknownKind(MediaError):
    """The file is nothing that is known, for a ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f'cannot be opened as a picture or video: {reason}')
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """Bounds that are checked before anything is decoded.

    Attributes:
        pixels: of a picture or frame. By default 268 million (16384 x 16384).
        seconds: of a video.
        frames: of a video, which can have millions in a second.

    A picture's file, and what a TIFF unpacks to, have at most ``bytes``: eight a
    pixel, which is 16 bits in four channels.
    """

    pixels: int = 2**28
    seconds: float = math.inf
    frames: float = math.inf

    @property
    def millions(self) -> int:
        return self.pixels // 1_000_000

    @property
    def bytes(self) -> int:
        return 8 * self.pixels + 2**20

    def check_size(self, width: int, height: int) -> None:
        """Raises :class:`MediaError` if a picture or frame has no pixel, or too many."""
        if width < 1 or height < 1:
            raise MediaError(f'cannot be decoded: it says to have {width}x{height} pixels')
        if width * height > self.pixels:
            raise MediaError(f'has more than {self.millions} million pixels: make it smaller')

    def check_length(self, seconds: float, frames: int) -> None:
        """Raises :class:`MediaError` if a video is too long."""
        if seconds > self.seconds:
            raise MediaError(f'is longer than {self.seconds / 60:g} minutes: cut it')
        if frames > self.frames:
            raise MediaError(f'has more than {self.frames} frames: cut it')


ORDINARY = Limits()
