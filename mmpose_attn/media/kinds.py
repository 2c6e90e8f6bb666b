"""What a file is, by its first bytes: its name is not believed, and nothing opens it on trust."""

import os
from dataclasses import dataclass

from .limits import UnknownKind, UnreadKind

_HEAD = 4096  # bytes that are looked at


@dataclass(frozen=True)
class Kind:
    """A format.

    Attributes:
        name: as people call it.
        medium: ``'image'`` or ``'video'``; ``''`` of what is not read.
        demuxer: FFmpeg's, of a video: the only one that gets to see the file.
        why: what to say of what is not read, after "which".
    """

    name: str
    medium: str = ''
    demuxer: str = ''
    why: str = ''


def _picture(name: str) -> Kind:
    return Kind(name, 'image')


JPEG, PNG, BMP, TIFF, WEBP, AVIF = map(_picture, ('JPEG', 'PNG', 'BMP', 'TIFF', 'WebP', 'AVIF'))
GIF, MOVING_GIF = _picture('GIF'), Kind('animated GIF', 'video', 'gif')
_MOV = 'mov,mp4,m4a,3gp,3g2,mj2'
MP4 = Kind('MP4, MOV or 3GP', 'video', _MOV)
_TS = Kind('MPEG transport stream', 'video', 'mpegts')
_CONVERT = 'is not read: convert it to JPEG, PNG or MP4'
_NAMES_OTHERS = 'names other files and is never followed: give the files themselves'

