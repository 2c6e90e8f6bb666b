"""COCO's keypoint evaluation, with the figures of xtcocotools 1.14.3."""

import copy
import datetime
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import faster_coco_eval
import numpy as np

from .coco import COCO, get_field

_BODY = ('keypoints',)
_WHOLE_BODY = ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts')

# The fields whose keypoints make up a type, and the field of its score.
_KEYPOINT_TYPES = {
    'keypoints': (_BODY, 'score'),
    'keypoints_crowd': (_BODY, 'score'),
    'keypoints_body': (_BODY, 'score'),
    'keypoints_foot': (('foot_kpts',), 'foot_score'),
    'keypoints_face': (('face_kpts',), 'face_score'),
    'keypoints_lefthand': (('lefthand_kpts',), 'lefthand_score'),
    'keypoints_righthand': (('righthand_kpts',), 'righthand_score'),
    'keypoints_wholebody': (_WHOLE_BODY, 'wholebody_score'),
}
_BOX_TYPES = ('bbox', 'segm')

# COCO's standard deviation of each keypoint, from nose to ankles.
_COCO_SIGMAS = (
    np.array(
        [
            0.26,
            0.25,
            0.25,
            0.35,
            0.35,
            0.79,
            0.79,
            0.72,
            0.72,
            0.62,
            0.62,
            1.07,
            1.07,
            0.87,
            0.87,
            0.89,
            0.89,
        ]
    )
    / 10
)

# A person fills about this share of their box; it replaces the mask's area.
_BOX_SHARE = 0.53

# COCO's bounds of small, medium and large objects, in square pixels.
_SMALL, _LARGE, _MAX = 32**2, 96**2, 1e5**2

# CrowdPose's bounds of easy, medium and hard images, in its crowd index.
_EASY, _HARD = 0.2, 0.8


def _silent(*args: Any) -> None:
    pass


class Params:
    """What an evaluation runs over; change it before ``evaluate()``.

    Attributes:
        iouType: Type of the evaluation.
        imgIds, catIds: Images and categories that count.
        iouThrs: Thresholds of the similarity, (T,).
        recThrs: Recalls at which the precision is taken, (R,).
        maxDets: Numbers of detections per image, (M,).
        areaRng, areaRngLbl: Ranges of area in square pixels, and their names.
        useCats: Keep categories apart; keypoints require it.
        useSegm: Deprecated; if not None, 1 means ``segm`` and 0 ``bbox``.
    """

    def __init__(self, iouType: str = 'segm') -> None:
        self.iouType = iouType
        self.imgIds: list = []
        self.catIds: list = []
        self.iouThrs = np.linspace(0.5, 0.95, 10)
        self.recThrs = np.linspace(0, 1, 101)
        self.areaRng = [[0, _MAX], [_SMALL, _LARGE], [_LARGE, _MAX]]
        self.areaRngLbl = ['all', 'medium', 'large']
        if iouType in _KEYPOINT_TYPES:
            self.maxDets = [20]
        elif iouType in _BOX_TYPES:
            self.maxDets = [1, 10, 100]
            self.areaRng.insert(1, [0, _SMALL])
            self.areaRngLbl.insert(1, 'small')
        else:
            raise ValueError(
                f'iouType {iouType!r} is not supported; the types are '
                f'{", ".join((*_KEYPOINT_TYPES, *_BOX_TYPES))}'
            )
        self.useCats = 1
        self.useSegm: int | None = None


