"""MPII's multi-person metric, for bottom-up networks."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmpose.registry import METRICS

# MPII's joints by the columns of its tables; pelvis and thorax are in none
PARTS = dict(
    Head=(9, 8), Shoulder=(12, 13), Elbow=(11, 14), Wrist=(10, 15), Hip=(2, 3), Knee=(1, 4),
    Ankle=(0, 5),
)  # fmt: skip


@METRICS.register_module()
class MpiiMultiPersonAP(BaseMetric):
    """Mean over joints of the average precision of single joints.

    The measure of MPII's multi-person benchmark (Pishchulin et al., DeepCut, CVPR 2016, arXiv
    1511.06645; as in their https://github.com/leonid-pishchulin/poseval). In an image, every
    prediction goes to the annotated person of whom it has the greatest share of joints within
    ``thr`` head sizes, and every person keeps the best of these. A joint of it is right if it is
    within ``thr``; all other predicted joints are wrong. Joints are ranked by their scores over all
    images, and AP is the area below the precision made monotonous.

    The benchmark itself is of groups of people on a test set without public annotations; of whole
    validation images, where not everybody is annotated, figures are lower and only to be compared
    with each other.

    Args:
        thr: how far a joint may be, in head sizes (0.6 of the head box's diagonal).
        collect_device: as in MMEngine's ``BaseMetric``.
        prefix: of the names.

    Needs in ``gt_instances``: ``keypoints`` (N, 16, 2), ``keypoints_visible`` (N, 16) and
    ``head_size`` (N, 1), which :class:`BottomupMpiiDataset` gives with ``headbox_file``; in
    ``pred_instances``: ``keypoints`` (M, 16, 2) and ``keypoint_scores`` (M, 16).

    Gives ``AP`` and ``Head AP`` to ``Ankle AP`` in percent. A joint that is labelled nowhere has no
    AP, and is left out of the mean.

    Raises:
        ValueError: if the samples have no head sizes or not MPII's 16 joints.
    """

    default_prefix = 'mpii'

    def __init__(
        self, thr: float = 0.5, collect_device: str = 'cpu', prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.thr = thr

    def process(self, data_batch: Sequence[dict], data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            truth, found = sample['gt_instances'], sample['pred_instances']
            points = np.asarray(found['keypoints'], float)
            if points.shape[1:] != (16, 2):
                raise ValueError(
                    f"MpiiMultiPersonAP is for MPII's 16 joints, got keypoints of shape "
                    f'{points.shape}; for other data take CheckedCocoMetric'
                )
            if 'keypoints' not in truth:  # an image without anybody
                visible, distances = np.zeros((0, 16), bool), np.zeros((len(points), 0, 16))
            elif 'head_size' not in truth:
                raise ValueError(
                    'MpiiMultiPersonAP needs head sizes: the data set must be '
                    'BottomupMpiiDataset, with headbox_file=.../annotations/mpii_gt_val.mat'
                )
            else:
                visible = np.asarray(truth['keypoints_visible']).reshape(-1, 16) > 0
                offsets = points[:, None] - np.asarray(truth['keypoints'], float)
                sizes = np.asarray(truth['head_size'], float).reshape(-1, 1)
                distances = np.linalg.norm(offsets, axis=-1) / np.maximum(sizes, 1e-9)
            right = self._right(distances, visible)
            self.results.append((np.asarray(found['keypoint_scores']), right, visible.sum(0)))

    def _right(self, distances: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """(M, N, K) distances, (N, K) labelled joints -> (M, K), which predictions are right."""
        near = (distances <= self.thr) & visible
        right = np.zeros((near.shape[0], near.shape[2]), bool)
        if not right.size or not near.shape[1]:
            return right
        shares = near.sum(2) / np.maximum(visible.sum(1), 1)
        best = shares.argmax(1)
        for person in range(len(visible)):
            claims = np.where(best == person, shares[:, person], 0)
            if claims.max() > 0:
                right[claims.argmax()] = near[claims.argmax(), person]
        return right

    def compute_metrics(self, results: list) -> dict[str, float]:
        scores, right = (np.concatenate([result[i] for result in results]) for i in (0, 1))
        labelled = np.sum([result[2] for result in results], axis=0)
        aps = [_average_precision(*each) for each in zip(scores.T, right.T, labelled)]
        joints = [joint for part in PARTS.values() for joint in part]
        figures = dict(AP=_mean([aps[joint] for joint in joints]))
        for part, joints in PARTS.items():
            figures[f'{part} AP'] = _mean([aps[joint] for joint in joints])
        return figures


def _average_precision(scores: np.ndarray, right: np.ndarray, labelled: int) -> float:
    """In percent, of one joint; NaN if it is labelled nowhere."""
    if not labelled:
        return float('nan')
    right = right[np.argsort(-scores, kind='stable')]
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    # what is reached at this recall or a greater one
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float(precision[right].sum() / labelled)


def _mean(aps: list[float]) -> float:
    known = [ap for ap in aps if not np.isnan(ap)]
    return float(np.mean(known)) if known else float('nan')
