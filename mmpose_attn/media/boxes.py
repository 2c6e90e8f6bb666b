"""What an MP4 says to hold, before FFmpeg reserves memory for it.

A fragment can say in 20 bytes that it has billions of frames, and a header can be packed: 1 KB and
1 MB of them had FFmpeg take gigabytes.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from .limits import MediaError, UnreadKind

# FFmpeg finds a box in any of these, at whatever depth
_HOLD_BOXES = {
    *(b'moov', b'trak', b'mdia', b'minf', b'stbl', b'dinf', b'edts', b'mvex', b'moof', b'traf'),
    *(b'udta', b'sinf', b'schi'),
}
_MOST_BOXES, _MOST_DEPTH = 10**6, 12
_EACH_FRAME = 0xF00  # flags of a list of frames that says something of every one


def check_boxes(path: str | os.PathLike) -> None:
    """Raises :class:`MediaError` for an MP4 with more frames than bytes, or a packed header."""
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        frames = 0
        for number, (name, start) in enumerate(_boxes(file, 0, size, 0)):
            if name == b'cmov':
                raise UnreadKind('has a packed header, which is not read: save it again as MP4')
            if name == b'trun':
                file.seek(start)
                head = file.read(8)
                if not int.from_bytes(head[:4], 'big') & _EACH_FRAME:
                    frames += int.from_bytes(head[4:], 'big')
            if frames > size or number > _MOST_BOXES:
                raise MediaError('cannot be decoded: the MP4 says to have more than its bytes hold')


def _boxes(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int]]:
    """Name and start of the contents of each box, as far as they fit each other."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        length, name, within = int.from_bytes(head[:4], 'big'), head[4:8], start + 8
        if length == 1:
            length, within = int.from_bytes(head[8:], 'big'), start + 16
        stop = min(start + length, end) if length else end
        if stop < within:
            return
        yield name, within
        if name in _HOLD_BOXES and depth < _MOST_DEPTH:
            yield from _boxes(file, within, stop, depth + 1)
        start = stop
