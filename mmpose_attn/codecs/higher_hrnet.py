"""The HigherHRNet codec: two-resolution targets, and a fast exact decoder.

Cheng et al., "HigherHRNet", CVPR 2020, arXiv 1908.10357; grouping after
Newell et al., arXiv 1611.05424.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from mmpose.codecs.associative_embedding import AssociativeEmbedding
from mmpose.codecs.utils import (
    batch_heatmap_nms,
    generate_udp_gaussian_heatmaps,
    refine_keypoints_dark_udp,
)
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor

from .grouping import group_by_tags

Size = tuple[int, int]
Match = tuple[np.ndarray, np.ndarray]
FILL_WEIGHT = {'mmpose': 100.0, 'official': 1.0}


@KEYPOINT_CODECS.register_module()
class HigherHRNetCodec(AssociativeEmbedding):
    """Targets at several resolutions and associative-embedding decoding.

    Takes :class:`mmpose.codecs.AssociativeEmbedding`'s arguments and decodes
    to the same keypoints and groups (wherever the assignment of candidates to
    groups is unique), only much faster; what differs is said below.

    Encoding follows the official code: a keypoint's cell is ``floor(x / s)``,
    which is what the decoder's +0.5 cell shift expects (MMPose 1.3.2 rounds,
    a bias of half a cell); keypoints whose cell lies outside the map are left
    out, and at most ``max_people`` people get tags.

    Args:
        input_size: network input (w, h) in pixels.
        heatmap_size: one (w, h), or one for every resolution, lowest first.
            Keypoint indices refer to the first.
        sigma: of the Gaussians, in cells, the same at every resolution.
        max_people: people with a visible keypoint beyond this number get
            heatmaps but no tags; 30 in the official code.
        decode_fill: how a person's missing keypoints are found where their
            tag map agrees with the person's mean tag:

            * ``'mmpose'``: MMPose 1.3.2's way, the least
              ``100 * round(distance) - heat``, at the bare cell (with
              ``use_udp`` MMPose takes the logarithm of the blurred heat, here
              it is the heat as well);
            * ``'official'``: the official and MMPose 0.x way, the greatest
              ``heat - round(distance)``, only where heat > 0, and refined by
              a quarter of a cell and ``decode_center_shift`` like the rest;
            * ``'none'``: they stay at (0, 0) with score 0.
        decode_max_instances: keep this many people, the best-scored ones
            (MMPose 1.3.2 keeps the first created). ``None`` keeps all.
        **kwargs: ``use_udp``, ``decode_keypoint_order``, ``decode_nms_kernel``,
            ``decode_gaussian_kernel``, ``decode_keypoint_thr``,
            ``decode_tag_thr``, ``decode_topk``, ``decode_center_shift`` of
            :class:`mmpose.codecs.AssociativeEmbedding`.

    Raises:
        ValueError: if an argument has no meaning; it is named.
    """

    # without this table PackPoseInputs drops the indices before the head
    label_mapping_table = dict(
        keypoint_indices='keypoint_indices', keypoint_weights='keypoint_weights'
    )

    def __init__(
        self,
        input_size: Size,
        heatmap_size: Size | Sequence[Size],
        sigma: float | None = None,
        max_people: int = 30,
        decode_fill: str = 'mmpose',
        **kwargs,
    ) -> None:
        multi = not np.isscalar(heatmap_size[0])
        sizes = [tuple(size) for size in heatmap_size] if multi else [tuple(heatmap_size)]
        kwargs['decode_keypoint_order'] = list(kwargs.get('decode_keypoint_order') or ())
        super().__init__(
            input_size=tuple(input_size), heatmap_size=sizes[-1], sigma=sigma, **kwargs
        )
        if decode_fill not in (*FILL_WEIGHT, 'none'):
            raise ValueError(
                f"decode_fill must be 'mmpose', 'official' or 'none', got {decode_fill!r}"
            )
        if self.decode_keypoint_thr < 0:
            raise ValueError(
                f'decode_keypoint_thr must not be negative, got {self.decode_keypoint_thr}'
            )
        if self.decode_nms_kernel < 1 or self.decode_nms_kernel % 2 == 0:
            raise ValueError(f'decode_nms_kernel must be odd, got {self.decode_nms_kernel}')
        if max_people < 1:
            raise ValueError(f'max_people must be positive, got {max_people}')
        self.heatmap_sizes = sizes
        self.multi_resolution = multi
        self.max_people = max_people
        self.decode_fill = decode_fill

    # --------------------------------------------------------------- encode
    def encode(self, keypoints: np.ndarray, keypoints_visible: np.ndarray | None = None) -> dict:
        """Make the training targets of one image.

        Args:
            keypoints: (N, K, 2) in input pixels.
            keypoints_visible: (N, K), above 0.5 where labelled; all if ``None``.

        Returns:
            ``heatmaps``: (K, H, W) float32, or a list of them, one for every
            resolution; ``keypoint_indices``: (N', K, 2) int64 of
            ``(y * W + x, visible)`` at the first resolution, and
            ``keypoint_weights``: (N', K), of the first ``max_people`` people
            with a visible keypoint.
        """
        keypoints = np.asarray(keypoints, dtype=np.float32)
        if keypoints_visible is None:
            keypoints_visible = np.ones(keypoints.shape[:2], dtype=np.float32)
        visible = (keypoints_visible > 0.5) & np.isfinite(keypoints).all(-1)
        keypoints = np.where(visible[..., None], keypoints, 0)

        encoded = [self._encode_one(size, keypoints, visible) for size in self.heatmap_sizes]
        heatmaps = [maps for maps, _, _ in encoded]
        _, cells, inside = encoded[0]

        people = np.flatnonzero(inside.any(1))[: self.max_people]
        inside = inside[people]
        index = cells[people, :, 1] * self.heatmap_sizes[0][0] + cells[people, :, 0]
        return dict(
            heatmaps=heatmaps if self.multi_resolution else heatmaps[0],
            keypoint_indices=np.stack((np.where(inside, index, 0), inside), -1).astype(np.int64),
            keypoint_weights=inside.astype(np.float32),
        )

    def _encode_one(
        self, size: Size, keypoints: np.ndarray, visible: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Heatmaps (K, H, W), cells (N, K, 2) and whether a cell counts (N, K)."""
        width, height = size
        if self.use_udp:
            stride = (np.array(self.input_size) - 1) / (np.array(size) - 1)
            cells = np.floor(keypoints / stride + 0.5).astype(np.int64)
        else:
            stride = np.array(self.input_size) / np.array(size)
            cells = np.floor(keypoints / stride).astype(np.int64)
        inside = visible & (cells >= 0).all(-1) & (cells[..., 0] < width) & (cells[..., 1] < height)
        if self.use_udp:
            heatmaps, _ = generate_udp_gaussian_heatmaps(
                size, keypoints / stride, inside.astype(np.float32), self.sigma
            )
            return heatmaps, cells, inside

        heatmaps = np.zeros((keypoints.shape[1], height, width), dtype=np.float32)
        kernel = _gaussian(self.sigma)
        radius = len(kernel) // 2
        for person, joint in zip(*np.nonzero(inside), strict=True):
            x, y = cells[person, joint]
            x0, x1 = max(0, x - radius), min(width, x + radius + 1)
            y0, y1 = max(0, y - radius), min(height, y + radius + 1)
            region = heatmaps[joint, y0:y1, x0:x1]
            shift_y, shift_x = y0 - y + radius, x0 - x + radius
            np.maximum(
                region,
                kernel[shift_y : shift_y + y1 - y0, shift_x : shift_x + x1 - x0],
                out=region,
            )
        return heatmaps, cells, inside

    # --------------------------------------------------------------- decode
    def batch_decode(
        self, batch_heatmaps: Tensor, batch_tags: Tensor
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Decode people from heatmaps and tag maps of one size.

        Args:
            batch_heatmaps: (B, K, H, W), on any device.
            batch_tags: (B, L*K, H, W); L = 2 with flip test. A cell whose value
                or tag is not a finite number counts as empty.

        Returns:
            Three lists of B arrays: keypoints (N, K, 2) in input pixels,
            keypoint scores (N, K), and instance scores (N,), the mean value
            of a person's K keypoints before missing ones are filled.

        Raises:
            ValueError: if the shapes do not fit.
        """
        batch, num_joints, height, width = batch_heatmaps.shape
        if (
            batch_tags.shape[0] != batch
            or batch_tags.shape[2:] != (height, width)
            or batch_tags.shape[1] % num_joints
        ):
            raise ValueError(
                f'tags {tuple(batch_tags.shape)} do not fit heatmaps '
                f'{tuple(batch_heatmaps.shape)}: expected (B, L*K, H, W) and (B, K, H, W)'
            )
        images = zip(batch_heatmaps.detach().float(), batch_tags.detach().float(), strict=True)
        results = [self._decode_image(heat, tags) for heat, tags in images]
        keypoints, scores, instance_scores = zip(*results, strict=True)
        return list(keypoints), list(scores), list(instance_scores)

    def _decode_image(self, heat: Tensor, tags: Tensor) -> tuple[np.ndarray, ...]:
        if heat.device.type != 'cpu':
            return self._decode_one(DeviceMaps(*_finite(heat, tags)))
        try:
            return self._decode_one(CPUMaps(heat, tags))
        except NotFiniteError:
            return self._decode_one(CPUMaps(*_finite(heat, tags)))

    def _decode_one(self, maps: 'CPUMaps | DeviceMaps') -> tuple[np.ndarray, ...]:
        vals, locs, index = maps.peaks(
            self.decode_nms_kernel, self.decode_topk, self.decode_keypoint_thr
        )
        groups = group_by_tags(
            vals,
            maps.tags_at(index),
            locs,
            self.decode_keypoint_order,
            self.decode_keypoint_thr,
            self.decode_tag_thr,
        )
        instance_scores = groups[..., 2].mean(-1)
        limit = self.decode_max_instances
        if limit is not None and len(groups) > limit:
            best = np.sort(np.argsort(-instance_scores, kind='stable')[:limit])
            groups, instance_scores = groups[best], instance_scores[best]

        keypoints, scores = groups[..., :2], groups[..., 2]
        if len(groups):
            if self.use_udp:
                refined = refine_keypoints_dark_udp(
                    keypoints.copy(),
                    maps.heat_numpy(),
                    blur_kernel_size=self.decode_gaussian_kernel,
                )
                keypoints = np.where((scores > 0)[..., None], refined, 0)
            else:
                keypoints = keypoints + maps.quarter_steps(keypoints)
            keypoints = keypoints + self.decode_center_shift * (scores > 0)[..., None]
            keypoints = keypoints.astype(np.float32)
            if self.decode_fill != 'none':
                self._fill(maps, keypoints, scores)
        return keypoints * self.scale_factor, scores, instance_scores

    def _fill(
        self, maps: 'CPUMaps | DeviceMaps', keypoints: np.ndarray, scores: np.ndarray
    ) -> None:
        """Find the keypoints that have no candidate, in place."""
        present = scores > 0
        if present.all():
            return
        num_joints, height, width = maps.shape
        x = np.clip(keypoints[..., 0].astype(np.int64), 0, width - 1)
        y = np.clip(keypoints[..., 1].astype(np.int64), 0, height - 1)
        tags = maps.tags_at((y * width + x).T).transpose(1, 0, 2)  # (N, K, L)
        mean = np.stack([t[p].mean(0) for t, p in zip(tags, present, strict=True)])

        official = self.decode_fill == 'official'
        weight = FILL_WEIGHT[self.decode_fill]
        missing = {j: np.flatnonzero(~present[:, j]) for j in range(num_joints)}
        missing = {joint: people for joint, people in missing.items() if len(people)}
        matches = maps.best_matches({j: mean[people] for j, people in missing.items()}, weight)
        for joint, people in missing.items():
            index, heat = matches[joint]
            place = np.stack((index % width, index // width), -1).astype(np.float32)
            if official:
                found = heat > 0
                people, place, heat = people[found], place[found], heat[found]
                if not len(people):
                    continue
                place = place + maps.quarter_steps(place[:, None], joint)[:, 0]
                place = place + self.decode_center_shift
            keypoints[people, joint] = place
            scores[people, joint] = heat


@lru_cache(maxsize=16)
def _gaussian(sigma: float) -> np.ndarray:
    """The official (6 sigma + 3) wide kernel of height 1 at its centre."""
    radius = int(3 * sigma + 1)
    x = np.arange(-radius, radius + 1, dtype=np.float32)
    return np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2)).astype(np.float32)


class NotFiniteError(ValueError):
    """A map has a value that matters and is not a finite number."""


def _finite(heat: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (K, H, W) and (L*K, H, W) in which a cell that has NaN or inf is empty: all zero."""
    number = heat.isfinite() & tags.isfinite().unflatten(0, (-1, len(heat))).all(0)
    return heat.where(number, 0), tags.nan_to_num(0, 0, 0)


class DeviceMaps:
    """One image's maps on any device: the plain dense form of every step.

    Args:
        heat: (K, H, W) float32.
        tags: (L*K, H, W) float32.
    """

    def __init__(self, heat: Tensor, tags: Tensor) -> None:
        self.shape = tuple(heat.shape)
        self.heat = heat
        self.tags = tags.reshape(-1, heat.shape[0], heat.shape[1] * heat.shape[2])

    def heat_numpy(self) -> np.ndarray:
        """A copy: MMPose's UDP refinement writes into its heatmaps."""
        return np.array(self.heat.cpu())

    def peaks(
        self, kernel: int, topk: int, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values (K, M), (x, y) (K, M, 2) and flat indices (K, M) of the highest peaks.

        Peaks at or below ``threshold`` do not matter to the caller.
        """
        flat = batch_heatmap_nms(self.heat[None], kernel)[0].flatten(1)
        vals, index = flat.topk(min(topk, flat.shape[1]), dim=1)
        vals, index = vals.cpu().numpy(), index.cpu().numpy()
        width = self.shape[2]
        return vals, np.stack((index % width, index // width), -1), index

    def tags_at(self, index: np.ndarray) -> np.ndarray:
        """(K, M) flat indices -> (K, M, L) tags."""
        index = torch.as_tensor(index, device=self.tags.device)
        picked = self.tags.gather(2, index.expand(self.tags.shape[0], -1, -1))
        return picked.permute(1, 2, 0).cpu().numpy()

    def _heat_at(self, joint: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        index = np.ravel_multi_index((joint, y, x), self.shape)
        return self.heat.take(torch.as_tensor(index, device=self.heat.device)).cpu().numpy()

    def quarter_steps(self, keypoints: np.ndarray, joint: int | None = None) -> np.ndarray:
        """(N, K, 2) cells -> (N, K, 2) steps of a quarter towards the higher neighbour.

        Cells at the border get none, as in MMPose. With ``joint`` given, K
        is 1 and all cells belong to that joint.
        """
        num_joints, height, width = self.shape
        joints = np.arange(num_joints) if joint is None else np.array([joint])
        joints = np.broadcast_to(joints, keypoints.shape[:2])
        x = keypoints[..., 0].astype(np.int64)
        y = keypoints[..., 1].astype(np.int64)
        inner_x = (x > 1) & (x < width - 1) & (y > 0) & (y < height)
        inner_y = (y > 1) & (y < height - 1) & (x > 0) & (x < width)
        left, right = np.clip(x - 1, 0, width - 1), np.clip(x + 1, 0, width - 1)
        above, below = np.clip(y - 1, 0, height - 1), np.clip(y + 1, 0, height - 1)
        dx = self._heat_at(joints, y, right) - self._heat_at(joints, y, left)
        dy = self._heat_at(joints, below, x) - self._heat_at(joints, above, x)
        steps = np.stack((np.sign(dx) * inner_x, np.sign(dy) * inner_y), -1)
        return (0.25 * steps).astype(np.float32)

    def best_matches(self, wanted: dict[int, np.ndarray], weight: float) -> dict[int, Match]:
        """Where joints' maps fit people's mean tags best.

        Args:
            wanted: ``{joint: (N, L) mean tags}``.
            weight: of the rounded tag distance against the heatmap value.

        Returns:
            ``{joint: (index, heat)}``: the (N,) flat indices of the first
            least ``weight * round(distance) - heat``, and the heatmap there.
        """
        return {joint: self._best_match(joint, mean, weight) for joint, mean in wanted.items()}

    def _best_match(self, joint: int, mean: np.ndarray, weight: float) -> Match:
        heat = self.heat[joint].flatten()
        wanted = torch.as_tensor(mean, device=heat.device, dtype=heat.dtype)
        distance = (self.tags[:, joint, None] - wanted.T[..., None]).square().sum(0).sqrt()
        index = (distance.round() * weight - heat).argmin(1)
        return index.cpu().numpy(), heat[index].cpu().numpy()


class CPUMaps(DeviceMaps):
    """The same steps on a CPU, where dense passes over full-size maps dominate.

    Even to ask whether all values are finite is such a pass. So only what is read is asked, and
    the answer no is a :class:`NotFiniteError`.
    """

    # people's missing keypoints are sought among this many of the highest cells first
    SEARCH_FIRST = 3000

    def __init__(self, heat: Tensor, tags: Tensor) -> None:
        super().__init__(heat.contiguous(), tags)
        self._heat = self.heat.numpy()
        self._tags = self.tags.contiguous().numpy()
        # flat indices of the cells above the threshold of peaks(), for each joint
        self._high = [np.zeros(0, dtype=np.int64)] * len(self._heat)

    def heat_numpy(self):
        _require_finite(self._heat)
        return self._heat.copy()

    def peaks(self, kernel, topk, threshold):
        num_joints, height, width = self.shape
        topk = min(topk, height * width)
        reach = np.arange(kernel) - kernel // 2
        vals = np.zeros((num_joints, topk), dtype=np.float32)
        index = np.zeros((num_joints, topk), dtype=np.int64)
        high = np.empty((height, width), dtype=bool)
        for joint, heat in enumerate(self._heat):
            found = np.flatnonzero(np.greater(heat, threshold, out=high))
            self._high[joint] = found
            value = heat.ravel()[found]
            if kernel > 1:
                # of few high cells fewer are no lower than those above and below, and only they
                # get a window
                flat = heat.ravel()
                for step in (-width, width):
                    inner = slice(*np.searchsorted(found, (-step, heat.size - step)))
                    keep = np.ones(len(found), dtype=bool)
                    keep[inner] = value[inner] >= _require_finite(flat[found[inner] + step])
                    found, value = found[keep], value[keep]
            y, x = np.divmod(found, width)
            if len(found) > heat.size // 64:  # noise: one dense pass is cheaper than the windows
                _require_finite(heat)
                highest = cv2.dilate(heat, np.ones((kernel, kernel), dtype=np.uint8))[y, x]
            else:
                rows = np.clip(y + reach[:, None], 0, height - 1)
                columns = np.clip(x + reach[:, None], 0, width - 1)
                highest = heat[rows[:, None], columns].max((0, 1))
                _require_finite(highest)
            found, value = found[value == highest], value[value == highest]
            if len(np.unique(value)) < len(value):
                # equal peaks: the choice and order are torch's, as in the dense form
                _require_finite(heat)
                flat = batch_heatmap_nms(self.heat[None, joint, None], kernel).flatten()
                value, found = (part.numpy() for part in flat.topk(topk))
            order = np.argsort(-value, kind='stable')[:topk]
            vals[joint, : len(order)] = value[order]
            index[joint, : len(order)] = found[order]
        return vals, np.stack((index % width, index // width), -1), index

    def tags_at(self, index):
        picked = np.take_along_axis(self._tags, index[None], axis=2)
        return _require_finite(picked.transpose(1, 2, 0))

    def _heat_at(self, joint, y, x):
        return _require_finite(self._heat[joint, y, x])

    def _best_match(self, joint, mean, weight):
        heat, tags = self._heat[joint].ravel(), self._tags[:, joint]
        top = _require_finite(heat.max())
        index = np.full(len(mean), -1)
        high = self._high[joint]
        steps = [high]
        if len(high) > 2 * self.SEARCH_FIRST:
            first = np.argpartition(heat[high], -self.SEARCH_FIRST)[-self.SEARCH_FIRST :]
            steps.insert(0, np.sort(high[first]))
        for cells in steps:
            value, there = heat[cells], np.stack([one[None, cells] for one in tags])
            spare, distance = np.empty_like(there), np.empty_like(there[0])
            for person in np.flatnonzero(index < 0):
                _distance(there, mean[person], spare, distance)
                near = np.flatnonzero(distance <= 0.5)
                if not len(near):
                    continue
                best = near[value[near].argmax()]
                if weight - top > -value[best]:  # nothing farther or lower costs less
                    index[person] = cells[best]
        if (index < 0).any():
            index[index < 0] = self._search(joint, mean[index < 0], weight, top)
        return index, heat[index]

    def _search(self, joint: int, mean: np.ndarray, weight: float, top: np.float32) -> np.ndarray:
        """(N, L) mean tags -> (N,) flat indices, by passes over the whole maps."""
        # a dense pass costs what its fresh memory costs: keep the buffers
        buffers = np.empty((len(self._tags), *self.shape[1:]), dtype=np.float32)
        distance = np.empty(self.shape[1:], dtype=np.float32)
        tags = self._tags[:, joint].reshape(buffers.shape)
        index = np.empty(len(mean), dtype=np.int64)
        for person, tag in enumerate(mean):
            _distance(tags, tag, buffers, distance)
            _require_finite(distance.max())
            index[person] = _least_cost(distance, self._heat[joint], top, weight, buffers[0])
        return index


def _require_finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise NotFiniteError('a heatmap or tag map has NaN or inf')
    return values


def _least_cost(
    distance: np.ndarray, heat: np.ndarray, top: np.float32, weight: float, spare: np.ndarray
) -> int:
    """First flat index of the least ``weight * round(distance) - heat``, in float32 as MMPose's.

    Args:
        distance: (H, W) float32; overwritten.
        heat: (H, W) float32.
        top: its maximum.
        weight: positive.
        spare: (H, W) float32; overwritten.
    """
    weight = np.float32(weight)
    near = distance <= 0.5
    _, highest, _, (x, y) = cv2.minMaxLoc(heat, near.view(np.uint8))
    if x >= 0 and weight - top > -highest:  # nothing farther costs less
        return y * heat.shape[1] + x
    np.rint(distance, out=distance)
    np.multiply(distance, weight, out=distance)
    return int(np.subtract(distance, heat, out=spare).argmin())


def _distance(tags: np.ndarray, tag: np.ndarray, buffers: np.ndarray, out: np.ndarray) -> None:
    """Euclidean distance of tag maps (L, H, W) to one tag (L,), into ``out``."""
    np.subtract(tags, tag[:, None, None], out=buffers)
    if len(tag) == 1:
        np.abs(buffers[0], out=out)
    elif len(tag) == 2:
        cv2.magnitude(*buffers, magnitude=out)
    else:
        np.sqrt(np.square(buffers, out=buffers).sum(0), out=out)
