"""Files: they read back to what was written, and pictures are legible at any size."""

import csv
import json
import resource

import av
import cv2
import numpy as np
import pytest

from mmpose_attn.apis import (
    Category,
    Frame,
    People,
    PoseResult,
    draw_result,
    find_sources,
    read_frames,
)
from mmpose_attn.apis import drawings as drawings_module
from mmpose_attn.apis.outputs import Drawings, Journal, write_tables

NAMES = [f'joint{i}' for i in range(17)]
SKELETON = [(i, i + 1) for i in range(16)]


def people(count=2, seed=0, size=(100, 80)):
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0.1, 0.9, (count, 17, 2)).astype(np.float32) * size
    boxes = np.concatenate((keypoints.min(1), keypoints.max(1)), 1)
    scores = rng.random((count, 17)).astype(np.float32)
    return People(keypoints, scores, boxes, scores[:, 0], scores[:, 1]).rounded()


def result(name='a.jpg', index=None, error=None, image_id=1, time=None, **kwargs):
    if index is None:
        frame = Frame(name, name, 0, image_id, (100, 80), error=error)
    else:
        where = f'{name}#{index}', name, index, image_id, (100, 80)
        frame = Frame(*where, fps=25.0, time=time, error=error)
    return PoseResult(frame, people(**kwargs) if error is None else People.nobody(17))


def assert_equal(a, b):
    assert (a.frame.name, a.frame.source, a.frame.index) == (
        b.frame.name,
        b.frame.source,
        b.frame.index,
    )
    assert (a.frame.size, a.frame.fps, a.frame.error) == (b.frame.size, b.frame.fps, b.frame.error)
    assert a.frame.time == b.frame.time
    for name in ('keypoints', 'keypoint_scores', 'boxes', 'box_scores', 'scores'):
        x, y = getattr(a.people, name), getattr(b.people, name)
        assert x.shape == y.shape and x.dtype == y.dtype and np.array_equal(x, y)


def test_numbers_that_are_none_become_joints_that_are_not_there():
    odd = people(1)
    odd.keypoints[0, 3] = np.nan
    rounded = odd.rounded()
    assert np.array_equal(rounded.keypoints[0, 3], [0, 0]) and rounded.keypoint_scores[0, 3] == 0
    assert rounded.keypoint_scores[0, 4] == odd.keypoint_scores[0, 4]


def test_journal_reads_back_exactly(tmp_path):
    path = tmp_path / 'journal.jsonl'
    video = [result('v', 0, count=0, time=0.0), result('v', 1, time=1 / 3)]
    given = [result(), result('b.jpg', error='broken'), *video]
    journal = Journal(path, dict(batch=1), resume=False)
    journal.add(given[:2])
    journal.add(given[2:])
    journal.close()
    again = Journal(path, dict(batch=1), resume=True)
    for a, b in zip(given, again.results(17), strict=True):
        assert_equal(a, b)
    assert again.finished == {'a.jpg': 1, 'b.jpg': 1} and again.count == 4
    assert again.unfinished == ('v', 2)
    for a, b in zip(given[2:], again.replay(17), strict=True):
        assert np.array_equal(a.people.keypoints, b.keypoints)
    again.add([], 'v')
    again.close()
    third = Journal(path, dict(batch=1), resume=True)
    assert third.finished['v'] is None and third.unfinished == (None, 0)
    third.close()


@pytest.mark.parametrize('cut', [1, 40, 300])
def test_an_interrupted_chunk_does_not_count(tmp_path, cut):
    path = tmp_path / 'journal.jsonl'
    journal = Journal(path, {}, resume=False)
    journal.add([result()])
    whole = path.read_bytes()
    journal.add([result('b.jpg'), result('c.jpg')])
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path, {}, resume=True)
    assert again.finished == {'a.jpg': 1} and path.read_bytes() == whole
    again.add([result('b.jpg')])
    again.close()
    assert [r.frame.name for r in Journal(path, {}, resume=True).results(17)] == ['a.jpg', 'b.jpg']


