"""Frames from Python as an input: lazy, with times, tracked."""

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from mmpose_attn.apis import InferenceSession, PosePredictor, Stream, find_sources, read_frames
from mmpose_attn.apis.threads import newest
from mmpose_attn.media import live
from tests.inference_helpers import write_video

PICTURE = np.full((96, 64, 3), 90, np.uint8)


@pytest.fixture(scope='module')
def predictor(networks):
    return PosePredictor(*networks['topdown'], device='cpu', batch=2)


def endless(taken):
    for i in itertools.count():
        taken.append(i)
        yield PICTURE


@pytest.mark.parametrize('live', [False, True, None])
def test_a_stream_is_read_while_it_is_worked_at(predictor, live):
    taken = []
    frames = endless(taken)
    stream = frames if live is None else Stream(frames, fps=10, live=live)
    results = predictor(stream, track=True)
    assert len(taken) <= 1  # the first says what an iterator is of
    for result in itertools.islice(results, 5):
        assert result.people.track_ids.tolist() == [1]
    results.close()
    # two batches at each of the stages that overlap, and one in work
    size = 1 if live else 2
    assert len(taken) <= 6 + 5 * size
    assert result.frame.name == 'stream_0#4' and result.frame.live == bool(live)
    assert result.frame.time == pytest.approx(4 / (30 if live is None else 10))


def test_times_are_given_or_counted():
    times = [5.0, 5.5, 7.25]
    (source,) = find_sources(Stream(((t, PICTURE) for t in times), name='a', count=3))
    assert (source.name, source.kind, source.count, source.fps) == ('a', 'stream', 3, 30.0)
    frames = list(read_frames([source]))
    assert [frame.time for frame in frames] == [0, 0.5, 2.25]
    assert [frame.image_id for frame in frames] == [1, 2, 3]
    (source,) = find_sources([Stream([PICTURE] * 3, fps=4)])
    assert [frame.time for frame in read_frames([source])] == [0, 0.25, 0.5]
    first, second = find_sources([Stream([PICTURE]), iter([PICTURE])])
    assert (first.name, second.name) == ('stream_0', 'stream_1')


@pytest.mark.parametrize(
    ('items', 'error', 'message'),
    [
        ([PICTURE, PICTURE[..., 0]], ValueError, r'frame 1 of a stream is \(H, W, 3\) uint8'),
        ([PICTURE, 'a.jpg'], TypeError, "frame 1 of a stream is an array .* got 'a.jpg'"),
        ([(1.0, PICTURE), (1.0, PICTURE)], ValueError, 'times of frames grow; frame 1 has 1.0'),
        ([(float('nan'), PICTURE)], ValueError, 'times of frames grow'),
        ([(None, PICTURE)], TypeError, 'frame 0 of a stream has NoneType where the seconds are'),
        ([(PICTURE, 1.0)], TypeError, 'frame 0 of a stream has ndarray where the seconds are'),
        ([('1', PICTURE)], TypeError, 'frame 0 of a stream has str where the seconds are'),
        ([(9.0, PICTURE), PICTURE], ValueError, 'frame 1 has none, those before it are different'),
        ([PICTURE, (9.0, PICTURE)], ValueError, 'frame 1 has one, those before it are different'),
    ],
)
def test_what_is_no_frame(predictor, items, error, message):
    with pytest.raises(error, match=message):
        list(predictor(iter(items)))
    with pytest.raises(ValueError, match='fps is frames a second, got 0'):
        Stream(items, fps=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(fps='25'), "fps is frames a second, got '25'"),
        (dict(fps=True), 'fps is frames a second, got True'),
        (dict(count=1.5), 'count is a number of frames, got 1.5'),
        (dict(count=-1), 'count is a number of frames, got -1'),
        (dict(name=5), 'name is a text, got 5'),
        (dict(name=''), 'name is a text'),
    ],
)
def test_what_describes_no_stream(options, message):
    with pytest.raises(ValueError, match=message):
        Stream([PICTURE], **options)


def test_numbers_of_numpy_describe_a_stream(networks, tmp_path):
    stream = Stream([PICTURE] * 2, fps=np.float32(4), count=np.int64(2))
    InferenceSession([stream], tmp_path, *networks['topdown'], device='cpu').run(progress=False)
    images = json.loads((tmp_path / 'images.json').read_text())['images']
    assert [image['time'] for image in images] == [0, 0.25]


def test_an_iterator_of_paths_is_a_list(pictures, predictor):
    found = find_sources(pictures.glob('*'))
    assert {source.kind for source in found} == {'image'} and len(found) == 3
    with pytest.raises(FileNotFoundError, match='no input'):
        find_sources(iter([]))


def test_separate_arrays_have_no_tracks(predictor):
    assert len(list(predictor([PICTURE, PICTURE]))) == 2
    with pytest.raises(ValueError, match=r'no track ids: give Stream\(arrays, fps=...\)'):
        predictor([PICTURE, PICTURE], track=True)
    with pytest.raises(ValueError, match='no track ids'):
        predictor(PICTURE, smooth=True)


def test_a_stream_that_fails_says_so(predictor):
    def failing():
        yield PICTURE
        raise RuntimeError('the camera is gone')

    with pytest.raises(RuntimeError, match='the camera is gone'):
        list(predictor(Stream(failing())))


def test_newest_leaves_out_what_waits_too_long():
    assert list(newest(iter('abc'))) == [(0, 'a'), (1, 'b'), (2, 'c')]
    given = []

    def quick():
        for i in range(100):
            given.append(i)
            yield i

    items = newest(quick(), waiting=10)
    first = next(items)
    while len(given) < 100:
        pass
    left = list(items)
    assert first[0] == first[1] and len(left) <= 11 and left[-1] == (99, 99)
    assert all(a < b for a, b in itertools.pairwise(left))
    with pytest.raises(ZeroDivisionError):
        list(newest(1 // i for i in (1, 0)))


def test_a_stream_that_is_lost_leaves_whole_files(networks, tmp_path, monkeypatch):
    video = write_video(tmp_path / 'a.avi', 6).read_bytes()

    class Once(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.server.asked:
                self.send_error(503)
                return
            self.server.asked = True
            self.send_response(200)
            self.end_headers()
            self.wfile.write(video)

    monkeypatch.setattr(live, '_PAUSE', 0.05)
    server = HTTPServer(('127.0.0.1', 0), Once)
    server.asked = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://me:secret@127.0.0.1:{server.server_port}/camera.avi?key=secret'
    session = InferenceSession(
        [address], tmp_path / 'out', *networks['topdown'], device='cpu', track=True
    )
    # as a camera is, which does not know how long it goes on
    session.sources[0].origin.live = True
    summary = session.run(progress=False)
    server.shutdown()
    server.server_close()
    assert summary.exit_status == 1 and summary.frames == 7 and summary.people == 6
    assert str(summary).endswith('the stream was lost for good: tried to reach it again 3 times')
    (drawn,) = (tmp_path / 'out' / 'drawn').iterdir()
    assert len(list(read_frames(find_sources(drawn)))) == 6
    people = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert [person['track_id'] for person in people] == [1] * 6
    for file in (tmp_path / 'out').glob('*.*'):
        assert 'secret' not in file.read_text()
    with pytest.raises(ValueError, match='a stream cannot be resumed'):
        InferenceSession(
            ['pipe:0'], tmp_path / 'out', *networks['topdown'], device='cpu', resume=True
        )