class COCOeval:
    """Average precision and recall of keypoints.

    The similarities, the matching and the counting are faster-coco-eval's. It
    is given the annotations as xtcocotools 1.14.3 reads them: with the
    keypoints and the score of the type, without detections that have no
    keypoint, and, without ``use_area``, with 0.53 of the box as the area of
    the ground truth, both in the similarity and in the bins of size.

    Call ``evaluate()``, ``accumulate()`` and ``summarize()`` in this order.
    Results of single images are not kept: there is no ``evalImgs``.

    Args:
        cocoGt: Ground truth.
        cocoDt: Detections, of ``cocoGt.loadRes``.
        iouType: ``keypoints``; ``keypoints_crowd`` (CrowdPose); of
            COCO-WholeBody ``keypoints_wholebody`` and ``keypoints_body``,
            ``_foot``, ``_face``, ``_lefthand``, ``_righthand``; or ``bbox``
            and ``segm``.
        sigmas: Standard deviation of each keypoint, relative to the root of
            the area; default: COCO's 17.
        use_area: Take the ground truth's ``area``; False where a dataset has
            none.

    Attributes:
        params: A :class:`Params`.
        ious: By image and category id, the similarity of every detection,
            best score first, and every ground truth.
        eval: After ``accumulate()``: ``precision`` (T, R, K, A, M),
            ``recall`` (T, K, A, M), ``scores`` (T, R, K, A, M), ``counts``,
            ``params``, ``date``; -1 where there is no ground truth.
        stats: After ``summarize()``: ten figures for keypoints (AP, AP at .5
            and .75, of medium and large; the same of AR), nine for
            ``keypoints_crowd`` (AP, .5, .75; AR, .5, .75; AP of easy, medium
            and hard images), twelve for boxes and masks.
    """

    def __init__(
        self,
        cocoGt: COCO | None = None,
        cocoDt: COCO | None = None,
        iouType: str = 'keypoints',
        sigmas: Sequence[float] | None = None,
        use_area: bool = True,
    ) -> None:
        self.cocoGt = cocoGt
        self.cocoDt = cocoDt
        self.params = Params(iouType)
        self.sigmas = np.asarray(_COCO_SIGMAS if sigmas is None else sigmas, dtype=float)
        self.use_area = use_area
        self.ious: dict = {}
        self.eval: dict = {}
        self.stats: np.ndarray | list = []
        self._result: dict = {}
        if cocoGt is not None:
            self.params.imgIds = sorted(cocoGt.getImgIds())
            self.params.catIds = sorted(cocoGt.getCatIds())
            self.anno_file = cocoGt.anno_file

    # ------------------------------------------------------- annotations

    def _select(self, coco: COCO) -> list[dict]:
        """The annotations of the images and categories that count."""
        p = self.params
        # No images at all is a selection, too, and not the absence of one.
        if not p.imgIds:
            return []
        return coco.loadAnns(coco.getAnnIds(imgIds=p.imgIds, catIds=p.catIds if p.useCats else ()))

    def _keypoints(self, ann: dict, source: str) -> list[float]:
        """The keypoints of the type, as x, y, v, x, y, v, ..."""
        fields, _ = _KEYPOINT_TYPES[self.params.iouType]
        keypoints = [value for name in fields for value in get_field(ann, name, source)]
        if len(keypoints) != 3 * len(self.sigmas):
            raise ValueError(
                f'{source}: annotation {ann["id"]!r} has {len(keypoints) / 3:g} keypoints for '
                f'{self.params.iouType!r}, but there are {len(self.sigmas)} sigmas'
            )
        return keypoints

    def _ground_truth(self) -> list[dict]:
        """Copies of the ground truth, as the evaluation is to read it."""
        kind = self.params.iouType
        source = self.cocoGt.source
        anns = []
        for ann in self._select(self.cocoGt):
            new = dict(ann, iscrowd=int(ann.get('iscrowd', 0)))
            _, _, w, h = get_field(ann, 'bbox', source)
            if not self.use_area or ('area' not in ann and kind in _BOX_TYPES):
                new['area'] = w * h * _BOX_SHARE
            elif 'area' not in ann:
                raise KeyError(
                    f"{source}: annotation {ann['id']!r} has no 'area'. If the dataset has "
                    'none, evaluate with use_area=False.'
                )
            if kind in _KEYPOINT_TYPES:
                new['keypoints'] = self._keypoints(ann, source)
                # CrowdPose's own count leaves out the hidden keypoints.
                new['num_keypoints'] = (
                    get_field(ann, 'num_keypoints', source)
                    if kind == 'keypoints_crowd'
                    else sum(v > 0 for v in new['keypoints'][2::3])
                )
            anns.append(new)
        return anns

    def _detections(self) -> list[dict]:
        """Copies of the detections, as the evaluation is to read them."""
        kind = self.params.iouType
        source = self.cocoDt.source
        _, score = _KEYPOINT_TYPES.get(kind, ((), 'score'))
        unscored = False
        anns = []
        for ann in self._select(self.cocoDt):
            unscored |= score not in ann
            value = ann[score] if score in ann else get_field(ann, 'score', source)
            new = dict(ann, iscrowd=0, score=float(value))
            if kind in _KEYPOINT_TYPES:
                new['keypoints'] = self._keypoints(ann, source)
                if not any(v > 0 for v in new['keypoints'][2::3]):
                    continue
            anns.append(new)
        if unscored:
            warnings.warn(f"'{score}' not found, use 'score' instead.", stacklevel=4)
        return anns

    # -------------------------------------------------------- evaluation

    def evaluate(self) -> None:
        """Match detections and ground truth in every image.

        Raises:
            KeyError: If an annotation lacks a field; names file and id.
            ValueError: If keypoints and sigmas differ in number, or for
                keypoints without ``params.useCats``.
        """
        tic = time.time()
        self._evaluate(print)
        print(f'DONE (t={time.time() - tic:0.2f}s).')

    def _evaluate(self, log: Callable[[str], None]) -> None:
        log('Running per image evaluation...')
        p = self.params
        if p.useSegm is not None:
            p.iouType = 'segm' if p.useSegm == 1 else 'bbox'
            log(f'useSegm (deprecated) is not None. Running {p.iouType} evaluation')
        log(f'Evaluate annotation type *{p.iouType}*')
        if p.iouType in _KEYPOINT_TYPES and not p.useCats:
            raise ValueError('keypoints are evaluated by category: params.useCats must be 1')
        p.imgIds = sorted(set(p.imgIds))
        if p.useCats:
            p.catIds = sorted(set(p.catIds))
        p.maxDets = sorted(p.maxDets)

        # faster-coco-eval takes integers as image ids, and an annotation id
        # of 0 for "not matched"; so both are counted from 1.
        number = {image_id: i for i, image_id in enumerate(p.imgIds, 1)}
        images = [dict(self.cocoGt.imgs[image_id], id=i) for image_id, i in number.items()]

        def renumbered(anns: list[dict]) -> faster_coco_eval.COCO:
            for i, ann in enumerate(anns, 1):
                ann.update(id=i, image_id=number[ann['image_id']])
            return faster_coco_eval.COCO(
                {
                    'images': images,
                    'categories': self.cocoGt.dataset['categories'],
                    'annotations': anns,
                }
            )

        engine = faster_coco_eval.COCOeval_faster(
            renumbered(self._ground_truth()),
            renumbered(self._detections()),
            iouType='keypoints' if p.iouType in _KEYPOINT_TYPES else p.iouType,
            kpt_oks_sigmas=self.sigmas,
            print_function=_silent,
        )
        for name in ('catIds', 'iouThrs', 'recThrs', 'maxDets', 'areaRng', 'areaRngLbl', 'useCats'):
            setattr(engine.params, name, copy.deepcopy(getattr(p, name)))
        engine.params.imgIds = list(number.values())
        engine.evaluate()
        engine.accumulate()
        self.ious = {
            (p.imgIds[i - 1], category): value for (i, category), value in engine.ious.items()
        }
        self._result = {
            'params': copy.deepcopy(p),
            'date': datetime.datetime.now().strftime('%Y-%m-%d %H:%M:%S'),
            **{name: engine.eval[name] for name in ('counts', 'precision', 'recall', 'scores')},
        }
        self.eval = {}

    def accumulate(self) -> None:
        """Publish the result of ``evaluate()`` in :attr:`eval`."""
        print('Accumulating evaluation results...')
        tic = time.time()
        if not self._result:
            raise RuntimeError('run evaluate() before accumulate()')
        self.eval = self._result
        print(f'DONE (t={time.time() - tic:0.2f}s).')

    # ----------------------------------------------------------- figures

    def _span(self, threshold: float | None = None) -> str:
        if threshold is not None:
            return f'{threshold:0.2f}'
        return f'{self.params.iouThrs[0]:0.2f}:{self.params.iouThrs[-1]:0.2f}'

    def _summarize(
        self,
        recall: bool = False,
        threshold: float | None = None,
        area: str = 'all',
        max_dets: int | None = None,
    ) -> float:
        """Print and return one figure, -1 without ground truth."""
        p = self.params
        max_dets = p.maxDets[-1] if max_dets is None else max_dets
        values = self.eval['recall' if recall else 'precision']
        values = values[..., p.areaRngLbl.index(area), p.maxDets.index(max_dets)]
        if threshold is not None:
            values = values[threshold == np.asarray(p.iouThrs)]
        values = values[values > -1]
        figure = values.mean() if values.size else -1
        title, short = ('Average Recall', '(AR)') if recall else ('Average Precision', '(AP)')
        print(
            f' {title:<18} {short} @[ IoU={self._span(threshold):<9} | '
            f'area={area:>6s} | maxDets={max_dets:>3d} ] = {figure: 0.3f}'
        )
        return figure

    def summarize(self) -> None:
        """Print COCO's table and fill :attr:`stats`.

        Raises:
            RuntimeError: Before ``accumulate()``.
            KeyError: If for ``keypoints_crowd`` an image has no
                ``crowdIndex``; names the file.
        """
        if not self.eval:
            raise RuntimeError('run accumulate() before summarize()')
        kind = self.params.iouType
        one = self._summarize
        if kind == 'keypoints_crowd':
            stats = [one(recall, t) for recall in (False, True) for t in (None, 0.5, 0.75)]
            stats += self._summarize_crowd()
        elif kind in _KEYPOINT_TYPES:
            stats = [
                figure
                for recall in (False, True)
                for figure in (
                    one(recall),
                    one(recall, 0.5),
                    one(recall, 0.75),
                    one(recall, area='medium'),
                    one(recall, area='large'),
                )
            ]
        else:
            sizes = ('small', 'medium', 'large')
            stats = [one(), one(threshold=0.5), one(threshold=0.75)]
            stats += [one(area=size) for size in sizes]
            stats += [one(True, max_dets=number) for number in self.params.maxDets]
            stats += [one(True, area=size) for size in sizes]
        self.stats = np.array(stats)

    def _summarize_crowd(self) -> list[float]:
        """AP of CrowdPose's easy, medium and hard images."""
        groups: dict[str, list] = {'easy': [], 'medium': [], 'hard': []}
        for image_id in self.params.imgIds:
            index = get_field(self.cocoGt.imgs[image_id], 'crowdIndex', self.cocoGt.source)
            group = 'easy' if index < _EASY else 'medium' if index < _HARD else 'hard'
            groups[group].append(image_id)
        figures = []
        for group, image_ids in groups.items():
            part = COCOeval(
                self.cocoGt, self.cocoDt, self.params.iouType, self.sigmas, self.use_area
            )
            part.params = copy.deepcopy(self.params)
            part.params.imgIds = image_ids
            part._evaluate(_silent)
            # Over all entries, even the -1 of a group without ground truth,
            # and rounded: as in CrowdPose's own code.
            figure = round(float(np.mean(part._result['precision'][:, :, :, 0, :])), 4)
            print(
                f' {"Average Precision":<18} (AP) @[ IoU={self._span():<9} | '
                f'type={group:>6s} | maxDets={self.params.maxDets[-1]:>3d} ] = {figure:0.3f}'
            )
            figures.append(figure)
        return figures
