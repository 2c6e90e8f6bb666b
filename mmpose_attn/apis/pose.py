"""Poses of people in any input, by any of MMPose's top-down and bottom-up networks."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TextIO

import mmpose
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmpose.apis import init_model
from mmpose.evaluation.functional import oks_nms, soft_oks_nms
from mmpose.evaluation.metrics import CocoMetric
from mmpose.models.pose_estimators import BottomupPoseEstimator, TopdownPoseEstimator
from mmpose.registry import METRICS
from mmpose.structures import PoseDataSample
from torch import nn

from mmpose_attn.engine import DisagreementError, find_disagreements
from mmpose_attn.engine.agreement import parts_of_model

from .building import batches, check_count, check_device, load_weights, naming, read_config
from .detection import GivenBoxes, whole_image
from .results import Category, Frame, People, PoseResult
from .sources import Input, check_trackable, find_sources, read_frames
from .threads import overlap
from .tracking import follow

Boxes = Callable[[Sequence[Frame]], list[np.ndarray]]

# A chunk of frames is decoded, detected and estimated together. It ends at so many pixels, so that
# large pictures do not take memory by the batch.
_CHUNK_PIXELS = 32e6
# Bottom-up networks enlarge the short side to a fixed length, however long the other one becomes.
_MOST_ASPECT = 16
# A bottom-up network's score of a person is the mean of all keypoints', 0 of the missing ones. In
# the demo's networks people have 0.45 and more, phantoms of a few stray keypoints 0.17 and less.
_PERSON_SCORE = 0.2
# What CocoMetric does unless a config says otherwise.
_TOPDOWN_RANK = dict(score_mode='bbox_keypoint', keypoint_score_thr=0.2, nms_mode='oks_nms')
_BOTTOMUP_RANK = dict(score_mode='bbox', keypoint_score_thr=0.2, nms_mode='none')


class PosePredictor:
    """A network that is built once and finds people in many inputs.

    .. code-block:: python

        predictor = PosePredictor('config.py', 'weights.pth', PersonDetector('yolox_nano', 'd.pth'))
        for result in predictor(['people.jpg', 'clip.mp4'], track=True):
            print(result.frame.name, result.people.keypoints.shape)

    Decoding, inference and whatever the caller does with the results overlap,
    and memory does not grow with the length of an input. What is found in a
    frame does not depend on what else is in a batch, except for the rounding
    of sums.

    People are ranked and suppressed as the config's ``CocoMetric`` does, so
    that the results evaluate to what ``mim test`` reports.

    Args:
        config: config file, or the name of one of MMPose's, or a ``Config``.
        checkpoint: weights; None leaves them random.
        boxes: where a top-down network gets its boxes: a :class:`PersonDetector`,
            :class:`GivenBoxes`, or any function of frames that gives (N, 5)
            x1, y1, x2, y2, score for each. None takes every frame as one
            person. Boxes without size or outside the frame are left out.
        device: ``'auto'``, ``'cpu'``, ``'cuda'`` or ``'cuda:1'``.
        batch: people (top-down) or frames (bottom-up) that go through the
            network together.
        amp: run the network in half precision (float16 on a GPU, bfloat16 on a
            CPU); decoding stays in float32.
        flip_test: also predict the mirror image; None leaves it to the config.
        cfg_options: changes of the config, ``{'model.test_cfg.flip_test': True}``.
        strict: whether the checkpoint must hold all weights; otherwise what is
            missing stays random, with a warning.
        person_score: least score of who is drawn, counted and tracked; all are in the results.
            None is 0.2 for a bottom-up network, which groups stray keypoints to phantoms, and 0
            for a top-down one, whose boxes have a least score of their own.

    Attributes:
        topdown: whether people come from boxes.
        boxes: as above, None of a bottom-up network; may be exchanged between calls.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: an argument or the checkpoint does not fit, or it is none.
        CheckpointError: the checkpoint asks for code, or could not be downloaded.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike | None = None,
        boxes: Boxes | None = None,
        *,
        device: str = 'auto',
        batch: int = 8,
        amp: bool = False,
        flip_test: bool | None = None,
        cfg_options: dict | None = None,
        strict: bool = True,
        person_score: float | None = None,
    ) -> None:
        check_count('batch', batch)
        check_person_score(person_score)
        self.device = torch.device(check_device(device))
        config = read_config(config, Path(mmpose.__path__[0], '.mim/configs'))
        scope = config.get('default_scope') or 'mmpose'
        # init_model has all warnings of the process shown from then on
        with (
            naming(config),
            DefaultScope.overwrite_default_scope(scope),
            warnings.catch_warnings(),
        ):
            config.merge_from_dict(cfg_options or {})
            self.model = init_model(config, None, device='cpu')
            self._pipeline = Compose(config.test_dataloader.dataset.pipeline)
        self.topdown = isinstance(self.model, TopdownPoseEstimator)
        if not self.topdown and not isinstance(self.model, BottomupPoseEstimator):
            raise ValueError(
                f'{type(self.model).__name__} is neither a TopdownPoseEstimator nor a '
                'BottomupPoseEstimator of MMPose'
            )
        if boxes is not None and not self.topdown:
            raise ValueError('a bottom-up network finds people by itself: leave boxes out')
        if checkpoint is not None:
            meta = load_weights(self.model, checkpoint, strict)
            self.model.dataset_meta = meta.get('dataset_meta') or self.model.dataset_meta
        found = find_disagreements(parts_of_model(self.model, config, self._pipeline))
        if found:
            raise DisagreementError(found)
        if flip_test is not None:
            self.model.test_cfg = dict(self.model.test_cfg or {}, flip_test=flip_test)
        if amp:
            self.model.head.forward = _InFloat32(self.model.head)
        self.model.to(self.device)
        self.batch, self.amp = batch, amp
        self.boxes = (boxes or whole_image) if self.topdown else None
        if person_score is None:
            person_score = 0.0 if self.topdown else _PERSON_SCORE
        self.person_score = person_score
        self._rank = _ranking(config, self.topdown)

    @property
    def meta(self) -> dict:
        """MMPose's description of the keypoints: names, ``skeleton_links``, ``sigmas``, ..."""
        return self.model.dataset_meta

    @property
    def category(self) -> Category:
        """What it finds: the category of the data set that it was trained on, if that is known."""
        return Category.of(self.meta)

    @property
    def joints(self) -> int:
        return self.meta['num_keypoints']

    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        track: bool = False,
        smooth: bool = False,
        ann_file: str | os.PathLike | None = None,
        stdin: TextIO | None = None,
    ) -> Iterator[PoseResult]:
        """Find people; one result a frame, in order, skipped frames included.

        Args:
            inputs: as for :func:`find_sources`; they are looked for at once,
                before the first result is asked for.
            track: give people of a video, camera or :class:`Stream` ids that they keep.
            smooth: also filter their keypoints; implies ``track``.
            ann_file: as for :func:`find_sources`.
            stdin: as for :func:`find_sources`.

        Raises:
            FileNotFoundError, ValueError: an input cannot be read.
        """
        sources = find_sources(inputs, ann_file, stdin)
        if track or smooth:
            check_trackable(sources)
        ids = [source.image_id for source in sources if source.image_id is not None]
        if isinstance(self.boxes, GivenBoxes) and ids:
            self.boxes.check(ids)
        results = (result for chunk in self.chunks(read_frames(sources)) for result in chunk)
        return follow(results, self.meta.get('sigmas'), smooth) if track or smooth else results

    def chunks(self, frames: Iterable[Frame]) -> Iterator[list[PoseResult]]:
        """Find people in frames, a list of results for all that were computed together.

        Where the lists end depends on the frames alone. Frames that carry their
        people (``recorded``) or an ``error`` are not computed.
        """
        with (
            closing(overlap(_chunked(map(self._checked, frames), self.batch))) as chunked,
            closing(overlap(map(self._results, chunked))) as results,
        ):
            yield from results

    def predict(self, frames: Sequence[Frame]) -> list[People]:
        """Find people in frames that have images, without threads."""
        found: list[list[PoseDataSample]] = [[] for _ in frames]
        device = self.device.type
        dtype = torch.float16 if device == 'cuda' else torch.bfloat16
        with torch.no_grad(), torch.autocast(device, dtype, enabled=self.amp):
            for group in batches(self._samples(frames), self.batch):
                data = pseudo_collate([sample for _, sample in group])
                for (i, _), result in zip(group, self.model.test_step(data), strict=True):
                    found[i].append(result)
        return [self._people(samples) for samples in found]

    def _checked(self, frame: Frame) -> Frame:
        short, long = sorted(frame.size)
        if self.topdown or frame.error is not None or long <= _MOST_ASPECT * short:
            return frame
        reason = f'{frame.size[0]}x{frame.size[1]} pixels are too narrow for a bottom-up network'
        return replace(frame, image=None, error=reason)

    def _results(self, frames: list[Frame]) -> list[PoseResult]:
        fresh = [frame for frame in frames if frame.error is None and frame.recorded is None]
        people = iter(self.predict(fresh))
        nobody = People.nobody(self.joints)
        results = []
        for frame in frames:
            known = frame.recorded if frame.error is None else nobody
            known = next(people) if known is None else known
            results.append(PoseResult(frame, known, self.person_score))
        return results

    def _samples(self, frames: Sequence[Frame]) -> Iterator[tuple[int, dict]]:
        boxes = self.boxes(frames) if self.topdown and frames else [None] * len(frames)
        for i, (frame, rows) in enumerate(zip(frames, boxes, strict=True)):
            info = dict(self.meta, img=frame.image, img_id=frame.image_id, img_path=frame.name)
            if rows is None:
                yield i, self._pipeline(info)
                continue
            for row in _visible(np.asarray(rows, np.float32), frame.size):
                yield i, self._pipeline(dict(info, bbox=row[None, :4], bbox_score=row[4:]))

    def _people(self, samples: list[PoseDataSample]) -> People:
        found = [s.pred_instances for s in samples if len(s.pred_instances)]
        if not found:
            return People.nobody(self.joints)

        def joined(name: str) -> np.ndarray | None:
            if name not in found[0]:
                return None
            return np.concatenate([_numpy(instances.get(name)) for instances in found])

        keypoints, scores = joined('keypoints')[..., :2], joined('keypoint_scores')
        box_scores, boxes = joined('bbox_scores'), joined('bboxes')
        extent = np.concatenate((keypoints.min(1), keypoints.max(1)), 1)
        areas = np.prod(extent[:, 2:] - extent[:, :2], 1)
        if self.topdown:
            areas = np.prod(np.concatenate([s.gt_instances.bbox_scales for s in samples]), 1)
        if box_scores is None:
            box_scores = np.ones(len(keypoints))
        people = People(
            keypoints,
            scores,
            extent if boxes is None else boxes,
            box_scores,
            _scores(scores, box_scores, self._rank),
        ).rounded()
        return people.take(_survivors(people, areas, self.meta.get('sigmas'), self._rank))


