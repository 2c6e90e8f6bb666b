"""The multi-person AP of MPII, against what its definition gives by hand."""

import numpy as np
import pytest
from mmpose.registry import METRICS

import mmpose_attn  # noqa: F401


def sample(truth, found, scores, head=10.0, visible=None):
    truth = np.asarray(truth, float).reshape(-1, 16, 2)
    found = np.asarray(found, float).reshape(-1, 16, 2)
    visible = np.ones(truth.shape[:2]) if visible is None else visible
    scores = np.broadcast_to(np.asarray(scores, float).reshape(-1, 1), found.shape[:2])
    gt = dict(keypoints=truth, keypoints_visible=visible, head_size=np.full((len(truth), 1), head))
    return dict(gt_instances=gt, pred_instances=dict(keypoints=found, keypoint_scores=scores))


def evaluate(*samples, **kwargs):
    metric = METRICS.build(dict(type='mmpose.MpiiMultiPersonAP', **kwargs))
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.fixture
def people():
    points = np.random.default_rng(0).uniform(0, 100, (2, 16, 2))
    points[1, :, 0] += 500
    return points


def right_by(people, pixels):
    return people + np.array([pixels, 0])


def test_annotations_are_perfect_in_any_order(people):
    figures = evaluate(sample(people, people[::-1], (0.3, 0.9)))
    assert next(iter(figures)) == 'mpii/AP' and len(figures) == 8
    assert all(value == 100 for value in figures.values())


def test_threshold_is_half_a_head(people):
    assert evaluate(sample(people, right_by(people, 4.9), 1))['mpii/AP'] == 100
    assert evaluate(sample(people, right_by(people, 5.1), 1))['mpii/AP'] == 0
    assert evaluate(sample(people, right_by(people, 5.1), 1), thr=0.6)['mpii/AP'] == 100


def test_missing_people_and_phantoms(people):
    far = people[:1] + 5000
    # one of two found
    assert evaluate(sample(people, people[:1], 1))['mpii/AP'] == 50
    # a phantom behind the right ones costs nothing, one before them does
    behind = np.concatenate([people, far])
    assert evaluate(sample(people, behind, (0.9, 0.8, 0.1)))['mpii/AP'] == 100
    before = evaluate(sample(people, behind, (0.9, 0.8, 0.95)))['mpii/AP']
    assert before == pytest.approx(100 * (2 / 3 + 2 / 3) / 2)
    # a person is found once: the better one of two on top of each other
    double = np.concatenate([people, right_by(people[:1], 1)])
    assert evaluate(sample(people, double, (0.9, 0.8, 0.1)))['mpii/AP'] == 100
    worse = people[:1].copy()
    worse[:, :3] += 50
    double = np.concatenate([worse, people])
    assert evaluate(sample(people, double, (0.99, 0.9, 0.8)))['mpii/Wrist AP'] == pytest.approx(
        100 * (2 / 3 + 2 / 3) / 2
    )


def test_ranks_over_images_and_images_without_predictions(people):
    nobody = sample(people, np.zeros((0, 16, 2)), [])
    assert evaluate(nobody)['mpii/AP'] == 0
    assert evaluate(sample(people, people, (1, 1)), nobody)['mpii/AP'] == 50
    phantom = sample(np.zeros((0, 16, 2)), people[:1], 0.99)
    assert evaluate(phantom, sample(people[:1], people[:1], 0.5))['mpii/AP'] == 50
    empty = dict(phantom, gt_instances={})
    assert evaluate(empty, sample(people[:1], people[:1], 0.5))['mpii/AP'] == 50


def test_unlabelled_joints_are_in_no_mean(people):
    visible = np.ones((2, 16))
    visible[:, [9, 8]] = 0
    figures = evaluate(sample(people, people, 1, visible=visible))
    assert np.isnan(figures['mpii/Head AP']) and figures['mpii/AP'] == 100
    # pelvis and thorax are in none
    wrong = people.copy()
    wrong[:, 6:8] += 1000
    assert evaluate(sample(people, wrong, 1))['mpii/AP'] == 100


def test_errors_say_what_to_do(people):
    other = sample(people, people, 1)
    del other['gt_instances']['head_size']
    with pytest.raises(ValueError, match='headbox_file'):
        evaluate(other)
    coco = sample(people, people, 1)
    coco['pred_instances']['keypoints'] = np.zeros((1, 17, 2))
    with pytest.raises(ValueError, match='CocoMetric'):
        evaluate(coco)
