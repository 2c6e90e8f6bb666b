import copy
import json
import shutil

import cv2
import numpy as np
import pytest
from mmpose.datasets.datasets import CocoDataset, CrowdPoseDataset, MpiiDataset
from mmpose.registry import DATASETS

from mmpose_attn.datasets import (
    CheckedCocoDataset,
    CheckedCrowdPoseDataset,
    CheckedMpiiDataset,
    checked,
)
from mmpose_attn.datasets.transforms import loading
from tests.data_helpers import (
    TRAIN,
    VAL,
    edit_json,
    jpeg,
    make_detections,
    make_mpii,
    make_small_dataset,
    real_data,
    record_log,
)

pytestmark = pytest.mark.usefixtures('mmpose_scope')


@pytest.fixture
def logged(monkeypatch):
    """What dataset and transforms log."""
    return record_log(monkeypatch, checked, loading)


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    return make_small_dataset(tmp_path_factory.mktemp('data') / 'coco', 6, 4, crowd_prob=0.5)


@pytest.fixture
def root(synthetic, tmp_path):
    """A copy to damage."""
    return shutil.copytree(synthetic, tmp_path / 'coco')


def build(root, test_mode=False, kind=CheckedCocoDataset, **kwargs):
    split, ann_file = ('val2017', VAL) if test_mode else ('train2017', TRAIN)
    kwargs = dict(dict(data_mode='bottomup', data_prefix=dict(img=split)), **kwargs)
    kwargs.setdefault('ann_file', ann_file)
    # MMEngine collects garbage while it serialises, which takes longer than the tests
    kwargs.setdefault('serialize_data', False)
    return kind(data_root=str(root), test_mode=test_mode, **kwargs)


def people(contents):
    """Annotations of people with keypoints, in file order."""
    return [a for a in contents['annotations'] if a['num_keypoints']]


def assert_same_samples(dataset, plain, ignore=()):
    assert len(dataset) == len(plain)
    np.testing.assert_equal(dataset.metainfo, plain.metainfo)
    for i in range(len(plain)):
        sample, expected = dataset.get_data_info(i), plain.get_data_info(i)
        for key in ('ann_shape', *ignore):
            sample.pop(key, None), expected.pop(key, None)
        assert sample.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_equal(sample[key], value, err_msg=key)
            assert type(sample[key]) is type(value)


# ---------------------------------------------------------------- good files
@pytest.mark.parametrize('mode', ['bottomup', 'topdown'])
@pytest.mark.parametrize('test_mode', [False, True])
def test_good_files_give_mmpose_samples(synthetic, logged, mode, test_mode):
    dataset = build(synthetic, test_mode, data_mode=mode)
    assert_same_samples(dataset, build(synthetic, test_mode, CocoDataset, data_mode=mode))
    assert {dataset.get_data_info(i)['ann_shape'] for i in range(len(dataset))} == {(80, 96)}
    assert logged == []


@pytest.mark.parametrize('test_mode', [False, True])
def test_tiny_coco(logged, test_mode):
    root = real_data('tiny', 'coco')
    kwargs = dict(ann_file='test_coco.json', data_prefix=dict(img=''))
    dataset = build(root, test_mode, **kwargs)
    assert_same_samples(dataset, build(root, test_mode, CocoDataset, **kwargs))
    assert len(dataset) == 4 and logged == []
    # two of its people are unlabelled
    assert sum(len(dataset.get_data_info(i)['invalid_segs']) for i in range(4)) == 2


@pytest.mark.parametrize('test_mode', [False, True])
def test_tiny_crowdpose(logged, test_mode):
    root = real_data('tiny', 'crowdpose')
    kwargs = dict(ann_file='test_crowdpose.json', data_prefix=dict(img=''))
    dataset = build(root, test_mode, CheckedCrowdPoseDataset, **kwargs)
    assert_same_samples(dataset, build(root, test_mode, CrowdPoseDataset, **kwargs))
    assert len(dataset) == 2 and logged == []
    with pytest.raises(ValueError, match=r'test_crowdpose\.json: .* 42 keypoint numbers, .* 51 '):
        build(root, test_mode, **kwargs)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('test_mode', [False, True])