def _visible(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The (N, 5) boxes of which something is in the picture."""
    low, high = boxes[:, :2], boxes[:, 2:4]
    return boxes[(high > low).all(1) & (high > 0).all(1) & (low < size).all(1)]


def _chunked(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    chunk: list[Frame] = []
    pixels = 0
    for frame in frames:
        known, video = frame.recorded is not None, frame.moving
        # a video begins and ends with a chunk, and so does what is known of it
        if chunk and (
            known != (chunk[0].recorded is not None)
            or ((video or chunk[0].moving) and frame.source != chunk[0].source)
        ):
            yield chunk
            chunk, pixels = [], 0
        chunk.append(frame)
        pixels += frame.size[0] * frame.size[1]
        # whoever stands before a camera does not want to wait
        if len(chunk) == size or pixels >= _CHUNK_PIXELS or frame.live:
            yield chunk
            chunk, pixels = [], 0
    if chunk:
        yield chunk


def _numpy(values) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


class _InFloat32:
    """A head's ``forward`` in float32: decoders work in NumPy and OpenCV, and on positions.

    Unlike a function it follows its head into copies and pickles.
    """

    def __init__(self, head: nn.Module) -> None:
        self.head = head

    def __call__(self, *args, **kwargs):
        return self._convert(type(self.head).forward(self.head, *args, **kwargs))

    def _convert(self, value):
        if isinstance(value, torch.Tensor):
            return value.float() if value.is_floating_point() else value
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._convert, value))
        return value


def check_person_score(score: float | None) -> None:
    """Raise a :class:`ValueError` for what is no least score."""
    number = isinstance(score, Real) and not isinstance(score, bool) and 0 <= score < float('inf')
    if score is not None and not number:
        raise ValueError(f'person_score must be a number from 0 on, got {score!r}')


def _ranking(config: Config, topdown: bool) -> dict:
    """How the config's CocoMetric scores people and suppresses doubles."""
    evaluators = config.get('test_evaluator') or {}
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    for evaluator in evaluators:
        kind = evaluator.get('type')
        kind = METRICS.get(kind) if isinstance(kind, str) else kind
        if isinstance(kind, type) and issubclass(kind, CocoMetric):
            return {**_TOPDOWN_RANK, 'nms_thr': 0.9, **evaluator}
    return dict(_TOPDOWN_RANK if topdown else _BOTTOMUP_RANK, nms_thr=0.9)


def _scores(scores: np.ndarray, box_scores: np.ndarray, rank: dict) -> np.ndarray:
    """(N,) scores of people from (N, K) of keypoints and (N,) of boxes."""
    mode = rank['score_mode']
    if mode == 'bbox':
        return box_scores
    if mode == 'keypoint':
        return scores.mean(1)
    if mode == 'bbox_rle':
        return box_scores + scores.mean(1) + scores.max(1)
    sure = scores > rank['keypoint_score_thr']
    return box_scores * (scores * sure).sum(1) / np.maximum(sure.sum(1), 1)


def _survivors(
    people: People, areas: np.ndarray, sigmas: Sequence[float] | None, rank: dict
) -> np.ndarray:
    """Indices of the people that the suppression keeps."""
    if rank['nms_mode'] == 'none':
        return np.arange(len(people))
    poses = np.concatenate((people.keypoints, people.keypoint_scores[..., None]), 2)
    instances = [
        dict(keypoints=pose, score=score, area=area)
        for pose, score, area in zip(poses, people.scores, areas, strict=True)
    ]
    suppress = oks_nms if rank['nms_mode'] == 'oks_nms' else soft_oks_nms
    sigmas = None if sigmas is None else np.asarray(sigmas, np.float32)
    return np.asarray(suppress(instances, rank['nms_thr'], sigmas=sigmas), int)
