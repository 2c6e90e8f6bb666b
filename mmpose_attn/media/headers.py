"""What pictures say of themselves, checked before a decoder believes it.

Decoders reserve memory by lengths and sizes that a file names, in places that no user sees: a PNG
of 33 KB had OpenCV take 4.8 GB. Here every size is found first, and what decides nothing about the
pixels is left away.
"""

import struct
import zlib
from collections.abc import Iterator

from .kinds import AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP, Kind
from .limits import Limits, MediaError, UnreadKind

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_KEPT = {b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND', b'eXIf'}
_MOST_SCANS = 200  # of a progressive JPEG, ten of which are usual; each goes over all pixels
_MOST_EXIF = 2**16
# bytes of the types of whole numbers, among them signed ones, in which libtiff takes lengths too
_TIFF_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 16: 8, 17: 8}
# none, fax, LZW, JPEG, deflate, PackBits: what OpenCV's wheels decode within bounds
_TIFF_PACKINGS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}


def checked(data: bytes, kind: Kind, limits: Limits) -> bytes:
    """What a decoder may get of a picture's file.

    Args:
        data: the whole file.
        kind: of :func:`kind_of`.
        limits: that all its sizes keep.

    Raises:
        MediaError: it is too large, cut off, or contradicts itself.
    """
    if kind is PNG:
        return _png(data, limits)
    check = {JPEG: _jpeg, GIF: _gif, BMP: _bmp, TIFF: _tiff, WEBP: _webp, AVIF: _avif}[kind]
    try:
        check(data, limits)
    except (struct.error, IndexError):
        raise MediaError('is truncated, or damaged') from None
    return data


def _png(data: bytes, limits: Limits) -> bytes:
    kept, position, pixels = [data[:8]], 8, False
    while True:
        if len(data) < position + 12:
            raise MediaError('is truncated: the PNG has no end')
        length, name = struct.unpack_from('>I4s', data, position)
        end = position + 12 + length
        if (name == b'IHDR') != (position == 8):
            raise MediaError('cannot be decoded: the PNG has not one header at its start')
        if end > len(data):
            raise MediaError('is truncated, or a part of the PNG lies about its length')
        if name == b'IHDR':
            _png_header(data[16 : end - 4], data[12:end], limits)
        pixels |= name == b'IDAT'
        if name in _PNG_KEPT and not (name == b'eXIf' and length > _MOST_EXIF):
            kept.append(data[position:end])
        position = end
        if name == b'IEND':
            break
    if not pixels:
        raise MediaError('cannot be decoded: the PNG has no pixels')
    return b''.join(kept)


def _png_header(header: bytes, part: bytes, limits: Limits) -> None:
    damaged = MediaError('cannot be decoded: the header of the PNG is damaged')
    if len(header) != 13 or zlib.crc32(part[:-4]) != int.from_bytes(part[-4:], 'big'):
        raise damaged
    width, height, depth, color, packing, filtering, interlace = struct.unpack('>IIBBBBB', header)
    if depth not in _PNG_DEPTHS.get(color, ()) or packing or filtering or interlace > 1:
        raise damaged
    limits.check_size(width, height)


def _jpeg(data: bytes, limits: Limits) -> None:
    position, size = 2, None
    while True:
        # as libjpeg does: to the next marker, over whatever is there
        position = data.find(b'\xff', position) + 1
        if not position or position >= len(data):
            raise MediaError('is truncated: the JPEG has no pixels')
        marker = data[position]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            position += marker != 0xFF  # a marker may have any number of these before it
            continue
        if marker == 0xD9:
            raise MediaError('cannot be decoded: the JPEG has no pixels')
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from('>H', data, position + 1)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if size is not None:
                raise MediaError('cannot be decoded: the JPEG has two headers')
            size = struct.unpack_from('>HH', data, position + 4)
            limits.check_size(*size[::-1])
        position += 1 + max(length, 2)
    if size is None:
        raise MediaError('cannot be decoded: the JPEG has no header')
    # some versions of OpenCV fill what is missing with grey
    if data.find(b'\xff\xd9', position) < 0:
        raise MediaError('is truncated: the JPEG has no end')
    if data.count(b'\xff\xda', position) > _MOST_SCANS:
        raise MediaError(f'cannot be decoded: the JPEG has more than {_MOST_SCANS} scans')


def _gif(data: bytes, limits: Limits) -> None:
    limits.check_size(*struct.unpack_from('<HH', data, 6))
    position = 13 + _gif_table(data[10])
    while data[position] == 0x21:  # extensions before the picture
        position = _gif_end(data, position + 2)
    if data[position] != 0x2C:
        raise MediaError('cannot be decoded: the GIF has no picture')
    left, top, width, height = struct.unpack_from('<HHHH', data, position + 1)
    limits.check_size(left + width, top + height)


def _gif_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_end(data: bytes, position: int) -> int:
    while data[position]:
        position += 1 + data[position]
    return position + 1


