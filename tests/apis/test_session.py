"""tools/infer.py from beginning to end: files, exit status, resuming, evaluation, memory."""

import csv
import errno
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpose.datasets.datasets import CocoDataset
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose_attn.apis import InferenceSession, PersonDetector, find_sources, read_frames, session
from tests.data_helpers import ROOT, VAL, build_runner, jpeg, make_small_dataset, real_data
from tests.inference_helpers import save_weights, write_video

TOOL = ROOT / 'tools' / 'infer.py'
SIGMAS = parse_pose_metainfo(CocoDataset.METAINFO)['sigmas']
TABLES = ('results.json', 'results.csv', 'images.json')


def run(inputs, out, network, **options):
    return InferenceSession([inputs], out, *network, device='cpu', **options).run(progress=False)


def environment():
    return dict(os.environ, CUDA_VISIBLE_DEVICES='-1', PYTHONPATH=str(ROOT))


@pytest.fixture
def tool(monkeypatch, capsys):
    """``tool(*arguments)`` -> exit status, stdout and stderr of tools/infer.py."""

    def tool(*args):
        monkeypatch.setattr(sys, 'argv', ['infer.py', *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name='__main__')
        return ended.value.code, *capsys.readouterr()

    return tool


def network_args(network):
    return '--config', network[0], '--checkpoint', network[1]


def contents(folder):
    """All results in a folder; pictures and videos too."""
    files = sorted(p for p in folder.rglob('*') if p.is_file() and p.name != 'journal.jsonl')
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture
def mixed(pictures, tmp_path):
    """A folder with pictures and a video, in the order a0, a1, a2, b.avi, c0, c1, c2."""
    folder = tmp_path / 'mixed'
    folder.mkdir()
    for i, path in enumerate(sorted(pictures.iterdir())):
        for letter in 'ac':
            shutil.copy(path, folder / f'{letter}{i}{path.suffix}')
    write_video(folder / 'b.avi', 16)
    return folder


@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_everything_is_there(kind, networks, mixed, tmp_path):
    out = tmp_path / 'out'
    summary = run(mixed, out, networks[kind], track=True)
    assert (summary.frames, summary.skipped, summary.exit_status) == (22, (), 0)
    assert summary.people > 0 and f'{summary.people} people in 22 images' in str(summary)
    files = contents(out)
    drawn = [f'drawn/{p.name}' for p in sorted(mixed.iterdir())]
    drawn[drawn.index('drawn/b.avi')] = 'drawn/b.avi.mp4'
    assert sorted(files) == sorted([*drawn, *TABLES])
    frames = list(read_frames(find_sources(out / 'drawn' / 'b.avi.mp4')))
    assert len(frames) == 16 and min(frames[0].size) >= 320
    results = json.loads(files['results.json'])
    assert len(results) == summary.people
    assert {r['image_id'] for r in results if 'track_id' in r} <= set(range(4, 20))
    assert cv2.imread(str(out / 'drawn' / 'a0.jpg')).std() > 10


def test_arguments_that_do_not_go_together(networks, pictures, tmp_path, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)

    def refused(message, **options):
        # all of it before anything is built
        monkeypatch.setattr(session, 'PosePredictor', None)
        monkeypatch.setattr(session, 'PersonDetector', None)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            InferenceSession(
                **dict(dict(inputs=[pictures], out=tmp_path, config='c.py'), **options)
            )

    refused('input not found', inputs=['gone'])
    refused('give one of the two', detector='yolox_nano', boxes='b.json')
    refused('its config and its checkpoint', detector_checkpoint='d.pth')
    refused('its config and its checkpoint', detector='yolox_nano')
    refused('need a detector or a file', box_score=0.5)
    refused('not both', resume=True, overwrite=True)
    refused('no display to show pictures on', show=True)
    (tmp_path / 'journal.jsonl').touch()
    refused(r'holds the results of an earlier run: .*--resume.*--overwrite')
    refused('No such file', boxes=tmp_path / 'gone.json', overwrite=True)
    (tmp_path / 'boxes.json').write_text('[]')
    refused('boxes for none of the 3 images', boxes=tmp_path / 'boxes.json', overwrite=True)


def test_a_camera_is_not_resumed(networks, tmp_path, monkeypatch):
    video = write_video(tmp_path / 'c.avi', 5)
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', lambda _: capture(str(video)))
    with pytest.raises(ValueError, match='a camera cannot be resumed'):
        run('0', tmp_path / 'out', networks['bottomup'], resume=True)
    assert run('0', tmp_path / 'out', networks['bottomup']).frames == 5
    assert (tmp_path / 'out' / 'drawn' / 'camera_0.mp4').is_file()


def test_whatever_was_skipped_is_named(networks, mixed, tmp_path):
    (mixed / 'a1.jpg').write_bytes(b'no picture')
    out = tmp_path / 'out'
    summary = run(mixed, out, networks['topdown'])
    assert summary.exit_status == 1 and summary.frames == 22
    ((name, reason),) = summary.skipped
    assert name == 'a1.jpg' and 'cannot be decoded' in reason
    assert 'Skipped 1:\n  a1.jpg: it cannot be decoded' in str(summary)
    assert not (out / 'drawn' / 'a1.jpg').exists() and (out / 'drawn' / 'a2.jpg').exists()
    # a finished run that is resumed has nothing to do, and says the same
    before = contents(out)
    again = run(mixed, out, networks['topdown'], resume=True)
    assert (again.computed, again.skipped) == (0, summary.skipped)
    assert contents(out) == before
    with pytest.raises(ValueError, match='other settings: flip_test was None, is False'):
        run(mixed, out, networks['topdown'], resume=True, flip_test=False)
    (mixed / 'c0.jpg').unlink()
    with pytest.raises(ValueError, match=r'inputs have changed .*: c0.jpg is gone'):
        run(mixed, out, networks['topdown'], resume=True)


@pytest.mark.parametrize('stop', [2, 12, 20])
def test_a_resumed_run_gives_the_same_files(networks, mixed, tmp_path, monkeypatch, stop):
    options = dict(smooth=True, batch=4)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    run(mixed, whole, networks['topdown'], **options)
    first = InferenceSession([mixed], parts, *networks['topdown'], device='cpu', **options)
    picture, calls = first._picture, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) > stop:
            raise KeyboardInterrupt
        return picture(*args)

    monkeypatch.setattr(first, '_picture', interrupted)
    summary = first.run(progress=False)
    assert summary.interrupted and summary.exit_status == 130
    assert 'with --resume goes on' in str(summary)
    # what is there is whole, and the video can be played
    assert len(json.loads((parts / 'images.json').read_text())['images']) == summary.frames <= stop
    if stop == 12:
        assert len(list(read_frames(find_sources(parts / 'drawn' / 'b.avi.mp4')))) == stop - 3
    assert not list(parts.rglob('.*'))
    again = run(mixed, parts, networks['topdown'], resume=True, **options)
    assert again.frames == 22 and 0 < again.computed < 22 - stop + 8
    assert contents(parts) == contents(whole)


