"""Pictures and videos that lie about their size, in processes with little memory."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from mmpose_attn import media
from mmpose_attn.media.kinds import kind_of
from mmpose_attn.media.worker import IsolatedMedia
from tests import hostile_media
from tests.hostile_media import good_files, part, png
from tests.inference_helpers import write_video

SMALL = media.Limits(pixels=1_000_000)


def check(content, limits=SMALL):
    return media.headers.checked(content, kind_of(content), limits)


HARMLESS = {'frames', 'a profile that unpacks', 'a text that unpacks', 'pixels that unpack'}


@pytest.fixture(scope='module')
def pngs():
    return hostile_media.lying_pngs()


def test_lying_pngs_are_refused_or_harmless(pngs):
    for name, content in pngs.items():
        if name in HARMLESS:
            # what asks for memory does not reach the decoder, nor grows with what it decodes
            left = check(content)
            assert not any(word in left for word in (b'acTL', b'fcTL', b'iCCP', b'zTXt')), name
            assert cv2.imdecode(np.frombuffer(left, np.uint8), 1).shape == (120, 160, 3)
        else:
            with pytest.raises(media.MediaError):
                check(content)


def test_what_is_left_away_changes_no_pixel():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    plain = cv2.imencode('.png', image)[1].tobytes()
    more = [
        part(b'gAMA', struct.pack('>I', 45455)),
        part(b'sRGB', b'\0'),
        part(b'iCCP', b'a\0\0' + zlib.compress(bytes(200))),
        part(b'pHYs', struct.pack('>IIB', 1, 1, 1)),
        part(b'tEXt', b'a\0b'),
    ]
    for extra in more:
        content = plain[:33] + extra + plain[33:] + b'behind the end'
        assert check(content) == plain
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), 1)
        assert np.array_equal(decoded, image)


def _patched(content, position, form, *values):
    data = bytearray(content)
    struct.pack_into(form, data, position, *values)
    return bytes(data)


def test_sizes_are_found_wherever_they_are(tmp_path):
    files = good_files(tmp_path)
    jpeg, gif, bmp = files['a.jpg'], files['a.gif'], files['a.bmp']
    webp, tiff = files['a.webp'], files['a.tiff']
    start = jpeg.find(b'\xff\xc0') + 5
    picture = 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    while gif[picture] != 0x2C:
        picture += 2
        while gif[picture]:
            picture += gif[picture] + 1
        picture += 1
    large = {
        'jpeg': _patched(jpeg, start, '>HH', 60_000, 60_000),
        'gif': _patched(gif, 6, '<HH', 60_000, 60_000),
        'picture of a gif': _patched(gif, picture + 5, '<HH', 60_000, 60_000),
        'bmp': _patched(bmp, 18, '<ii', 60_000, -60_000),
        'webp': _patched(webp, webp.find(b'\x9d\x01\x2a') + 3, '<HH', 16_383, 16_383)
        if b'\x9d\x01\x2a' in webp
        else _patched(webp, 21, '<I', 0x0FFFFFFF),
    }
    offset = struct.unpack_from('<I', tiff, 4)[0]
    for i in range(struct.unpack_from('<H', tiff, offset)[0]):
        entry = offset + 2 + 12 * i
        if struct.unpack_from('<H', tiff, entry)[0] in (256, 257):
            tiff = _patched(tiff, entry + 2, '<HII', 4, 1, 60_000)
    large['tiff'] = tiff
    box = files.get('a.avif', b'').find(b'ispe')
    if box > 0:
        large['avif'] = _patched(files['a.avif'], box + 8, '>II', 60_000, 60_000)
    for name, content in large.items():
        with pytest.raises(media.MediaError, match='has more than 1 million pixels'):
            check(content)
            raise AssertionError(name)
    for content in files.values():
        if kind_of(content).medium == 'image':
            check(content)


@pytest.mark.parametrize('type_', [4, 9])  # 9 has a sign, and counts all the same
def test_a_tiff_cannot_ask_for_tiles_larger_than_itself(tmp_path, type_):
    tiff = bytearray(good_files(tmp_path)['a.tiff'])
    offset = struct.unpack_from('<I', tiff, 4)[0]
    for i in range(struct.unpack_from('<H', tiff, offset)[0]):
        entry = offset + 2 + 12 * i
        if struct.unpack_from('<H', tiff, entry)[0] == 278:  # rows of a strip become tiles
            struct.pack_into('<HHII', tiff, entry, 322, type_, 1, 2**20)
    with pytest.raises(media.MediaError, match='more in its TIFF than its pixels'):
        check(bytes(tiff), media.Limits(pixels=10_000))


def test_jpegs_with_endless_scans_are_refused():
    image = np.zeros((16, 16, 3), np.uint8)
    content = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = content[content.find(b'\xff\xda') : -2]
    with pytest.raises(media.MediaError, match='more than 200 scans'):
        check(content[:-2] + 200 * scan + b'\xff\xd9')


@pytest.mark.parametrize('count', [400])
def test_mutated_headers_end_in_one_kind_of_error(tmp_path, count):
    pictures = {k: v for k, v in good_files(tmp_path).items() if kind_of(v).medium == 'image'}
    for _, content in hostile_media.mutations(pictures, count):
        try:
            check(content)
        except (media.MediaError, KeyError) as error:
            assert not isinstance(error, KeyError) or kind_of(content).medium != 'image'


def test_frames_of_a_video_keep_the_limit_whatever_its_header_says(tmp_path):
    path = write_video(tmp_path / 'a.avi', 3, (1200, 900))
    content = path.read_bytes()
    size = struct.pack('<II', 1200, 900)
    (tmp_path / 'b.avi').write_bytes(content.replace(size, struct.pack('<II', 64, 48)))
    assert len(list(media.Video(path).frames())) == 3
    for name in ('a.avi', 'b.avi'):
        try:
            (shot,) = media.Video(tmp_path / name, SMALL).frames()
        except media.MediaError as error:
            assert 'has more than 1 million pixels' in str(error)
        else:
            assert shot.image is None and 'has at most 1 million pixels' in shot.error


def test_frames_that_grow_on_the_way_are_left_out(tmp_path):
    small = write_video(tmp_path / 'a.avi', 6).read_bytes()
    large = cv2.imencode('.jpg', np.zeros((1200, 1000, 3), np.uint8))[1].tobytes()
    start = -1
    for _ in range(3):  # to the JPEG of frame 2
        start = small.find(b'\xff\xd8\xff', start + 1)
    end = small.find(b'00dc', start)
    content = small[: start - 4] + struct.pack('<I', len(large)) + large
    content += b'\0' * (len(large) & 1) + small[end:]
    (tmp_path / 'b.avi').write_bytes(content)
    shots = list(media.Video(tmp_path / 'b.avi', SMALL).frames())
    assert [shot.error is None for shot in shots[:4]] == [True, True, False, True]
    assert 'has more than 1 million pixels' in shots[2].error


def test_long_videos_are_refused_or_end(tmp_path):
    path = write_video(tmp_path / 'a.avi', 100)
    with pytest.raises(media.MediaError, match=r'is longer than 0\.05 minutes: cut it'):
        media.Video(path, media.Limits(seconds=3))
    video = media.Video(path)
    video._limits = media.Limits(seconds=3)  # as if the header had said less
    *shots, last = video.frames()
    assert len(shots) == 76 and last.error == 'the video goes on after 0.05 minutes'


def box(name, content):
    return struct.pack('>I', 8 + len(content)) + name + content


@pytest.mark.parametrize('times', [1, 40])
def test_an_mp4_has_no_more_frames_than_bytes(tmp_path, times):
    good = write_video(tmp_path / 'a.mp4', 5).read_bytes()
    for count, refused in ((2, False), (80_000_000, True), (2**32 - 1, True)):
        listed = box(b'trun', struct.pack('>III', 1, count, 100))
        fragment = box(b'moof', box(b'traf', box(b'tfhd', struct.pack('>II', 0, 1)) + listed))
        (tmp_path / 'b.mp4').write_bytes(good + fragment * times)
        if refused:
            with pytest.raises(media.MediaError, match='more than its bytes hold'):
                media.Video(tmp_path / 'b.mp4')
        else:
            media.boxes.check_boxes(tmp_path / 'b.mp4')
    large = struct.pack('>I4sQ', 1, b'moof', 16 + len(fragment) - 8) + fragment[8:]
    for content in (good + large, good + bytes(4) + fragment[4:]):  # other ways to say a length
        (tmp_path / 'b.mp4').write_bytes(content)
        with pytest.raises(media.MediaError, match='more than its bytes hold'):
            media.Video(tmp_path / 'b.mp4')


def test_an_mp4_s_header_is_not_unpacked(tmp_path):
    packed = box(b'cmvd', struct.pack('>I', 2**26) + zlib.compress(bytes(2**26), 9))
    content = box(b'ftyp', b'qt  \0\0\0\0') + box(b'moov', box(b'cmov', packed))
    (tmp_path / 'a.mov').write_bytes(content)
    with pytest.raises(media.UnreadKind, match='has a packed header'):
        media.Video(tmp_path / 'a.mov')


def test_boxes_are_counted_and_end(tmp_path, monkeypatch):
    monkeypatch.setattr(media.boxes, '_MOST_BOXES', 50)
    path = tmp_path / 'a.mp4'
    path.write_bytes(box(b'ftyp', b'isom') + box(b'free', b'') * 60)
    with pytest.raises(media.MediaError, match='more than its bytes hold'):
        media.Video(path)
    nested = b''
    for _ in range(45):
        nested = box(b'moov', nested)
    path.write_bytes(box(b'ftyp', b'isom') + nested)
    with pytest.raises(media.UnknownKind):
        media.Video(path)


def test_frames_of_a_video_are_counted(tmp_path):
    path = write_video(tmp_path / 'a.avi', 30)
    with pytest.raises(media.MediaError, match='has more than 20 frames: cut it'):
        media.Video(path, media.Limits(frames=20))
    for open_ in (media.Video, IsolatedMedia):
        video = open_(path, media.Limits(frames=30))
        assert [shot.error for shot in video.frames()] == [None] * 30
        video.close()
    video = media.Video(path)
    video._limits = media.Limits(frames=20)  # as if the header had said less
    *shots, last = video.frames()
    assert len(shots) == 20 and last.error == 'the video goes on after 20 frames'


def test_a_picture_of_108_million_pixels_is_no_problem_by_default():
    content = png(12_000, 9_000, pixels=b'')
    check(content, media.ORDINARY)
    with pytest.raises(media.MediaError, match='has more than 50 million pixels'):
        check(content, media.Limits(pixels=50_000_000))