def _bmp(data: bytes, limits: Limits) -> None:
    (header,) = struct.unpack_from('<I', data, 14)
    width, height = struct.unpack_from('<HH' if header == 12 else '<ii', data, 18)
    limits.check_size(width, abs(height))
    if header > 12:
        bits, packing = struct.unpack_from('<HI', data, 28)
        if packing in (0, 3) and width * bits * abs(height) // 8 > len(data):
            raise MediaError('is truncated: the BMP says to have more pixels')


def _tiff(data: bytes, limits: Limits) -> None:
    order = '<' if data[:2] == b'II' else '>'
    big = data[2:4] in (b'+\0', b'\0+')
    (offset,) = struct.unpack_from(f'{order}{"Q" if big else "I"}', data, 8 if big else 4)
    (count,) = struct.unpack_from(f'{order}{"Q" if big else "H"}', data, offset)
    entry, value = (20, 12) if big else (12, 8)
    if count > 4096 or offset + entry * count > len(data):
        raise MediaError('is truncated, or the TIFF lies about its length')
    tags: dict[int, int] = {}
    for start in range(offset + (8 if big else 2), offset + entry * count, entry):
        tag, type_ = struct.unpack_from(f'{order}HH', data, start)
        if tag in tags:
            raise MediaError(f'cannot be decoded: the TIFF says twice what its tag {tag} is')
        size = _TIFF_SIZES.get(type_, 0)
        place = start + value
        (number,) = struct.unpack_from(f'{order}{"Q" if big else "I"}', data, start + 4)
        if size * number > entry - value:  # several, which lie elsewhere: the first counts
            (place,) = struct.unpack_from(f'{order}{"Q" if big else "I"}', data, place)
        order_name = 'little' if order == '<' else 'big'
        tags[tag] = int.from_bytes(data[place : place + size], order_name)
    if tags.get(254, 0) & 1:
        raise UnreadKind(
            'holds a small picture first, as raw files of cameras do: convert it to JPEG'
        )
    width, height = tags.get(256, 0), tags.get(257, 0)
    limits.check_size(width, height)
    if tags.get(259, 1) not in _TIFF_PACKINGS:
        raise MediaError(
            f'cannot be decoded: the TIFF is packed by method {tags[259]}: save it with deflate'
        )
    samples = max(tags.get(277, 1), 1)
    if samples > 64:
        raise MediaError(f'cannot be decoded: the TIFF has {samples} channels')
    bits = tags.get(258, 1)
    tile = tags.get(322, width) * tags.get(323, min(tags.get(278, height), height))
    if max(tile, width * height) * samples * min(max(bits, 8), 64) > 8 * limits.bytes:
        raise MediaError('has more in its TIFF than its pixels: make it smaller')


def _webp(data: bytes, limits: Limits) -> None:
    end = 8 + struct.unpack_from('<I', data, 4)[0]
    if end > len(data):
        raise MediaError('is truncated: the WebP has no end')
    sizes = list(_webp_sizes(data, 12, end))
    if not sizes:
        raise MediaError('cannot be decoded: the WebP has no picture')
    for width, height in sizes:
        limits.check_size(width, height)


def _webp_sizes(data: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    while position + 8 <= end:
        name, length = struct.unpack_from('<4sI', data, position)
        start, stop = position + 8, position + 8 + length
        if stop > end:
            raise MediaError('is truncated, or a part of the WebP lies about its length')
        if name == b'VP8X':
            yield _uint24(data, start + 4) + 1, _uint24(data, start + 7) + 1
        elif name == b'VP8 ':
            width, height = struct.unpack_from('<HH', data, start + 6)
            yield width & 0x3FFF, height & 0x3FFF
        elif name == b'VP8L':
            (packed,) = struct.unpack_from('<I', data, start + 1)
            yield (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        elif name == b'ANMF':
            yield _uint24(data, start + 6) + 1, _uint24(data, start + 9) + 1
            yield from _webp_sizes(data, start + 16, stop)
        position = stop + (length & 1)


def _uint24(data: bytes, position: int) -> int:
    return data[position] | data[position + 1] << 8 | data[position + 2] << 16


def _avif(data: bytes, limits: Limits) -> None:
    sizes = list(_avif_sizes(data, 0, len(data), 0))
    if not sizes:
        raise MediaError('cannot be decoded: the AVIF does not say its size')
    for width, height in sizes:
        limits.check_size(width, height)


def _avif_sizes(data: bytes, position: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
    while position + 8 <= end:
        length, name = struct.unpack_from('>I4s', data, position)
        start = position + 8
        if length == 1:
            (length,) = struct.unpack_from('>Q', data, start)
            start += 8
        stop = end if length == 0 else position + length
        if stop > end or stop < start:
            raise MediaError('is truncated, or a part of the AVIF lies about its length')
        if name == b'ispe':
            yield struct.unpack_from('>II', data, start + 4)
        elif name in (b'meta', b'iprp', b'ipco') and depth < 4:
            yield from _avif_sizes(data, start + 4 * (name == b'meta'), stop, depth + 1)
        position = stop