# (offset, bytes) -> kind; the first that fits. The offset's bytes before may be anything.
_SIGNATURES = (
    (0, b'\xff\xd8\xff', JPEG),
    (0, b'\x89PNG\r\n\x1a\n', PNG),
    (0, b'GIF87a', GIF),
    (0, b'GIF89a', GIF),
    (0, b'II*\0', TIFF),
    (0, b'MM\0*', TIFF),
    (0, b'II+\0', TIFF),
    (0, b'MM\0+', TIFF),
    (0, b'\x1a\x45\xdf\xa3', Kind('Matroska or WebM', 'video', 'matroska,webm')),
    (0, b'OggS', Kind('Ogg', 'video', 'ogg')),
    (0, b'FLV\x01', Kind('Flash video', 'video', 'flv')),
    (0, b'\x30\x26\xb2\x75\x8e\x66\xcf\x11', Kind('Windows Media', 'video', 'asf')),
    (0, b'\0\0\x01\xba', Kind('MPEG program stream', 'video', 'mpeg')),
    (0, b'\0\0\x01\xb3', Kind('MPEG video', 'video', 'mpegvideo')),
    *((4, box, MP4) for box in (b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')),
    (0, b'\0\0\0\x0cjP  ', Kind('JPEG 2000', why=_CONVERT)),
    (0, b'\xff\x4f\xff\x51', Kind('JPEG 2000', why=_CONVERT)),
    (0, b'\0\0\0\x0cJXL ', Kind('JPEG XL', why=_CONVERT)),
    (0, b'\xff\x0a', Kind('JPEG XL', why=_CONVERT)),
    (0, b'8BPS', Kind('Photoshop', why=_CONVERT)),
    (0, b'\x76\x2f\x31\x01', Kind('OpenEXR', why=_CONVERT)),
    (0, b'#?RADIANCE', Kind('Radiance HDR', why=_CONVERT)),
    (0, b'.RMF', Kind('RealMedia', why=_CONVERT)),
    (0, b'YUV4MPEG2', Kind('YUV4MPEG', why=_CONVERT)),
    (0, b'\x06\x0e\x2b\x34', Kind('MXF', why=_CONVERT)),
)
# What begins text that has a player open something else, in lower case.
_PLAYLISTS = {
    b'#extm3u': 'playlist',
    b'[playlist]': 'playlist',
    b'[reference]': 'playlist',
    b'ffconcat': 'list for concat',
    b'v=0': 'SDP description',
    b'# vobsub': 'VobSub index',
    b'<asx': 'playlist',
    b'<smil': 'playlist',
    b'rtsptext': 'playlist',
}
_XML_PLAYLISTS = b'<mpd', b'<smoothstreamingmedia', b'<playlist', b'<smil', b'<asx', b'xspf'


def sniff(path: str | os.PathLike) -> Kind:
    """What a file is, by its contents.

    Raises:
        UnknownKind: nothing that is known, or empty.
        OSError: it cannot be opened.
    """
    with open(path, 'rb') as file:
        head = file.read(_HEAD)
        kind = kind_of(head)
        if kind is GIF and _moves(file):
            return MOVING_GIF
    return kind


def readable(path: str | os.PathLike, medium: str = '') -> Kind:
    """As :func:`sniff`; raises :class:`UnreadKind` for what is not read, or not as ``medium``."""
    kind = sniff(path)
    if not kind.medium:
        raise UnreadKind(f'is {_article(kind.name)}, which {kind.why}')
    if medium and kind.medium != medium:
        raise UnreadKind(f'is {_article(kind.name)} and was to be {_article(medium)}')
    return kind


def kind_of(head: bytes) -> Kind:
    """What begins with ``head``; a GIF may move. Raises :class:`UnknownKind`."""
    if not head:
        raise UnknownKind('the file is empty')
    for offset, signature, kind in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return kind
    kind = _riff(head) or _iso(head) or _bitmap(head) or _transport(head) or _text(head)
    if kind is None:
        raise UnknownKind('it cannot be decoded (damaged, cut off, or something else)')
    return kind


def _article(name: str) -> str:
    vowel = name[0] in 'aeio' or name in ('MP4, MOV or 3GP', 'MPEG video', 'MXF', 'SDP description')
    return f'{"an" if vowel or name.startswith("MPEG") else "a"} {name}'


def _riff(head: bytes) -> Kind | None:
    if head[:4] != b'RIFF':
        return None
    kinds = {b'WEBP': WEBP, b'AVI ': Kind('AVI', 'video', 'avi')}
    return kinds.get(head[8:12])


def _iso(head: bytes) -> Kind | None:
    """What is in boxes, of which the first says what for."""
    if head[4:8] != b'ftyp':
        return None
    size = min(int.from_bytes(head[:4], 'big'), len(head))
    major, others = head[8:12], {head[i : i + 4] for i in range(16, size - 3, 4)}
    if major == b'avif' or (major in (b'mif1', b'miaf') and b'avif' in others):
        return AVIF
    if major == b'crx ':
        return Kind('Canon raw picture', why=_CONVERT)
    if major in (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'):
        return Kind('HEIC', why='no decoder is there for: convert it to JPEG')
    return MP4


def _bitmap(head: bytes) -> Kind | None:
    known = head[:2] == b'BM' and int.from_bytes(head[14:18], 'little') in (
        12,
        40,
        52,
        56,
        108,
        124,
    )
    return BMP if known else None


def _transport(head: bytes) -> Kind | None:
    """Packets of 188 bytes; of cameras (M2TS) with four before each, of old ones 16 behind."""
    for first, size in ((0, 188), (4, 192), (0, 204)):
        places = range(first, min(len(head), first + 5 * size), size)
        if len(places) > 2 and all(head[place] == 0x47 for place in places):
            return _TS
    return None


def _text(head: bytes) -> Kind | None:
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    for begin, name in _PLAYLISTS.items():
        if text.startswith(begin):
            return Kind(name, why=_NAMES_OTHERS)
    if text.startswith(b'<'):
        if any(word in text for word in _XML_PLAYLISTS):
            return Kind('playlist', why=_NAMES_OTHERS)
        if b'<svg' in text:
            return Kind('SVG', why=_CONVERT)
    return None


def _moves(file) -> bool:
    """Whether a GIF has a second picture; without decoding the first."""
    file.seek(10)
    flags = file.read(3)[:1]
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
    pictures = 0
    while (block := file.read(1)) in (b'!', b','):
        if block == b'!':
            file.seek(1, os.SEEK_CUR)
        else:
            pictures += 1
            if pictures == 2:
                return True
            place = file.read(9)
            if len(place) == 9 and place[8] & 0x80:
                file.seek(3 << (place[8] & 7) + 1, os.SEEK_CUR)
            file.seek(1, os.SEEK_CUR)
        while length := file.read(1):
            if length == b'\0':
                break
            file.seek(length[0], os.SEEK_CUR)
    return False
