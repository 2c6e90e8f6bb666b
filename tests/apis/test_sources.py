"""Inputs: what is found, how it is named, and what is refused at once."""

import io
import json
import os
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpose_attn.apis import find_sources, read_frames, sources
from tests.data_helpers import jpeg
from tests.inference_helpers import write_video


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a video and a text; the same picture once more in a folder below."""
    for name in ('b.png', 'a.jpg', 'below/a.jpg'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((6, 8, 3), 90, np.uint8))
    write_video(tmp_path / 'c.avi', 5)
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


def names(inputs, **kwargs):
    return [source.name for source in find_sources(inputs, **kwargs)]


def test_folder_pattern_files_and_lists(folder, monkeypatch):
    assert names(folder) == ['a.jpg', 'b.png', 'c.avi']
    assert names([folder / 'b.png', folder / 'a.jpg', folder / 'b.png']) == ['b.png', 'a.jpg']
    assert names(str(folder / '**' / '*.jpg')) == ['a.jpg', 'below/a.jpg']
    # two of one name are told apart by where they are
    assert names([folder / 'a.jpg', folder / 'below']) == ['a.jpg', 'below/a.jpg']
    monkeypatch.chdir(folder)
    listed = io.StringIO('b.png\n\nbelow/a.jpg\r\n')
    assert names('-', stdin=listed) == ['b.png', 'a.jpg']
    (folder / 'odd[1].jpg').write_bytes(jpeg())  # a file, although it looks like a pattern
    assert names('odd[1].jpg') == ['odd[1].jpg']
    (folder / '7').write_bytes(jpeg())  # a file without a suffix, not the camera
    (seven,) = find_sources('7')
    assert (seven.name, seven.kind) == ('7', 'image')


def test_arrays(folder):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    first, second = read_frames(find_sources([image, image + 1]))
    assert (first.name, first.image_id, first.size) == ('array_000000', 1, (4, 4))
    assert (second.name, second.image_id) == ('array_000001', 2)
    assert second.image is not image and np.array_equal(second.image, image + 1)
    for bad in (image.astype(np.float32), image[..., 0], image[:0]):
        with pytest.raises(ValueError, match=r'\(H, W, 3\) uint8'):
            find_sources(bad)


def test_ids(folder):
    assert [s.image_id for s in find_sources(folder / '*.[jp]*')] == [1, 2]
    for name in ('000000000139.jpg', '000000000007.jpg'):
        shutil.copy(folder / 'a.jpg', folder / 'below' / name)
    coco = folder / 'below' / '0*.jpg'
    assert [s.image_id for s in find_sources(coco)] == [7, 139]
    # 7 and 007 are one number, so that names cannot tell them apart
    shutil.copy(folder / 'a.jpg', folder / 'below' / '07.jpg')
    assert [s.image_id for s in find_sources(coco)] == [1, 2, 3]

    ann_file = folder / 'ann.json'
    images = [dict(id=31, file_name='a.jpg'), dict(id=41, file_name='b.png')]
    ann_file.write_text(json.dumps(dict(images=images)))
    found = find_sources([folder / 'a.jpg', folder / 'b.png'], ann_file)
    assert [s.image_id for s in found] == [31, 41]
    with pytest.raises(ValueError, match='3 inputs are not in .*ann.json: 000000000007.jpg'):
        find_sources(coco, ann_file)
    with pytest.raises(ValueError, match='1 inputs are not in .*: c.avi'):
        find_sources([folder / 'a.jpg', folder / 'c.avi'], ann_file)
    ann_file.write_text('[]')
    with pytest.raises(ValueError, match='no COCO file whose "images"'):
        find_sources(folder / 'a.jpg', ann_file)


def test_videos_count_on_and_so_do_pictures_beside_them(folder):
    frames = list(read_frames(find_sources(folder)))
    assert [f.image_id for f in frames] == list(range(1, 8))
    assert [f.name for f in frames[1:4]] == ['b.png', 'c.avi#0', 'c.avi#1']
    assert frames[0].fps is None and frames[2].fps == 25 and frames[2].size == (64, 48)
    assert not np.array_equal(frames[2].image, frames[4].image)


def test_gifs_are_videos_if_they_move(tmp_path):
    shades = [Image.new('RGB', (32, 24), (shade, 0, 0)) for shade in (0, 100, 200)]
    shades[1].save(tmp_path / 'still.gif')
    shades[0].save(tmp_path / 'moving.gif', save_all=True, append_images=shades[1:], duration=50)
    frames = list(read_frames(find_sources(tmp_path)))
    assert [f.name for f in frames] == [*(f'moving.gif#{i}' for i in range(3)), 'still.gif']
    assert [f.fps for f in frames] == [20, 20, 20, None]
    assert [int(f.image[12, 16, 2]) for f in frames] == pytest.approx([0, 100, 200, 100], abs=3)
    (tmp_path / 'damaged.gif').write_text('x')
    first, *others = read_frames(find_sources(tmp_path))
    assert first.name == 'damaged.gif' and first.error and len(others) == len(frames)


@pytest.mark.parametrize(
    ('inputs', 'error', 'message'),
    [
        ('gone.jpg', FileNotFoundError, 'input not found: gone.jpg'),
        ('empty', FileNotFoundError, 'folder empty holds no picture'),
        ('*.gif', FileNotFoundError, r'pattern \*.gif finds no picture'),
        ('ftp://example.com/a.jpg', ValueError, 'an address of a kind that is not read'),
        ('rtsp://127.0.0.1:1/x', ValueError, 'rtsp://127.0.0.1:1/x cannot be read'),
        ('notes.txt', ValueError, 'notes.txt cannot be opened as a picture or video'),
        ('broken.mp4', ValueError, 'broken.mp4 cannot be opened'),
        (99, ValueError, 'camera 99 cannot be opened'),
        ('99', ValueError, 'camera 99 cannot be opened'),
        ([], FileNotFoundError, 'no input'),
        ('-', FileNotFoundError, 'no input'),
    ],
)
def test_unreadable_inputs_are_errors_at_once(folder, monkeypatch, inputs, error, message):
    monkeypatch.chdir(folder)
    (folder / 'empty').mkdir()
    (folder / 'broken.mp4').write_bytes(b'not a video' * 50)
    with pytest.raises(error, match=message):
        find_sources(inputs, stdin=io.StringIO())


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read(folder):
    (folder / 'a.jpg').chmod(0)
    with pytest.raises(ValueError, match='a.jpg may not be read'):
        find_sources(folder / 'a.jpg')


@pytest.mark.parametrize(
    ('content', 'reason'),
    [(b'', 'empty'), (jpeg()[:400], 'truncated'), (b'no picture', 'cannot be decoded')],
)
def test_a_corrupt_picture_is_reported(folder, content, reason):
    (folder / 'a.jpg').write_bytes(content)
    first, second = read_frames(find_sources([folder / 'a.jpg', folder / 'b.png']))
    assert reason in first.error and first.image is None and first.size == (0, 0)
    assert second.error is None and second.image.shape == (6, 8, 3)


def test_a_picture_that_is_gone_since_is_reported(folder):
    found = find_sources(folder / 'a.jpg')
    (folder / 'a.jpg').unlink()
    (frame,) = read_frames(found)
    assert 'not found' in frame.error


def test_corrupt_frames_are_reported(folder):
    video = write_video(folder / 'd.avi', 30)
    content = bytearray(video.read_bytes())
    start = -1
    for _ in range(11):  # to the JPEG of frame 10
        start = content.find(b'\xff\xd8\xff', start + 1)
    end = content.find(b'00dc', start)
    content[start:end] = bytes(end - start)
    video.write_bytes(content)
    frames = list(read_frames(find_sources(video)))
    assert [f.index for f in frames] == list(range(30))
    assert [f.name for f in frames if f.error] == ['d.avi#10']
    assert 'cannot be decoded' in frames[10].error

    video.write_bytes(write_video(folder / 'e.avi', 30).read_bytes()[: len(content) // 2])
    *frames, last = read_frames(find_sources(video))
    assert 3 < len(frames) < 25 and not any(f.error for f in frames)
    assert last.error == f'the video ends after {len(frames)} of 30 frames'


def test_camera(folder, monkeypatch):
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', lambda index: capture(str(folder / 'c.avi')))
    (source,) = find_sources('3')
    assert (source.name, source.kind, source.count, source.fps) == ('camera_3', 'camera', None, 25)
    frames = list(read_frames([source]))
    assert len(frames) == 5 and all(f.live and f.image is not None for f in frames)


def test_odd_names(folder, monkeypatch):
    odd = ['a b.jpg', 'näme 人.jpg', 'two\nlines.jpg', "it's [1] $HOME.jpg", '-x.jpg', '~.jpg']
    for name in odd:
        (folder / name).write_bytes(jpeg())
    monkeypatch.chdir(folder)
    assert names(odd) == odd
    assert set(odd) < set(names('.'))
    assert all(frame.error is None for frame in read_frames(find_sources(odd)))


def test_folders_links_and_pipes_called_like_pictures(folder):
    (folder / 'folder.jpg').mkdir()
    assert names(folder) == ['a.jpg', 'b.png', 'c.avi']
    (folder / 'link.jpg').symlink_to(folder / 'gone.jpg')
    with pytest.raises(FileNotFoundError, match='link.jpg is a link to nothing'):
        find_sources(folder)
    (folder / 'link.jpg').unlink()
    # a stream if it is named itself, but nothing that is found in a folder
    os.mkfifo(folder / 'pipe.mp4')
    assert find_sources(folder / 'pipe.mp4')[0].kind == 'stream'
    assert names(folder / '*.*') == names([folder / f for f in ('a.jpg', 'b.png', 'c.avi')])
    with pytest.raises(ValueError, match='null is no file'):
        find_sources('/dev/null')


@pytest.mark.parametrize('suffix', [b'.jpg', b'.avi', b''])
def test_a_name_that_is_not_utf8_is_refused(folder, suffix):
    path = os.path.join(os.fsencode(folder), b'\xff' + suffix)
    with open(path, 'wb') as file:
        file.write(jpeg())
    listed = io.TextIOWrapper(io.BytesIO(path + b'\n'), 'utf-8')
    with pytest.raises(ValueError, match=r'\\udcff.*is not UTF-8: rename it'):
        find_sources('-', stdin=listed)
    if suffix:
        with pytest.raises(ValueError, match='is not UTF-8'):
            find_sources(folder)


@pytest.mark.parametrize(
    ('inputs', 'error', 'message'),
    [
        ('', ValueError, "an input is '', which names no file"),
        ('a\0.jpg', ValueError, 'names no file'),
        (None, TypeError, 'an input is a path, a camera index, an array or a Stream, got None'),
        ([[1, 2]], TypeError, r'got \[1, 2\]'),
        (10**30, ValueError, 'camera 1000.* cannot be opened'),
    ],
)
def test_what_is_no_input(inputs, error, message):
    with pytest.raises(error, match=message):
        find_sources([inputs] if inputs is None else inputs)


def test_equal_names_and_ids_are_refused(folder, monkeypatch):
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', lambda index: capture(str(folder / 'c.avi')))
    with pytest.raises(ValueError, match='2 inputs are called camera_0: give each once'):
        find_sources(['0', 0])
    known = folder / 'ids.json'
    known.write_text(json.dumps(dict(images=[dict(id=3, file_name='a.jpg')])))
    with pytest.raises(ValueError, match='2 inputs have the id 3 in'):
        find_sources([folder / 'a.jpg', folder / 'below'], known)


def test_what_is_left_out_is_said(folder, monkeypatch):
    lines = []
    monkeypatch.setattr(sources, 'print_log', lambda line, *args: lines.append(line))
    (folder / 'photo.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    (folder / 'list.jpg').write_bytes(b'#EXTM3U\n/etc/hosts\n')
    content = (folder / 'c.avi').read_bytes()
    (folder / 'd.avi').write_bytes(content.replace(b'MJPG', b'cvid'))
    (folder / 'photo').write_bytes(jpeg())  # a picture, whatever it is called
    for name in ('boxes.json', 'table.csv', 'script.py', 'noise'):
        (folder / name).write_bytes(b'[0.5, 1]')
    assert names(folder) == ['a.jpg', 'b.png', 'c.avi', 'photo']
    (line,) = lines
    assert f'left out 3 files in {folder}: ' in line
    for words in ('list.jpg is a playlist', 'photo.heic is a HEIC', 'd.avi is in cinepak'):
        assert words in line
    with pytest.raises(ValueError, match='d.avi is in cinepak'):
        find_sources(folder / 'd.avi')
    with pytest.raises(FileNotFoundError, match='left out 1 file in .*: photo.heic is a HEIC'):
        find_sources(folder / '*.heic')
    for i in range(9):
        shutil.copy(folder / 'photo.heic', folder / f'{i}.heic')
    with pytest.raises(FileNotFoundError, match='left out 10 files .*; and 5 more'):
        find_sources(folder / '*.heic')


@pytest.mark.parametrize('suffix', ['jfif', 'avif', 'mts', 'ts', '3gp', 'flv'])
def test_folders_have_files_of_more_kinds(folder, suffix):
    import av

    path = folder / f'x.{suffix}'
    if suffix == 'jfif':
        path.write_bytes(jpeg())
    elif suffix == 'avif':
        if not cv2.haveImageWriter('a.avif'):
            pytest.skip('this OpenCV has no AVIF')
        path.write_bytes(cv2.imencode('.avif', np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
    else:
        form = dict(mts='mpegts', ts='mpegts').get(suffix, suffix)
        codec = dict(flv='flv1', ts='mpeg2video', mts='mpeg2video').get(suffix, 'mpeg4')
        with av.open(str(path), 'w', format=form) as container:
            stream = container.add_stream(dict(flv1='flv').get(codec, codec), rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
            picture = np.full((48, 64, 3), 90, np.uint8)
            for _ in range(4):
                frame = av.VideoFrame.from_ndarray(picture, format='bgr24')
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert f'x.{suffix}' in names(folder)
    frames = list(read_frames(find_sources(path)))
    assert len(frames) == (1 if suffix in ('jfif', 'avif') else 4)
    assert not any(frame.error for frame in frames)


def test_times_of_frames(folder):
    import av

    frames = list(read_frames(find_sources(folder / 'c.avi')))
    assert [f.time for f in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert next(read_frames(find_sources(folder / 'a.jpg'))).time is None
    moments = [0, 40, 80, 500, 530, 2000]  # a phone in the dark
    with av.open(str(folder / 'v.mp4'), 'w') as container:
        stream = container.add_stream('mpeg4', rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for moment in moments:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format='bgr24')
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = list(read_frames(find_sources(folder / 'v.mp4')))
    assert [f.time for f in frames] == pytest.approx([m / 1000 for m in moments])


@pytest.mark.parametrize('suffix', ['mkv', 'mp4', 'webm', 'ts'])
def test_a_video_that_begins_late_is_whole(tmp_path, suffix):
    import av

    path = tmp_path / f'v.{suffix}'
    with av.open(str(path), 'w') as container:
        codec = dict(webm='libvpx', ts='mpeg2video').get(suffix, 'mpeg4')
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format='bgr24')
            frame.pts, frame.time_base = 7 * 25 + i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (source,) = find_sources(path)
    frames = list(read_frames([source]))
    assert len(frames) == 30 and not any(frame.error for frame in frames)
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(30)], abs=2e-3)
    assert abs(source.count - 30) <= 1


def png(image):
    return cv2.imencode('.png', image)[1].tobytes()


def exif(turned):
    """A JPEG whose pixels are to be turned by a quarter, as of a phone held upright."""
    tag = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    return turned[:2] + b'\xff\xe1' + (len(tag) + 2).to_bytes(2, 'big') + tag + turned[2:]


def test_pictures_of_any_kind(folder):
    image = cv2.imdecode(np.frombuffer(jpeg(40, 60), np.uint8), cv2.IMREAD_COLOR)
    alpha = np.concatenate((image, np.zeros_like(image[..., :1])), 2)
    gray = image[..., 0]
    for content, expected in (
        (png(gray), np.repeat(gray[..., None], 3, 2)),
        (png(alpha), image),
        (png(image.astype(np.uint16) * 257), image),
        (exif(jpeg(40, 60)), cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
        (png(image[:1, :1]), image[:1, :1]),
    ):
        (folder / 'x.jpg').write_bytes(content)
        (frame,) = read_frames(find_sources(folder / 'x.jpg'))
        assert frame.error is None and np.array_equal(frame.image, expected)
        assert frame.size == expected.shape[1::-1]


def test_cut_off_pictures_are_reported(folder):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for suffix in ('.png', '.webp', '.bmp', '.tiff'):
        content = cv2.imencode(suffix, image)[1].tobytes()
        for share in (0.1, 0.5, 0.95):
            (folder / f'x{suffix}').write_bytes(content[: int(share * len(content))])
            (frame,) = read_frames(find_sources(folder / f'x{suffix}'))
            assert frame.error is not None, (suffix, share)


def test_videos_without_a_suffix_and_of_odd_size(folder):
    write_video(folder / 'odd.avi', 5, (63, 47)).rename(folder / 'clip')
    (source,) = find_sources(folder / 'clip')
    assert (source.name, source.kind, source.count) == ('clip', 'video', 5)
    assert all(frame.error is None for frame in read_frames([source]))


def test_a_video_without_frames_is_reported(folder):
    (frame,) = read_frames(find_sources(write_video(folder / 'empty.avi', 0)))
    assert frame.error == 'the video has no frame that can be decoded'


def test_a_video_that_promises_too_much_ends(folder):
    video = write_video(folder / 'd.avi', 20)
    content = bytearray(video.read_bytes())
    for chunk, offset in ((b'avih', 24), (b'strh', 40)):
        start = content.find(chunk) + offset
        assert content[start : start + 4] == (20).to_bytes(4, 'little')
        content[start : start + 4] = (2**30).to_bytes(4, 'little')
    video.write_bytes(content)
    *frames, last = read_frames(find_sources(video))
    assert len(frames) == 20 and last.error == f'the video ends after 20 of {2**30} frames'
