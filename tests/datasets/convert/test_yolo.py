"""YOLO-pose to COCO and back: every number as the text has it, and errors with file and line."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mmpose_attn.datasets.convert import convert_dataset
from tests.own_data import LINKS, NAMES, SWAPS, draw_flies, write_metainfo

ABOUT = dict(
    path='.',
    train='images/train',
    val=['images/val'],
    kpt_shape=[3, 3],
    flip_idx=[0, 2, 1],
    names={0: 'fly', 1: 'moth'},
)
ONE = '0 0.504167 0.380952 0.208333 0.285714 0.5 0.333333 2 0.416667 0.47619 1 0 0 0'
TWO = '1 0.25 0.25 0.1 0.2 0.25 0.25 2 0.3 0.3 2 0.2 0.2 1'


def write_set(folder, labels=None, **changes):
    """A set of three pictures, one of them a background; returns its data.yaml."""
    about = {k: v for k, v in (ABOUT | changes).items() if v is not None}
    for name in ('train/a.png', 'train/sub/b c.png', 'val/ü.png'):
        path = folder / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode('.png', np.zeros((105, 240, 3), np.uint8))[1].tobytes())
    for name, text in {
        'train/a.txt': f'{ONE}\n{TWO}\n',
        'val/ü.txt': ONE,
        **(labels or {}),
    }.items():
        path = folder / 'labels' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    file = folder / 'data.yaml'
    file.write_text(yaml.safe_dump(about))
    return file


def numbers(file):
    return [[float(word) for word in line.split()] for line in Path(file).read_text().splitlines()]


def load(folder, split='train'):
    return json.loads((folder / 'annotations' / f'{split}.json').read_text())


def test_to_coco(tmp_path):
    said = convert_dataset([write_set(tmp_path / 'y')], tmp_path / 'c')
    assert 'train: 2 pictures (1 without objects), 2 objects, 5 labelled keypoints' in said
    train, val = load(tmp_path / 'c'), load(tmp_path / 'c', 'val')
    assert [(i['file_name'], i['width'], i['height']) for i in train['images']] == [
        ('train/a.png', 240, 105),
        ('train/sub/b c.png', 240, 105),
    ]
    assert val['images'][0]['file_name'] == 'val/ü.png'
    first, second = train['annotations']
    assert first['keypoints'] == [120, 34.999965, 2, 100.00008, 49.99995, 1, 0, 0, 0]
    assert first['bbox'] == [96.00012, 24.999975, 49.99992, 29.99997]
    assert (first['num_keypoints'], first['category_id'], second['category_id']) == (2, 1, 2)
    assert first['area'] == pytest.approx(0.53 * 50 * 30, rel=1e-4)
    every = train['annotations'] + val['annotations']
    assert [ann['id'] for ann in every] == [1, 2, 3]
    assert [entry['name'] for entry in train['categories']] == ['fly', 'moth']
    info = parse_pose_metainfo(dict(from_file=str(tmp_path / 'c' / 'metainfo.py')))
    assert info['flip_indices'] == [0, 2, 1] and info['sigmas'] == pytest.approx([0.05] * 3)


@pytest.mark.parametrize('values', [2, 3])
def test_to_coco_and_back_is_the_same(tmp_path, values):
    rng = np.random.default_rng(0)
    lines = []
    for digits in (2, 5, 6, 9, 15):
        box = rng.uniform((0.3, 0.3, 0.1, 0.1), (0.7, 0.7, 0.5, 0.5))
        points = rng.uniform(0.01, 1, (3, 2))
        words = [f'{v:.{digits}f}' for v in box]
        for point in points:
            words += [f'{v:.{digits}f}' for v in point] + ['1'] * (values - 2)
        lines.append(' '.join(['1', *words]))
    labels = {'train/a.txt': '\n'.join(lines), 'val/ü.txt': ''}
    source = write_set(tmp_path / 'y', labels, kpt_shape=[3, values])
    convert_dataset([source], tmp_path / 'c')
    convert_dataset(
        [tmp_path / 'c/annotations/train.json', tmp_path / 'c/annotations/val.json'],
        tmp_path / 'back',
        images=tmp_path / 'y/images',
        metainfo=tmp_path / 'c/metainfo.py',
    )
    back = numbers(tmp_path / 'back/labels/train/a.txt')
    if values == 2:
        back = [[v for i, v in enumerate(row) if i < 5 or (i - 5) % 3 < 2] for row in back]
    assert back == numbers(tmp_path / 'y/labels/train/a.txt')
    assert not (tmp_path / 'back/labels/train/sub/b c.txt').read_text()
    about = yaml.safe_load((tmp_path / 'back/data.yaml').read_text())
    assert about['kpt_shape'] == [3, 3] and about['flip_idx'] == [0, 2, 1]
    assert about['names'] == ABOUT['names']
    assert (tmp_path / 'back/images/val/ü.png').read_bytes()


def test_coco_to_yolo_and_back_is_the_same(tmp_path):
    flies = draw_flies(tmp_path / 'flies', dict(train=3, val=2))
    sources = [flies / 'annotations' / f'{split}.json' for split in ('train', 'val')]
    meta = write_metainfo(tmp_path / 'meta.py')
    convert_dataset(sources, tmp_path / 'y', images=flies / 'images', metainfo=meta)
    convert_dataset([tmp_path / 'y/data.yaml'], tmp_path / 'c', pictures='copy')
    for split in ('train', 'val'):
        first, again = load(flies, split), load(tmp_path / 'c', split)
        assert [ann['keypoints'] for ann in again['annotations']] == [
            ann['keypoints'] for ann in first['annotations']
        ]
        assert [ann['bbox'] for ann in again['annotations']] == [
            ann['bbox'] for ann in first['annotations']
        ]
        assert again['categories'][0]['keypoints'] == list(NAMES)
        for image in again['images']:
            assert cv2.imread(str(tmp_path / 'c/images' / image['file_name'])).shape[:2] == (
                image['height'],
                image['width'],
            )
    about = parse_pose_metainfo(dict(from_file=str(tmp_path / 'c/metainfo.py')))
    assert about['flip_indices'] == list(SWAPS)
    assert [tuple(link) for link in about['skeleton_links']] == list(LINKS)


def test_lists_and_roboflow_paths(tmp_path):
    file = write_set(tmp_path, train='../images/train', val='val.txt')
    (tmp_path / 'val.txt').write_text('./images/val/ü.png\n\nimages/train/a.png\n')
    said = convert_dataset([file], tmp_path / 'c')
    assert 'train: 2 pictures' in said and 'val: 2 pictures' in said
    assert '1 pictures of val are in another split as well' in said


def test_names_by_number_and_a_list_from_windows(tmp_path):
    about = dict(
        train='train.txt', val=None, kpt_names={0: 'head', 1: 'left_wing', 2: 'right_wing'}
    )
    file = write_set(tmp_path, **about)
    (tmp_path / 'train.txt').write_text('images\\train\\a.png\r\nimages\\train\\sub\\b c.png\r\n')
    assert '3 keypoints: head, left_wing, right_wing' in convert_dataset([file], tmp_path / 'c')


def test_labels_that_are_nowhere(tmp_path):
    file = write_set(tmp_path)
    (tmp_path / 'labels/val/ü.txt').unlink()
    said = convert_dataset([file], tmp_path / 'c')
    assert f'none of the 1 pictures of val has a label file: no {tmp_path}/labels/val/ü.txt' in said
    (tmp_path / 'labels').rename(tmp_path / 'Labels')
    with pytest.raises(FileNotFoundError, match=r'none of the 2 pictures of train .*/train/a\.txt'):
        convert_dataset([file], tmp_path / 'd')


def test_two_values_and_missing_points(tmp_path):
    line = '0 0.5 0.5 0.4 0.4 0.5 0.5 0 0 -1 -1'
    file = write_set(tmp_path, {'train/a.txt': line, 'val/ü.txt': ''}, kpt_shape=[3, 2])
    convert_dataset([file], tmp_path / 'c')
    (ann,) = load(tmp_path / 'c')['annotations']
    assert ann['keypoints'] == [120, 52.5, 2, 0, 0, 0, 0, 0, 0]


def test_exif_counts_as_in_training(tmp_path):
    from PIL import Image

    file = write_set(tmp_path, {'train/a.txt': '', 'train/t.txt': ONE})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (105, 240)).save(tmp_path / 'images/train/t.jpg', exif=exif)
    convert_dataset([file], tmp_path / 'c')
    image = next(i for i in load(tmp_path / 'c')['images'] if i['file_name'] == 'train/t.jpg')
    assert (image['width'], image['height']) == (240, 105)
    path = str(tmp_path / 'images/train/t.jpg')
    assert cv2.imread(path).shape[:2] == (105, 240)


@pytest.mark.parametrize(
    ('labels', 'changes', 'message'),
    [
        ({'train/a.txt': f'{ONE}\n0 0.5 0.5 0.2 0.2'}, {}, r'a\.txt:2: 5 numbers, .* are 14'),
        ({'train/a.txt': ONE[:-2]}, {}, r'a\.txt:1: 13 numbers'),
        ({'train/a.txt': ONE.replace(' 2 ', ' ')}, {}, 'are 14'),
        ({'train/a.txt': f'{ONE}\n\n{ONE}'}, {}, r'a\.txt:3: the same object as in line 1'),
        ({'train/a.txt': '7' + ONE[1:]}, {}, r'a\.txt:1: class 7, but there are 0 to 1'),
        ({'train/a.txt': ONE.replace('0.5 ', 'nan ')}, {}, r'a\.txt:1: not all of it is numbers'),
        ({'train/a.txt': ONE.replace('0.5 ', '0,5 ')}, {}, r'a\.txt:1: not all of it is numbers'),
        ({'train/a.txt': ONE.replace('0.5 ', '1.5 ')}, {}, r'a\.txt:1: keypoint 0 lies at \(360'),
        ({'train/a.txt': ONE.replace(' 1 ', ' 0.93 ')}, {}, 'visibility 0.93.*predictions'),
        ({'train/a.txt': ONE.replace('0.208333', '0')}, {}, 'its box is 0 by 30 pixels'),
        ({'train/a.txt': ONE.replace('0.504167', '0.02')}, {}, 'its box .* reaches beyond'),
        ({'train/a.txt': ONE.replace('0.504167', '121')}, {}, 'the box is in pixels'),
        ({'train/gone.txt': ONE}, {}, r'gone\.txt: its picture is not there'),
        ({}, dict(kpt_shape=None), 'kpt_shape .* a data set of boxes'),
        ({}, dict(kpt_shape=[3, 4]), r'kpt_shape must be \[number of keypoints, 2 or 3\]'),
        ({}, dict(kpt_shape=[4, 3], flip_idx=None), 'are 17'),
        ({}, dict(flip_idx=[0, 2, 2]), r'flip_idx.*\[0, 2, 2\] does not say'),
        ({}, dict(flip_idx=[0, 1]), 'flip_idx'),
        ({}, dict(names=['fly', 'fly']), 'names must give every class'),
        ({}, dict(nc=3), 'nc is 3, but it names 2 classes'),
        ({}, dict(train='images/gone'), 'train is neither a folder nor a .txt list'),
        ({}, dict(train=None, val=None), 'names no pictures'),
        ({}, dict(kpt_names={0: ['a', 'b', 'c'], 1: ['a', 'b', 'd']}), 'kpt_names differ'),
    ],
)
def test_errors_name_file_and_line(labels, changes, message, tmp_path):
    file = write_set(tmp_path / 'y', labels, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert_dataset([file], tmp_path / 'c')
    assert {path.name for path in tmp_path.iterdir()} == {'y'}


def test_broken_pictures(tmp_path):
    file = write_set(tmp_path / 'y')
    (tmp_path / 'y/images/train/a.png').write_bytes(b'nothing')
    with pytest.raises(ValueError, match=r'a\.png cannot be read'):
        convert_dataset([file], tmp_path / 'c')
    shutil.rmtree(tmp_path / 'y/images/train')
    (tmp_path / 'y/images/train').mkdir()
    with pytest.raises(ValueError, match='train has no pictures'):
        convert_dataset([file], tmp_path / 'c')


def test_outside_can_be_unlabelled(tmp_path):
    line = ONE.replace('0.5 0.333333', '1.5 0.333333').replace('0.504167', '0.02')
    file = write_set(tmp_path / 'y', {'train/a.txt': line})
    convert_dataset([file], tmp_path / 'c', outside='unlabel')
    ann = load(tmp_path / 'c')['annotations'][0]
    assert ann['keypoints'][:3] == [0, 0, 0] and ann['num_keypoints'] == 1
    assert ann['bbox'][0] == 0 and ann['bbox'][2] == pytest.approx(29.8, abs=0.01)
