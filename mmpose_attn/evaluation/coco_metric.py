"""MMPose's CocoMetric, which reads annotations as the data sets here do."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.logging import MessageHub, print_log
from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS
from xtcocotools.coco import COCO

from mmpose_attn.datasets.annotations import MetaInfo, Report, read_annotations

_BODY = ('keypoints', 'keypoints_crowd')
_BOX_SHARE = 0.53  # of its box is an object's area, where nothing says it: as with use_area=False
_AREAS = 'objects have no area; it is taken as 0.53 of their box, as use_area=False does for all'
_MOST = 20  # objects of an image that COCO's evaluation takes
_MANY = f'images have more than {_MOST} objects, of which COCO takes {_MOST}: AP cannot reach 1'


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """MMPose's ``CocoMetric`` that looks at its file before anything is predicted.

    The annotation file is read, examined and put right as by
    :class:`~mmpose_attn.datasets.checked.CheckedAnnotations` when the loop is
    built, that is before the first step.

    What a bottom-up network finds is of the category that the file has. It
    does not tell several apart: their annotations are evaluated as one
    category, the first. Top-down results have the category of their box.

    Args:
        ann_file: of what is tested; default: that of the test set.
        **kwargs: as for MMPose's.

    Raises:
        FileNotFoundError: ``ann_file`` is not there.
        ValueError: it cannot be used for this metric (when ``dataset_meta`` is set).
    """

    def __init__(self, ann_file: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, *args, **kwargs)
        self.ann_file = ann_file
        self._categories: list[dict] = []
        if ann_file is not None and '://' not in ann_file and not os.path.isfile(ann_file):
            raise FileNotFoundError(
                f'annotation file of the evaluator not found: {ann_file}. Set ann_file of '
                'val_evaluator and test_evaluator to that of the data sets (data_root, a slash '
                'and their ann_file)'
            )

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the data set, which MMEngine sets before the first step."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        path = self.ann_file
        if path is None:
            hub = MessageHub.get_current_instance()
            path = hub.get_info(f'{meta["dataset_name"]}_ann_file', None)
        if path is not None:
            self.coco = self._read(path, meta) if self.iou_type in _BODY else COCO(path)
        CocoMetric.dataset_meta.fset(self, meta)

    def _read(self, path: str, meta: dict) -> COCO:
        joints = meta['num_keypoints']
        contents, report = read_annotations(
            path,
            MetaInfo(
                joints,
                names=[meta['keypoint_id2name'][i] for i in range(joints)]
                if 'keypoint_id2name' in meta
                else (),
                reader='the evaluator',
                own_counts=self.iou_type == 'keypoints_crowd',
            ),
            f'annotation file {path} of the evaluator',
        )
        report.raise_problems()
        if not self.format_only:
            self._complete(contents, report)
            report.raise_problems()
        for note in (_AREAS, _MANY):
            if report.notes[note]:
                print_log(
                    f'{report.file}: {report.notes[note]} {note}', 'current', level=logging.WARNING
                )
        self._categories = report.categories
        if self._categories:
            contents['categories'] = self._categories
        coco = COCO(ann_data=contents)
        coco.anno_file, coco.source = [path], str(path)
        return coco

    def _complete(self, contents: dict, report: Report) -> None:
        """What the evaluation needs of a file besides what a data set needs."""
        if report.unannotated:
            report.problem(
                '',
                'annotations',
                'it has no annotations to evaluate with',
                'For a submission set format_only=True and outfile_prefix of the evaluator',
            )
        if self.iou_type == 'keypoints_crowd':
            for image in contents['images']:
                if not isinstance(image.get('crowdIndex'), (int, float)):
                    report.problem(
                        f'image {image.get("id")}',
                        'crowdIndex',
                        f'its crowdIndex is {image.get("crowdIndex")!r}',
                        "It is CrowdPose's, from 0 to 1; without it, evaluate with "
                        "iou_type='keypoints'",
                    )
        objects = Counter(
            (annotation['image_id'], annotation['category_id'])
            for annotation in contents['annotations']
            if annotation['num_keypoints'] and not annotation.get('iscrowd', 0)
        )
        report.notes[_MANY] += sum(count > _MOST for count in objects.values())
        for annotation in contents['annotations']:
            area = annotation.get('area') if self.use_area else None
            if area is not None:
                continue
            crowd = annotation.get('iscrowd', 0)
            _, _, width, height = annotation['bbox']
            if self.use_area:
                annotation['area'] = width * height * _BOX_SHARE
                report.notes[_AREAS] += 1
            if width * height <= 0 and annotation['num_keypoints'] and not crowd:
                report.problem(
                    f'annotation {annotation["id"]} of image {annotation["image_id"]}',
                    'area',
                    'it has neither an area nor a box with an extent',
                    'The metric measures distances by the root of the area: give it one',
                )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """As MMPose's, with the category of every prediction."""
        ids = [category['id'] for category in self._categories]
        bottomup = bool(results) and isinstance(results[0][0]['id'], (list, tuple))
        if len(ids) > 1 and bottomup:
            self._merge(ids)
            ids = ids[:1]
        if len(ids) == 1:
            for prediction, _ in results:
                prediction['category_id'] = ids[0]
        return super().compute_metrics(results)

    def _merge(self, ids: Sequence[int]) -> None:
        names = ' or '.join(str(category.get('name')) for category in self._categories)
        print_log(
            f'The categories {names} are evaluated as one, with the category_id {ids[0]}: a '
            'bottom-up network does not tell them apart',
            'current',
            level=logging.WARNING,
        )
        for annotation in self.coco.dataset['annotations']:
            annotation['category_id'] = ids[0]
        self._categories = [dict(self._categories[0], name=names)]
        self.coco.dataset['categories'] = self._categories
        self.coco.createIndex()
