"""COCO-style datasets that name what is wrong with their files."""

import json
import os

import numpy as np
from mmengine.logging import print_log
from mmpose.datasets.datasets import CocoDataset, CrowdPoseDataset
from mmpose.registry import DATASETS


class CheckedAnnotations:
    """Mixin for MMPose's COCO-style datasets: checks annotations while it loads them.

    What would make a silent wrong result is an error that names the file and
    the annotation: a missing or unreadable file, a wrong number of joints,
    and, where the file is also what the metric reads (``test_mode``),
    coordinates that are not numbers. In training such keypoints, and those
    outside their image, become unlabelled, with one warning a file.
    """

    def load_data_list(self) -> list[dict]:
        self._not_numbers = self._outside = 0
        self._check_files()
        try:
            data_list = super().load_data_list()
        except json.JSONDecodeError as error:
            raise ValueError(
                f'annotation file {self.ann_file} is not valid JSON ({error}); download it again'
            ) from error
        for count, what in (
            (self._not_numbers, 'have coordinates that are not numbers'),
            (self._outside, 'lie outside their image'),
        ):
            if count:
                print_log(
                    f'{self.ann_file}: {count} labelled keypoints {what}; '
                    'they are used as unlabelled',
                    'current',
                    level='WARNING',
                )
        if not self.test_mode and not any(
            np.any(np.asarray(info['keypoints_visible']) > 0) for info in data_list
        ):
            raise ValueError(
                f'annotation file {self.ann_file} has no person with a labelled keypoint, '
                'there is nothing to train on'
            )
        return data_list

    def _check_files(self) -> None:
        remedy = (
            'set data_root in the config to the folder that holds annotations/ and the image '
            'folders, for example --cfg-options data_root=/path/to/coco/'
        )
        for path in filter(None, (self.ann_file, self.bbox_file)):
            if '://' not in path and not os.path.isfile(path):
                raise FileNotFoundError(f'annotation file not found: {path}; {remedy}')
        folder = self.data_prefix.get('img') or ''
        if folder and '://' not in folder and not os.path.isdir(folder):
            raise FileNotFoundError(f'image folder not found: {folder}; {remedy}')

    def parse_data_info(self, raw_data_info: dict) -> dict | None:
        ann, image = raw_data_info['raw_ann_info'], raw_data_info['raw_img_info']
        where = f'{self.ann_file}: annotation {ann.get("id")} of image {ann.get("image_id")}'
        joints = self.metainfo['num_keypoints']
        if 'keypoints' in ann and len(ann['keypoints']) != 3 * joints:
            raise ValueError(
                f'{where} has {len(ann["keypoints"])} keypoint numbers; '
                f'{type(self).__name__} needs (x, y, visible) for each of {joints} keypoints, '
                f'{3 * joints} numbers. Is it the annotation file of another dataset?'
            )
        info = super().parse_data_info(raw_data_info)
        if info is None:
            return None
        labelled = info['keypoints_visible'] > 0
        number = np.isfinite(info['keypoints']).all(-1)
        if not number.all():
            if self.test_mode and (labelled & ~number).any():
                raise ValueError(
                    f'{where} has a labelled keypoint whose coordinates are not numbers; '
                    'the metric reads this file too, correct it'
                )
            self._not_numbers += int((labelled & ~number).sum())
            info['keypoints'] = np.where(number[..., None], info['keypoints'], 0)
        size = np.array([image['width'], image['height']])
        inside = ((info['keypoints'] >= 0) & (info['keypoints'] <= size)).all(-1)
        keep = labelled & number
        if not self.test_mode:
            self._outside += int((keep & ~inside).sum())
            keep &= inside
        info['keypoints_visible'] = np.where(keep, info['keypoints_visible'], 0).astype(np.float32)
        return info


@DATASETS.register_module()
class CheckedCocoDataset(CheckedAnnotations, CocoDataset):
    """:class:`mmpose.datasets.CocoDataset` with :class:`CheckedAnnotations`."""


@DATASETS.register_module()
class CheckedCrowdPoseDataset(CheckedAnnotations, CrowdPoseDataset):
    """:class:`mmpose.datasets.CrowdPoseDataset` with :class:`CheckedAnnotations`."""