def test_real_coco(logged, split, test_mode):
    root = real_data('coco_real')
    kwargs = dict(
        ann_file=f'annotations/person_keypoints_{split}.json', data_prefix=dict(img='images')
    )
    pipeline = [
        dict(type='LoadPoseImage'),
        dict(type='BottomupUniformAffine', input_size=(64, 64)),
    ]
    dataset = build(root, test_mode, pipeline=pipeline, **kwargs)
    assert_same_samples(dataset, build(root, test_mode, CocoDataset, **kwargs))
    assert len(dataset) == {'train': 28, 'val': 93}[split]
    for i in range(0, len(dataset), 5):  # sizes agree with the annotations
        assert dataset[i]['img'].shape == (64, 64, 3)
    assert logged == []


def test_registered():
    assert DATASETS.get('CheckedCocoDataset') is CheckedCocoDataset
    assert DATASETS.get('CheckedCrowdPoseDataset') is CheckedCrowdPoseDataset
    assert DATASETS.get('CheckedMpiiDataset') is CheckedMpiiDataset


def test_old_files_without_info(root):
    edit_json(root / TRAIN, lambda c: (c.pop('info'), c.pop('licenses')))
    assert len(build(root)) == 6


# ------------------------------------------------------------- missing files
@pytest.mark.parametrize('test_mode', [False, True])
def test_missing_files_say_where_and_what_to_do(root, test_mode):
    shutil.rmtree(root / 'val2017')
    shutil.rmtree(root / 'train2017')
    with pytest.raises(FileNotFoundError, match=r'image folder not found: .*2017\. .*COCO_ROOT='):
        build(root, test_mode)
    (root / (VAL if test_mode else TRAIN)).unlink()
    with pytest.raises(FileNotFoundError, match=r'file not found: .*2017\.json\. .*ln -s .*coco'):
        build(root, test_mode)


def test_lazy_datasets_read_nothing(tmp_path):
    # as in inference, where only the meta information is wanted
    assert build(tmp_path, lazy_init=True).metainfo['num_keypoints'] == 17


@pytest.mark.parametrize('content', [b'', b'{"images": [', b'<html>', b'[1, 2]', b'\x89PNG'])
def test_unreadable_annotations(root, content):
    (root / TRAIN).write_bytes(content)
    with pytest.raises(ValueError, match=r'person_keypoints_train2017\.json (is not|holds)') as e:
        build(root)
    assert 'valid JSON' in str(e.value) or 'annotations are a dict' in str(e.value)


# ------------------------------------------------------- whose file is it?
@pytest.mark.parametrize('test_mode', [False, True])
def test_file_of_another_task(root, test_mode):
    def edit(contents):
        for ann in contents['annotations']:
            del ann['keypoints'], ann['num_keypoints']

    edit_json(root / (VAL if test_mode else TRAIN), edit)
    with pytest.raises(ValueError, match='none of its .* has keypoints. .*person_keypoints_'):
        build(root, test_mode)


@pytest.mark.parametrize('joints', [14, 16, 18, 133])
@pytest.mark.parametrize('test_mode', [False, True])
def test_wrong_number_of_joints(root, test_mode, joints):
    def edit(contents):
        for ann in contents['annotations']:
            ann['keypoints'] = [30.0, 30.0, 2] * joints

    ann = edit_json(root / (VAL if test_mode else TRAIN), edit)['annotations'][0]
    with pytest.raises(
        ValueError,
        match=rf'2017\.json: annotation {ann["id"]} of image {ann["image_id"]}: {3 * joints} '
        'keypoint numbers, but CheckedCocoDataset needs .* 17 keypoints, 51 numbers.* another',
    ):
        build(root, test_mode)


def test_one_odd_annotation_is_enough(root):
    contents = edit_json(root / TRAIN, lambda c: people(c)[-1]['keypoints'].append(1))
    with pytest.raises(ValueError, match=f'annotation {people(contents)[-1]["id"]} of image'):
        build(root)


# ----------------------------------------------------------------- emptiness
def no_people(contents):
    contents['annotations'] = []


def no_annotations(contents):
    del contents['annotations']


def unlabelled(contents):
    for ann in contents['annotations']:
        ann.update(keypoints=[0] * 51, num_keypoints=0)


def invisible(contents):
    """Coordinates, but no flags: and a wrong count."""
    for ann in contents['annotations']:
        ann['keypoints'][2::3] = [0] * 17


