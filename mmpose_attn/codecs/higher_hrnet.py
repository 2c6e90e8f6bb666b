"""The HigherHRNet codec: two-resolution targets, and a fast exact decoder.

Cheng et al., "HigherHRNet", CVPR 2020, arXiv 1908.10357; grouping after
Newell et al., arXiv 1611.05424.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from mmpose.codecs.associative_embedding import AssociativeEmbedding
from mmpose.codecs.utils import generate_udp_gaussian_heatmaps, refine_keypoints_dark_udp
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor

from .grouping import group_by_tags
from .maps import CPUMaps, DeviceMaps, NotFiniteError, finite

Size = tuple[int, int]
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
            return self._decode_one(DeviceMaps(*finite(heat, tags)))
        try:
            return self._decode_one(CPUMaps(heat, tags))
        except NotFiniteError:
            return self._decode_one(CPUMaps(*finite(heat, tags)))

    def _decode_one(self, maps: DeviceMaps) -> tuple[np.ndarray, ...]:
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

    def _fill(self, maps: DeviceMaps, keypoints: np.ndarray, scores: np.ndarray) -> None:
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