def test_only_the_same_run_is_resumed(tmp_path):
    path = tmp_path / 'journal.jsonl'
    Journal(path, dict(config='a.py', amp=False), resume=False).close()
    with pytest.raises(ValueError, match=r"other settings: config was 'a.py', is 'b.py'"):
        Journal(path, dict(config='b.py', amp=False), resume=True)
    path.write_text('something else')
    with pytest.raises(ValueError, match='is no journal'):
        Journal(path, {}, resume=True)
    # of before frames had times
    path.write_text('{"journal":1,"settings":{}}\n{"end":0}\n')
    with pytest.raises(ValueError, match='of another version of this package, without'):
        Journal(path, {}, resume=True)
    assert path.read_text().startswith('{"journal":1')


def test_tables(tmp_path):
    track = PoseResult(result('v', 7, image_id=3).frame, people(1))
    track = PoseResult(track.frame, People(**{**vars(track.people), 'track_ids': np.array([4])}))
    write_tables(tmp_path, [result(), result('b.jpg', error='bad', image_id=2), track], NAMES)
    found = json.loads((tmp_path / 'results.json').read_text())
    assert [(f['image_id'], f['category_id'], f.get('track_id')) for f in found] == [
        (1, 1, None),
        (1, 1, None),
        (3, 1, 4),
    ]
    first = people()
    keypoints = np.array(found[0]['keypoints']).reshape(17, 3)
    assert np.array_equal(keypoints[:, :2], first.keypoints[0])
    assert np.array_equal(keypoints[:, 2], first.keypoint_scores[0])
    assert found[0]['score'] == first.scores[0]
    x1, y1, x2, y2 = first.boxes[0]
    np.testing.assert_allclose(found[0]['bbox'], (x1, y1, x2 - x1, y2 - y1), atol=1e-4)

    images = json.loads((tmp_path / 'images.json').read_text())['images']
    assert images[2] == dict(id=3, file_name='v#7', width=100, height=80)
    with open(tmp_path / 'results.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and rows[1]['person'] == '1' and rows[2]['track_id'] == '4'
    assert rows[2]['frame'] == 'v#7' and float(rows[0]['joint3_x']) == first.keypoints[0, 3, 0]
    assert float(rows[0]['joint16_score']) == first.keypoint_scores[0, 16]


def test_times_and_the_category_are_written(tmp_path):
    write_tables(tmp_path, [result('v', 0, time=0.0), result('v', 5, time=2 / 3)], NAMES, 7)
    images = json.loads((tmp_path / 'images.json').read_text())['images']
    assert [image['time'] for image in images] == [0, 0.666667]
    found = json.loads((tmp_path / 'results.json').read_text())
    assert {each['category_id'] for each in found} == {7}
    with open(tmp_path / 'results.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['time'] for row in rows] == ['0.0', '0.0', '0.666667', '0.666667']
    write_tables(tmp_path, [result()], NAMES)
    with open(tmp_path / 'results.csv', newline='') as file:
        assert {row['time'] for row in csv.DictReader(file)} == {''}


def test_the_faint_are_in_the_tables_alone(tmp_path):
    image = np.full((400, 400, 3), 128, np.uint8)
    both = people(2, size=(400, 400))
    both.keypoint_scores[:] = 1
    both.scores[:] = 0.5, 0.1
    frame = Frame('v#0', 'v', 0, 1, (400, 400), image, fps=25.0)
    first = both.take(np.array([0]))
    shown = draw_result(PoseResult(frame, both, person_score=0.2), SKELETON)
    assert np.array_equal(shown, draw_result(PoseResult(frame, first), SKELETON))
    assert not np.array_equal(shown, draw_result(PoseResult(frame, both), SKELETON))
    track_ids = np.array([3, 0])
    tracked = People(**{**vars(both), 'track_ids': track_ids})
    tracked = PoseResult(frame, tracked, person_score=0.2)
    write_tables(tmp_path, [tracked], NAMES)
    found = json.loads((tmp_path / 'results.json').read_text())
    assert [each.get('track_id') for each in found] == [3, None]
    with open(tmp_path / 'results.csv', newline='') as file:
        assert [row['track_id'] for row in csv.DictReader(file)] == ['3', '']
    # a score that is just enough counts
    assert len(PoseResult(frame, both, person_score=0.5).counted) == 1
    assert len(PoseResult(frame, both, person_score=0.51).counted) == 0


@pytest.mark.parametrize(
    ('classes', 'expected'),
    [
        (None, (1, 'person')),
        ((), (1, 'person')),
        (('person', 'bicycle'), (1, 'person')),  # of a detector
        ([dict(id=1, name='person', keypoints=['nose'])], (1, 'person')),
        ([dict(id=3, name='beetle')], (3, 'beetle')),
        ([dict(id=5, name='ant'), dict(id=3, name='beetle')], (3, 'beetle')),
        ([dict(id=1, name='leaf'), dict(id=3, name='beetle', keypoints=['a'])], (3, 'beetle')),
        ([dict(id=2)], (2, 'object')),
        ([dict(id='x', name='beetle')], (1, 'person')),
    ],
)
def test_category_of_a_data_set(classes, expected):
    assert Category.of({} if classes is None else dict(CLASSES=classes)) == expected


def test_tables_are_replaced_whole(tmp_path):
    write_tables(tmp_path, [], NAMES)
    assert json.loads((tmp_path / 'results.json').read_text()) == []
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails():
        yield result()
        raise RuntimeError('no disk')

    with pytest.raises(RuntimeError, match='no disk'):
        write_tables(tmp_path, fails(), NAMES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def drawn(width, height, **kwargs):
    image = np.full((height, width, 3), 128, np.uint8)
    shown = people(1, size=(width, height), **kwargs)
    shown.keypoint_scores[:] = 1
    frame = Frame('a.jpg', 'a.jpg', 0, 1, (width, height), image)
    return draw_result(PoseResult(frame, shown), SKELETON), shown


@pytest.mark.parametrize('side', [64, 640, 4000])
def test_drawings_are_legible_at_any_size(side):
    picture, shown = drawn(side, side)
    factor = picture.shape[0] / side
    assert picture.shape[0] == picture.shape[1] and picture.shape[0] >= 320
    assert factor == (5 if side == 64 else 1)
    # joints are white dots, unless others or the label are in front of them
    dots = np.round((shown.keypoints[0] + 0.5) * factor - 0.5).astype(int)
    assert sum((picture[y, x] > 200).all() for x, y in dots) >= 14
    # lines and letters keep their share of the picture
    changed = (picture != 128).any(-1).mean()
    assert 0.02 < changed < 0.4


def test_a_label_stays_inside_and_its_text_can_be_read():
    image = np.full((400, 400, 3), 128, np.uint8)
    at = np.tile(np.array([[398.0, 1.0]]), (17, 1))[None]
    person = People(at, np.ones((1, 17)), np.array([[398.0, 1, 400, 3]]), np.ones(1), np.ones(1))
    frame = Frame('a', 'a', 0, 1, (400, 400), image)
    plain = draw_result(PoseResult(frame, person), ())
    changed = (plain != 128).any(-1)
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    assert 12 <= np.ptp(rows) <= 24 and 25 <= np.ptp(columns) <= 60
    plate = plain[: rows[-1], columns[0] : columns[-1]].reshape(-1, 3)
    colors, counts = np.unique(plate, axis=0, return_counts=True)
    ground = colors[counts.argmax()]
    assert 0.1 < (np.abs(colors.astype(int) - ground).max(1) > 100) @ counts / counts.sum() < 0.5


def test_ids_choose_colours():
    def colour(ids):
        image = np.full((400, 400, 3), 128, np.uint8)
        who = people(1, size=(400, 400))
        who.keypoint_scores[:] = 1
        tracked = People(**{**vars(who), 'track_ids': np.array(ids)})
        return draw_result(PoseResult(Frame('a', 'a', 0, 1, (400, 400), image), tracked), SKELETON)

    assert not np.array_equal(colour([1]), colour([2]))


def test_pictures_and_videos(tmp_path):
    picture = np.full((40, 60, 3), 200, np.uint8)
    drawings = Drawings(tmp_path)
    for name in ('sub/a.jpg', 'b.png', 'c.webp'):
        drawings.add(result(name).frame, picture)
    for i in range(6):
        drawings.add(result('clip.avi', i).frame, picture)
        assert not (tmp_path / 'clip.avi.mp4').exists()
    drawings.add(result('clip.avi', 6).frame, picture[:30])  # another size than the rest
    drawings.end_video()
    drawings.end_video()
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file())
    assert files == ['b.png', 'c.webp.jpg', 'clip.avi.mp4', 'sub/a.jpg']
    frames = list(read_frames(find_sources(tmp_path / 'clip.avi.mp4')))
    assert len(frames) == 7 and frames[0].size == (60, 40) and frames[0].fps == 25
    assert cv2.imread(str(tmp_path / 'b.png')).shape == (40, 60, 3)


def times_in(path):
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


@pytest.mark.parametrize('kind', ['.mp4', '.webm'])
@pytest.mark.parametrize('size', [(60, 40), (61, 41)])
def test_frames_are_drawn_at_their_times(tmp_path, kind, size):
    """Of a rate that changes, of frames that were skipped, and of live ones that came at once."""
    times = [0.0, 0.1, 0.2, 0.3, 0.32, 0.34, 1.5, 1.5, 1.52]
    drawings = Drawings(tmp_path, kind)
    for i, time in enumerate(times):
        picture = np.full((*size[::-1], 3), 20 * i, np.uint8)
        drawings.add(result('clip', i, time=time).frame, picture)
    drawings.end_video()
    found = times_in(tmp_path / f'clip{kind}')
    assert len(found) == len(times)
    np.testing.assert_allclose(found, times, atol=1.1e-3)
    assert (np.diff(found) > 0).all()
    with av.open(str(tmp_path / f'clip{kind}')) as file:
        (last,) = list(file.decode(video=0))[-1:]
    image = last.to_ndarray(format='rgb24')
    assert np.abs(image.mean() - 160) < 6
    assert image.shape[1::-1] == tuple(side + side % 2 for side in size)


def test_a_video_without_a_frame_is_no_file(tmp_path):
    drawings = Drawings(tmp_path)
    drawings.end_video()
    assert not list(tmp_path.iterdir())


def test_why_a_video_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise av.error.PermissionError(13, 'Permission denied')

    monkeypatch.setattr(drawings_module.av, 'open', refuse)
    drawings = Drawings(tmp_path)
    with pytest.raises(OSError, match=r'clip.mp4 could not be written: Permission denied$'):
        drawings.add(result('clip', 0).frame, np.zeros((40, 60, 3), np.uint8))
    drawings.end_video()


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((1, 1), (320, 320)), ((2, 3000), (2, 3000)), ((70_000, 1), (70_000, 1))],
)
def test_what_cannot_be_enlarged_stays_as_it_is(tmp_path, size, expected):
    picture, _ = drawn(*size)
    assert picture.shape[1::-1] == expected
    drawings = Drawings(tmp_path)
    drawings.add(result('a.jpg').frame, picture)
    (file,) = tmp_path.iterdir()
    # JPEG ends at 65,500 pixels
    assert file.name == ('a.jpg.png' if max(expected) > 65_500 else 'a.jpg')
    assert cv2.imread(str(file)).shape[1::-1] == expected


