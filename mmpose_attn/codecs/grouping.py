"""Grouping of keypoint candidates into people by their tags."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

# MMPose's costs are multiples of 100 minus a heatmap value: candidates whose
# tag distances round alike tie, and so do chains (tags on a line: a newcomer may
# push everybody one group on at no cost). Far below float32's resolution of the
# values, this term lets the nearer tag win a tie and changes nothing else. It
# stops at tag_thr, beyond which nothing belongs together, so that newcomers are
# the ones to be far off.
_TIE_BREAK = 1e-10


def group_by_tags(
    vals: np.ndarray,
    tags: np.ndarray,
    locs: np.ndarray,
    keypoint_order: Sequence[int],
    val_thr: float = 0.1,
    tag_thr: float = 1.0,
) -> np.ndarray:
    """Group candidates greedily by joint, optimally within a joint.

    The official HigherHRNet matching: joints are visited in
    ``keypoint_order``; a joint's candidates are assigned to the groups that
    exist by the assignment of least ``100 * round(distance) - value``, and one
    whose tag is ``tag_thr`` or more away starts a group of its own. Equal to
    MMPose 1.3.2's grouping wherever the optimal assignment is unique.

    Args:
        vals: (K, M) heatmap values of the candidates.
        tags: (K, M, L) their tags.
        locs: (K, M, 2) their (x, y) in heatmap cells.
        keypoint_order: the K joints in the order of visiting.
        val_thr: candidates at or below this value are ignored.
        tag_thr: least tag distance at which a candidate starts a new group.

    Returns:
        (G, K, 3) float32 of (x, y, value), zeros where a joint is missing,
        groups in order of creation.

    Raises:
        ValueError: if ``keypoint_order`` is not a permutation of the K joints.
    """
    num_joints, _, dims = tags.shape
    if sorted(keypoint_order) != list(range(num_joints)):
        raise ValueError(
            f'decode_keypoint_order must name each of the {num_joints} keypoints once, '
            f'got {list(keypoint_order)}'
        )
    groups: list[np.ndarray] = []
    sums: list[np.ndarray] = []
    sizes: list[int] = []
    # the first tag identifies a group, so two candidates with one and the
    # same float share a group, as in the official code's dictionary
    slot_of: dict[float, int] = {}

    def start(joint: int, candidate: np.ndarray, tag: np.ndarray) -> None:
        slot = slot_of.setdefault(float(tag[0]), len(groups))
        if slot == len(groups):
            groups.append(np.zeros((num_joints, 3), dtype=np.float32))
            sums.append(tag)
            sizes.append(1)
        groups[slot][joint] = candidate
        sums[slot], sizes[slot] = tag, 1

    for joint in keypoint_order:
        keep = vals[joint] > val_thr
        if not keep.any():
            continue
        tag = tags[joint][keep]
        val = vals[joint][keep]
        candidate = np.column_stack((locs[joint][keep], val))
        if not groups:
            for row in range(len(tag)):
                start(joint, candidate[row], tag[row])
            continue
        mean = np.stack(sums) / np.asarray(sizes, dtype=np.float32)[:, None]
        diff = tag.astype(np.float64)[:, None] - mean[None]
        distance = np.sqrt(np.square(diff).sum(2)) if dims > 1 else np.abs(diff[..., 0])
        cost = np.round(distance) * 100 - val.astype(np.float64)[:, None]
        cost += _TIE_BREAK * np.minimum(distance, tag_thr)
        rows, cols = linear_sum_assignment(cost)
        match = np.full(len(tag), -1)
        match[rows] = np.where(distance[rows, cols] < tag_thr, cols, -1)
        for row, slot in enumerate(match):
            if slot < 0:
                start(joint, candidate[row], tag[row])
            else:
                groups[slot][joint] = candidate[row]
                sums[slot] = sums[slot] + tag[row]
                sizes[slot] += 1
    if not groups:
        return np.zeros((0, num_joints, 3), dtype=np.float32)
    return np.stack(groups)
