"""A process that decodes for strangers: what it inherits, and how it may die."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpose_attn import media
from mmpose_attn.media import wire, worker
from mmpose_attn.media.worker import Bounds, IsolatedMedia
from tests.hostile_media import good_files
from tests.inference_helpers import write_video

linux = pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')


@pytest.fixture(scope='module', autouse=True)
def tidy():
    yield
    worker.dismiss()


def test_it_sees_what_the_others_see(tmp_path):
    for name, content in good_files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        isolated, here = IsolatedMedia(path), media.open_media(path)
        assert (isolated.medium, isolated.count, isolated.fps) == (
            here.medium,
            here.count,
            here.fps,
        )
        for ours, theirs in zip(here.frames(), isolated.frames(), strict=True):
            assert np.array_equal(ours.image, theirs.image) and ours[1:] == theirs[1:]
        isolated.close()


def test_what_is_wrong_is_said(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('no picture')
    with pytest.raises(media.MediaError, match='cannot be opened as a picture or video'):
        IsolatedMedia(path)
    with pytest.raises(media.MediaError, match='cannot be read: No such file'):
        IsolatedMedia(tmp_path / 'gone.jpg')
    path.write_text('#EXTM3U')
    with pytest.raises(media.UnreadKind, match='playlist'):
        IsolatedMedia(path)


@pytest.fixture
def playing(tmp_path):
    """A video of which one frame is there and the next ones wait."""
    isolated = IsolatedMedia(
        write_video(tmp_path / 'a.avi', 200, (640, 480)), bounds=Bounds(wait=2)
    )
    frames = isolated.frames()
    assert next(frames).error is None
    yield isolated, frames
    isolated.close()


@linux
def test_nothing_is_inherited(playing):
    pid = Path(f'/proc/{playing[0]._process.pid}')
    names = {line.split(b'=')[0] for line in (pid / 'environ').read_bytes().split(b'\0') if line}
    assert names == {name.encode() for name in worker._VARIABLES}
    assert os.readlink(pid / 'cwd') == '/'
    files = {os.readlink(fd) for fd in (pid / 'fd').iterdir()}
    others = {name for name in files if not name.startswith(('pipe:', '/dev/null'))}
    assert {os.path.basename(name) for name in others} <= {'a.avi'}
    limits = (pid / 'limits').read_text()
    assert 'Max file size             0                    0' in limits
    assert 'NoNewPrivs:\t1' in (pid / 'status').read_text()
    maps = (pid / 'maps').read_text()
    assert 'torch' not in maps


@pytest.mark.parametrize(
    ('end', 'words'),
    [
        (signal.SIGSEGV, 'its decoder failed'),
        (signal.SIGKILL, 'its decoder failed'),
        (signal.SIGSTOP, 'took too long'),
        (getattr(signal, 'SIGXCPU', signal.SIGTERM), 'took too long'),
    ],
)
def test_it_may_die_or_hang(playing, end, words):
    isolated, frames = playing
    os.kill(isolated._process.pid, end)
    start = time.monotonic()
    *others, last = frames
    assert words in last.error and last.image is None
    assert len(others) < 199 and time.monotonic() - start < 20


@linux
def test_it_may_not_take_much_memory(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.zeros((6000, 6000, 3), np.uint8))
    (shot,) = IsolatedMedia(path, bounds=Bounds(memory=50 * 2**20)).frames()
    assert shot.image is None and 'cannot be decoded' in shot.error
    (shot,) = IsolatedMedia(path).frames()
    assert shot.image.shape == (6000, 6000, 3)


@linux
def test_it_may_not_compute_for_long(tmp_path):
    path = tmp_path / 'a.jpg'
    image = np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), dtype=np.uint8)
    content = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = content[content.rfind(b'\xff\xda') : -2]
    path.write_bytes(content[:-2] + 60 * last + b'\xff\xd9')
    (shot,) = IsolatedMedia(path, bounds=Bounds(cpu=1)).frames()
    assert 'took too long' in shot.error


def test_the_next_one_is_ready_and_none_is_left_behind(tmp_path):
    path = write_video(tmp_path / 'a.avi', 3)
    for _ in range(3):
        isolated = IsolatedMedia(path)
        process = isolated._process
        assert len(list(isolated.frames())) == 3
        isolated.close()
        worker.prepare()
        assert process.poll() is not None and len(worker._spare) == 1
    spare = worker._spare[0][1]
    spare.kill()  # as the system may
    spare.wait()
    isolated = IsolatedMedia(path)
    isolated.close()
    worker.prepare()
    spare = worker._spare[0][1]
    worker.dismiss()
    gc.collect()
    assert spare.poll() is not None


def test_messages_are_pixels_or_nothing():
    def fill_with(data):
        stream = [data]

        def fill(room):
            if len(stream[0]) < len(room):
                raise EOFError
            room[:] = stream[0][: len(room)]
            stream[0] = stream[0][len(room) :]

        return fill

    limits = media.Limits(pixels=100)
    sent = []
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    wire.send(
        lambda data: sent.append(bytes(data)), wire.Message(wire.SHOT, 'a\x1b[2Jb', image, 2.5)
    )
    message = wire.receive(fill_with(b''.join(sent)), limits)
    assert np.array_equal(message.image, image) and message.first == 2.5
    assert message.text == 'a?[2Jb'
    rng = np.random.default_rng(0)
    for _ in range(300):
        with pytest.raises((media.MediaError, EOFError)):
            wire.receive(fill_with(rng.bytes(40)), limits)
    with pytest.raises(media.MediaError, match='lost its way'):
        wire.receive(fill_with(wire._HEADER.pack(wire.SHOT, 2**31, 2**31, 0, 0, 0)), limits)
