"""What the page in the browser does, called directly."""

import json
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmpose_attn.apis import InferenceSession, find_sources, read_frames, service
from mmpose_attn.apis.service import WHOLE_IMAGE, PoseService, first_frame
from mmpose_attn.media import worker
from tests.inference_helpers import write_video


@pytest.fixture
def make(networks, tmp_path):
    def make(models=('topdown', 'bottomup'), detectors=(), **options):
        folder = tmp_path / 'page'
        folder.mkdir()
        pairs = [tuple(map(str, networks[kind])) for kind in models]
        return PoseService(pairs, detectors, folder=folder, device='cpu', **options)

    return make


@pytest.fixture
def picture(pictures):
    return min(pictures.iterdir())


def session_results(path, out, network, **options):
    """results.json of tools/infer.py."""
    InferenceSession([path], out, *network, device='cpu', **options).run(progress=False)
    return json.loads((out / 'results.json').read_text())


def results_of(outcome):
    assert not outcome.failed, outcome.message
    return json.loads(outcome.files[0].read_text())


@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_a_picture_gives_what_infer_gives(kind, make, networks, picture, tmp_path):
    outcome = make([kind]).run(picture, networks[kind][0].stem)
    expected = session_results(picture, tmp_path / 'out', networks[kind])
    assert results_of(outcome) == expected
    people = 'Nobody' if not expected else f'{len(expected)} p'
    assert outcome.message.startswith(people) and picture.name in outcome.message
    names = ['results.json', 'results.csv', picture.name]
    if kind == 'bottomup':  # the network without a plugin has none
        names.append('attention.html')
        assert 'SEAttention' in outcome.attention.read_text()
    assert [path.name for path in outcome.files] == names
    assert outcome.attention == (outcome.files[3] if kind == 'bottomup' else None)
    drawn = tmp_path / 'out' / 'drawn' / picture.name
    assert outcome.files[2].read_bytes() == drawn.read_bytes()
    assert outcome.video is None and outcome.picture.shape == cv2.imread(str(drawn)).shape


def test_the_detector_that_was_chosen_is_asked(make, networks, detector, pictures, tmp_path):
    page = make(['topdown'], [detector])
    name = page.detectors[0]
    assert page.detectors == ['yolox_nano_8xb8-300e_coco', WHOLE_IMAGE]
    path = max(pictures.iterdir())
    for score in (0.05, 0.5):
        given = dict(detector=detector[0], detector_checkpoint=detector[1], box_score=score)
        out = tmp_path / str(score)
        outcome = page.run(path, 'topdown', name, box_score=score)
        assert results_of(outcome) == session_results(path, out, networks['topdown'], **given)
    outcome = page.run(path, 'topdown', name, box_score=1.0)
    assert results_of(outcome) == [] and 'Nobody was found' in outcome.message
    (whole,) = results_of(page.run(path, 'topdown'))
    assert whole['bbox'][:2] == [0, 0]


def test_a_video(make, networks, tmp_path):
    video, steps = write_video(tmp_path / 'clip.avi', 10), []
    page = make(['topdown'])
    outcome = page.run(video, 'topdown', track=True, progress=lambda *step: steps.append(step))
    expected = session_results(video, tmp_path / 'out', networks['topdown'], track=True, batch=4)
    assert results_of(outcome) == expected and {r['track_id'] for r in expected} == {1}
    assert steps == [(i, 10) for i in range(11)]
    assert 'somebody is in 10 of 10 frames' in outcome.message
    assert outcome.video == outcome.files[2] and outcome.video.suffix == '.webm'
    frames = list(read_frames(find_sources(outcome.video)))
    assert len(frames) == 10 and frames[0].image.std() > 10
    assert not any('track_id' in r for r in results_of(page.run(video, 'topdown')))


def test_a_video_that_is_stopped(make, tmp_path):
    video, stop = write_video(tmp_path / 'clip.avi', 40), threading.Event()

    def press(done, total):
        if done == 5:
            stop.set()

    page = make(['topdown'])
    before = threading.active_count()
    outcome = page.run(video, 'topdown', stop=stop, progress=press)
    assert outcome.message.startswith('Stopped after 5 of 40 frames. At most 1 person at a time')
    assert len(results_of(outcome)) == len(list(read_frames(find_sources(outcome.video)))) == 5
    assert threading.active_count() == before
    outcome = page.run(video, 'topdown', stop=stop)
    assert outcome.message == 'Stopped before it began.' and not outcome.files


