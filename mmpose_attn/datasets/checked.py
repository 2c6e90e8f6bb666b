"""MMPose's datasets, which name what is wrong with their files."""

import json
import logging
import os
from collections import Counter

import numpy as np
from mmengine.logging import print_log
from mmpose.datasets.datasets import CocoDataset, CrowdPoseDataset, MpiiDataset
from mmpose.registry import DATASETS

from .metainfo import CheckedMetainfo

_REMEDY = (
    'The configs take the data folder, which holds annotations/ and the images, from an '
    'environment variable (COCO_ROOT=/path/to/coco, CROWDPOSE_ROOT, MPII_ROOT, LSPET_ROOT, '
    'SYNTHETIC_ROOT: see data_root in the config) or from a link (ln -s /path/to/coco data/coco)'
)
_NO_BOXES = (
    'Download the detections, or test with ground-truth boxes: --cfg-options '
    'test_dataloader.dataset.bbox_file=None (and val_dataloader... in training)'
)
_LEFT_OUT = 'annotations have no keypoints or no bbox; they are left out'
_NO_IMAGE = 'annotations belong to images that it does not list; they are left out'
_NOT_NUMBERS = 'labelled keypoints are not numbers; they are used as unlabelled'
_OUTSIDE = 'labelled keypoints lie outside their image; they are used as unlabelled'


def _check_files(dataset, kind: str, path: str | None, remedy: str = _REMEDY) -> None:
    """An error that says what to do if annotations, another file or the images are not there."""
    for name, file, hint in (
        ('annotation', dataset.ann_file, _REMEDY),
        (kind, path, remedy),
    ):
        if file and '://' not in file and not os.path.isfile(file):
            raise FileNotFoundError(f'{name} file not found: {file}. {hint}')
    folder = dataset.data_prefix.get('img') or ''
    if folder and '://' not in folder and not os.path.isdir(folder):
        raise FileNotFoundError(f'image folder not found: {folder}. {_REMEDY}')


class CheckedAnnotations(CheckedMetainfo):
    """Mixin for MMPose's COCO-style datasets: checks annotations while it loads them.

    What would make a silent wrong result is an error that names the file and
    the annotation: a missing or unreadable file, a file without images,
    without keypoints (that of another task) or with a wrong number of them,
    ids that are used twice, malformed annotations, and, where the file is
    also what the metric reads (``test_mode``), keypoints that are not numbers.
    A file without anyone to train on is an error, to test on a warning.

    In training, keypoints that are not numbers or lie outside their image
    become unlabelled, with one warning a file. A person left without labelled
    keypoints counts as unlabelled, so that their region is masked out.

    Every sample gets ``ann_shape``, the (h, w) that the file says its image
    has, for :class:`LoadPoseImage` to compare.
    """

    def load_data_list(self) -> list[dict]:
        self._counts: Counter[str] = Counter()
        self._shapes: dict = {}
        _check_files(self, 'detection', self.bbox_file, _NO_BOXES)
        file = f'annotation file {self.ann_file}'
        try:
            data_list = super().load_data_list()
        except json.JSONDecodeError as error:
            raise ValueError(f'{file} is not valid JSON ({error}); download it again') from error
        except KeyError as error:
            raise ValueError(f'{file}: an image or annotation has no {error}') from error
        if not data_list and self.test_mode:
            raise ValueError(f'{file} lists no images')
        for what, count in self._counts.items():
            print_log(f'{file}: {count} {what}', 'current', level=logging.WARNING)
        if not any(np.any(info.get('keypoints_visible', 0) > 0) for info in data_list):
            empty = f'{file} has no person with a labelled keypoint'
            if not self.test_mode:
                raise ValueError(f'{empty}, there is nothing to train on')
            print_log(f'{empty}, AP is not defined (-1)', 'current', level=logging.WARNING)
        for info in data_list:
            if info['img_id'] in self._shapes:
                info['ann_shape'] = self._shapes[info['img_id']]
        del self._shapes
        return data_list

    def _load_detection_results(self) -> list[dict]:
        file = f'detection file {self.bbox_file}'
        try:
            data_list = super()._load_detection_results()
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f'{file} is not a list of detections in the images of {self.ann_file}, each with '
                f'image_id, category_id, bbox and score ({type(error).__name__}: {error}). '
                f'{_NO_BOXES}'
            ) from error
        if not data_list:
            raise ValueError(f'{file} has no person (category_id 1). {_NO_BOXES}')
        return data_list

    def _load_annotations(self) -> tuple[list[dict], list[dict]]:
        instances, images = super()._load_annotations()
        file, coco = f'annotation file {self.ann_file}', self.coco
        annotations = coco.dataset.get('annotations', [])
        for what, listed, indexed in (
            ('image', coco.dataset.get('images', []), coco.imgs),
            ('annotation', annotations, coco.anns),
        ):
            if len(listed) != len(indexed):
                twice = next(id for id, n in Counter(e['id'] for e in listed).items() if n > 1)
                raise ValueError(f'{file}: {what} id {twice} is used twice, ids must be unique')
        if annotations and not any('keypoints' in ann for ann in annotations):
            raise ValueError(
                f'{file}: none of its {len(annotations)} annotations has keypoints. Is it the file '
                'of another task? COCO keeps keypoints in person_keypoints_*.json'
            )
        strangers = sum(ann['image_id'] not in coco.imgs for ann in annotations)
        if strangers:
            self._counts[_NO_IMAGE] = strangers
        for image in images:
            if image.get('width') and image.get('height'):
                self._shapes[image['id']] = image['height'], image['width']
        return instances, images

    def parse_data_info(self, raw_data_info: dict) -> dict | None:
        ann, image = raw_data_info['raw_ann_info'], raw_data_info['raw_img_info']
        joints = self._metainfo['num_keypoints']  # metainfo is a deep copy every time
        try:
            if 'keypoints' in ann and len(ann['keypoints']) != 3 * joints:
                raise ValueError(
                    f'{len(ann["keypoints"])} keypoint numbers, but {type(self).__name__} needs '
                    f'(x, y, visible) for each of {joints} keypoints, {3 * joints} numbers. Is it '
                    'the annotation file of another dataset?'
                )
            info = super().parse_data_info(raw_data_info)
            if info is None:
                self._counts[_LEFT_OUT] += 1
                return None
            if not (np.isfinite(info['bbox']).all() and np.isfinite(info['area'])):
                raise ValueError('its bbox or area is not a number')
            self._check_keypoints(info, image)
        except (KeyError, TypeError, ValueError) as error:
            reason = f'it has no {error}' if isinstance(error, KeyError) else error
            raise ValueError(
                f'{self.ann_file}: annotation {ann.get("id")} of image {ann.get("image_id")}: '
                f'{reason}'
            ) from error
        return info

    def _check_keypoints(self, info: dict, image: dict) -> None:
        points, visible = info['keypoints'], info['keypoints_visible']
        size = np.array([image['width'], image['height']])
        fine = ((points >= 0) & (points <= size)).all(-1) & (visible >= 0)
        if not fine.all():
            number = np.isfinite(points).all(-1) & np.isfinite(visible)
            labelled = visible != 0
            if self.test_mode and (labelled & ~number).any():
                raise ValueError(
                    'a labelled keypoint is not a number; the metric reads this file too, '
                    'correct it'
                )
            info['keypoints'] = np.where(number[..., None], points, 0).astype(np.float32)
            keep = number & (visible > 0)
            if not self.test_mode:
                for what, odd in (
                    (_NOT_NUMBERS, labelled & ~number),
                    (_OUTSIDE, keep & ~fine),
                ):
                    if odd.any():
                        self._counts[what] += int(odd.sum())
                keep &= fine
            visible = info['keypoints_visible'] = np.where(keep, visible, 0).astype(np.float32)
        count = int((visible > 0).sum())
        # who has none is masked out; CrowdPose counts otherwise than by the flags
        if not self.test_mode and bool(count) != bool(info['num_keypoints']):
            info['num_keypoints'] = count


