"""Boxes: MMDetection's detectors on torchvision's operators, and files."""

import json
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmpose_attn.apis import Frame, GivenBoxes, PersonDetector, find_sources, read_frames
from mmpose_attn.apis.building import find_config
from tests.data_helpers import real_data

MMDET = Path(mmdet.__path__[0], '.mim', 'configs')
BOX = dict(image_id=1, category_id=1, bbox=[10, 20, 30, 40], score=0.5)


def frame(image, image_id=1):
    return Frame(str(image_id), str(image_id), 0, image_id, image.shape[1::-1], image)


def noise(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def small(name, side=64):
    """An mmdet config for inputs of a few pixels."""
    config = Config.fromfile(find_config(name, MMDET))
    for step in config.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (side, side)
        if step.type == 'Pad' and 'size' in step:
            step.size = (side, side)
    return config


@pytest.mark.parametrize(
    'name', ['yolox_nano', 'rtmdet_tiny', 'faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco']
)
def test_any_detector_runs(name):
    torch.manual_seed(0)
    config = small(name)
    config.model.test_cfg.get('rcnn', config.model.test_cfg).score_thr = 0.0
    every = range(80)
    detector = PersonDetector(config, classes=every, score_thr=0.0, device='cpu')
    images = [noise(), noise(90, 50, 1), noise(seed=2)]  # two sizes in a batch
    found = detector([frame(image) for image in images])
    assert len(found) == 3
    for image, boxes in zip(images, found):
        assert boxes.dtype == np.float32 and boxes.shape[1] == 5 and len(boxes) > 0
        assert np.isfinite(boxes).all()
        with DefaultScope.overwrite_default_scope('mmdet'):
            instances = inference_detector(detector.model, image).pred_instances
        theirs = torch.cat((instances.bboxes, instances.scores[:, None]), 1).numpy()
        theirs = theirs[np.isfinite(theirs).all(1)]
        np.testing.assert_allclose(boxes, theirs, atol=1e-3)
    # only one class: those of the label that is person's
    people = PersonDetector(config, score_thr=0.0, device='cpu')
    people.model.load_state_dict(detector.model.state_dict())
    assert people.classes == (0,)
    mine = people([frame(images[0])])[0]
    with DefaultScope.overwrite_default_scope('mmdet'):
        instances = inference_detector(detector.model, images[0]).pred_instances
    np.testing.assert_allclose(mine[:, 4], instances.scores[instances.labels == 0], atol=1e-5)


def test_detectors_are_found_by_name():
    assert find_config('yolox_nano', MMDET).name == 'yolox_nano_8xb8-300e_coco.py'
    assert find_config('rtmdet_l_8xb32-300e_coco', MMDET).parent.name == 'rtmdet'
    with pytest.raises(ValueError, match=r'can be .*rtmdet_l_convnext_b.*: give one of them'):
        PersonDetector('rtmdet_l')
    with pytest.raises(FileNotFoundError, match='config not found: yolo_pico, neither as a file'):
        PersonDetector('yolo_pico')


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match='score_thr of the boxes is from 0 to 1, got 2'):
        PersonDetector('yolox_nano', score_thr=2)
    with pytest.raises(ValueError, match='nms_thr of the boxes'):
        GivenBoxes('any', nms_thr=-1)
    with pytest.raises(ValueError, match=r'labels from 0 to 79, got \[80\]'):
        PersonDetector('yolox_nano', classes=[80], device='cpu')
    weights = tmp_path / 'other.pth'
    meta = dict(dataset_meta=dict(CLASSES=('cat', 'dog')))
    detector = PersonDetector('yolox_nano', device='cpu')
    torch.save(dict(state_dict=detector.model.state_dict(), meta=meta), weights)
    with pytest.raises(ValueError, match='no class called person; .* 0 cat, 1 dog'):
        PersonDetector('yolox_nano', weights, device='cpu')
    dogs = PersonDetector('yolox_nano', weights, classes=[1], device='cpu')
    assert dogs.model.dataset_meta['classes'] == ('cat', 'dog')
    with pytest.raises(ValueError, match='does not fit YOLOX'):
        PersonDetector('yolox_tiny', weights, device='cpu')