def test_phantoms_are_neither_drawn_nor_counted(networks, mixed, tmp_path, tool):
    """A threshold changes drawings, counts and ids, and no result."""
    every, some = tmp_path / 'every', tmp_path / 'some'
    args = mixed, *network_args(networks['bottomup']), '--device', 'cpu', '--track', '--out'
    _, out, _ = tool(*args, every, '--person-score', '0')
    scores = [each['score'] for each in json.loads((every / 'results.json').read_text())]
    least = float(np.median(scores))
    count = sum(score >= least for score in scores)
    assert f'{len(scores)} people in 22 images' in out and 'more with a score' not in out
    status, out, _ = tool(*args, some, '--person-score', repr(least))
    assert status == 0 and f'{count} people in 22 images' in out
    assert f'{len(scores) - count} more with a score below {least:g} are in the tables' in out
    a, b = contents(every), contents(some)
    assert a['images.json'] == b['images.json']
    before, after = (json.loads(each['results.json']) for each in (a, b))
    assert any('track_id' in each for each in after)
    for one, other in zip(before, after, strict=True):
        assert ('track_id' in other) == ('track_id' in one and one['score'] >= least)
        one.pop('track_id', None), other.pop('track_id', None)
        assert one == other
    assert a['drawn/b.avi.mp4'] != b['drawn/b.avi.mp4']
    # it may be another when a run is resumed: all is made from the journal
    summary = run(mixed, some, networks['bottomup'], resume=True, track=True, person_score=0)
    assert (summary.people, summary.faint) == (len(scores), 0)
    assert contents(some)['results.json'] == a['results.json']
    status, _, err = tool(*args, tmp_path / 'bad', '--person-score', '-1')
    assert status == 2 and 'person_score must be a number from 0 on, got -1.0' in err
    assert not (tmp_path / 'bad').exists()