@pytest.mark.parametrize('edit', [no_people, no_annotations, unlabelled, invisible])
def test_nobody_to_train_on(root, edit):
    edit_json(root / TRAIN, edit)
    with pytest.raises(ValueError, match=r'train2017\.json has no person with a labelled keypoint'):
        build(root)


@pytest.mark.parametrize('edit', [no_people, no_annotations, unlabelled, invisible])
def test_nobody_to_test_on(root, logged, edit):
    edit_json(root / VAL, edit)
    assert len(build(root, test_mode=True)) == 4
    (line,) = logged
    assert 'val2017.json has no person' in line and 'AP is not defined (-1)' in line


def test_no_images(root):
    edit_json(root / VAL, lambda c: c.update(images=[], annotations=[]))
    with pytest.raises(ValueError, match=r'val2017\.json lists no images'):
        build(root, test_mode=True)
    edit_json(root / TRAIN, lambda c: c.update(images=[]))
    with pytest.raises(ValueError, match=r'train2017\.json has no person'):
        build(root)


# ----------------------------------------------------------------- keypoints
def find(dataset, ann_id):
    """The sample with an annotation, and the annotation's place in it."""
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        if ann_id in info['id']:
            return info, info['id'].index(ann_id)
    raise AssertionError(f'annotation {ann_id} is gone')


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('axis', [0, 1])
def test_not_a_number(root, logged, value, axis):
    def edit(contents):
        ann = people(contents)[0]
        ann['keypoints'][3 * 5 + axis] = value
        ann['keypoints'][3 * 5 + 2] = 2

    before = people(json.loads((root / TRAIN).read_text()))[0]
    for name in (TRAIN, VAL):
        ann = people(edit_json(root / name, edit))[0]
    dataset = build(root)
    (line,) = logged
    assert 'train2017.json: 1 labelled keypoints are not numbers; they are used as unl' in line
    info, place = find(dataset, before['id'])
    assert info['keypoints'].dtype == info['keypoints_visible'].dtype == np.float32
    assert np.isfinite(info['keypoints']).all() and info['keypoints_visible'][place, 5] == 0
    others = np.arange(17) != 5
    points = np.reshape(before['keypoints'], (17, 3))
    assert np.array_equal(info['keypoints'][place, others], np.float32(points[others, :2]))
    assert np.array_equal(info['keypoints_visible'][place, others], points[others, 2] > 0)

    with pytest.raises(
        ValueError, match=rf'val2017\.json: annotation {ann["id"]} .* labelled .* not a number'
    ):
        build(root, test_mode=True)


def test_unlabelled_keypoints_may_be_anything(root, logged):
    def edit(contents):
        ann = people(contents)[0]
        ann['keypoints'][:3] = [float('nan'), 1e9, 0]
        ann['keypoints'][3:6] = [-5, -5, 0]

    ids = [people(edit_json(root / name, edit))[0]['id'] for name in (TRAIN, VAL)]
    for ann_id, test_mode in zip(ids, (False, True)):
        info, place = find(build(root, test_mode), ann_id)
        assert np.isfinite(info['keypoints']).all()
        assert not info['keypoints_visible'][place, :2].any()
    assert logged == []


def test_visibility_is_not_a_number(root, logged):
    def edit(contents):
        people(contents)[0]['keypoints'][2] = float('nan')

    ids = [people(edit_json(root / name, edit))[0]['id'] for name in (TRAIN, VAL)]
    info, place = find(build(root), ids[0])
    assert info['keypoints_visible'][place, 0] == 0 and len(logged) == 1
    with pytest.raises(ValueError, match='not a number'):
        build(root, test_mode=True)


@pytest.mark.parametrize('point', [(-1, 5), (5, -0.5), (96.5, 5), (5, 1000)])
def test_outside_the_image(root, logged, point):
    def edit(contents):
        for ann in people(contents)[:2]:
            ann['keypoints'][:3] = [*point, 1]

    ids = [[a['id'] for a in people(edit_json(root / n, edit))] for n in (TRAIN, VAL)]
    dataset = build(root)
    (line,) = logged
    assert 'train2017.json: 2 labelled keypoints lie outside their image; they are used as' in line
    info, place = find(dataset, ids[0][0])
    assert info['keypoints_visible'][place, 0] == 0
    # the metric takes them as they are, and so does its dataset
    info, place = find(build(root, test_mode=True), ids[1][0])
    assert info['keypoints_visible'][place, 0] == 1 and len(logged) == 1


