"""Annotation files as tools and people write them: put right, or refused when they are loaded."""

import json
import shutil

import numpy as np
import pytest

from mmpose_attn.datasets import checked
from tests.data_helpers import (
    TRAIN,
    VAL,
    edit_json,
    make_detections,
    make_small_dataset,
    record_log,
)
from tests.datasets.oracle import answers_of, build, evaluate, metric_for

pytestmark = pytest.mark.usefixtures('mmpose_scope')
MODES = ('bottomup', 'topdown')


@pytest.fixture
def logged(monkeypatch):
    return record_log(monkeypatch, checked)


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'coco'
    return make_small_dataset(folder, 3, 4, crowd_prob=0.5, people=(2, 2))


@pytest.fixture(scope='module')
def answers(synthetic):
    return answers_of(synthetic)


@pytest.fixture
def root(synthetic, tmp_path):
    """A copy to damage."""
    return shutil.copytree(synthetic, tmp_path / 'coco')


def damage(root, edit):
    """Both files, changed; contents of the second."""
    edit_json(root / TRAIN, edit)
    return edit_json(root / VAL, edit)


def every(**values):
    """An edit that sets keys of all annotations; None takes a key out."""

    def edit(contents):
        for annotation in contents['annotations']:
            change(annotation, **values)

    return edit


def first(**values):
    """An edit of the first labelled annotation."""

    def edit(contents):
        change(labelled(contents)[0], **values)

    return edit


def change(entry, **values):
    for key, value in values.items():
        if value is None:
            entry.pop(key, None)
        else:
            entry[key] = value(entry) if callable(value) else value


def labelled(contents):
    return [a for a in contents['annotations'] if a['num_keypoints'] and not a['iscrowd']]


# ---------------------------------------------------------------- put right


def other_category(number):
    def edit(contents):
        contents['categories'][0]['id'] = number
        every(category_id=number)(contents)

    return edit


def two_categories(contents):
    contents['categories'].append(dict(contents['categories'][0], id=2, name='giant'))
    for annotation in labelled(contents)[::2]:
        annotation['category_id'] = 2


def no_categories(contents):
    del contents['categories']


def no_category_at_all(contents):
    no_categories(contents)
    every(category_id=None)(contents)


def names_of_categories(contents):
    contents['categories'] = [dict(contents['categories'][0], id='beetle')]
    every(category_id='beetle')(contents)


def a_category_of_other_things(contents):
    contents['categories'].append(dict(id=2, name='car'))
    contents['annotations'].append(
        dict(id=10**6, image_id=contents['images'][0]['id'], category_id=2, bbox=[1, 1, 9, 9])
    )


def a_category_with_other_joints(contents):
    contents['categories'].append(dict(id=2, name='spider', keypoints=['head', 'tail']))
    contents['annotations'].append(
        dict(
            id=10**6,
            image_id=contents['images'][0]['id'],
            category_id=2,
            bbox=[1, 1, 9, 9],
            keypoints=[1, 1, 2, 5, 5, 2],
            num_keypoints=2,
        )
    )


def text_ids(form):
    def edit(contents):
        for image in contents['images']:
            image['id'] = form(image['id'])
        for annotation in contents['annotations']:
            annotation.update(id=form(annotation['id']), image_id=form(annotation['image_id']))

    return edit


def text_categories(contents):
    contents['categories'][0]['id'] = '1'
    every(category_id='1')(contents)


def images_as(**values):
    def edit(contents):
        for image in contents['images']:
            change(image, **values)

    return edit


def of_flags(value):
    return lambda a: [value(v) if i % 3 == 2 else v for i, v in enumerate(a['keypoints'])]