def write_uneven_video(path, times):
    """A video whose frames are shown at these times."""
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('libx264', 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time_ in enumerate(times):
            image = np.full((48, 64, 3), 60, np.uint8)
            image[10:30, i : i + 16] = 220
            frame = av.VideoFrame.from_ndarray(image, format='bgr24')
            frame.pts, frame.time_base = round(1000 * time_), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize('suffix', ['.mkv', '.mp4'])
def test_times_of_a_video_whose_rate_changes(networks, tmp_path, monkeypatch, suffix):
    times = np.round(np.concatenate((np.arange(10) / 10, 1 + np.arange(20) / 50)), 3)
    video = write_uneven_video(tmp_path / f'v{suffix}', times)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    options = dict(smooth=True, batch=4)
    run(video, whole, networks['topdown'], **options)
    first = InferenceSession([video], parts, *networks['topdown'], device='cpu', **options)
    picture, calls = first._picture, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) > 13:
            raise KeyboardInterrupt
        return picture(*args)

    monkeypatch.setattr(first, '_picture', interrupted)
    assert first.run(progress=False).exit_status == 130
    assert run(video, parts, networks['topdown'], resume=True, **options).frames == 30
    assert contents(parts) == contents(whole)
    images = json.loads((whole / 'images.json').read_text())['images']
    np.testing.assert_allclose([image['time'] for image in images], times, atol=1e-6)
    with open(whole / 'results.csv', newline='') as file:
        found = {row['frame']: float(row['time']) for row in csv.DictReader(file)}
    assert found == {image['file_name']: image['time'] for image in images}
    (drawn,) = (whole / 'drawn').iterdir()
    with av.open(str(drawn)) as file:
        shown = [frame.time for frame in file.decode(video=0)]
    np.testing.assert_allclose(shown, times, atol=1e-6)


def test_what_a_network_finds_is_named(networks, pictures, tmp_path, tool):
    config, checkpoint = networks['topdown']
    beetles = dict(parse_pose_metainfo(CocoDataset.METAINFO), CLASSES=[dict(id=3, name='beetle')])
    contents_ = torch.load(checkpoint, weights_only=True)
    torch.save(dict(contents_, meta=dict(dataset_meta=beetles)), tmp_path / 'beetles.pth')
    args = '--config', config, '--checkpoint', tmp_path / 'beetles.pth', '--out', tmp_path / 'out'
    status, out, _ = tool(pictures, *args, '--device', 'cpu')
    assert status == 0 and '3 beetles in 3 images' in out and 'people' not in out
    found = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert {each['category_id'] for each in found} == {3}


def test_one_run_at_a_time_writes_to_a_folder(networks, pictures, tmp_path):
    pytest.importorskip('fcntl')
    config, checkpoint = networks['bottomup']
    out = tmp_path / 'out'

    def made(**more):
        return InferenceSession(
            [pictures], out, config=config, checkpoint=checkpoint, device='cpu', **more
        )

    first = made()
    before = (out / 'journal.jsonl').read_bytes()
    for how in ('resume', 'overwrite'):
        with pytest.raises(ValueError, match='another run is writing to .*out'):
            made(**{how: True})
    assert (out / 'journal.jsonl').read_bytes() == before != b''
    first.run(progress=False)
    with pytest.raises(ValueError, match='other settings') as kept:  # and closes the journal
        made(resume=True, flip_test=False)
    assert kept and made(resume=True).run(progress=False).frames == 3


def test_killed_and_resumed(networks, tmp_path, tool):
    video = write_video(tmp_path / 'long.avi', 400)
    args = (video, *network_args(networks['topdown']), '--track', '--batch', '4', '--out')
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', str(TOOL), *map(str, args), str(parts)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = parts / 'journal.jsonl'
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.stat().st_size < 20_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (parts / 'results.json').exists()
    status, out, _ = tool(*args, parts, '--resume')
    assert status == 0
    total, now = (int(n) for n in out.split(' in ')[1].split(' of ')[0].split(' images; '))
    assert total == 400 and 0 < now < 400
    run(video, whole, networks['topdown'], track=True, batch=4)
    assert contents(parts) == contents(whole)