def test_the_border_is_inside(root, logged):
    def edit(contents):
        people(contents)[0]['keypoints'][:6] = [96, 80, 1, 0, 0, 2]

    ann = people(edit_json(root / TRAIN, edit))[0]
    info, place = find(build(root), ann['id'])
    assert info['keypoints_visible'][place, :2].all() and logged == []


def test_who_loses_all_keypoints_is_masked(root, logged):
    def edit(contents):
        ann = people(contents)[0]
        ann['keypoints'] = [-5, -5, 2] * 17

    ann = people(edit_json(root / TRAIN, edit))[0]
    info, place = find(build(root), ann['id'])
    assert not info['keypoints_visible'][place].any() and info['num_keypoints'][place] == 0
    assert ann['segmentation'] in info['invalid_segs']
    assert 'train2017.json: 17 labelled' in logged[0]


@pytest.mark.parametrize('missing', [False, True])
def test_flags_say_who_is_labelled(root, missing):
    """A wrong count would mask people out who have keypoints, or not those who have none."""

    def edit(contents):
        for ann in contents['annotations']:
            ann['num_keypoints'] = 0 if ann['num_keypoints'] else 3
            if missing:
                del ann['num_keypoints']

    right = json.loads((root / TRAIN).read_text())
    edit_json(root / TRAIN, edit)
    dataset = build(root)
    for ann in right['annotations']:
        info, place = find(dataset, ann['id'])
        assert bool(info['num_keypoints'][place]) == bool(ann['num_keypoints'])
        masked = ann['segmentation'] in info['invalid_segs']
        assert masked == (not ann['num_keypoints'])


# ----------------------------------------------------- other damage to files
@pytest.mark.parametrize('damage', ['id', 'bbox', 'area', 'keypoints', 'category_id', 'width'])
def test_malformed_annotations_are_named(root, damage):
    def edit(contents):
        ann = people(contents)[0]
        image = next(i for i in contents['images'] if i['id'] == ann['image_id'])
        if damage == 'id':
            contents['annotations'].append(copy.deepcopy(ann))
        elif damage == 'bbox':
            ann['bbox'] = [1, 2, 3]
        elif damage == 'area':
            ann['area'] = float('nan')
        elif damage == 'keypoints':
            ann['keypoints'] = None
        elif damage == 'category_id':
            del ann['category_id']
        else:
            del image['width']

    ann = people(edit_json(root / TRAIN, edit))[0]
    with pytest.raises(ValueError, match=r'train2017\.json') as error:
        build(root)
    place = f'annotation {ann["id"]} of image {ann["image_id"]}'
    assert {
        'id': f'annotation id {ann["id"]} is used twice',
        'bbox': f"{place}: its 'bbox' has 3 numbers, not 4",
        'area': f"{place}: its 'area' is nan",
        'keypoints': f"{place}: its 'keypoints' are null",
        'category_id': f"{place}: it has no 'category_id'",
        'width': f"image {ann['image_id']}: it has no 'width'",
    }[damage] in str(error.value)


def test_image_ids_must_be_unique(root):
    contents = edit_json(root / VAL, lambda c: c['images'].append(dict(c['images'][0])))
    with pytest.raises(ValueError, match=f'image id {contents["images"][0]["id"]} is used twice'):
        build(root, test_mode=True)


def test_image_without_file_name(root):
    edit_json(root / TRAIN, lambda c: c['images'][0].pop('file_name'))
    with pytest.raises(ValueError, match=r"train2017\.json: image 1: it has no 'file_name'"):
        build(root)


def test_what_is_left_out_is_counted(root, logged):
    def edit(contents):
        del people(contents)[0]['bbox'], people(contents)[1]['keypoints']
        people(contents)[2]['image_id'] = -7

    edit_json(root / TRAIN, edit)
    build(root)
    assert len(logged) == 3
    for line in (
        '1 annotations have no bbox, or one without extent; it is taken around their keypoints',
        '1 annotations have no keypoints; they are used as unlabelled',
        '1 annotations belong to images that it does not list; they are left out',
    ):
        assert any(line in each for each in logged)


