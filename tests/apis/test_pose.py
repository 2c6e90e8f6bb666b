"""Predicting: the same people as MMPose's own functions find, whatever is in a batch."""

import copy
import os
import pickle
import threading
import time
from itertools import count, islice

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.apis import inference_bottomup, inference_topdown, init_model

from mmpose_attn.apis import Frame, People, PersonDetector, PosePredictor, whole_image
from mmpose_attn.apis.pose import _chunked
from mmpose_attn.apis.threads import overlap
from mmpose_attn.engine import UnsafeCheckpointError
from tests.data_helpers import ROOT
from tests.inference_helpers import write_video

BOXES = np.array([[5, 8, 60, 70, 0.9], [30, 4, 90, 78, 0.6], [2, 3, 40, 40, 0.5]], np.float32)


@pytest.fixture(scope='module')
def topdown(networks):
    return PosePredictor(*networks['topdown'], lambda frames: [BOXES] * len(frames), batch=4)


@pytest.fixture(scope='module')
def bottomup(networks):
    return PosePredictor(*networks['bottomup'], batch=2)


def theirs(networks, kind):
    with DefaultScope.overwrite_default_scope('mmpose'):
        return init_model(*map(str, networks[kind]), device='cpu')


def assert_same(people, others):
    for name in ('keypoints', 'keypoint_scores', 'boxes', 'box_scores', 'scores'):
        np.testing.assert_allclose(getattr(people, name), getattr(others, name), atol=2e-4)


def test_topdown_is_mmposes(topdown, networks, pictures):
    model = theirs(networks, 'topdown')
    results = list(topdown(pictures))
    assert [r.frame.source for r in results] == sorted(p.name for p in pictures.iterdir())
    for result in results:
        image = cv2.imread(str(pictures / result.frame.name))
        with DefaultScope.overwrite_default_scope('mmpose'):
            samples = inference_topdown(model, image, BOXES[:, :4])
        keypoints = np.concatenate([s.pred_instances.keypoints for s in samples])
        scores = np.concatenate([s.pred_instances.keypoint_scores for s in samples])
        # by score, which the metric of the config makes of both
        ranks = BOXES[:, 4] * [row[row > 0.2].mean() if (row > 0.2).any() else 0 for row in scores]
        order = np.argsort(-ranks)
        people = result.people
        assert len(people) == 3 and people.track_ids is None
        np.testing.assert_allclose(people.keypoints, keypoints[order], atol=1e-3)
        np.testing.assert_allclose(people.keypoint_scores, scores[order], atol=1e-5)
        np.testing.assert_allclose(people.boxes, BOXES[order, :4])
        np.testing.assert_allclose(people.scores, ranks[order], atol=1e-5)
        assert result.frame.image.shape == image.shape


def test_bottomup_is_mmposes(bottomup, networks, pictures):
    model = theirs(networks, 'bottomup')
    for result in bottomup(str(pictures / '*')):
        with DefaultScope.overwrite_default_scope('mmpose'):
            (sample,) = inference_bottomup(model, str(pictures / result.frame.name))
        instances = sample.pred_instances
        assert len(result.people) == len(instances) > 0
        np.testing.assert_allclose(result.people.keypoints, instances.keypoints, atol=1e-3)
        np.testing.assert_allclose(result.people.scores, instances.bbox_scores, atol=1e-5)


@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_results_do_not_depend_on_the_batch(kind, networks, pictures):
    boxes = None
    if kind == 'topdown':
        boxes = lambda frames: [BOXES[: i % 4] for i in range(len(frames))]  # noqa: E731
    config, checkpoint = networks[kind]
    one, many = (PosePredictor(config, checkpoint, boxes, batch=b) for b in (1, 5))
    images = [cv2.imread(str(p)) for p in sorted(pictures.iterdir())]
    images = [*images, images[0][:70, :50].copy(), *images]  # bottom-up inputs of two sizes
    frames = [Frame(str(i), str(i), 0, i, im.shape[1::-1], im) for i, im in enumerate(images)]
    alone = one.predict(frames)
    assert len({len(people) for people in alone}) > 1 or kind == 'bottomup'
    for a, b in zip(alone, many.predict(frames)):
        assert_same(a, b)


def test_nobody_and_the_whole_image(networks, pictures):
    config, checkpoint = networks['topdown']
    nobody = PosePredictor(config, checkpoint, lambda frames: [BOXES[:0]] * len(frames))
    for result in nobody(pictures):
        assert len(result.people) == 0 and result.people.keypoints.shape == (0, 17, 2)
    (result, *_) = PosePredictor(config, checkpoint)(pictures)
    assert np.array_equal(result.people.boxes, [[0, 0, *result.frame.size]])
    assert np.array_equal(whole_image([result.frame])[0][:, :4], result.people.boxes)


