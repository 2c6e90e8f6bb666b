"""What a decoding process says, in frames of fixed form: nothing of it can be more than pixels.

Every message is a header, a text and pixels. The reader checks all lengths before it takes them.
"""

import math
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .limits import Limits, MediaError

# what it is, width, height, two numbers, bytes of the text
_HEADER = struct.Struct('<BIIddH')
_MOST_TEXT = 500
OPENED, SHOT, REFUSED, UNREAD, END = range(5)


class Message(NamedTuple):
    """``image`` is (H, W, 3) uint8 or None; ``first`` and ``second`` depend on ``what``."""

    what: int
    text: str = ''
    image: np.ndarray | None = None
    first: float = math.nan
    second: float = math.nan


def send(write: Callable[[memoryview], object], message: Message) -> None:
    text = message.text.encode(errors='replace')[:_MOST_TEXT]
    height, width = (0, 0) if message.image is None else message.image.shape[:2]
    numbers = message.first, message.second
    write(memoryview(_HEADER.pack(message.what, width, height, *numbers, len(text)) + text))
    if message.image is not None:
        write(memoryview(np.ascontiguousarray(message.image)).cast('B'))


def receive(fill: Callable[[memoryview], None], limits: Limits) -> Message:
    """A message.

    Args:
        fill: reads as many bytes as it gets room for, or raises.
        limits: of the pixels.

    Raises:
        MediaError: what comes is none.
    """
    header = bytearray(_HEADER.size)
    fill(memoryview(header))
    what, width, height, first, second, length = _HEADER.unpack(header)
    if what > END or length > _MOST_TEXT or width * height > limits.pixels:
        raise MediaError('cannot be decoded: the decoder lost its way')
    text = bytearray(length)
    fill(memoryview(text))
    image = None
    if width * height:
        image = np.empty((height, width, 3), np.uint8)
        fill(memoryview(image).cast('B'))
    shown = ''.join(c if c.isprintable() else '?' for c in text.decode(errors='replace'))
    return Message(what, shown, image, first, second)