# ------------------------------------------------------------------- images
@pytest.mark.parametrize('damage', ['truncated', 'size'])
def test_unusable_images_are_replaced_in_training(root, logged, damage):
    name = json.loads((root / TRAIN).read_text())['images'][0]['file_name']
    path = root / 'train2017' / name
    if damage == 'size':
        cv2.imwrite(str(path), np.zeros((40, 48, 3)))
    else:
        path.write_bytes(jpeg()[:500])
    dataset = build(root, pipeline=[dict(type='LoadPoseImage', skip_corrupt=True)])
    for _ in range(3):
        assert dataset[0]['img_path'] != str(path)
    (line,) = logged
    assert 'skipped unusable image' in line and name in line
    with pytest.raises(ValueError, match=f'unusable image .*{name}'):
        build(root, pipeline=[dict(type='LoadPoseImage')])[0]


def test_no_usable_image_ends(root, logged):
    for path in (root / 'train2017').iterdir():
        path.write_bytes(b'')
    dataset = build(root, pipeline=[dict(type='LoadPoseImage', skip_corrupt=True)])
    with pytest.raises(ValueError, match='none of the last 50 images .*can be used') as error:
        dataset[0]
    paths = {str(path) for path in (root / 'train2017').iterdir()}
    for line in logged:  # each once
        paths.remove(line.split()[3])
    assert paths == set() and str(error.value).count('(the file is empty)') == 6


# ---------------------------------------------------------------- detections
@pytest.fixture
def boxes(root):
    return make_detections(root / VAL, root / 'boxes.json')


def detected(root, boxes):
    return build(root, True, data_mode='topdown', bbox_file=str(boxes))


def test_detections_are_the_samples(root, boxes, logged):
    dataset, annotated = detected(root, boxes), build(root, True, data_mode='topdown')
    assert len(dataset) == len(annotated) and logged == []
    np.testing.assert_allclose(dataset[0]['bbox'], annotated[0]['bbox'], atol=1e-4)
    assert 0.5 < dataset[0]['bbox_score'][0] < 1 == annotated[0]['bbox_score'][0]


@pytest.mark.parametrize('test_mode', [False, True])
def test_tiny_coco_detections(logged, test_mode):
    root = real_data('tiny', 'coco')
    kwargs = dict(data_mode='topdown', ann_file='test_coco.json', data_prefix=dict(img=''))
    if test_mode:
        kwargs['bbox_file'] = str(root / 'test_coco_det_AP_H_56.json')
    dataset = build(root, test_mode, **kwargs)
    assert_same_samples(dataset, build(root, test_mode, CocoDataset, **kwargs))
    assert len(dataset) == (118 if test_mode else 12) and logged == []


def test_missing_detections_say_what_to_do(root, boxes):
    boxes.unlink()
    with pytest.raises(FileNotFoundError, match='detection file .*boxes.json.*bbox_file=None'):
        detected(root, boxes)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda found: found[0].pop('score'), "entry 0: it has no 'score'"),
        (lambda found: found[0].update(image_id=12345), 'entry 0: .* no image 12345'),
        (lambda found: found[0].update(bbox=None), "entry 0: it has no 'bbox'"),
        (lambda found: found.clear(), 'no person'),
        (lambda found: [each.update(category_id=2) for each in found], 'no person'),
    ],
)
def test_odd_detections_name_the_file(root, boxes, change, message):
    edit_json(boxes, change)
    with pytest.raises(ValueError, match=rf'detection file .*boxes\.json.*{message}.*=None'):
        detected(root, boxes)


@pytest.mark.parametrize('text', ['{}', 'not JSON', '{"a": 1}'])
def test_detections_that_are_no_list(root, boxes, text):
    boxes.write_text(text)
    kind = 'valid JSON' if text == 'not JSON' else 'a list'
    with pytest.raises(ValueError, match=rf'detection file .*boxes\.json is not {kind}'):
        detected(root, boxes)


# ---------------------------------------------------------------------- MPII
@pytest.fixture
def mpii(synthetic, tmp_path):
    return make_mpii(synthetic, tmp_path / 'mpii')


