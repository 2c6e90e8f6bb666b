"""Pictures and videos that lie, and mutations of good ones, for tests and fuzzing.

Everything is generated; a seed gives the same bytes again.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.inference_helpers import write_video

SIGNATURE = b'\x89PNG\r\n\x1a\n'
PLAYLISTS = {
    'hls': '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n',
    'hls after a mark': '\ufeff#EXTM3U\n#EXTINF:9,\nfile:{path}\n',
    'hls in small letters': '\n #extm3u\n{path}\n',
    'pls': '[playlist]\nFile1={path}\n',
    'concat': "ffconcat version 1.0\nfile '{path}'\n",
    'sdp': 'v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 33\n',
    'dash': '<?xml version="1.0"?>\n<MPD><Period><BaseURL>{path}</BaseURL></Period></MPD>',
    'vobsub': '# VobSub index file, v7\nid: en, index: 0\n',
    'plain': '{path}\n',
}


def part(name: bytes, content: bytes, crc: int | None = None, length: int | None = None) -> bytes:
    """A chunk of a PNG, with a wrong checksum or length if one is given."""
    crc = zlib.crc32(name + content) if crc is None else crc
    length = len(content) if length is None else length
    return struct.pack('>I', length) + name + content + struct.pack('>I', crc)


def png(
    width: int,
    height: int,
    *more: bytes,
    pixels: bytes | None = None,
    header: bytes | None = None,
    behind: bytes = b'',
) -> bytes:
    """A PNG of black pixels, ``more`` after its header and ``behind`` before its end."""
    if header is None:
        header = part(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    if pixels is None:
        pixels = zlib.compress(bytes((3 * width + 1) * height))
    return b''.join([SIGNATURE, header, *more, part(b'IDAT', pixels), behind, part(b'IEND', b'')])


def lying_pngs() -> dict[str, bytes]:
    """PNGs whose header is small or broken, and that ask for gigabytes elsewhere."""
    large = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 6, 0, 0, 0)
    small = struct.pack('>IIBBBBB', 160, 120, 8, 2, 0, 0, 0)
    frame = struct.pack('>IIIIIHHBB', 0, 60_000, 60_000, 0, 0, 1, 1, 0, 0)
    animated = part(b'acTL', struct.pack('>II', 2**31 - 1, 0)), part(b'fcTL', frame)
    bomb = zlib.compress(bytes(2**26), 9)
    return {
        'large': png(8, 8, header=part(b'IHDR', large)),
        'a wrong checksum': png(8, 8, header=part(b'IHDR', large, crc=0)),
        'a second header': png(160, 120, part(b'IHDR', large)),
        'a second header behind': png(160, 120, behind=part(b'IHDR', large)),
        'a header that is not first': png(160, 120, header=part(b'tEXt', b'a\0b')),
        'a long header': png(160, 120, header=part(b'IHDR', small + bytes(99))),
        'no pixels': SIGNATURE + part(b'IHDR', small) + part(b'IEND', b''),
        'a length beyond the end': png(160, 120, part(b'tEXt', b'a\0b', length=2**31 - 1)),
        'a negative length': png(160, 120, part(b'IDAT', b'', length=2**32 - 4)),
        'frames': png(160, 120, *animated),
        'a profile that unpacks': png(160, 120, part(b'iCCP', b'a\0\0' + bomb)),
        'a text that unpacks': png(160, 120, part(b'zTXt', b'a\0\0' + bomb)),
        'pixels that unpack': png(160, 120, pixels=bomb),
        'nothing to see': png(0, 120),
    }


def good_files(folder: Path) -> dict[str, bytes]:
    """A small file of every format that OpenCV writes."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    files = {}
    for suffix in ('.jpg', '.png', '.bmp', '.tiff', '.webp', '.gif', '.avif'):
        done, content = cv2.imencode(suffix, noise) if _writes(suffix) else (False, None)
        if done:
            files[f'a{suffix}'] = content.tobytes()
    for suffix in ('.avi', '.mp4'):
        files[f'a{suffix}'] = write_video(folder / f'seed{suffix}', 5).read_bytes()
    return files


def _writes(suffix: str) -> bool:
    return cv2.haveImageWriter(f'a{suffix}')


def mutations(files: dict[str, bytes], count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` mutations of files: bits, numbers, lengths, cuts, doubled and foreign parts."""
    rng = np.random.default_rng(seed)
    names = list(files)
    for i in range(count):
        name = names[i % len(names)]
        data = bytearray(files[name])
        for _ in range(int(rng.integers(1, 6))):
            # headers are at the start, and are what lies
            most = len(data) if rng.random() < 0.5 else min(len(data), 200)
            place = int(rng.integers(0, max(most - 8, 1)))
            _mutate(data, place, int(rng.integers(0, 6)), rng, files)
        yield f'{i}_{name}', bytes(data)


def _mutate(data: bytearray, place: int, way: int, rng, files: dict[str, bytes]) -> None:
    extreme = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 60_000)
    if way == 0:
        data[place : place + 1] = bytes([int(rng.integers(0, 256))])
    elif way == 1:
        number = extreme[int(rng.integers(0, len(extreme)))]
        order = '<>'[int(rng.integers(0, 2))]
        data[place : place + 4] = struct.pack(f'{order}I', number)
    elif way == 2:
        number = extreme[int(rng.integers(0, 6))]
        data[place : place + 2] = struct.pack('>H', number & 0xFFFF)
    elif way == 3:
        del data[int(rng.integers(place, len(data) + 1)) :]
    elif way == 4:
        end = place + int(rng.integers(1, 64))
        data[place:place] = data[place:end]
    else:
        other = files[list(files)[int(rng.integers(0, len(files)))]]
        data[place:place] = other[: int(rng.integers(1, 100))]