def test_exit_status_and_output(networks, pictures, tmp_path, monkeypatch, tool):
    args = network_args(networks['topdown'])
    folder = shutil.copytree(pictures, tmp_path / 'in')
    (folder / '000000000009.jpg').write_bytes(b'')
    monkeypatch.chdir(tmp_path)
    # before anything is built
    status, _, err = tool(
        'in/gone.jpg', '--config', 'c.py', '--checkpoint', 'c.pth', '--out', 'out'
    )
    assert status == 2 and not (tmp_path / 'out').exists()
    expected = f'infer.py: error: input not found: in/gone.jpg (working directory: {tmp_path})'
    assert err.strip() == expected
    status, _, err = tool('in', *args[:3], 'gone.pth', '--out', 'out')
    assert status == 2 and 'gone.pth does not exist' in err
    (tmp_path / 'cut.pth').write_bytes(args[3].read_bytes()[:1000])
    status, _, err = tool('in', *args[:3], 'cut.pth', '--out', 'out')
    assert status == 2 and 'is truncated, damaged or no PyTorch checkpoint' in err
    status, _, err = tool('in', '--out', 'out')
    assert status == 2 and 'the following arguments are required: --config' in err

    monkeypatch.setattr(sys, 'stdin', io.StringIO('in/000000000009.jpg\nin\n'))
    status, out, err = tool('-', *args, '--out', 'out')
    assert status == 1
    assert 'Skipped 1:\n  000000000009.jpg: the file is empty' in out and 'images/s' in out
    assert '4/4' in err
    assert len(json.loads((tmp_path / 'out' / 'images.json').read_text())['images']) == 4
    (folder / '000000000009.jpg').unlink()
    picture = min(folder.iterdir())
    status, out, _ = tool(picture, *args, '--out', 'one', '--device', 'cpu')
    assert status == 0 and '1 people in 1 images' in out


def test_errors_are_one_line(networks, pictures, tmp_path, monkeypatch, tool):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, 'in')
    Path('broken.py').write_text("model = dict(type='NoSuchNetwork')")
    Path('file').touch()
    args = network_args(networks['topdown'])
    for message, given in {
        'config broken.py cannot be used': ('--config', 'broken.py', *args[2:]),
        'batch must be positive': (*args, '--batch', '0'),
        'torch sees': (*args, '--device', 'cuda:99'),
        'not enough values to unpack': (*args, '--cfg-options', 'a'),
        'cannot be used': (*args, '--cfg-options', 'model.backbone.extra=1'),
        'file is to be a folder and is a file': (*args, '--out', 'file'),
        'Not a directory': (*args, '--out', 'file/below'),
        'give one of the two': (*args, '--detector', 'yolox_nano', '--boxes', 'b.json'),
        'its config and its checkpoint': (*args, '--detector', 'yolox_nano'),
        'is no checkpoint': (*args[:3], 'list.pth'),
        'is a directory': (*args[:3], 'in'),
    }.items():
        torch.save([1], 'list.pth')
        status, _, err = tool('in', '--out', 'out', *given)
        assert status == 2 and message in err, err
        assert err.startswith('infer.py: error: ') and err.count('\n') == 1
        assert not Path('out', 'results.json').exists()


def test_out_is_not_among_the_inputs(networks, pictures, tmp_path):
    out = tmp_path / 'out'
    run(pictures, out, networks['topdown'])
    with pytest.raises(ValueError, match='is where pictures are drawn to'):
        run(out / 'drawn', out, networks['topdown'], overwrite=True)
    with pytest.raises(ValueError, match='is where pictures are drawn to'):
        run(tmp_path / '**' / '*.jpg', out, networks['topdown'], resume=True)
    folder = shutil.copytree(pictures, tmp_path / 'in')
    picture = min(folder.iterdir())
    for name in ('a.bmp', 'a.bmp.jpg'):
        shutil.copy(picture, folder / name)
    with pytest.raises(ValueError, match=r'a\.bmp and a\.bmp\.jpg would both be drawn to'):
        run(folder, tmp_path / 'two', networks['topdown'])
    assert run(folder, tmp_path / 'two', networks['topdown'], draw=False).frames == 5