def build_mpii(root, test_mode=False, kind=CheckedMpiiDataset, **kwargs):
    heads = dict(headbox_file=str(root / 'annotations/mpii_gt_val.mat')) if test_mode else {}
    ann_file = f'annotations/mpii_{"val" if test_mode else "train"}.json'
    kwargs = dict(ann_file=ann_file, data_prefix=dict(img='images'), **heads) | kwargs
    return kind(data_root=str(root), test_mode=test_mode, serialize_data=False, **kwargs)


def assert_mpii_counts_from_0_in_training(root, test_mode, **kwargs):
    dataset = build_mpii(root, test_mode, **kwargs)
    plain = build_mpii(root, test_mode, MpiiDataset, **kwargs)
    assert_same_samples(dataset, plain, ignore=['keypoints'])
    for sample, expected in zip(dataset, plain, strict=True):
        shift = 0 if test_mode else 1
        np.testing.assert_array_equal(sample['keypoints'] + shift, expected['keypoints'])


@pytest.mark.parametrize('test_mode', [False, True])
def test_mpii_counts_from_0_in_training(mpii, synthetic, test_mode):
    assert_mpii_counts_from_0_in_training(mpii, test_mode)
    if not test_mode:  # where MMPose's COCO has the same person's shoulder
        coco, wrist = build(synthetic, data_mode='topdown'), build_mpii(mpii)
        np.testing.assert_allclose(coco[0]['keypoints'][0, 10], wrist[0]['keypoints'][0, 10])


@pytest.mark.parametrize('test_mode', [False, True])
def test_tiny_mpii(test_mode):
    kwargs = dict(ann_file='test_mpii.json', data_prefix=dict(img=''), headbox_file=None)
    assert_mpii_counts_from_0_in_training(real_data('tiny', 'mpii'), test_mode, **kwargs)


@pytest.mark.parametrize('gone', ['annotations/mpii_val.json', 'annotations/mpii_gt_val.mat'])
def test_missing_mpii_files(mpii, gone):
    (mpii / gone).unlink()
    with pytest.raises(FileNotFoundError, match=rf'file not found: .*{gone}.*MPII_ROOT'):
        build_mpii(mpii, True)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda people: people[0].pop('joints'), "person 0: it has no 'joints'"),
        (lambda people: people[0].update(center='?'), "person 0: its 'center' are not numbers"),
        (lambda people: people[1]['joints_vis'].pop(), 'person 1: it does not have 16 joints'),
        (lambda people: people[1].update(joints=[[1, 1]] * 17), 'person 1: it does not have 16'),
        (lambda people: people[1].update(joints_vis=[3] * 16), "person 1: its 'joints_vis' has 3"),
        (lambda people: people[1].update(scale=0), "person 1: its 'scale' has a value that is no"),
        (lambda people: people[1].update(image='a.jpg'), "person 1: its 'image' is 'a.jpg'"),
        (
            lambda people: people[0]['joints'].__setitem__(5, [None, 1]),
            "person 0: its 'joints' has",
        ),
        (lambda people: [p.update(joints=[[0.5, 1]] * 16) for p in people], 'between 0 and 1'),
        (lambda people: people.pop(), 'people and . head boxes'),
        (lambda people: people.append(people[0]), 'head boxes are not those of these'),
        (lambda people: people.clear(), '0 people'),
    ],
)
def test_odd_mpii_names_the_files(mpii, change, message):
    edit_json(mpii / 'annotations/mpii_val.json', change)
    with pytest.raises(ValueError, match=rf'mpii_val\.json with head boxes .*mat: .*{message}'):
        build_mpii(mpii, True)


def test_missing_mpii_images(mpii):
    name = sorted((mpii / 'images').iterdir())[0].name
    (mpii / 'images' / name).rename(mpii / f'other_{name}')
    with pytest.raises(FileNotFoundError, match=f'mpii_.*json.*: image not found: .*images/{name}'):
        build_mpii(mpii), build_mpii(mpii, True)


@pytest.mark.parametrize(
    'name, message',
    [
        ('mpii_val.json', r'mpii_val\.json is not valid JSON'),
        (
            'mpii_gt_val.mat',
            r'mpii_val\.json with head boxes .*mat: the head boxes are not those of',
        ),
    ],
)
def test_broken_mpii_files(mpii, name, message):
    (mpii / 'annotations' / name).write_bytes(b'broken' * 50)
    with pytest.raises(ValueError, match=message):
        build_mpii(mpii, True)