def test_given_boxes(tmp_path):
    path = tmp_path / 'boxes.json'
    rows = [
        BOX,
        dict(BOX, score=0.9, bbox=[12, 20, 30, 40]),
        dict(BOX, category_id=2),
        dict(BOX, image_id=7, score=0.1),
    ]
    path.write_text(json.dumps(rows))
    first, second, third = GivenBoxes(path)([frame(noise(), i) for i in (1, 7, 8)])
    assert np.array_equal(first, np.float32([[10, 20, 40, 60, 0.5], [12, 20, 42, 60, 0.9]]))
    assert len(second) == 1 and third.shape == (0, 5)

    def count(**kwargs):
        return [len(b) for b in GivenBoxes(path, **kwargs)([frame(noise(), i) for i in (1, 7)])]

    assert count(score_thr=0.5) == [2, 0]
    assert count(nms_thr=0.5) == [1, 1]
    assert count(classes=[1, 2]) == [3, 1]
    boxes = GivenBoxes(path)
    boxes.check([7, 100])
    with pytest.raises(ValueError, match='has boxes for none of the 2 images, whose ids are'):
        boxes.check([100, 101])


def row(**changes):
    return json.dumps([BOX, {k: v for k, v in dict(BOX, **changes).items() if v != 'absent'}])


@pytest.mark.parametrize(
    'content',
    [
        *('{}', '[1]', '[{"image_id": 1}]', 'no json', '{"a": 1}', 'null'),
        *(row(**{key: 'absent'}) for key in BOX),
        *(row(score=None), row(bbox=[1, 2, 3]), row(bbox=None), row(image_id=[1])),
        *(row(category_id='person'), row(bbox=[10**400, 1, 2, 3])),
    ],
)
def test_other_files_are_no_boxes(tmp_path, content):
    path = tmp_path / 'boxes.json'
    path.write_text(content)
    with pytest.raises(ValueError, match='boxes.json is not a COCO detection file'):
        GivenBoxes(path)


def test_the_bad_entry_is_named(tmp_path):
    path = tmp_path / 'boxes.json'
    path.write_text(row(image_id='absent'))
    with pytest.raises(ValueError, match=r"\(entry 1: KeyError\('image_id'\)\)"):
        GivenBoxes(path)


def iou(box, others):
    corners = np.minimum(box[2:], others[:, 2:4]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(corners, 0), 1)
    area = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:4] - others[:, :2], 1) - shared
    return shared / area


def test_real_detector_finds_real_people():
    weights = real_data('detector', 'yolox_nano_mmdet.pth')
    annotations = json.loads(
        real_data('coco_real', 'annotations', 'person_keypoints_val.json').read_text()
    )
    images = real_data('coco_real', 'images')
    detector = PersonDetector('yolox_nano', weights, score_thr=0.05, device='cpu')
    people = {}
    for annotation in annotations['annotations']:
        x, y, width, height = annotation['bbox']
        people.setdefault(annotation['image_id'], []).append((x, y, x + width, y + height))
    paths = [images / image['file_name'] for image in annotations['images']]
    hits = total = boxes = 0
    for frame in read_frames(find_sources(paths)):
        (found,) = detector([frame])
        boxes += len(found)
        for box in np.array(people.get(frame.image_id, ())):
            total += 1
            hits += len(found) > 0 and iou(box, found).max() >= 0.5
    assert total > 250 and boxes < 12 * total
    assert hits / total >= 0.9, f'{hits} of {total} in {boxes} boxes'


def test_real_detector_equals_mmdets_own_function():
    weights = real_data('detector', 'yolox_nano_mmdet.pth')
    image = real_data('coco_real', 'images', '000000000785.jpg')
    detector = PersonDetector('yolox_nano', weights, device='cpu')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = init_detector(str(find_config('yolox_nano', MMDET)), str(weights), device='cpu')
        instances = inference_detector(model, str(image)).pred_instances
    instances = instances[(instances.labels == 0) & (instances.scores >= 0.3)]
    (boxes,) = detector(list(read_frames(find_sources(image))))
    np.testing.assert_allclose(boxes[:, :4], instances.bboxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(boxes[:, 4], instances.scores.numpy(), atol=1e-6)
    assert len(boxes) == 1