def test_calls_are_independent(topdown, pictures):
    first, second = (list(topdown(pictures)) for _ in range(2))
    for a, b in zip(first, second):
        assert_same(a.people, b.people)
    # one that was not finished disturbs nothing, and its threads end
    before = threading.active_count()
    half = topdown(pictures)
    next(half)
    half.close()
    assert_same(next(iter(topdown(pictures))).people, first[0].people)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_inputs_are_looked_for_before_the_first_result(topdown, tmp_path):
    with pytest.raises(FileNotFoundError, match='input not found'):
        topdown(tmp_path / 'gone.jpg')


def test_doubles_are_suppressed_as_the_metric_does(networks, pictures):
    config, checkpoint = networks['topdown']
    twice = np.concatenate((BOXES, BOXES[:1] * (1, 1, 1, 1, 0.5)))
    (result, *_) = PosePredictor(config, checkpoint, lambda f: [twice] * len(f))(pictures)
    assert sorted(result.people.box_scores) == [0.5, 0.6, 0.9]
    options = {'test_evaluator.nms_mode': 'none', 'test_evaluator.score_mode': 'bbox'}
    every = PosePredictor(config, checkpoint, lambda f: [twice] * len(f), cfg_options=options)
    (result, *_) = every(pictures)
    np.testing.assert_allclose(result.people.scores, twice[:, 4], atol=1e-7)


@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_flip_test_and_half_precision(kind, networks, pictures):
    def scores(**options):
        (result, *_) = PosePredictor(*networks[kind], **options)(pictures)
        assert result.people.keypoints.dtype == float
        return np.sort(result.people.keypoint_scores.ravel())[::-1][:17]

    config = scores()
    assert np.array_equal(config, scores(flip_test=True))
    assert not np.allclose(config, scores(flip_test=False))
    half = scores(amp=True)
    assert not np.array_equal(half, config)
    np.testing.assert_allclose(half, config, rtol=0.1, atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_gpu(kind, networks, pictures):
    cpu = list(PosePredictor(*networks[kind], device='cpu')(pictures))
    gpu = PosePredictor(*networks[kind], device='cuda')
    assert next(gpu.model.parameters()).is_cuda
    for a, b in zip(cpu, gpu(pictures)):
        np.testing.assert_allclose(a.people.keypoint_scores, b.people.keypoint_scores, atol=1e-2)
    half = PosePredictor(*networks[kind], device='auto', amp=True)
    assert all(np.isfinite(r.people.keypoints).all() for r in half(pictures))


def test_video(topdown, tmp_path):
    results = list(topdown(write_video(tmp_path / 'a.avi', 11), track=True))
    assert [r.frame.index for r in results] == list(range(11))
    assert all(sorted(r.people.track_ids) == [1, 2, 3] for r in results)
    smooth = list(topdown(tmp_path / 'a.avi', smooth=True))
    assert np.array_equal(smooth[0].people.keypoints, results[0].people.keypoints)
    assert not np.array_equal(smooth[5].people.keypoints, results[5].people.keypoints)


def test_bad_arguments(networks, tmp_path, pictures):
    config, checkpoint = networks['bottomup']
    with pytest.raises(ValueError, match='batch must be positive, got 0'):
        PosePredictor(config, checkpoint, batch=0)
    for build in (PosePredictor, PersonDetector):
        with pytest.raises(ValueError, match='batch must be a whole number, got 1.5'):
            build(config, checkpoint, batch=1.5)
    with pytest.raises(ValueError, match="device is 'auto', 'cpu'"):
        PosePredictor(config, checkpoint, device='abacus')
    with pytest.raises(ValueError, match=r"device 'cuda:99': torch sees \d+ GPUs"):
        PosePredictor(config, checkpoint, device='cuda:99')
    with pytest.raises(ValueError, match='a bottom-up network finds people by itself'):
        PosePredictor(config, checkpoint, whole_image)
    with pytest.raises(FileNotFoundError, match='config not found: gone.py'):
        PosePredictor('gone.py')
    with pytest.raises(FileNotFoundError, match=r'gone.pth does not exist'):
        PosePredictor(config, tmp_path / 'gone.pth')
    for kind in ('topdown', 'bottomup'):  # the other one's weights
        other = networks['bottomup' if kind == 'topdown' else 'topdown'][1]
        with pytest.raises(ValueError, match='does not fit|shares no key'):
            PosePredictor(networks[kind][0], other)


BROKEN = {
    'syntax': 'model = dict(',
    'base': "_base_ = ['gone.py']",
    'import': "custom_imports = dict(imports=['no_such_module'], allow_failed_imports=False)",
    'empty': '',
    'type': "model = dict(type='NoSuchNetwork')",
    'argument': "model = dict(type='TopdownPoseEstimator', backbone=dict(type='HRNet', extre=1))",
    'data': "model = dict(type='TopdownPoseEstimator', backbone=dict(type='ResNet', depth=18))",
}


@pytest.mark.parametrize('content', BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize('build', [PosePredictor, PersonDetector])
def test_a_config_that_cannot_be_built_is_named(content, build, tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'config .*broken\.py cannot be used: \w+: ') as error:
        build(path, device='cpu')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [[1], 'text', torch.zeros(3), {}, {'state_dict': [1]}, 7])
def test_other_files_are_no_checkpoints(content, networks, tmp_path):
    torch.save(content, tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match='odd.pth is no checkpoint of a network|shares no key'):
        PosePredictor(networks['bottomup'][0], tmp_path / 'odd.pth', device='cpu')


class Hostile:
    def __reduce__(self):
        return os.system, ('touch hostile_was_here',)


def test_code_in_a_checkpoint_is_refused(networks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=Hostile()), 'hostile.pth')
    with pytest.raises(UnsafeCheckpointError, match='hostile.pth'):
        PosePredictor(networks['bottomup'][0], 'hostile.pth', device='cpu')
    assert os.listdir() == ['hostile.pth']