RIGHT = {
    'category_3': (other_category(3), None),
    'category_0': (other_category(0), None),
    'text_category': (text_categories, 'category ids are text; they are read as the numbers'),
    'named_category': (names_of_categories, "names as ids; they are numbered: {'beetle': 1}"),
    'no_categories': (no_categories, 'categories are not listed'),
    'no_category_at_all': (no_category_at_all, 'have no category_id; they are taken as 1'),
    'no_category_id': (every(category_id=None), 'have no category_id; they are taken as 1'),
    'other_things': (a_category_of_other_things, '1 annotations have no keypoints, like all of th'),
    'other_joints': (a_category_with_other_joints, '1 annotations are of a category with other'),
    'no_area': (every(area=None), None),
    'area_0': (first(area=0), None),
    'area_null': (lambda contents: labelled(contents)[0].update(area=None), None),
    'no_segmentation': (every(segmentation=None), None),
    'a_segmentation_missing': (first(segmentation=None), None),
    'empty_segmentation': (first(segmentation=[]), None),
    'flat_polygon': (every(segmentation=[1, 1, 9, 1, 9, 9]), None),
    'text_ids': (text_ids(str), 'image ids are text; they are read as the numbers'),
    'padded_ids': (text_ids('{:012d}'.format), 'annotation ids are text; they are read as the n'),
    'names_as_ids': (text_ids('nr_{}'.format), 'image ids are text; they are read as names'),
    'float_ids': (text_ids(float), None),
    'text_image_id': (every(image_id=lambda a: str(a['image_id'])), 'image ids are text'),
    'num_keypoints_0': (every(num_keypoints=0), 'num_keypoints 0; they are counted anew'),
    'num_keypoints_odd': (every(num_keypoints='?'), None),
    'no_num_keypoints': (every(num_keypoints=None), None),
    'no_bbox': (every(bbox=None), 'have no bbox, or one without extent; it is taken around'),
    'no_bbox_no_area': (every(bbox=None, area=None), 'have no bbox'),
    'bbox_empty': (first(bbox=[]), '1 annotations have no bbox'),
    'bbox_flat': (first(bbox=[10, 10, 0, 5]), '1 annotations have no bbox, or one without extent'),
    'bbox_zero': (every(bbox=[0, 0, 0, 0]), 'have no bbox, or one without extent'),
    'bbox_negative': (first(bbox=[50, 50, -9, -9]), '1 annotations have no bbox, or one without'),
    'bbox_elsewhere': (first(bbox=[500, 10, 9, 9]), '1 annotations have no bbox, or one without'),
    'bbox_text': (first(bbox=lambda a: [str(v) for v in a['bbox']]), 'numbers written as text'),
    'keypoints_text': (first(keypoints=lambda a: [str(v) for v in a['keypoints']]), 'as text'),
    'keypoints_nested': (
        every(keypoints=lambda a: np.reshape(a['keypoints'], (-1, 3)).tolist()),
        'have lists in their keypoints',
    ),
    'null_where_unlabelled': (
        every(keypoints=lambda a: [v if a['keypoints'][i // 3 * 3 + 2] else None if i % 3 < 2 else 0
                                   for i, v in enumerate(a['keypoints'])]),
        None,
    ),
    'flags_true': (every(keypoints=of_flags(bool)), None),
    'iscrowd_false': (every(iscrowd=lambda a: bool(a['iscrowd'])), None),
    'iscrowd_text': (every(iscrowd=lambda a: str(a['iscrowd'])), None),
    'no_iscrowd': (first(iscrowd=None), None),
    'size_text': (images_as(width='96', height=80.0), None),
    'backslashes': (
        images_as(file_name=lambda i: '.\\' + i['file_name']),
        'written with backslashes or percent signs',
    ),
    'url': (
        images_as(file_name=lambda i: i['file_name'].replace('.', '%2E')),
        'written with backslashes or percent signs',
    ),
}  # fmt: skip


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', RIGHT)
def test_what_has_one_meaning_is_put_right(root, answers, logged, kind, mode):
    edit, line = RIGHT[kind]
    damage(root, edit)
    train = build(root, mode, test_mode=False)
    assert sum(np.any(train.get_data_info(i)['keypoints_visible']) for i in range(len(train)))
    if line:
        assert any(line in each and 'train2017.json' in each for each in logged), logged
    else:
        assert logged == []
    dataset = build(root, mode)
    assert len(dataset) == (4 if mode == 'bottomup' else 8)
    result = evaluate(dataset, answers)
    assert result['coco/AP'] == pytest.approx(1) and result['coco/AR'] == pytest.approx(1)


@pytest.mark.parametrize('mode', MODES)
def test_one_unlabelled_object_is_no_mistake(root, answers, mode):
    damage(root, first(keypoints=[]))
    assert evaluate(build(root, mode), answers)['coco/AR'] == pytest.approx(1)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('category', [1, 2, 7])
def test_results_have_the_category_of_the_file(root, answers, tmp_path, category, mode):
    damage(root, other_category(category))
    # an image without objects: what is found there is of that category as well
    edit_json(root / VAL, lambda c: c['annotations'].clear() if mode == 'bottomup' else None)
    out = dict(format_only=True, outfile_prefix=str(tmp_path / 'out'))
    evaluate(build(root, mode), answers, **out)
    results = json.loads((tmp_path / 'out.keypoints.json').read_text())
    assert len(results) == 8 and {each['category_id'] for each in results} == {category}


@pytest.mark.parametrize('mode', MODES)
def test_several_categories(root, answers, logged, tmp_path, mode):
    damage(root, two_categories)
    dataset = build(root, mode)
    result = evaluate(dataset, answers, outfile_prefix=str(tmp_path / 'out'))
    assert result['coco/AP'] == pytest.approx(1)
    results = json.loads((tmp_path / 'out.keypoints.json').read_text())
    if mode == 'topdown':  # a box has its category, and AP is the mean of both
        assert sorted(each['category_id'] for each in results) == [1] * 4 + [2] * 4
        assert logged == []
    else:
        assert {each['category_id'] for each in results} == {1}
        (line,) = logged
        assert 'does not tell person or giant apart' in line and 'category_id 1' in line


@pytest.mark.parametrize('category', [1, 4])
def test_detections_are_of_the_category_of_the_file(root, answers, tmp_path, category):
    damage(root, other_category(category))
    boxes = make_detections(root / VAL, tmp_path / 'boxes.json')
    edit_json(boxes, lambda found: [each.update(category_id=category) for each in found])
    edit_json(boxes, lambda found: found.append(dict(found[0], category_id=9)))
    dataset = build(root, 'topdown', bbox_file=str(boxes))
    assert len(dataset) == 8
    assert evaluate(dataset, answers)['coco/AP'] == pytest.approx(1)
    edit_json(boxes, lambda found: [each.update(category_id=9) for each in found])
    with pytest.raises(ValueError, match=rf'no person \(category_id \[{category}\]\): .* \[9\]'):
        build(root, 'topdown', bbox_file=str(boxes))


# ------------------------------------------------------------------ refused


def all_points(scale):
    return every(
        keypoints=lambda a: [v if i % 3 == 2 else v / scale for i, v in enumerate(a['keypoints'])]
    )


def unlabelled(contents):
    return next(a for a in contents['annotations'] if not a['num_keypoints'])


def odd_segmentation(value):
    def edit(contents):
        first(keypoints=[0] * 51, num_keypoints=0, segmentation=value)(contents)

    return edit


def exchanged_names(contents):
    names = contents['categories'][0]['keypoints']
    names[1], names[2] = names[2], names[1]


WRONG = {
    'shares': (all_points(100), 'all labelled keypoints lie between 0 and 1. .*multiply'),
    'box_shares': (
        every(bbox=lambda a: [v / 100 for v in a['bbox']]), 'all boxes lie between 0 and 1.*multi'
    ),
    'corners': (
        every(bbox=lambda a: [a['bbox'][0], a['bbox'][1], a['bbox'][0] + a['bbox'][2],
                              a['bbox'][1] + a['bbox'][3]]),
        'can be two corners.* subtract',
    ),
    'length': (first(keypoints=[1, 2, 2] * 7), 'annotation .*: 21 keypoint numbers, .*metainfo=d'),
    'pairs': (first(keypoints=[[1, 2]] * 17), 'annotation .*: 17 keypoint numbers'),
    'null': (lambda c: labelled(c)[0].update(keypoints=None), "annotation .*'keypoints' are null"),
    'word': (first(keypoints=['x', 1, 2] * 17), "annotation .*have 'x' among their numbers"),
    'flag_3': (first(keypoints=[9, 9, 3] * 17), 'annotation .* visibility 3.* 1 .labelled, hidden'),
    'flag_-1': (first(keypoints=[9, 9, -1] * 17), 'annotation .* visibility -1'),
    'flag_half': (every(keypoints=of_flags(lambda v: v and 0.4)), r'visibility 0\.4.*more like it'),
    'outside': (all_points(-1), r'\d+ of \d+ labelled keypoints lie outside of their images'),
    'area_share': (every(area=0.2), 'no area is more than 1.* multiply'),
    'area_huge': (first(area=1e12), r"annotation .*'area' is 1e\+12, but its image has 7680 pix"),
    'area_word': (first(area='large'), "annotation .*'area' is 'large'"),
    'area_negative': (first(area=-5), "annotation .*'area' is -5"),
    'bbox_word': (first(bbox='?'), r"annotation .*'bbox' is \?"),
    'bbox_null': (first(bbox=[1, 2, float('nan'), 3]), "annotation .*'bbox' is"),
    'iscrowd': (first(iscrowd=7), "annotation .*'iscrowd' is 7. It is 0 or 1"),
    'no_id': (first(id=None), "annotation number .*: it has no 'id'"),
    'id_list': (first(id=[3]), r"annotation .*'id' is \[3\]"),
    'no_image_id': (first(image_id=None), "annotation .*: it has no 'image_id'"),
    'strangers': (every(image_id=-7), 'annotation .*image_id is -7, and neither .* id of an image'),
    'category': (first(category_id=5), r"annotation .*category_id 5 is none of .*1: 'person'"),
    'a_category_id': (first(category_id=None), "annotation .*: it has no 'category_id'"),
    'word_category': (every(category_id='person'), "annotation .* 'person' is none of the categ"),
    'categories_twice': (
        lambda c: c['categories'].append(c['categories'][0]), 'category id 1 is used twice'
    ),
    'names': (exchanged_names, 'category 1: .*in another order: number 1 is .*keypoint_info'),
    'no_width': (images_as(width=None), r"image \d+: it has no 'width'.* more like it"),
    'height_0': (images_as(height=0), r"image \d+: it has no 'height'"),
    'file_name': (images_as(file_name=None), r"image \d+: it has no 'file_name'"),
    'file_number': (images_as(file_name=3), r"image \d+: its 'file_name' is 3"),
    'image_list': (lambda c: c.update(images={}), "its 'images' are not a list"),
    'entry': (lambda c: c['annotations'].append([1]), r"entry \d+ of 'annotations'"),
    'odd_polygon': (odd_segmentation([[1, 2, 3]]), "annotation .*'segmentation' has .* polygon"),
    'word_polygon': (odd_segmentation(['x']), "annotation .*'segmentation' has .* polygon"),
    'far_polygon': (odd_segmentation([[1, 2, 3, 4, 1e9, 5]]), 'far outside of the image'),
    'rle_size': (odd_segmentation(dict(size=[5, 5], counts=[25])), 'is of size .*width'),
    'rle_counts': (odd_segmentation(dict(size=[80, 96], counts=[25])), 'do not add up'),
    'rle_none': (odd_segmentation(dict(a=1)), 'no "size" and "counts"'),
}  # fmt: skip


@pytest.mark.parametrize('kind', WRONG)
def test_what_cannot_be_right_is_refused(root, kind):
    edit, message = WRONG[kind]
    clean = build(root, 'topdown')
    damage(root, edit)
    for mode in MODES:
        for test_mode, split in ((False, 'train'), (True, 'val')):
            with pytest.raises(
                ValueError, match=rf'(?s)file .*{split}2017\.json.*{message}'
            ) as error:
                build(root, mode, test_mode=test_mode)
            assert error.value.__cause__ is None
    # the evaluator reads the file on its own, before the first step
    if kind not in ('file_name', 'file_number', 'no_width', 'height_0'):
        with pytest.raises(ValueError, match=rf'(?s)val2017\.json of the evaluator.*{message}'):
            metric_for(clean)


def test_all_problems_are_found_at_once(root):
    def edit(contents):
        for annotation in labelled(contents)[:3]:
            annotation['keypoints'] = [1, 1, 2]
        labelled(contents)[3]['bbox'] = [1]
        contents['images'][0]['file_name'] = ''

    contents = damage(root, edit)
    with pytest.raises(ValueError) as error:
        build(root, 'bottomup')
    text = str(error.value)
    assert text.count('val2017.json') == 1 and len(text.splitlines()) == 3
    assert f'annotation {labelled(contents)[0]["id"]} of' in text and '(2 more like it)' in text
    assert "its 'bbox' has 1 numbers, not 4" in text and "its 'file_name' is ''" in text


# ------------------------------------------------------------------- images
PLACES = {
    'prefix': (lambda name: f'/data/upload/3/{name}', 'val2017/{name} exists'),
    'url': (lambda name: f'/data/local-files/?d=up%2F{name}', 'val2017/{name} exists'),
    'folder': (lambda name: f'cam1/{name}', 'val2017/{name} exists'),
    'suffix': (lambda name: name.split('.')[0] + '.tiff', 'val2017/{name} exists'),
    'other': (
        lambda name: 'missing.png',
        'missing.png, and no file of that name exists in .*2017 or beside it. Correct',
    ),
}


@pytest.mark.parametrize('kind', PLACES)
def test_missing_images_are_found_when_annotations_are_loaded(root, kind):
    rename, message = PLACES[kind]
    names = [image['file_name'] for image in json.loads((root / VAL).read_text())['images']]
    damage(root, images_as(file_name=lambda image: rename(image['file_name'])))
    message = message.format(name=names[0])
    for mode in MODES:
        with pytest.raises(
            FileNotFoundError, match=rf'2017\.json: image \d+: .*{message}'
        ) as error:
            build(root, mode)
        assert '(3 more like it)' in str(error.value) and 'data_prefix' in str(error.value)


def test_images_in_the_folder_beside(root):
    with pytest.raises(
        FileNotFoundError, match=r'not found: .*train2017/.*, but .*val2017/.* exis'
    ):
        build(root, 'bottomup', data_prefix=dict(img='train2017'))


def test_a_subset_needs_its_own_images_only(root):
    contents = json.loads((root / VAL).read_text())
    (root / 'val2017' / contents['images'][-1]['file_name']).unlink()
    with pytest.raises(
        FileNotFoundError, match=f'image {contents["images"][-1]["id"]}: .*not found'
    ):
        build(root, 'bottomup')
    assert len(build(root, 'bottomup', indices=2)) == 2


def test_images_are_listed_once_each(root, logged):
    damage(root, lambda c: c['images'][1].update(file_name=c['images'][0]['file_name']))
    build(root, 'bottomup')
    assert any('1 images have a file that another image has' in line for line in logged)


# ---------------------------------------------------- what is said, and of what
def test_texts_name_the_category(root, logged):
    def beetles(contents):
        contents['categories'][0]['name'] = 'beetle'
        every(keypoints=[])(contents)

    damage(root, beetles)
    with pytest.raises(ValueError, match='has no beetle with a labelled keypoint'):
        build(root, 'bottomup', test_mode=False)
    with pytest.raises(
        ValueError, match='has no beetle with a labelled keypoint and a box, .*test'
    ):
        build(root, 'topdown')
    build(root, 'bottomup')
    assert 'has no beetle with a labelled keypoint, AP is not defined' in logged[-1]
    assert not any('person ' in line or 'people' in line for line in logged)


def test_nothing_but_crowds(root, logged):
    """Which are masked out of the loss, and of no AP."""
    damage(root, every(iscrowd=1))
    for mode in MODES:
        with pytest.raises(ValueError, match='nothing to train on'):
            build(root, mode, test_mode=False)
    build(root, 'bottomup')
    assert 'AP is not defined' in logged[-1]


def test_keypoints_that_are_not_in_their_boxes(root, logged):
    damage(root, every(bbox=[0, 0, 5, 5]))
    build(root, 'topdown')
    assert 'far outside of the boxes of their objects: are x and y exchanged' in logged[-1]


def test_a_point_is_no_box(root, logged):
    """Top-down needs boxes; one keypoint has no extent, and bottom-up needs none."""
    one = [30.0, 30.0, 2] + [0] * 48
    damage(root, every(bbox=None, keypoints=one, num_keypoints=1))
    with pytest.raises(ValueError, match='no person with a labelled keypoint and a box'):
        build(root, 'topdown', test_mode=False)
    dataset = build(root, 'bottomup')
    with pytest.raises(
        ValueError, match='annotation .*neither an area nor a box .* the metric|The'
    ):
        damage(root, every(area=None))
        metric_for(dataset)


@pytest.mark.parametrize('segmentation', [None, [[1, 1, 9, 1, 9, 9]]])
def test_unlabelled_objects_are_masked_by_their_box_if_by_nothing_else(root, segmentation):
    damage(root, first(keypoints=[], bbox=[10, 20, 30, 40], segmentation=segmentation))
    dataset = build(root, 'bottomup', test_mode=False)
    found = [seg for i in range(len(dataset)) for seg in dataset.get_data_info(i)['invalid_segs']]
    assert (segmentation or [[10, 20, 40, 20, 40, 60, 10, 60]]) in found


def test_a_crowd_needs_no_box(root, logged):
    def edit(contents):
        rle = dict(size=[80, 96], counts=[0, 800, 6880])  # the first ten columns
        first(keypoints=None, iscrowd=1, segmentation=rle, bbox=None)(contents)

    damage(root, edit)
    dataset = build(root, 'bottomup')
    boxes = np.concatenate([dataset.get_data_info(i)['bbox'] for i in range(len(dataset))])
    assert [0, 0, 10, 79] in boxes.tolist()


# -------------------------------------------------------------------- crowdpose
@pytest.mark.parametrize('flag, count', [(1, 0), (2, 14)])
def test_crowdpose_counts_on_its_own(root, flag, count):
    """Who has hidden keypoints only does not count there; a 0 beside visible ones is a mistake."""

    def edit(contents):
        del contents['categories'][0]['keypoints']
        every(keypoints=[30.0, 30.0, flag] * 14, num_keypoints=0)(contents)
        images_as(crowdIndex=0.5)(contents)

    damage(root, edit)
    dataset = build(root, 'bottomup', 'CheckedCrowdPoseDataset')
    crowd = dict(iou_type='keypoints_crowd', use_area=False)
    metric = metric_for(dataset, **crowd)
    assert {each['num_keypoints'] for each in metric.coco.dataset['annotations']} == {count}
    damage(root, images_as(crowdIndex=None))
    with pytest.raises(
        ValueError, match=r"image \d+: its crowdIndex is None.*iou_type='keypoints'"
    ):
        metric_for(dataset, **crowd)


def test_crowdpose_trains_on_hidden_keypoints(root):
    def edit(contents):
        del contents['categories'][0]['keypoints']
        every(keypoints=[30.0, 30.0, 1] * 14, num_keypoints=0)(contents)

    damage(root, edit)
    dataset = build(root, 'topdown', 'CheckedCrowdPoseDataset', test_mode=False)
    assert dataset.get_data_info(0)['num_keypoints'] == 14