@DATASETS.register_module()
class CheckedCocoDataset(CheckedAnnotations, CocoDataset):
    """:class:`mmpose.datasets.CocoDataset` with :class:`CheckedAnnotations`."""


@DATASETS.register_module()
class CheckedCrowdPoseDataset(CheckedAnnotations, CrowdPoseDataset):
    """:class:`mmpose.datasets.CrowdPoseDataset` with :class:`CheckedAnnotations`."""


@DATASETS.register_module()
class CheckedMpiiDataset(CheckedMetainfo, MpiiDataset):
    """:class:`mmpose.datasets.MpiiDataset` that checks its files, and counts pixels as images do.

    MPII's coordinates start at 1. MMPose moves the boxes to 0, but not the
    keypoints, so that a network learns them one pixel off, and then adds 1 to
    its predictions before it compares them. Here training keypoints start at
    0, as in the HRNet authors' code; those that are tested with still start
    at 1, as the metric expects.

    Raises:
        FileNotFoundError: if a file or the image folder is not there.
        ValueError: if the annotations are not MPII's, have nobody, or are not
            those of the head boxes.
    """

    def _load_annotations(self) -> tuple[list[dict], list[dict]]:
        _check_files(self, 'head box', self.headbox_file)
        file = f'annotation file {self.ann_file}'
        if self.headbox_file:
            file += f' with head boxes {self.headbox_file}'
        try:
            instances, images = super()._load_annotations()
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f'{file}: not what MMPose makes of MPII, a list of image, center, scale, joints '
                f'and joints_vis, one head box each ({type(error).__name__}: {error})'
            ) from error
        joints = self._metainfo['num_keypoints']
        for number, info in enumerate(instances):
            if info['keypoints'].shape[1] != joints or info['keypoints_visible'].size != joints:
                raise ValueError(f'{file}: person {number} does not have {joints} joints')
            if not self.test_mode:
                info['keypoints'] -= 1
        heads = self.headbox_dict['headboxes_src'].shape[2] if self.headbox_file else len(instances)
        if not instances or heads != len(instances):
            raise ValueError(f'{file}: {len(instances)} people and {heads} head boxes')
        return instances, images