def test_only_the_same_network_resumes(networks, pictures, tmp_path):
    config, checkpoint = (shutil.copy(path, tmp_path) for path in networks['topdown'])
    out = tmp_path / 'out'
    run(pictures, out, (config, checkpoint))
    assert run(pictures, out, (config, checkpoint), resume=True).computed == 0
    text = Path(config).read_text()
    Path(config).write_text(text.replace('shift_heatmap=True', 'shift_heatmap=False'))
    with pytest.raises(ValueError, match='other settings: contents of config was'):
        run(pictures, out, (config, checkpoint), resume=True)
    Path(config).write_text(text)
    with DefaultScope.overwrite_default_scope('mmpose'):
        save_weights(config, checkpoint, seed=1)
    with pytest.raises(ValueError, match='other settings: contents of checkpoint was'):
        run(pictures, out, (config, checkpoint), resume=True)


def test_a_run_that_fails_leaves_nothing_of_another(networks, mixed, tmp_path, monkeypatch, tool):
    out = tmp_path / 'out'
    run(mixed, out, networks['topdown'])
    before = contents(out)
    args = mixed, *network_args(networks['topdown']), '--out', out, '--device', 'cpu'

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(session.Drawings, 'add', full)
        status, _, err = tool(*args, '--overwrite')
    assert status == 2
    assert err.splitlines()[-1].endswith('No space left on device; --resume goes on')
    images = json.loads((out / 'images.json').read_text())['images']
    assert len(images) < 22
    status, _, _ = tool(*args, '--resume')
    assert status == 0 and contents(out) == before


def test_odd_names_in_the_summary(networks, tmp_path, tool):
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / 'a\nb\x1b[31m.jpg').write_bytes(b'')
    (folder / 'näme.jpg').write_bytes(jpeg())
    status, out, _ = tool(folder, *network_args(networks['topdown']), '--out', tmp_path / 'out')
    assert status == 1
    assert out.splitlines()[-1] == "  'a\\nb\\x1b[31m.jpg': the file is empty"
    rows = list(csv.reader((tmp_path / 'out' / 'results.csv').open(encoding='utf-8')))
    assert {row[1] for row in rows[1:]} == {'näme.jpg'}


