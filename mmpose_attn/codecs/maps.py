"""One image's heatmaps and tag maps, and what decoding asks of them.

:class:`DeviceMaps` is the dense form, on any device; :class:`CPUMaps` gives the same answers from
few cells, where dense passes over full-size maps would be nearly all of the time.
"""

import cv2
import numpy as np
import torch
from mmpose.codecs.utils import batch_heatmap_nms
from torch import Tensor

Match = tuple[np.ndarray, np.ndarray]  # flat indices and the heatmap there, (N,) each


class NotFiniteError(ValueError):
    """A map has a value that matters and is not a finite number."""


def finite(heat: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
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

    def heat_numpy(self) -> np.ndarray:
        _require_finite(self._heat)
        return self._heat.copy()

    def peaks(
        self, kernel: int, topk: int, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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

    def tags_at(self, index: np.ndarray) -> np.ndarray:
        picked = np.take_along_axis(self._tags, index[None], axis=2)
        return _require_finite(picked.transpose(1, 2, 0))

    def _heat_at(self, joint: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return _require_finite(self._heat[joint, y, x])

    def _best_match(self, joint: int, mean: np.ndarray, weight: float) -> Match:
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
