"""MMPose's COCO-style datasets, which name what is wrong with their files."""

import logging
import os
from collections import defaultdict

import numpy as np
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from mmpose.datasets.datasets import CocoDataset, CrowdPoseDataset
from mmpose.registry import DATASETS

from mmpose_attn.files import read_json

from .annotations import (
    LAYOUT,
    MetaInfo,
    Report,
    examine_detections,
    find_images,
    read_annotations,
)
from .metainfo import CheckedMetainfo
from .places import NO_BOXES, check_files

_UNUSABLE = 'objects have no labelled keypoint or no box with an extent; they are left out'


class CheckedAnnotations(CheckedMetainfo):
    """Mixin for MMPose's COCO-style datasets: looks at the whole annotation file while it loads it.

    What has one meaning only is put right, with one line in the log a kind;
    anything else that would fail later, or make a silent wrong result, is an
    error with the file, the annotation, the key and the remedy. docs/annotations.md
    lists both. In training, labelled keypoints that are not numbers or lie
    outside of their image become unlabelled, and an object without labelled
    keypoints is masked out. A file without anything to train on is an error,
    to test on a warning.

    Every sample gets ``ann_shape``, the (h, w) that the file says its image
    has, for :class:`LoadPoseImage` to compare. Bottom-up ones get
    ``ann_category``, the category of what the network finds, for
    :class:`PackBottomupInputs`, if that is not 1.

    Raises:
        FileNotFoundError: if a file or the image folder is not there.
        ValueError: if the annotations, or the detections, cannot be used.
    """

    own_counts = False  # num_keypoints may be less than what is labelled
    boxes_mask = False  # unlabelled objects without a segmentation are masked by their box

    def meta(self) -> MetaInfo:
        """What the annotation file is read for."""
        return MetaInfo(
            joints=self._metainfo['num_keypoints'],
            names=[
                self._metainfo['keypoint_id2name'][i]
                for i in range(self._metainfo['num_keypoints'])
            ],
            reader=type(self).__name__,
            training=not self.test_mode,
            own_counts=self.own_counts,
            boxes_mask=self.boxes_mask,
        )

    def load_data_list(self) -> list[dict]:
        check_files(self, 'detection', self.bbox_file, NO_BOXES)
        contents, report = read_annotations(self.ann_file, self.meta())
        if self.test_mode and contents['images'] == []:
            raise ValueError(f'{report.file} lists no images')
        report.raise_problems()
        images, annotations = contents['images'], contents['annotations']
        self._metainfo['CLASSES'] = contents['categories']
        needed = {ann['image_id'] for ann in annotations}
        needed = [image for image in images if self.test_mode or image['id'] in needed]
        find_images(needed, self.data_prefix.get('img') or '', report)
        if self._indices is None:  # else only some of them are used
            report.raise_problems()

        self._contents, self._report = contents, report
        data_list = super().load_data_list()
        del self._contents, self._report
        for line in report.lines():
            print_log(line, 'current', level=logging.WARNING)
        crowds = [ann.get('iscrowd', 0) for ann in annotations if ann['num_keypoints']]
        if (annotations and all(crowds)) or not any(
            np.any(x.get('keypoints_visible', 0) > 0) for x in data_list
        ):
            self._nothing(report, data_list)
        shapes = {
            image['id']: (image['height'], image['width'])
            for image in images
            if image.get('width') and image.get('height')
        }
        categories = [category['id'] for category in report.categories] or [1]
        for info in data_list:
            if info['img_id'] in shapes:
                info['ann_shape'] = shapes[info['img_id']]
            if self.data_mode == 'bottomup' and categories != [1]:  # which is taken without
                info['ann_category'] = categories[0]
        if len(categories) > 1 and self.test_mode and self.data_mode == 'bottomup':
            print_log(
                f'{report.file}: a bottom-up network does not tell {report.objects} apart. Results '
                f'have the category_id {categories[0]}, and are evaluated as one category',
                'current',
                level=logging.WARNING,
            )
        return data_list

    def _nothing(self, report: Report, data_list: list[dict]) -> None:
        text = f'{report.file} has no {report.objects} with a labelled keypoint'
        if self.data_mode == 'topdown':
            text += ' and a box'
        if not self.test_mode:
            raise ValueError(f'{text}, there is nothing to train on')
        if not data_list:
            raise ValueError(f'{text}, there is nothing to test on')
        print_log(f'{text}, AP is not defined (-1)', 'current', level=logging.WARNING)

    def _load_annotations(self) -> tuple[list[dict], list[dict]]:
        by_image = defaultdict(list)
        for annotation in self._contents['annotations']:
            by_image[annotation['image_id']].append(annotation)
        instances, images = [], []
        for place, image in enumerate(self._contents['images']):
            number = image['id'] if isinstance(image['id'], int) else place
            if number % self.sample_interval:
                continue
            path = os.path.join(self.data_prefix['img'], image['file_name'])
            image.update(img_id=image['id'], img_path=path)
            images.append(image)
            for annotation in by_image[image['id']]:
                instances.append(
                    self.parse_data_info(dict(raw_ann_info=annotation, raw_img_info=image))
                )
        if any(info['segmentation'] is not None for info in instances):
            for info in instances:
                if info['segmentation'] is None:  # cannot be joined with the others'
                    info['segmentation'] = []
        return instances, images

    def _get_topdown_data_infos(self, instance_list: list[dict]) -> list[dict]:
        data_list = super()._get_topdown_data_infos(instance_list)
        lost = sum(
            bool(info['num_keypoints']) and not info['iscrowd'] for info in instance_list
        ) - len(data_list)
        if lost:
            self._report.notes[_UNUSABLE] += lost
        return data_list

    def _load_detection_results(self) -> list[dict]:
        report = Report(f'detection file {self.bbox_file}')
        with get_local_path(self.bbox_file) as path:
            found = read_json(path, 'detection file')
        if not isinstance(found, list):
            raise ValueError(f'{report.file} is not a list. {LAYOUT}. {NO_BOXES}')
        images = {image['id']: image for image in self._contents['images']}
        found = examine_detections(found, images, report, NO_BOXES)
        report.raise_problems()
        ours = {category['id'] for category in self._report.categories} or {1}
        data_list = []
        joints = self._metainfo['num_keypoints']
        for box in found:
            if box['category_id'] not in ours:
                continue
            image = images[box['image_id']]
            x, y, w, h = np.array(box['bbox'][:4], dtype=np.float32)
            info = dict(
                img_id=image['id'],
                img_path=os.path.join(self.data_prefix['img'], image['file_name']),
                img_shape=(image['height'], image['width']),
                bbox=np.array([[x, y, x + w, y + h]], dtype=np.float32),
                bbox_score=np.array(box['score'], dtype=np.float32).reshape(1),
                # there are none; MMPose's transforms want some
                keypoints=np.zeros((1, joints, 2), dtype=np.float32),
                keypoints_visible=np.ones((1, joints), dtype=np.float32),
                id=len(data_list),
            )
            if ours != {1}:  # which is taken without
                info['category_id'] = box['category_id']
            data_list.append(info)
        if not data_list:
            others = sorted({box['category_id'] for box in found})
            raise ValueError(
                f'{report.file} has no {self._report.objects} (category_id {sorted(ours)}): its '
                f'category ids are {others}. {NO_BOXES}'
            )
        return data_list


@DATASETS.register_module()
class CheckedCocoDataset(CheckedAnnotations, CocoDataset):
    """:class:`mmpose.datasets.CocoDataset` with :class:`CheckedAnnotations`."""

    boxes_mask = True


@DATASETS.register_module()
class CheckedCrowdPoseDataset(CheckedAnnotations, CrowdPoseDataset):
    """:class:`mmpose.datasets.CrowdPoseDataset` with :class:`CheckedAnnotations`."""

    own_counts = True
