"""Decoding of people from maps, against MMPose's codec."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from mmpose.codecs.associative_embedding import AssociativeEmbedding
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmpose_attn.codecs import HigherHRNetCodec, group_by_tags

from .networks import NUM_KEYPOINTS
from .timing import Row, interleave

KEYPOINT_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
TOLERANCE = 1e-3  # pixels


def make_scene(
    people: int, size: int = 512, seed: int = 0, missing: float = 0.18, dims: int = 2
) -> tuple[Tensor, Tensor]:
    """Maps like a network's: drawn at a quarter of the size, then enlarged bilinearly.

    Heatmaps are Gaussians over noise. Tags are a person's own, the same but for noise, where that
    person is, and a smooth background elsewhere. A missing keypoint has no peak above the usual
    threshold of 0.1; half of them leave a faint trace (hidden), half none at all (outside).

    Args:
        people: number of people.
        size: height and width of the maps in pixels.
        seed: of the generator.
        missing: share of keypoints that are missing.
        dims: tags a keypoint; 2 is what the flip test gives.

    Returns:
        heatmaps (1, 17, size, size) and tags (1, dims*17, size, size).
    """
    rng = np.random.default_rng(seed)
    cells = size // 4
    heat = rng.normal(0, 0.01, (NUM_KEYPOINTS, cells, cells)).astype(np.float32)
    coarse = rng.normal(0, 0.5, (dims, NUM_KEYPOINTS, max(cells // 16, 2), max(cells // 16, 2)))
    tags = _enlarge(coarse.astype(np.float32), cells)
    y, x = np.mgrid[:cells, :cells]
    # the more people, the smaller they are, and nobody stands where somebody is
    places = np.zeros((0, 2))
    for _ in range(people):
        free = rng.uniform(0.15, 0.85, (20, 1, 2)) * cells
        away = np.linalg.norm(free - places, axis=2).min(1, initial=cells)
        places = np.concatenate((places, free[away.argmax()]))
    for person, centre in enumerate(places):
        height = rng.uniform(0.3, 0.6) / np.sqrt(people) * cells
        tag = 1.2 * (person - (people - 1) / 2)
        for joint in range(NUM_KEYPOINTS):
            place = centre + rng.uniform(-0.5, 0.5, 2) * height * (0.5, 1.0)
            place = np.clip(place, 2.3, cells - 3.3)
            squared = (x - place[0]) ** 2 + (y - place[1]) ** 2
            gone = rng.random() < missing
            if gone and rng.random() < 0.5:
                continue
            peak = rng.uniform(0.02, 0.07) if gone else rng.uniform(0.35, 0.95)
            gauss = peak * np.exp(-squared / (2 * 2.0**2))
            # where two people meet, the tags are those of the stronger response
            near = (squared < (0.12 * height) ** 2 + 9) & (gauss >= heat[joint] - 0.03)
            heat[joint] = np.maximum(heat[joint], gauss)
            noise = rng.normal(0, 0.05, (dims, 1))
            tags[:, joint, near] = tag + noise + rng.normal(0, 0.02, (dims, near.sum()))
    maps = [torch.from_numpy(_enlarge(m.astype(np.float32), size)) for m in (heat[None], tags)]
    return maps[0], maps[1].reshape(1, -1, size, size)


def _enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    resized = F.interpolate(
        torch.from_numpy(maps), size=(size, size), mode='bilinear', align_corners=False
    )
    return resized.numpy()


class _SameGroups(AssociativeEmbedding):
    """MMPose's decoder with this package's choice among equally good assignments."""

    def _group_keypoints(self, batch_vals, batch_tags, batch_locs):
        return [
            group_by_tags(
                vals,
                tags,
                locs,
                self.decode_keypoint_order,
                self.decode_keypoint_thr,
                self.decode_tag_thr,
            )
            for vals, tags, locs in zip(batch_vals, batch_tags, batch_locs, strict=True)
        ]


def is_tied(vals: np.ndarray, tags: np.ndarray, locs: np.ndarray, codec: HigherHRNetCodec) -> bool:
    """Whether grouping has an assignment that others equal in cost.

    MMPose's costs are multiples of 100 minus a value, so that happens often; which one is chosen
    then depends on the solver. Arguments as for :func:`mmpose_attn.codecs.group_by_tags`.
    """
    means: list[np.ndarray] = []
    members: list[list[np.ndarray]] = []
    for joint in codec.decode_keypoint_order:
        keep = vals[joint] > codec.decode_keypoint_thr
        tag, val = tags[joint][keep], vals[joint][keep].astype(np.float64)
        if not len(tag):
            continue
        if not members:
            members = [[t] for t in tag]
            continue
        means = np.stack([np.mean(m, axis=0) for m in members])
        distance = np.linalg.norm(tag[:, None].astype(np.float64) - means, axis=2)
        # of equally good assignments the small terms prefer different ones
        cost = np.round(distance) * 100 - val[:, None]
        small = 1e-8 * np.minimum(distance, 10) ** 2
        matched = []
        for sign in (1, -1):
            rows, cols = linear_sum_assignment(cost + sign * small)
            near = distance[rows, cols] < codec.decode_tag_thr
            matched.append(dict(zip(rows[near], cols[near], strict=True)))
        if matched[0] != matched[1]:
            return True
        for row, t in enumerate(tag):
            if row in matched[0]:
                members[matched[0][row]].append(t)
            else:
                members.append([t])
    return False


def rows(quick: bool, repeat: int | None, device: str) -> Iterator[Row]:
    people, size, scenes = ((1, 2), 128, 2) if quick else ((1, 2, 5, 15, 30), 512, 6)
    kwargs = dict(
        input_size=(size, size),
        heatmap_size=(size, size),
        sigma=2,
        decode_keypoint_order=list(KEYPOINT_ORDER),
        decode_center_shift=0.5,
    )
    stock, same, codec = (
        kind(**kwargs) for kind in (AssociativeEmbedding, _SameGroups, HigherHRNetCodec)
    )
    for number in people:
        theirs, ours, ties, difference = [], [], 0, 0.0
        for seed in range(scenes):
            heat, tags = (m.to(device) for m in make_scene(number, size, seed))
            flat = stock._get_batch_topk(
                _peaks(heat, codec.decode_nms_kernel), tags, codec.decode_topk
            )
            tied = is_tied(*(part[0].cpu().numpy() for part in flat), codec)
            ties += tied
            difference = max(
                difference,
                _difference((same if tied else stock).batch_decode(heat, tags), codec, heat, tags),
            )
            pair = interleave(
                partial(stock.batch_decode, heat, tags),
                partial(codec.batch_decode, heat, tags),
                repeat or (1 if quick else 5),
                device,
            )
            theirs += pair[0]
            ours += pair[1]
        if difference > TOLERANCE:
            raise RuntimeError(
                f'decoding {number} people differs from MMPose by {difference:.3g} px; '
                'no time was worth measuring'
            )
        yield Row(
            f'decode {size}x{size}, flip tags, {number} people',
            theirs,
            ours,
            f'keypoints within {difference:.1g} px; assignments tied in {ties} of {scenes} scenes',
        )


def _peaks(heat: Tensor, kernel: int) -> Tensor:
    highest = F.max_pool2d(heat, kernel, stride=1, padding=kernel // 2)
    return heat * (highest == heat)


def _difference(expected: tuple, codec: HigherHRNetCodec, heat: Tensor, tags: Tensor) -> float:
    """Greatest difference of keypoints in pixels; infinite if the people differ in number."""
    worst = 0.0
    decoded = codec.batch_decode(heat, tags)
    for theirs, ours in zip(expected[0], decoded[0], strict=True):
        if theirs.shape != ours.shape:
            return float('inf')
        worst = max(worst, float(np.abs(theirs - ours).max(initial=0)))
    return worst
