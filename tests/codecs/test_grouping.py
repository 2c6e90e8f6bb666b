"""Grouping by tags, against MMPose's own."""

import mmpose.codecs.associative_embedding as upstream
import numpy as np
import pytest

from mmpose_attn.codecs import grouping
from mmpose_attn.codecs.grouping import group_by_tags
from tests.helpers import scipy_match


def candidates(seed, people, joints=17, dims=1, gap=4.0, tag_noise=0.1, missing=0.2, clutter=0):
    """Sorted candidates (vals, tags, locs) as a decoder finds them, and a joint order."""
    rng = np.random.default_rng(seed)
    count = people + clutter + 3
    centres = gap * rng.permutation(people)[:, None] + np.zeros(dims)
    vals = np.zeros((joints, count), np.float32)
    tags = rng.normal(0, 50, (joints, count, dims))
    locs = rng.integers(0, 128, (joints, count, 2))
    vals[:, : people + clutter] = rng.uniform(0.02, 1, (joints, people + clutter))
    tags[:, :people] = centres + rng.normal(0, tag_noise, (joints, people, dims))
    tags[:, people : people + clutter] = rng.uniform(0, gap * people, (joints, clutter, dims))
    vals[:, :people][rng.random((joints, people)) < missing] = 0
    order = np.argsort(-vals, axis=1, kind='stable')
    vals, tags, locs = (
        np.take_along_axis(a, order.reshape(order.shape + (1,) * (a.ndim - 2)), 1)
        for a in (vals, tags, locs)
    )
    return vals, tags.astype(np.float32), locs, rng.permutation(joints).tolist()


def assert_as_upstream(case, val_thr=0.1, tag_thr=1.0):
    groups = group_by_tags(*case, val_thr=val_thr, tag_thr=tag_thr)
    expected = upstream._group_keypoints_by_tags(*case, val_thr, tag_thr)
    assert groups.dtype == np.float32
    np.testing.assert_array_equal(groups, expected)
    return groups


@pytest.mark.parametrize('dims', [1, 2])
@pytest.mark.parametrize('people', [1, 2, 5, 12, 30])
def test_as_mmpose_where_the_assignment_is_unique(people, dims):
    for seed in range(4):
        # distances within a person round to 0, others do not, and nobody is missing
        case = candidates(seed, people, dims=dims, missing=0)
        case[0][:, :people] = np.maximum(case[0][:, :people], np.float32(0.2))
        assert len(assert_as_upstream(case)) == people


@pytest.mark.parametrize('dims', [1, 2, 3])
@pytest.mark.parametrize('gap, tag_noise, clutter', [(4, 0.3, 0), (1.2, 0.3, 5), (0.5, 0.5, 10)])
def test_as_mmpose_in_crowds(monkeypatch, gap, tag_noise, clutter, dims):
    monkeypatch.setattr(upstream, '_py_max_match', scipy_match)
    monkeypatch.setattr(grouping, '_TIE_BREAK', 0)
    for people in (1, 3, 10, 30):
        case = candidates(people, people, 9, dims, gap, tag_noise, clutter=clutter)
        groups = assert_as_upstream(case)
        assert_as_upstream(case, val_thr=0.4, tag_thr=0.35)
    assert len(groups) > 5


def test_tie_break_changes_no_cost(monkeypatch):
    solve = grouping.linear_sum_assignment
    for seed in range(10):
        case = candidates(seed, 8, gap=1.0, tag_noise=0.3, clutter=4)
        totals = {}
        for tie_break in (grouping._TIE_BREAK, 0):
            costs = totals[tie_break] = []

            def record(cost, costs=costs):
                rows, cols = solve(cost)
                costs.append(cost[rows, cols].sum())
                return rows, cols

            monkeypatch.setattr(grouping, '_TIE_BREAK', tie_break)
            monkeypatch.setattr(grouping, 'linear_sum_assignment', record)
            group_by_tags(*case)
            monkeypatch.undo()
        # later joints start from other groups; the first assignment is one and the same problem
        first, second = (costs[0] for costs in totals.values())
        assert first == pytest.approx(second, abs=1e-7)


@pytest.mark.parametrize('dims', [1, 2])
@pytest.mark.parametrize('people', [2, 4, 8, 20])
def test_newcomers_push_nobody_out_of_their_group(people, dims):
    # people miss joints, so a joint may bring a new person while another group waits in vain;
    # 3 -> 0 costs as much as 3 -> 2 -> 1 -> 0, which would tear two people apart
    for seed in range(10):
        groups = group_by_tags(*candidates(seed, people, dims=dims, gap=4 / dims**0.5))
        assert len(groups) == people