def damaged(path, kind, picture):
    if kind == 'picture':
        path = path.with_suffix('.jpg')
        path.write_bytes(picture.read_bytes()[:200])
    elif kind == 'video':
        whole = write_video(path.with_suffix('.avi'), 20)
        whole.write_bytes(whole.read_bytes()[:1500])
        return whole
    elif kind == 'huge':
        path = path.with_suffix('.png')
        Image.new('1', (10_000, 6_000)).save(path)
    elif kind == 'enormous':
        path = path.with_suffix('.png')
        Image.new('1', (20_000, 10_000)).save(path)
    elif kind != 'gone':
        path.write_bytes(b'' if kind == 'empty' else b'Good morning')
    return path


@pytest.mark.parametrize(
    'kind, message',
    [
        ('picture', 'my file.jpg'),
        ('video', 'my file.avi'),
        ('huge', 'my file.png has more than 50 million pixels: make it smaller'),
        ('enormous', 'my file.png has more than 50 million pixels: make it smaller'),
        ('text', 'my file cannot be opened as a picture or video'),
        ('empty', 'my file cannot be opened as a picture or video'),
        ('gone', 'my file is not here any more: drop it again'),
    ],
)
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_what_is_wrong_with_a_file_is_said(kind, message, make, picture, tmp_path):
    page = make(['topdown'])
    path = damaged(tmp_path / 'my file', kind, picture)
    outcome = page.run(path, 'topdown')
    assert outcome.failed and message in outcome.message and str(tmp_path) not in outcome.message
    assert not list(page.folder.iterdir())
    with pytest.raises((ValueError, OSError)):
        first_frame(path)
    assert not page.run(picture, 'topdown').failed


@pytest.mark.parametrize('name', ['x.m3u8', 'x.M3U', 'x.mp4', 'x.png'])
def test_a_playlist_opens_nothing(name, make, tmp_path):
    private = write_video(tmp_path / 'private.avi', 5)
    path = tmp_path / name
    path.write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{private}\n#EXT-X-ENDLIST\n')
    outcome = make(['topdown']).run(path, 'topdown')
    assert outcome.failed and not outcome.files
    assert outcome.message == (
        f'{name} is a playlist, which names other files and is never followed: give the files '
        'themselves'
    )
    with pytest.raises(ValueError, match='playlist'):
        first_frame(path)


def test_the_page_is_not_hurt_by_what_a_decoder_does(make, picture, tmp_path, monkeypatch):
    page = make(['topdown'])
    bounds = worker.Bounds(memory=30 * 2**20)
    with monkeypatch.context() as patch:
        patch.setattr(
            service,
            'IsolatedMedia',
            lambda path, limits: worker.IsolatedMedia(path, limits, bounds),
        )
        path = tmp_path / 'large.png'
        cv2.imwrite(str(path), np.zeros((5000, 5000, 3), np.uint8))
        outcome = page.run(path, 'topdown')
    assert outcome.failed and 'cannot be decoded' in outcome.message
    video, killed = write_video(tmp_path / 'clip.avi', 300, (640, 480)), []

    def kill(done, total):
        if done == 8 and not killed:
            killed.append(opened[0]._process.kill())

    opened = []
    isolated = service.IsolatedMedia
    monkeypatch.setattr(
        service, 'IsolatedMedia', lambda *args: opened.append(isolated(*args)) or opened[-1]
    )
    outcome = page.run(video, 'topdown', progress=kill)
    assert killed and 'frames were skipped' in outcome.message
    assert len({r['image_id'] for r in results_of(outcome)}) >= 8
    assert not page.run(picture, 'topdown').failed


