"""Boxes of people for top-down networks: from a detector of MMDetection, or from a file."""

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import mmdet
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import init_detector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.evaluation.functional import nms

from mmpose_attn.files import printable, read_json, whole_number

from .building import batches, check_count, check_device, load_weights, naming, read_config
from .results import Frame

_FAR = 1e9  # pixels, beyond which nothing lies


def _chosen(
    boxes: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[int],
    score_thr: float,
    nms_thr: float | None,
) -> np.ndarray:
    """(N, 5) boxes and scores of some classes, suppressed across classes as well."""
    boxes = boxes[np.isin(labels, classes) & (boxes[:, 4] >= score_thr) & np.isfinite(boxes).all(1)]
    if nms_thr is not None and len(boxes):
        boxes = boxes[np.sort(nms(boxes, nms_thr))]
    return boxes


def _check_thresholds(score_thr: float, nms_thr: float | None) -> None:
    for name, value in (('score_thr', score_thr), ('nms_thr', nms_thr)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f'{name} of the boxes is from 0 to 1, got {value}')


class PersonDetector:
    """Any detector of MMDetection, for the boxes of people.

    Args:
        config: config file, its name in MMDetection without ``.py``
            (``'yolox_nano_8xb8-300e_coco'``) or the beginning of one that no
            other has (``'yolox_nano'``), or a ``Config``.
        checkpoint: weights; None leaves them random.
        device: ``'auto'``, ``'cpu'``, ``'cuda'`` or ``'cuda:1'``.
        classes: labels that count, from 0 in the order of the detector's
            classes; by default the one called person.
        score_thr: least score of a box.
        nms_thr: boxes that overlap a better one by more (IoU) go. The detector
            has its own suppression, so that this is needed only for several
            classes or for a stricter one.
        batch: images of one size that go through the network together.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: an argument or the checkpoint does not fit.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike | None = None,
        *,
        device: str = 'auto',
        classes: Sequence[int] | None = None,
        score_thr: float = 0.3,
        nms_thr: float | None = None,
        batch: int = 8,
        strict: bool = True,
    ) -> None:
        _check_thresholds(score_thr, nms_thr)
        check_count('batch', batch)
        device = check_device(device)
        config = read_config(config, Path(mmdet.__path__[0], '.mim/configs'))
        scope = config.get('default_scope') or 'mmdet'
        # recorded: the warning that there is no checkpoint, which is loaded below
        with (
            naming(config),
            DefaultScope.overwrite_default_scope(scope),
            warnings.catch_warnings(record=True),
        ):
            self.model = init_detector(config, None, device='cpu')
            steps = get_test_pipeline_cfg(config)
            steps[0]['type'] = 'mmdet.LoadImageFromNDArray'
            self._pipeline = Compose(steps)
        if checkpoint is not None:
            meta = load_weights(self.model, checkpoint, strict)
            names = meta.get('dataset_meta') or meta
            names = {str(key).lower(): value for key, value in names.items()}.get('classes')
            if names is not None:
                self.model.dataset_meta['classes'] = names
        self.model.to(device)
        self.classes = self._labels(classes)
        self.score_thr, self.nms_thr, self.batch = score_thr, nms_thr, batch

    def _labels(self, classes: Sequence[int] | None) -> tuple[int, ...]:
        names = self.model.dataset_meta['classes']
        names = [names] if isinstance(names, str) else list(names)
        if classes is None:
            if 'person' not in names:
                raise ValueError(
                    'the detector has no class called person; give the labels that count, from '
                    + ', '.join(f'{i} {name}' for i, name in enumerate(names[:10]))
                )
            return (names.index('person'),)
        wrong = [label for label in classes if not 0 <= label < len(names)]
        if wrong or not classes:
            raise ValueError(
                f'classes of the boxes are labels from 0 to {len(names) - 1}, got {list(classes)}'
            )
        return tuple(classes)

    @torch.no_grad()
    def __call__(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """Boxes (N, 5) in every frame: x1, y1, x2, y2 in pixels, score."""
        found: list[np.ndarray] = [np.empty((0, 5), np.float32)] * len(frames)
        samples = (
            (i, self._pipeline(dict(img=frame.image, img_id=0))) for i, frame in enumerate(frames)
        )
        for group in batches(samples, self.batch):
            data = {key: [sample[key] for _, sample in group] for key in group[0][1]}
            for (i, _), result in zip(group, self.model.test_step(data), strict=True):
                people = result.pred_instances
                boxes = torch.cat((people.bboxes, people.scores[:, None]), 1)
                found[i] = _chosen(
                    boxes.float().cpu().numpy(),
                    people.labels.cpu().numpy(),
                    self.classes,
                    self.score_thr,
                    self.nms_thr,
                )
        return found


class GivenBoxes:
    """Boxes from a COCO detection file, a list of image_id, category_id, bbox and score.

    Args:
        path: the file; ``bbox`` is x, y, width, height in pixels.
        classes: category ids that count; 1 is COCO's person.
        score_thr: least score of a box.
        nms_thr: boxes that overlap a better one by more (IoU) go.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is something else.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        classes: Sequence[int] | None = None,
        score_thr: float = 0.0,
        nms_thr: float | None = None,
    ) -> None:
        _check_thresholds(score_thr, nms_thr)
        rows, labels = defaultdict(list), defaultdict(list)
        number = None
        try:
            contents = read_json(path, 'detection file', list)
            for number, box in enumerate(contents):  # noqa: B007 - named by the error
                x, y, width, height = map(float, box['bbox'][:4])
                row = x, y, width, height, float(box['score'])
                if not all(abs(value) < _FAR for value in row) or min(width, height) < 0:
                    raise ValueError(f'bbox and score are {row}')
                image_id = whole_number(box, 'image_id')
                rows[image_id].append(row)
                labels[image_id].append(whole_number(box, 'category_id'))
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            place = f'entry {number}: {error!r}' if number is not None else error
            raise ValueError(
                f'{printable(path)} is not a COCO detection file, a list of image_id, category_id, '
                f'bbox [x, y, width, height] and score ({place})'
            ) from error
        self.path = path
        self._boxes = {}
        for image_id, values in rows.items():
            boxes = np.array(values, np.float32)
            boxes[:, 2:4] += boxes[:, :2]
            self._boxes[image_id] = _chosen(
                boxes, np.array(labels[image_id]), classes or (1,), score_thr, nms_thr
            )

    def check(self, image_ids: Sequence[int]) -> None:
        """Raises ValueError if the file has boxes in none of these images."""
        if not self._boxes.keys() & set(image_ids):
            raise ValueError(
                f'{self.path} has boxes for none of the {len(image_ids)} images, whose ids are '
                f'{list(image_ids)[:3]}...; give the COCO file that has their ids as ann_file'
            )

    def __call__(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """As :meth:`PersonDetector.__call__`."""
        nothing = np.empty((0, 5), np.float32)
        return [self._boxes.get(frame.image_id, nothing) for frame in frames]


def whole_image(frames: Sequence[Frame]) -> list[np.ndarray]:
    """Every frame as the one box of one person."""
    return [np.array([[0, 0, *frame.size, 1]], np.float32) for frame in frames]