def test_the_window(networks, pictures, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(cv2, 'imshow', lambda _, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, 'destroyAllWindows', lambda: shown.append('closed'))
    monkeypatch.setattr(cv2, 'waitKey', lambda _: ord('q') if len(shown) == 2 else -1)
    summary = run(pictures, tmp_path / 'out', networks['topdown'], show=True, draw=False)
    assert summary.interrupted and len(shown) == 3 and shown[-1] == 'closed'
    assert not (tmp_path / 'out' / 'drawn').exists()


# ------------------------------------------------------------- evaluation


def evaluate(results, ann_file):
    """What COCO's evaluation says about a file of results."""
    truth = COCO(str(ann_file))
    evaluation = COCOeval(truth, truth.loadRes(str(results)), 'keypoints', SIGMAS)
    evaluation.params.useSegm = None
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.array(evaluation.stats)


def own_truth(results, images, path):
    """Annotations near what was found, for figures that are neither 0 nor 1."""
    rng = np.random.default_rng(0)
    annotations = []
    for i, person in enumerate(json.loads(results.read_text())):
        if i % 5 == 4:  # somebody who is not there
            continue
        keypoints = np.array(person['keypoints']).reshape(-1, 3)
        keypoints[:, 2] = 2
        size = np.sqrt(np.prod(np.ptp(keypoints[:, :2], axis=0)))
        keypoints[:, :2] += rng.normal(0, 0.06 * rng.random() * size, (len(keypoints), 2))
        x, y, width, height = person['bbox']
        annotations.append(
            dict(
                id=i + 1,
                image_id=person['image_id'],
                category_id=1,
                keypoints=keypoints.ravel().tolist(),
                num_keypoints=len(keypoints),
                bbox=[x, y, width, height],
                area=width * height * 0.5,
                iscrowd=0,
            )
        )
    contents = json.loads(images.read_text())
    contents.update(annotations=annotations, categories=[dict(id=1, name='person')])
    path.write_text(json.dumps(contents))
    return path


def mim_test(config, checkpoint, work_dir, ann_file, images, **dataset):
    """The figures of ``mim test``, which runs this Runner."""
    dataset = dict(ann_file=str(ann_file), data_prefix=dict(img=f'{images}/'), **dataset)
    options = {f'test_dataloader.dataset.{name}': value for name, value in dataset.items()}
    options.update(load_from=str(checkpoint), **{'test_evaluator.ann_file': str(ann_file)})
    options.update(test_cfg=dict(), **{'test_dataloader.dataset.data_root': None})
    with DefaultScope.overwrite_default_scope('mmpose'):
        return np.array(list(build_runner(config, work_dir, **options).test().values()))


def assert_same_figures(mine, theirs):
    np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert 0.05 < mine[0] < 0.95 and len(mine) == 10


def test_real_boxes_reach_the_pose_network(networks, tmp_path):
    """Detector, its boxes as a file, and ``mim test`` with that file as bbox_file agree."""
    weights = real_data('detector', 'yolox_nano_mmdet.pth')
    images = tmp_path / 'images'
    images.mkdir()
    for path in sorted(real_data('coco_real', 'images').glob('*.jpg'))[:16]:
        (images / path.name).symlink_to(path)
    config, checkpoint = networks['topdown']
    first, second = tmp_path / 'first', tmp_path / 'second'
    given = dict(detector='yolox_nano', detector_checkpoint=weights, box_score=0.3)
    summary = run(images, first, (config, checkpoint), **given)
    assert summary.people > 16

    detector = PersonDetector('yolox_nano', weights, device='cpu')
    boxes = tmp_path / 'boxes.json'
    frames = list(read_frames(find_sources(images)))
    rows = []
    for frame, found in zip(frames, detector(frames)):
        for x1, y1, x2, y2, score in found.astype(float).tolist():
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append(dict(image_id=frame.image_id, category_id=1, bbox=box, score=score))
    boxes.write_text(json.dumps(rows))
    run(images, second, (config, checkpoint), boxes=boxes)
    people = [json.loads((folder / 'results.json').read_text()) for folder in (first, second)]
    assert len(people[0]) == len(people[1])
    for a, b in zip(*people):
        assert a['image_id'] == b['image_id']
        np.testing.assert_allclose(a['bbox'], b['bbox'], atol=1e-3)
        np.testing.assert_allclose(a['score'], b['score'], atol=1e-3)

    truth = own_truth(first / 'results.json', first / 'images.json', tmp_path / 'truth.json')
    theirs = mim_test(config, checkpoint, tmp_path, truth, images, bbox_file=str(boxes))
    assert_same_figures(evaluate(second / 'results.json', truth), theirs)
    assert_same_figures(evaluate(first / 'results.json', truth), theirs)


def test_bottomup_evaluates_as_mim_test(networks, tmp_path, monkeypatch):
    root = make_small_dataset(tmp_path / 'coco', 1, 6)
    monkeypatch.setenv('SYNTHETIC_ROOT', str(root))
    config, checkpoint = networks['bottomup']
    out, images = tmp_path / 'out', root / 'val2017'
    run(images, out, (config, checkpoint), ann_file=root / VAL, batch=3)
    truth = own_truth(out / 'results.json', out / 'images.json', tmp_path / 'truth.json')
    theirs = mim_test(config, checkpoint, tmp_path, truth, images)
    assert_same_figures(evaluate(out / 'results.json', truth), theirs)


# ------------------------------------------------------------------ memory

MEMORY = """
import re, sys
from mmpose_attn.apis import InferenceSession

video, out, config, checkpoint = sys.argv[1:]
session = InferenceSession([video], out, config, checkpoint, device='cpu', track=True)
counter, peaks = [0], []
picture = session._picture

def peak():
    # getrusage's begins with that of the process which started this one
    return int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])

def watched(*args):
    counter[0] += 1
    peaks.append(peak())
    return picture(*args)

session._picture = watched
print(session.run(progress=False).frames, peaks[len(peaks) // 4], peaks[-1], peak())
"""


@pytest.mark.parametrize('frames', [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_a_video(networks, tmp_path, frames):
    video = write_video(tmp_path / 'long.avi', frames, (320, 240))
    result = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            MEMORY,
            video,
            tmp_path / 'out',
            *networks['topdown'],
        ],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert result.returncode == 0, result.stderr
    done, quarter, end, peak = map(int, result.stdout.split()[-4:])
    assert done == frames
    # in KiB; a frame has 225, 50,000 those after the first quarter even of the short video
    assert end - quarter < 16 * 1024 and peak - quarter < 24 * 1024
    assert peak < 1.5 * 1024 * 1024
