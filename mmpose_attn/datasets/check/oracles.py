"""What the evaluation says of perfect predictions, and of the best that a network can give.

The first oracle answers with the annotations themselves: AP must be 1. The second answers with the
targets that the codec makes of them, decoded as a network's maps are: no network of this input size
and codec can do better, except by luck.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from mmpose.datasets.datasets import MpiiDataset
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample
from scipy.optimize import linear_sum_assignment
from torch import nn

from .contents import Contents

# what a metric gives for predictions without any error, by the name of its figure
_PERFECT = {'AP': 1.0, 'PCK': 1.0, 'PCKh': 1.0, 'EPE': 0.0, 'NME': 0.0}
LOST = 0.3  # of the square root of the area; a keypoint farther away is counted as lost
_TAG_GAP = 10.0  # between people's tags; groups are a unit apart


class Oracle:
    """Predictions for one data set of tests, as its network would give them.

    Args:
        cfg: the whole config.
        contents: of the data set.
        sizes: (w, h) of the pictures as they are loaded.

    Raises:
        Exception: what MMPose raises for a codec or pipeline that cannot be built.
    """

    def __init__(self, cfg: Config, contents: Contents, sizes: Sequence[tuple[int, int]]) -> None:
        self.dataset = contents.dataset
        self.steps = list(self.dataset.pipeline.transforms)
        self.sizes = dict(zip(contents.paths, sizes))
        self.first = 1.0 if isinstance(self.dataset, MpiiDataset) else 0.0  # its tests count from 1
        self.bottom_up = getattr(self.dataset, 'data_mode', 'topdown') == 'bottomup'
        head = cfg.model.head
        self.decoder_cfg = head.get('decoder')
        self.encoder_cfg = _encoder(cfg) or self.decoder_cfg
        kind = MODELS.get(cfg.model.type)
        self.estimator = kind.__new__(kind)  # for the way back to the picture; it has no weights
        nn.Module.__init__(self.estimator)
        self.estimator.test_cfg = {}
        self.why_not = ''
        if not self.decoder_cfg:
            self.why_not = 'the head has no decoder'
        elif self.bottom_up:
            test_cfg = dict(cfg.model.get('test_cfg') or {})
            self.test_cfg = test_cfg | dict(flip_test=False, multiscale_test=False)
            self.head = MODELS.build(copy.deepcopy(head))
            self.head.forward = lambda outs: outs  # its maps are given
            if not hasattr(self.head, 'aggregate'):
                self.why_not = f'of {head.type} there is no way to give it maps'
        else:
            self.decoder = KEYPOINT_CODECS.build(self.decoder_cfg)
            self.encoder = KEYPOINT_CODECS.build(self.encoder_cfg)
        self._encoders: dict = {}

    def __call__(self, index: int) -> tuple[dict, dict | None, list[tuple[int, float, float]]]:
        """A sample with its annotations as predictions, with the codec's best, and its errors."""
        info = self.dataset.get_data_info(index)
        width, height = self.sizes[info['img_path']]
        info['img'] = np.zeros((height, width, 3), np.uint8)
        points, visible, area = self._annotated(info)
        results, packed = info, None
        for step in self.steps:
            if hasattr(step, 'meta_keys'):  # the last one packs
                packed = step(results)
                break
            results = step(results)
        if packed is None:
            raise ValueError('the pipeline does not end with PackPoseInputs or PackBottomupInputs')
        sample = packed['data_samples']
        true = _answer(sample, points, self.bottom_up)
        if self.why_not:
            return true, None, []
        if self.bottom_up:
            best = self._bottom_up(sample, points, visible)
        else:
            best = self._top_down(sample, results['transformed_keypoints'], visible)
        errors = _errors(points, visible, area, best.pred_instances)
        return true, best.to_dict(), errors

    def _annotated(self, info: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keypoints (N, K, 2), whether labelled (N, K), and areas (N,) of a sample's objects."""
        joints = self.dataset.metainfo['num_keypoints']
        points = np.reshape(info.get('keypoints', ()), (-1, joints, 2)).astype(float)
        visible = np.reshape(info.get('keypoints_visible', ()), (-1, joints)) > 0
        area = np.reshape(info.get('area', ()), -1).astype(float)
        keep = visible.any(1) if self.bottom_up else slice(None)
        return points[keep] - self.first, visible[keep].astype(np.float32), area[keep]

    def _top_down(
        self, sample: PoseDataSample, moved: np.ndarray, visible: np.ndarray
    ) -> PoseDataSample:
        encoded = self.encoder.encode(moved.astype(np.float32), visible.astype(np.float32))
        if 'heatmaps' not in encoded:
            raise ValueError(f'{self.encoder_cfg.type} makes no heatmaps')
        points, scores = self.decoder.decode(encoded['heatmaps'])
        scores = np.where(visible > 0, scores, 0).astype(np.float32)
        # a network's map is never empty, and some decoders give NaN for one that is
        middle = moved[visible > 0].mean(0) if visible.any() else np.zeros(2)
        points = np.where((scores > 0)[..., None], points, middle)
        found = InstanceData(keypoints=points, keypoint_scores=scores)
        return self.estimator.add_pred_to_datasample([found], None, [_copy(sample)])[0]

    def _bottom_up(
        self, sample: PoseDataSample, points: np.ndarray, visible: np.ndarray
    ) -> PoseDataSample:
        about = sample.metainfo
        size, center, scale = (
            np.array(about[key], float) for key in ('input_size', 'input_center', 'input_scale')
        )
        moved = (points - center + 0.5 * scale) / scale * size
        encoder = self._encoder_for(tuple(int(side) for side in size))
        maps = encoder.encode(moved, visible)['heatmaps']
        maps = maps if isinstance(maps, list) else [maps]
        outs = []
        for stage, heat in enumerate(maps):
            levels = [heat]
            if self.head.with_tags[stage]:
                levels += [_tags(heat.shape, moved / size, visible)] * self.head.tag_dim
            outs.append(torch.from_numpy(np.concatenate(levels).astype(np.float32))[None])
        sample = _copy(sample)
        found = self.head.predict(outs, [sample], test_cfg=self.test_cfg)
        return self.estimator.add_pred_to_datasample(found, None, [sample])[0]

    def codec(
        self, points: np.ndarray, visible: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray | list[np.ndarray] | None:
        """Target maps of keypoints in input pixels."""
        if self.why_not:
            return None
        encoder = self._encoder_for(tuple(map(int, size))) if self.bottom_up else self.encoder
        keypoints, labelled = (np.asarray(v, np.float32) for v in (points, visible))
        return encoder.encode(keypoints, labelled).get('heatmaps')

    def _encoder_for(self, size: tuple[int, int]):
        """The codec at the size that a picture has: its own in training is a square."""
        if size not in self._encoders:
            cfg = copy.deepcopy(self.encoder_cfg)
            trained, maps = np.array(cfg.input_size), np.array(cfg.heatmap_size)
            cfg.input_size = size
            cfg.heatmap_size = np.round(maps * np.array(size) / trained).astype(int).tolist()
            self._encoders[size] = KEYPOINT_CODECS.build(cfg)
        return self._encoders[size]


def _encoder(cfg: Config) -> dict | None:
    """The codec that makes the training's targets, if it is one."""
    pipeline = (cfg.get('train_dataloader') or {}).get('dataset', {}).get('pipeline', [])
    for step in pipeline:
        encoder = step.get('encoder') if step.get('type') == 'GenerateTarget' else None
        if isinstance(encoder, dict):
            return encoder
    return None


def _copy(sample: PoseDataSample) -> PoseDataSample:
    new = PoseDataSample(metainfo=sample.metainfo)
    new.gt_instances = sample.gt_instances
    return new


def _answer(sample: PoseDataSample, points: np.ndarray, bottom_up: bool) -> dict:
    """A sample whose predictions are these keypoints, all of them sure."""
    sample = _copy(sample)
    found = InstanceData(keypoints=points, keypoint_scores=np.ones(points.shape[:2], np.float32))
    if bottom_up:
        found.bbox_scores = np.ones(len(points), np.float32)
    else:
        found.bboxes = sample.gt_instances.bboxes
        found.bbox_scores = sample.gt_instances.bbox_scores
    sample.pred_instances = found
    return sample.to_dict()


def _tags(shape: tuple[int, ...], places: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Tag maps (K, h, w) in which every cell has the tag of the person who is nearest there."""
    joints, height, width = shape
    tags = np.zeros(shape, np.float32)
    y, x = np.mgrid[:height, :width] + 0.5
    for joint in range(joints):
        people = np.flatnonzero(visible[:, joint] > 0)
        if len(people):
            spots = places[people, joint] * (width, height)
            far = (x - spots[:, 0, None, None]) ** 2 + (y - spots[:, 1, None, None]) ** 2
            tags[joint] = _TAG_GAP * people[far.argmin(0)]
    return tags


def _errors(
    points: np.ndarray, visible: np.ndarray, area: np.ndarray, found: InstanceData
) -> list[tuple[int, float, float]]:
    """(keypoint, pixels, square root of the area) of every labelled keypoint."""
    places, scores = np.asarray(found.keypoints), np.asarray(found.keypoint_scores)
    side = np.sqrt(area)
    far = np.full(visible.shape, np.inf)
    if len(places) and len(points):
        every = np.linalg.norm(points[:, None] - places[None], axis=-1)  # (N, M, K)
        every = np.where(scores[None] > 0, every, np.inf)
        # who is who: what is lost costs the same however far away it is
        cost = np.minimum(every, LOST * side[:, None, None]) * (visible > 0)[:, None]
        for one, other in zip(*linear_sum_assignment(cost.sum(-1))):
            far[one] = every[one, other]
    return [
        (int(joint), float(far[person, joint]), float(side[person]))
        for person, joint in zip(*np.nonzero(visible > 0))
    ]


def evaluate(evaluator: dict | list, dataset, answers: list[dict]) -> dict[str, float]:
    """The figures of a config's evaluator for these predictions.

    Raises:
        Exception: what a metric raises for what does not belong to it.
    """
    metrics = Evaluator(copy.deepcopy(evaluator))
    metrics.dataset_meta = dataset.metainfo
    for answer in answers:
        metrics.process([answer])
    return metrics.evaluate(len(answers))


def imperfect(figures: dict[str, float]) -> list[str]:
    """The figures that perfect predictions cannot have."""
    wrong = []
    for name, value in figures.items():
        best = _PERFECT.get(name.rsplit('/', 1)[-1])
        if best is None:
            continue
        if best == 1 and value > 1.5:  # a percentage
            best = 100.0
        if not abs(value - best) < 1e-4 * max(best, 1):
            wrong.append(f'{name} {value:.4g}')
    return wrong