def make(*joints):
    """Joints as lists of (value, tag); a candidate's place says which it is."""
    count = max(map(len, joints))
    vals = np.zeros((len(joints), count), np.float32)
    tags = np.full((len(joints), count, 1), 1e3, np.float32)
    locs = np.zeros((len(joints), count, 2), np.int64)
    for j, joint in enumerate(joints):
        for i, (val, tag) in enumerate(joint):
            vals[j, i], tags[j, i], locs[j, i] = val, tag, (j + 1, i + 1)
    return vals, tags, locs, list(range(len(joints)))


def members(groups):
    """For each group, the candidate of every joint, -1 where there is none."""
    return (groups[..., 1].astype(int) - 1).tolist()


def test_nearer_tag_wins_a_tie():
    # both distances round to 0 and the values are equal: MMPose's choice is an accident
    for first, second in ((0.05, 0.35), (0.35, 0.05)):
        groups = group_by_tags(*make([(0.9, 0.0), (0.8, 0.4)], [(0.5, first), (0.5, second)]))
        assert members(groups) == ([[0, 0], [1, 1]] if first < second else [[0, 1], [1, 0]])


def test_tie_break_does_not_outweigh_values():
    # one group, two candidates within the same rounded distance: the higher value counts
    groups = group_by_tags(*make([(0.9, 0.0)], [(0.5, 0.45), (0.4999, 0.01)]))
    assert members(groups)[0] == [0, 0]


def test_assignment_is_optimal_not_greedy():
    # the first candidate is nearest to group 0, but only the second can leave group 1 alone
    groups = group_by_tags(*make([(0.9, 0.0), (0.9, 1.4)], [(0.9, 0.6), (0.8, -0.3)]), tag_thr=1.0)
    assert members(groups) == [[0, 1], [1, 0]]


def test_threshold_borders():
    # values at the threshold do not count; tags at the threshold start a group
    assert len(group_by_tags(*make([(0.1, 0.0)]), val_thr=np.float32(0.1))) == 0
    assert members(group_by_tags(*make([(0.9, 0.0)], [(0.9, 1.0)]))) == [[0, -1], [-1, 0]]
    assert members(group_by_tags(*make([(0.9, 0.0)], [(0.9, 0.999)]))) == [[0, 0]]


def test_mean_tag_is_what_counts():
    # 0, 0.9, 0.9 -> mean 0.6: 1.5 still belongs, 1.7 does not
    chain = [(0.9, 0.0)], [(0.9, 0.9)], [(0.9, 0.9)]
    assert len(group_by_tags(*make(*chain, [(0.9, 1.5)]))) == 1
    assert len(group_by_tags(*make(*chain, [(0.9, 1.7)]))) == 2


def test_same_tag_is_the_same_group():
    # the official code keys groups by their first tag
    case = make([(0.9, 0.0), (0.8, 0.0)], [(0.9, 5.0)], [(0.7, 0.1), (0.6, 5.1)])
    groups = group_by_tags(*case)
    assert members(groups) == [[1, -1, 0], [-1, 0, 1]]
    np.testing.assert_array_equal(groups, upstream._group_keypoints_by_tags(*case, 0.1, 1.0))


def test_order_decides_who_starts():
    vals, tags, locs, _ = make([(0.9, 0.0), (0.8, 4.0)], [(0.7, 4.1), (0.6, 0.1)])
    assert members(group_by_tags(vals, tags, locs, [0, 1])) == [[0, 1], [1, 0]]
    assert members(group_by_tags(vals, tags, locs, [1, 0])) == [[1, 0], [0, 1]]


def test_values_and_places_are_kept():
    groups = group_by_tags(*make([(0.75, 0.0)], [(0.0, 0.0)], [(0.5, 0.2)]))
    np.testing.assert_array_equal(groups, [[[1, 1, 0.75], [0, 0, 0], [3, 1, 0.5]]])


def test_nobody():
    vals, tags, locs, order = candidates(0, 3)
    groups = group_by_tags(vals * 0, tags, locs, order)
    assert groups.shape == (0, 17, 3) and groups.dtype == np.float32


@pytest.mark.parametrize('order', [[], [0, 1], [0, 1, 1], [0, 1, 3], [0, 1, 2, 3]])
def test_order_must_be_a_permutation(order):
    vals, tags, locs, _ = make([(0.9, 0.0)], [(0.9, 0.0)], [(0.9, 0.0)])
    with pytest.raises(ValueError, match='must name each of the 3 keypoints once'):
        group_by_tags(vals, tags, locs, order)