@pytest.mark.parametrize('device', ['meta', 'mps', 'cuda:-1', '', 'CPU'])
def test_other_devices_are_refused(device, networks):
    with pytest.raises(ValueError, match="device is 'auto', 'cpu'"):
        PosePredictor(*networks['bottomup'], device=device)


def test_boxes_of_nothing_are_left_out(networks):
    rows = [
        [10, 10, 40, 50, 0.9],
        [10, 10, 10, 50, 0.9],  # no width
        [40, 50, 10, 10, 0.9],
        [80, 0, 90, 50, 0.9],  # beside the picture, which is 80 pixels wide
        [-30, 0, 0, 50, 0.9],
        [-30, -30, 0.5, 0.5, 0.8],  # a corner of it is inside
        [-1e6, -1e6, 1e6, 1e6, 0.7],
    ]
    predictor = PosePredictor(
        *networks['topdown'], lambda frames: [np.array(rows)] * len(frames), device='cpu'
    )
    (result,) = predictor(np.full((60, 80, 3), 90, np.uint8))
    assert sorted(result.people.box_scores) == [0.7, 0.8, 0.9]
    assert np.isfinite(result.people.keypoints).all()


@pytest.mark.parametrize('size', [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_tiny_pictures(kind, size, networks):
    predictor = PosePredictor(*networks[kind], device='cpu')
    (result,) = predictor(np.full((*size, 3), 90, np.uint8))
    narrow = max(size) > 1 and kind == 'bottomup'
    assert (result.frame.error is not None) is narrow
    if narrow:
        assert result.frame.error.endswith('pixels are too narrow for a bottom-up network')
    assert np.isfinite(result.people.keypoints).all()


def test_mmposes_configs_by_name():
    name = 'td-hm_hrnet-w32_8xb64-210e_coco-256x192'
    options = {f'model.backbone.extra.stage{i}.num_modules': 1 for i in (2, 3, 4)}
    predictor = PosePredictor(name, cfg_options=options, flip_test=False)
    (result,) = predictor(np.zeros((50, 40, 3), np.uint8))
    assert predictor.topdown and result.people.keypoints.shape == (1, 17, 2)
    with pytest.raises(ValueError, match='can be .*td-hm_hrnet-w32_8xb64-210e_coco-256x192'):
        PosePredictor('td-hm_hrnet-w32_8xb64-210e')


@pytest.mark.parametrize(
    ('name', 'joints'),
    [
        ('hrnet_w32_coco_256x192', 17),
        ('hrnet_udp_w32_coco_256x192', 17),
        ('hrnet_w32_crowdpose_256x192', 14),
        ('dehrnet_w32_mpii_256x256', 16),
    ],
)
def test_configs_of_the_project(name, joints):
    options = {f'model.backbone.extra.stage{i}.num_modules': 1 for i in (2, 3, 4)}
    config = ROOT / 'configs' / f'{name}.py'
    predictor = PosePredictor(config, cfg_options=options, flip_test=False, device='cpu', amp=True)
    (result,) = predictor(np.zeros((50, 40, 3), np.uint8))
    assert result.people.keypoints.shape == (1, joints, 2)
    assert np.isfinite(result.people.keypoints).all() and predictor.joints == joints


def test_a_config_object_is_not_changed(networks):
    config = Config.fromfile(networks['bottomup'][0])
    before = str(config)
    PosePredictor(config, cfg_options={'model.test_cfg.flip_test': False})
    assert str(config) == before


@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
@pytest.mark.parametrize('amp', [True, False])
@pytest.mark.parametrize('copied', [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_and_pickles_are_independent(kind, amp, copied, networks, pictures):
    predictor = PosePredictor(*networks[kind], device='cpu', amp=amp)
    before = [result.people for result in predictor(pictures)]
    other = copied(predictor)
    with torch.no_grad():  # the original's head says nothing of the copy's results
        for parameter in predictor.model.head.parameters():
            parameter.fill_(float('nan'))
    for people, result in zip(before, other(pictures), strict=True):
        assert_same(people, result.people)
    heads = [each.model.head for each in (predictor, other)]
    mine = {id(module) for module in heads[0].modules()}
    assert not mine & {id(module) for module in heads[1].modules()}
    assert all(head.forward.head is head for head in heads) if amp else True


def test_least_score_of_a_person(networks, topdown, bottomup, pictures):
    assert (topdown.person_score, bottomup.person_score) == (0, 0.2)
    results = {
        score: list(PosePredictor(*networks['bottomup'], person_score=score)(pictures))
        for score in (None, 0, 0.5)
    }
    for default, every, half in zip(*results.values(), strict=True):
        assert_same(default.people, every.people)  # the results do not depend on it
        assert_same(half.people, every.people)
        assert len(every.counted) == len(every.people)
        assert (half.counted.scores >= 0.5).all()
        assert len(half.counted) == (half.people.scores >= 0.5).sum()
        assert default.person_score == 0.2
    for bad in (-0.1, float('nan'), float('inf'), True, '0.2'):
        with pytest.raises(ValueError, match='person_score must be a number from 0 on, got'):
            PosePredictor(*networks['bottomup'], person_score=bad)


def test_the_category_comes_with_the_checkpoint(networks, tmp_path):
    config, checkpoint = networks['topdown']
    contents = torch.load(checkpoint, weights_only=True)
    predictor = PosePredictor(config, checkpoint, device='cpu')
    assert predictor.category == (1, 'person')
    classes = [dict(id=4, name='beetle', supercategory='insect')]  # as the data set leaves it
    meta = dict(predictor.meta, CLASSES=classes)
    torch.save(dict(contents, meta=dict(dataset_meta=meta)), tmp_path / 'beetles.pth')
    assert PosePredictor(config, tmp_path / 'beetles.pth', device='cpu').category == (4, 'beetle')


# ---------------------------------------------------------------- machinery


def frames_of(*kinds):
    """'p' a picture, 'v' and 'w' videos, 'c' a camera; capitals are known already."""
    for i, kind in enumerate(kinds):
        low = kind.lower()
        yield Frame(
            str(i),
            str(i) if low == 'p' else low,
            i,
            i,
            (10, 10),
            fps=None if low == 'p' else 25.0,
            live=low == 'c',
            recorded=People.nobody(17) if kind != low else None,
        )


def test_chunks():
    def lengths(kinds, size=3):
        return [len(chunk) for chunk in _chunked(frames_of(*kinds), size)]

    assert lengths('ppppp') == [3, 2]
    assert lengths('ppvvvvwwp') == [2, 3, 1, 2, 1]
    assert lengths('VVVVvvvv') == [3, 1, 3, 1]
    assert lengths('ccc') == [1, 1, 1]
    assert lengths('') == []
    large = (Frame(str(i), str(i), 0, i, (5000, 4000)) for i in range(5))
    assert [len(chunk) for chunk in _chunked(large, 8)] == [2, 2, 1]


def test_overlap_is_bounded_and_ordered():
    taken = []

    def produce():
        for i in count():
            taken.append(i)
            yield i

    items = overlap(produce(), ahead=2)
    assert list(islice(items, 3)) == [0, 1, 2]
    time.sleep(0.1)
    assert len(taken) <= 6  # given, waiting, and the one that waits to be put
    items.close()
    length = len(taken)
    time.sleep(0.05)
    assert len(taken) == length


def test_overlap_works_at_the_same_time():
    def slow():
        for i in range(8):
            time.sleep(0.03)
            yield i

    start = time.perf_counter()
    for _ in overlap(slow()):
        time.sleep(0.03)
    assert time.perf_counter() - start < 0.42  # one after the other it is 0.48


def test_an_error_comes_where_it_happened():
    def fails():
        yield 1
        raise RuntimeError('no more')

    items = overlap(fails(), ahead=5)
    assert next(items) == 1
    with pytest.raises(RuntimeError, match='no more'):
        next(items)
