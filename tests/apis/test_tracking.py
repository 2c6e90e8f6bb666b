"""Ids that people keep, and keypoints that do not tremble, on made motion."""

from dataclasses import replace

import numpy as np
import pytest

from mmpose_attn.apis import Frame, OneEuroFilter, People, PoseResult, PoseTracker, follow

SHAPE = np.random.default_rng(5).uniform(-1, 1, (17, 2)) * (15, 45)


def crowd(centers, rng=None, noise=0.0, shapes=None):
    """People of about 30 x 90 pixels round their centres."""
    centers = np.asarray(centers, float).reshape(-1, 1, 2)
    shapes = [SHAPE] * len(centers) if shapes is None else shapes
    keypoints = centers + np.array(shapes).reshape(-1, 17, 2)
    if noise:
        keypoints = keypoints + rng.normal(0, noise, keypoints.shape)
    boxes = np.concatenate((keypoints.min(1), keypoints.max(1)), 1)
    count = len(centers)
    return People(keypoints, np.ones((count, 17)), boxes, np.ones(count), np.ones(count))


def test_ids_survive_a_crossing():
    rng = np.random.default_rng(0)
    tracker = PoseTracker()
    # face to face: one's pose is the other's mirrored
    shapes = np.array([SHAPE, SHAPE * (-1, 1)])
    ids = []
    for t in range(60):
        centers = np.array([(50 + 4 * t, 100), (290 - 4 * t, 104)])
        order = rng.permutation(2)  # detectors do not keep an order
        people = tracker.update(crowd(centers[order], rng, 1.0, shapes[order]), t)
        ids.append(people.track_ids[np.argsort(order)])
    assert np.array_equal(ids, np.tile([1, 2], (60, 1)))


def test_one_is_hidden_while_they_cross():
    tracker = PoseTracker()
    seen = []
    for t in range(60):
        centers = [(50 + 4 * t, 100), (290 - 4 * t, 104)]
        hidden = abs(50 + 4 * t - (290 - 4 * t)) < 40
        seen.append(list(tracker.update(crowd(centers[:1] if hidden else centers), t).track_ids))
    assert seen[0] == seen[-1] == [1, 2]
    assert [1] in seen and all(ids in ([1], [1, 2]) for ids in seen)


def test_new_people_and_a_long_absence():
    tracker = PoseTracker(patience=5)

    def ids(centers, frame):
        return list(tracker.update(crowd(centers), frame).track_ids)

    assert ids([(50, 100)], 0) == [1]
    assert ids([(300, 100), (50, 100)], 1) == [2, 1]
    assert ids([], 2) == []
    assert ids([(50, 100)], 4) == [1]
    assert ids([(300, 100), (50, 100)], 9) == [3, 1]  # 2 was gone for more than 5 frames


def test_boxes_decide_where_poses_cannot():
    tracker = PoseTracker()
    tracker.update(crowd([(50, 100)]), 0)
    upside_down = crowd([(52, 100)], shapes=[SHAPE[::-1] * (1, -1)])
    assert list(tracker.update(upside_down, 1).track_ids) == [1]


@pytest.mark.parametrize('bad', [dict(oks_thr=0), dict(iou_thr=1.5), dict(patience=-1)])
def test_bad_thresholds(bad):
    with pytest.raises(ValueError, match='oks_thr and iou_thr must be'):
        PoseTracker(**bad)


def test_the_filter_wants_time_to_pass():
    smooth = OneEuroFilter()
    smooth(np.zeros(2), 0)  # the first value has none before it
    for seconds in (0, -0.1, float('nan')):
        with pytest.raises(ValueError, match='seconds since the value before must be positive'):
            smooth(np.ones(2), seconds)


@pytest.mark.parametrize('bad', [dict(min_cutoff=0), dict(speed_cutoff=-1), dict(beta=-0.1)])
def test_bad_filter(bad):
    with pytest.raises(ValueError, match='must be positive and beta not negative'):
        OneEuroFilter(**bad)


def video(centers, rng, noise, fps=30.0):
    for t, center in enumerate(centers):
        frame = Frame(f'v#{t}', 'v', t, t + 1, fps=fps)
        yield PoseResult(frame, crowd([center], rng, noise))


