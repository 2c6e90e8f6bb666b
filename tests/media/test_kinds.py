"""What files are, whatever they are called."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmpose_attn import media
from mmpose_attn.apis import find_sources, read_frames
from tests.hostile_media import PLAYLISTS, good_files
from tests.inference_helpers import write_video


@pytest.fixture
def secret(tmp_path):
    """A video that nobody gave."""
    (tmp_path / 'private').mkdir()
    return write_video(tmp_path / 'private' / 'secret.avi', 5)


@pytest.mark.parametrize('name', ['x.m3u8', 'x.M3U', 'x.mp4', 'x.png', 'x.jpg', 'x.ts', 'x'])
@pytest.mark.parametrize('kind', PLAYLISTS)
def test_no_list_of_files_is_followed(tmp_path, secret, kind, name):
    path = tmp_path / name
    path.write_text(PLAYLISTS[kind].format(path=secret), encoding='utf-8')
    with pytest.raises(media.MediaError) as error:
        media.open_media(path)
    if kind != 'plain':
        assert 'names other files' in str(error.value)
    try:
        frames = list(read_frames(find_sources(path)))
    except ValueError:
        return
    assert all(frame.error and frame.image is None for frame in frames)


def test_ffmpeg_gets_no_other_format_or_protocol(tmp_path, secret):
    """Even if the first bytes were mistaken for something else."""
    path = tmp_path / 'x.avi'
    path.write_text(PLAYLISTS['hls'].format(path=secret))
    for demuxer in ('hls', 'concat', 'image2', 'matroska,webm'):
        options = dict(format_whitelist='avi', protocol_whitelist='file')
        with pytest.raises(media.MediaError):
            media.videos.open_container(
                f'file:{path}', media.ORDINARY, format=demuxer, options=options
            )


def test_external_data_of_a_mov_stays_closed(tmp_path, secret):
    """A track whose samples are said to lie in another file."""
    content = write_video(tmp_path / 'a.mp4', 5).read_bytes()
    path = tmp_path / 'b.mp4'
    path.write_bytes(content.replace(b'url \0\0\0\1', b'url \0\0\0\0'))
    assert path.read_bytes() != content
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        opener = media.videos.av.open
        patch.setattr(
            media.videos.av, 'open', lambda *a, **k: seen.append(k['options']) or opener(*a, **k)
        )
        media.Video(path).close()
    assert seen[0]['enable_drefs'] == '0' and seen[0]['protocol_whitelist'] == 'file'


def test_suffixes_are_not_needed_nor_believed(tmp_path):
    for name, content in good_files(tmp_path).items():
        shot = next(media.open_media(_written(tmp_path / name, content)).frames())
        for other in (name.replace('.', '_'), f'{name}.png', f'{name}.mp4', f'{name}.m3u8'):
            again = next(media.open_media(_written(tmp_path / other, content)).frames())
            assert np.array_equal(again.image, shot.image) and again.image.shape == (48, 64, 3)


def test_percent_signs_and_colons_are_characters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        cv2.imwrite(f'shot_{i}.png', np.full((8, 8, 3), i, np.uint8))
    for name in ('shot_%d.avi', 'http:a.avi', 'concat:a|b.avi', 'pipe:x.avi'):
        write_video(tmp_path / 'a.avi', 3).rename(tmp_path / name)
        assert len(list(read_frames(find_sources(name)))) == 3
    with pytest.raises(FileNotFoundError):
        find_sources('shot_%d.png')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC, which no decoder'),
        (b'\0\0\0\x0cjP  \r\n\x87\n', 'JPEG 2000, which is not read: convert it'),
        (b'<svg xmlns="x"></svg>', 'SVG, which is not read'),
        (b'8BPS' + bytes(30), 'Photoshop'),
    ],
)
def test_what_is_known_and_not_read_is_named(tmp_path, content, words):
    path = _written(tmp_path / 'a.jpg', content)
    with pytest.raises(media.UnreadKind, match=words):
        media.open_media(path)
    with pytest.raises(ValueError, match=f'a.jpg is .*{words}'):
        find_sources(path)


def test_codecs_are_named(tmp_path):
    content = write_video(tmp_path / 'a.avi', 3).read_bytes()
    path = _written(tmp_path / 'b.avi', content.replace(b'MJPG', b'cvid').replace(b'mjpg', b'cvid'))
    with pytest.raises(media.UnreadKind, match='is in cinepak, which is not decoded here'):
        media.Video(path)
    path = _written(tmp_path / 'c.avi', content.replace(b'MJPG', b'QQQQ').replace(b'mjpg', b'QQQQ'))
    with pytest.raises(media.UnreadKind, match='is in .*unknown.*QQQQ'):
        media.Video(path)


def test_av1_is_decoded(tmp_path):
    import av

    with av.open(str(tmp_path / 'a.mkv'), 'w') as container:
        try:
            stream = container.add_stream('libsvtav1', rate=25)
        except ValueError:
            pytest.skip('this PyAV cannot write AV1')
        stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format='bgr24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = list(read_frames(find_sources(tmp_path / 'a.mkv')))
    assert len(frames) == 3 and abs(int(frames[2].image.mean()) - 200) < 5


@pytest.mark.parametrize('degrees', [90, 180, 270])
def test_videos_of_phones_are_upright(tmp_path, degrees):
    import av

    path = str(tmp_path / 'a.mp4')
    with av.open(path, 'w') as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        if not hasattr(stream, 'set_display_rotation'):
            pytest.skip('this PyAV cannot write the rotation')
        stream.set_display_rotation(degrees)
        image = np.zeros((48, 64, 3), np.uint8)
        image[:24, :32] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        container.mux(stream.encode())
    (shot,) = media.Video(path).frames()
    # as OpenCV has it, which read them before
    good, expected = cv2.VideoCapture(path).read()
    assert good and np.array_equal(shot.image, expected)
    assert shot.image.shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))


def test_media_does_not_import_the_package():
    code = (
        'import importlib.util as u, sys; p = sys.argv[1]; '
        's = u.spec_from_file_location("media", p, submodule_search_locations=[p[:-12]]); '
        'm = sys.modules["media"] = u.module_from_spec(s); s.loader.exec_module(m); '
        'import media.worker_main; print({"torch", "mmengine", "mmpose_attn"} & set(sys.modules))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, media.__file__], capture_output=True, text=True
    )
    assert done.stdout.strip() == 'set()', done.stderr


def _written(path, content):
    path.write_bytes(content)
    return path