def test_a_full_disk_leaves_the_journal_whole(tmp_path):
    journal = Journal(tmp_path / 'j.jsonl', {}, False)
    journal.add([result('a.jpg')])
    size = (tmp_path / 'j.jsonl').stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"too large: '.*j\.jsonl'"):
            journal.add([result('b.jpg')])
        with pytest.raises(OSError, match=f"too large: '{tmp_path}'"):
            Drawings(tmp_path).add(result('b.jpg').frame, np.zeros((500, 500, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.close()
    assert (tmp_path / 'j.jsonl').stat().st_size == size
    assert [r.frame.name for r in journal.results(17)] == ['a.jpg']
    assert [path.name for path in tmp_path.iterdir()] == ['j.jsonl']


def test_a_journal_without_room_for_its_first_line_is_none(tmp_path):
    path = tmp_path / 'j.jsonl'
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"too large: '.*j\.jsonl'"):
            Journal(path, {}, False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not Journal.begun(path)
    journal = Journal(path, {}, True)  # nothing was done yet
    journal.close()
    assert Journal.begun(path) and journal.count == 0


def test_a_video_that_could_not_be_written_is_an_error(tmp_path):
    drawings = Drawings(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        for i in range(10):
            drawings.add(result('clip.mp4', i).frame, noise)
        with pytest.raises(OSError, match='clip.mp4 could not be written: is the disk full'):
            drawings.end_video()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