def test_a_strip_is_not_enlarged(make, tmp_path):
    path = tmp_path / 'strip.png'
    cv2.imwrite(str(path), np.zeros((2, 5000, 3), np.uint8))
    outcome = make(['topdown']).run(path, 'topdown')
    assert not outcome.failed and outcome.picture.shape == (1, 1600, 3)


def test_whatever_happens_the_next_job_runs(make, networks, picture, monkeypatch, capsys):
    page = make()
    weights = torch.load(networks['topdown'][1])
    broken = page.folder.parent / 'broken.pth'
    torch.save(
        dict(state_dict={k: v.reshape(-1)[:1] for k, v in weights['state_dict'].items()}), broken
    )
    page._models['tiny'] = networks['bottomup'][0], str(broken)
    outcome = page.run(picture, 'tiny')
    assert outcome.failed and 'no' in outcome.message and outcome.picture is None
    with monkeypatch.context() as patch:
        patch.setattr(service, 'draw_result', lambda *args: {}['key'])
        outcome = page.run(picture, 'topdown')
    assert outcome.failed
    assert outcome.message == "Unexpected KeyError, see the terminal: 'key'"
    assert 'Traceback' in capsys.readouterr().err
    assert not list(page.folder.iterdir())
    assert not page.run(picture, 'topdown').failed


def test_networks_stay_loaded_up_to_a_bound(networks, picture, tmp_path, monkeypatch):
    loaded = []

    class Counted(service.PosePredictor):
        def __init__(self, config, *args, **kwargs):
            loaded.append(config.stem)
            super().__init__(config, *args, **kwargs)

    monkeypatch.setattr(service, 'PosePredictor', Counted)
    config, checkpoint = networks['topdown']
    pairs = []
    for name in 'abc':
        shutil.copy(config, tmp_path / f'{name}.py')
        pairs.append((str(tmp_path / f'{name}.py'), str(checkpoint)))
    (tmp_path / 'page').mkdir()
    page = PoseService([*pairs, pairs[0]], folder=tmp_path / 'page', device='cpu', keep=2)
    assert page.models == ['a', 'b', 'c', 'a (topdown.pth)'] and loaded == ['a']
    for name in 'abbabcca':
        assert not page.run(picture, name).failed
    assert loaded == ['a', 'b', 'c', 'a']


def test_jobs_wait_for_each_other(make, picture, monkeypatch):
    inside, most = [], []
    draw = service.draw_result

    def slow(*args):
        inside.append(1)
        time.sleep(0.05)
        most.append(len(inside))
        inside.pop()
        return draw(*args)

    monkeypatch.setattr(service, 'draw_result', slow)
    page = make()
    outcomes = []
    threads = [
        threading.Thread(target=lambda name=name: outcomes.append(page.run(picture, name)))
        for name in ['topdown', 'tiny'] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4 and not any(outcome.failed for outcome in outcomes)


def test_the_folder_does_not_grow(make, picture):
    page = make(['topdown'], most_bytes=600_000)
    upload = page.folder / 'upload' / picture.name
    upload.parent.mkdir()
    shutil.copy(picture, upload)
    jobs = []
    for _ in range(8):
        jobs.append(page.run(upload, 'topdown').files[0].parent)
        # what Gradio keeps
        (jobs[-1] / 'other').write_bytes(bytes(100_000))
    kept = [job.is_dir() for job in jobs]
    assert upload.is_file() and kept == sorted(kept) and kept[-2:] == [True] * 2 and not kept[1]


def test_arguments(networks, tmp_path):
    config, checkpoint = map(str, networks['topdown'])
    with pytest.raises(ValueError, match='needs a pose network'):
        PoseService([], folder=tmp_path)
    with pytest.raises(FileNotFoundError, match='checkpoint not found: gone.pth'):
        PoseService([(config, 'gone.pth')], folder=tmp_path)
    with pytest.raises(FileNotFoundError, match='config not found: gone'):
        PoseService([('gone', checkpoint)], folder=tmp_path)
    with pytest.raises(FileNotFoundError, match='config not found: gone'):
        PoseService([(config, checkpoint)], [('gone', checkpoint)], folder=tmp_path)
    with pytest.raises(ValueError, match='device'):
        PoseService([(config, checkpoint)], folder=tmp_path, device='tpu')