def test_smoothing_takes_jitter_and_no_time():
    rng = np.random.default_rng(1)
    count = 90
    still = np.tile((200.0, 100.0), (count, 1))
    walk = still + np.arange(count)[:, None] * (4, 0)  # 4 body widths a second
    walk[: count // 3] = walk[count // 3]  # it starts after a while

    def filtered(centers, noise):
        results = follow(video(centers, rng, noise), smooth=True)
        return np.array([r.people.keypoints[0] for r in results]) - SHAPE

    trembling = filtered(still, 1.0)[30:]
    steps = np.diff(trembling, axis=0).std()
    assert steps < 0.25 * 2**0.5  # independent noise of 1 pixel has steps of sqrt(2)
    assert np.abs(trembling.mean(0) - still[0]).max() < 0.5
    # in full walk it is less than one frame behind, 4 pixels
    behind = (walk - filtered(walk, 0.0).mean(1))[-30:, 0]
    assert behind.min() >= 0 and behind.max() < 4
    # and a plain filter that is as calm is several frames behind
    plain = OneEuroFilter(min_cutoff=1.0, beta=0.0)
    slow = np.array([plain(center, 1 / 30) for center in walk])
    assert (walk - slow)[-1, 0] > 15


def test_follow_starts_anew_with_every_video_and_leaves_pictures_alone():
    rng = np.random.default_rng(2)
    picture = PoseResult(Frame('p.jpg', 'p.jpg', 0, 9), crowd([(50, 100)]))
    first = list(video([(50, 100)] * 3, rng, 0))
    broken = PoseResult(Frame('w#0', 'w', 0, 8, fps=30.0, error='no frame'), People.nobody(17))
    second = [PoseResult(Frame('w#1', 'w', 1, 9, fps=30.0), crowd([(400, 100)]))]
    results = list(follow([picture, *first, broken, *second]))
    assert [None if r.people.track_ids is None else list(r.people.track_ids) for r in results] == (
        [None, [1], [1], [1], None, [1]]
    )
    assert results[0] is picture


def at_times(times, centers, fps=25.0):
    for i, (time, center) in enumerate(zip(times, centers, strict=True)):
        yield PoseResult(Frame(f'v#{i}', 'v', i, i + 1, fps=fps, time=time), crowd([center]))


def smoothed(results):
    return np.array([r.people.keypoints[0] for r in follow(results, smooth=True)])


def test_smoothing_knows_the_times_of_frames():
    """At 10 a second and then at 50: what a filter gets that is asked at those very moments."""
    times = np.concatenate((np.arange(10) / 10, 1 + np.arange(30) / 50))
    centers = np.stack((200 + 60 * times, np.full(len(times), 100)), 1)
    person = crowd([(0, 0)])
    unit = np.linalg.norm(person.boxes[0, 2:] - person.boxes[0, :2])
    plain = OneEuroFilter()
    expected = [
        plain(center + SHAPE, seconds, unit)
        for center, seconds in zip(centers, np.diff(times, prepend=-1), strict=True)
    ]
    found = smoothed(at_times(times, centers))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # and not what a constant rate gives
    assert np.abs(found - smoothed(at_times([None] * len(times), centers))).max() > 0.3
    # which is that of frames that say no time
    constant = np.arange(len(times)) / 25
    same = smoothed(at_times(constant, centers)) - smoothed(at_times([None] * len(times), centers))
    assert np.abs(same).max() == 0


def test_a_frame_that_was_left_out_is_time_that_has_passed():
    times = np.arange(12) / 25
    centers = np.stack((200 + 100 * times, np.full(12, 100)), 1)
    results = list(at_times(times, centers))
    keep = [i for i in range(12) if i not in (5, 6)]
    broken = [
        r if i in keep else PoseResult(replace(r.frame, error='bad'), People.nobody(17))
        for i, r in enumerate(results)
    ]
    found = [r.people.keypoints[0] for r in follow(broken, smooth=True) if len(r.people)]
    again = smoothed(at_times(times[keep], centers[keep]))
    np.testing.assert_allclose(found, again)


def test_live_frames_that_come_at_once_do_no_harm():
    times = [0.0, 0.04, 0.04, 0.04, 0.3]
    found = smoothed(at_times(times, [(200 + 5 * i, 100) for i in range(5)]))
    assert np.isfinite(found).all() and np.ptp(found[:, 0, 0]) < 40


def test_the_faint_get_no_ids():
    def results():
        for i in range(5):
            people = crowd([(50, 100), (300, 100), (600, 100)])
            people.scores[:] = 0.9, 0.05 if i else 0.6, 0.1
            yield PoseResult(Frame(f'v#{i}', 'v', i, i + 1, fps=25.0), people, person_score=0.2)

    found = list(follow(results(), smooth=True))
    assert [list(r.people.track_ids) for r in found] == [[1, 2, 0]] + 4 * [[1, 0, 0]]
    for given, result in zip(results(), found, strict=True):
        assert len(result.people) == 3 and len(result.counted) == (2 if result is found[0] else 1)
        faint = result.people.track_ids == 0
        assert np.allclose(result.people.keypoints[faint], given.people.keypoints[faint], atol=1e-4)


def test_frames_without_a_rate_are_followed_as_well():
    results = [
        PoseResult(Frame(f's#{i}', 's', i, i + 1, time=i / 3), crowd([(50, 100)])) for i in range(4)
    ]
    assert [list(r.people.track_ids) for r in follow(results, smooth=True)] == 4 * [[1]]
