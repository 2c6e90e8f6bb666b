"""labelme's and Label Studio's files to COCO's, and the arguments of the conversion."""

import copy
import json
import math
import runpy
import sys

import cv2
import numpy as np
import pytest

from mmpose_attn.datasets.convert import convert_dataset
from mmpose_attn.datasets.convert.records import mirrored
from tests.helpers import ROOT
from tests.own_data import NAMES, SWAPS, draw_flies

WIDTH, HEIGHT = 200, 100
THREE = ['head', 'left_wing', 'right_wing']


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / 'pictures' / 'fly 1.png'
    path.parent.mkdir()
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return path


def annotations(folder):
    contents = json.loads((folder / 'annotations/train.json').read_text())
    return contents, contents['annotations']


# ------------------------------------------------------------------- labelme
def point(label, x, y, group=None, **more):
    return dict(label=label, points=[[x, y]], group_id=group, shape_type='point', **more)


def box(label, x, y, x2, y2, group=None):
    return dict(label=label, points=[[x, y], [x2, y2]], group_id=group, shape_type='rectangle')


def write_labelme(picture, shapes, **changes):
    contents = dict(
        version='5.5.0',
        flags={},
        shapes=shapes,
        imagePath=picture.name,
        imageData=None,
        imageHeight=HEIGHT,
        imageWidth=WIDTH,
    )
    file = picture.with_suffix('.json')
    file.write_text(json.dumps(contents | changes))
    return file.parent


def test_labelme(picture, tmp_path):
    corners = [[100, 10], [190, 10], [190, 90], [100, 90]]
    shapes = [
        box('fly', 90.5, 80, 10, 20.25, 1),  # drawn from the lower right
        point('head', 20.123, 30, 1),
        point('right_wing', 21, 31, 1, description='hidden'),
        dict(label='moth', points=corners, group_id=None, shape_type='polygon'),
        point('left_wing', 150, 50, flags=dict(visible=False, blurred=True)),
    ]
    folder = write_labelme(picture, shapes, imagePath='sub\\..\\fly 1.png')
    (folder / 'sub').mkdir()
    cv2.imwrite(str(folder / 'other.png'), np.zeros((5, 5, 3), np.uint8))
    said = convert_dataset([folder], tmp_path / 'c', keypoints=THREE)
    contents, (fly, moth) = annotations(tmp_path / 'c')
    assert fly['keypoints'] == [20.123, 30, 2, 0, 0, 0, 21, 31, 1]
    assert (fly['bbox'], fly['area']) == ([10, 20.25, 80.5, 59.75], 0.53 * 80.5 * 59.75)
    assert moth['keypoints'] == [0, 0, 0, 150, 50, 1, 0, 0, 0]
    assert (moth['bbox'], moth['area']) == ([100, 10, 90, 80], 7200)
    assert moth['segmentation'] == [[100, 10, 190, 10, 190, 90, 100, 90]]
    assert [c['name'] for c in contents['categories']] == ['fly', 'moth']
    assert contents['images'][0]['file_name'] == 'fly 1.png'
    assert 'left_wing / right_wing' in said and '1 pictures' in said and 'left out' in said


def test_labelme_without_boxes_or_objects(picture, tmp_path):
    shapes = [point('head', 20, 30), point('left_wing', 60, 50)]
    convert_dataset([write_labelme(picture, shapes)], tmp_path / 'c', keypoints=THREE)
    contents, (ann,) = annotations(tmp_path / 'c')
    assert ann['bbox'] == [16, 28, 48, 24] and contents['categories'][0]['name'] == 'object'
    convert_dataset([write_labelme(picture, [])], tmp_path / 'none', keypoints=THREE)
    assert annotations(tmp_path / 'none')[1] == []


FLY = [box('fly', 10, 10, 90, 90), point('head', 50, 50)]


@pytest.mark.parametrize(
    ('shapes', 'changes', 'message'),
    [
        ([*FLY, point('haed', 20, 20)], {}, r"fly 1\.json: shape 2 .*'haed' is none of the keyp"),
        ([*FLY, point('head', 20, 20)], {}, "shape 2 .*: 'head' again for the object of .*shape 1"),
        ([*FLY, point('left_wing', 95, 20)], {}, 'has no group_id, and lies in 0 boxes'),
        ([*FLY, box('fly', 5, 5, 95, 95)], {}, 'has no group_id, and lies in 2 boxes'),
        ([box('a', 1, 1, 9, 9, 1), box('a', 2, 2, 9, 9, 1)], {}, 'shape 1 .*a second box or class'),
        ([box('fly', 10, 10, 90, 90), point('head', 250, 50, 1)], {}, 'it has no box'),
        (
            [box('fly', 1, 1, 90, 90, 1), point('head', 250, 50, 1)],
            {},
            r'outside its picture of 200',
        ),
        ([point('head', 20, 30)], {}, 'do not say how large it is'),
        ([point('head', math.nan, 3)], {}, 'NaN'),
        (
            [dict(label='head', points=[[1, 2], [3, 4]], shape_type='line')],
            {},
            'shape 0 .*: a line',
        ),
        ([dict(label='head', points=[[1]], shape_type='point')], {}, 'not pairs of numbers'),
        ([point('head', 2, 3, description='hidden', flags=dict(seen=True))], {}, 'disagree'),
        (FLY, dict(imagePath='gone.png'), 'picture is not there: .*gone.png'),
        (FLY, dict(imagePath=''), 'no imagePath'),
        (FLY, dict(imageWidth=HEIGHT, imageHeight=WIDTH), 'exchanged: the picture has an EXIF'),
        (FLY, dict(imageWidth=640), 'a picture of 640x100 according to'),
        (FLY, dict(imageWidth=None), 'no imageWidth'),
        (FLY, dict(imagePath='C:\\fly 1.png'), r'imagePath .* another computer, .* by --images'),
        (FLY, dict(imagePath='/old/fly 1.png'), r'imagePath .* another computer, .* by --images'),
        (None, {}, 'no list of shapes'),
    ],
)
def test_labelme_errors(shapes, changes, message, picture, tmp_path):
    folder = write_labelme(picture, shapes, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert_dataset([folder], tmp_path / 'c', keypoints=THREE)
    assert {path.name for path in tmp_path.iterdir()} == {'pictures'}


def test_names_must_be_given_where_no_file_has_them(picture, tmp_path):
    folder = write_labelme(picture, FLY)
    with pytest.raises(
        ValueError, match=r'give their names .*labels of their points are head \(1\)'
    ):
        convert_dataset([folder], tmp_path / 'c')


def test_labelme_of_other_writers(picture, tmp_path):
    """AnyLabeling's rectangles have four corners, and old files no size."""
    corners = dict(box('fly', 0, 0, 0, 0), points=[[10, 10], [90, 10], [90, 90], [10, 90]])
    size = dict(imageWidth=None, imageHeight=None)
    convert_dataset(
        [write_labelme(picture, [corners, FLY[1]], **size)], tmp_path / 'c', keypoints=THREE
    )
    contents, (ann,) = annotations(tmp_path / 'c')
    assert ann['bbox'] == [10, 10, 80, 80] and ann['keypoints'][:3] == [50, 50, 2]
    assert (contents['images'][0]['width'], contents['images'][0]['height']) == (WIDTH, HEIGHT)


# -------------------------------------------------------------- Label Studio
def region(ident, kind, label, value, **more):
    return dict(
        id=ident,
        type=kind,
        from_name=kind,
        to_name='image',
        original_width=WIDTH,
        original_height=HEIGHT,
        image_rotation=0,
        value={**value, kind: [label]},
        **more,
    )


def spot(ident, label, x, y, **more):
    return region(ident, 'keypointlabels', label, dict(x=x, y=y, width=0.4), **more)


def frame(ident, label, x, y, w, h, rotation=0):
    value = dict(x=x, y=y, width=w, height=h, rotation=rotation)
    return region(ident, 'rectanglelabels', label, value)


def write_tasks(tmp_path, result, **task):
    contents = dict(
        id=7,
        data=dict(image='/data/upload/1/0a1b2c3d-fly%201.png'),
        annotations=[dict(id=1, result=result)],
    )
    file = tmp_path / 'export.json'
    file.write_text(json.dumps([contents | task]))
    return file


def convert_tasks(tmp_path, result, **task):
    file = write_tasks(tmp_path, result, **task)
    return convert_dataset([file], tmp_path / 'c', images=tmp_path / 'pictures', keypoints=THREE)


RESULT = [
    frame('r', 'fly', 10, 20, 30.3, 40),
    spot('a', 'head', 12.345678901234, 33.1, parentID='r'),
    spot('b', 'left_wing', 20, 50, meta=dict(text=['occluded'])),
    dict(type='relation', from_id='r', to_id='b', direction='right'),
    frame('s', 'fly', 60, 10, 30, 80),
    spot('c', 'right_wing', 70, 50, meta=dict(text=['second'])),
]
RESULT[4]['meta'] = dict(text=['second'])
RESULT.append(
    dict(id='c', type='choices', value=dict(choices=['hidden']), from_name='v', to_name='image')
)
RESULT.append(
    dict(id='q', type='choices', value=dict(choices=['good']), from_name='q', to_name='i')
)


def test_label_studio(picture, tmp_path):
    convert_tasks(tmp_path, RESULT)
    contents, (first, second) = annotations(tmp_path / 'c')
    assert first['keypoints'] == [24.691357802468, 33.1, 2, 40, 50, 1, 0, 0, 0]
    assert first['bbox'] == [20, 20, 60.6, 40]
    assert second['keypoints'] == [0, 0, 0, 0, 0, 0, 140, 50, 1]
    assert contents['images'][0] == dict(id=1, file_name='fly 1.png', width=WIDTH, height=HEIGHT)


def test_label_studio_stores_names_without_blanks(picture, tmp_path):
    convert_tasks(tmp_path, RESULT, data=dict(image='/data/upload/1/0a1b2c3d-fly_1.png'))
    assert annotations(tmp_path / 'c')[0]['images'][0]['file_name'] == 'fly 1.png'


def test_label_studio_rotations(picture, tmp_path):
    turned = frame('r', 'fly', 40, 30, 10, 40, rotation=90)  # 20 by 40 pixels about (80, 30)
    view = copy.deepcopy([turned, spot('a', 'head', 30, 40)])
    for part in view:
        part['image_rotation'] = 90  # how it was shown; regions are stored for it as it is
    convert_tasks(tmp_path, view)
    (ann,) = annotations(tmp_path / 'c')[1]
    assert ann['bbox'] == pytest.approx([40, 30, 40, 20])
    assert ann['keypoints'][:3] == [60, 40, 2]


def test_label_studio_polygons_and_plain_keypoints(picture, tmp_path):
    corners = dict(points=[[10, 10], [50, 10], [50, 60]])
    parts = [
        region('p', 'polygonlabels', 'fly', corners),
        dict(id='k', type='keypoint', value=dict(x=45, y=20, width=1), to_name='image'),
        dict(id='k', type='labels', value=dict(labels=['head']), to_name='image'),
    ]
    convert_tasks(tmp_path, parts)
    (ann,) = annotations(tmp_path / 'c')[1]
    assert (ann['bbox'], ann['area']) == ([20, 10, 80, 50], 2000)
    assert ann['keypoints'][:3] == [90, 20, 2]


def test_label_studio_chooses_an_annotation(picture, tmp_path):
    several = [
        dict(id=1, result=RESULT[:2], updated_at='2024-03-01T10:00:00Z'),
        dict(id=2, result=RESULT[:1], updated_at='2024-01-01T10:00:00Z'),
        dict(id=3, result=RESULT, was_cancelled=True, updated_at='2025-01-01T10:00:00Z'),
    ]
    said = convert_tasks(tmp_path, [], annotations=several)
    assert '1 tasks have several annotations' in said
    (ann,) = annotations(tmp_path / 'c')[1]
    assert ann['num_keypoints'] == 1
    several[1]['ground_truth'] = True
    file = write_tasks(tmp_path, [], annotations=several)
    convert_dataset([file], tmp_path / 'd', images=tmp_path / 'pictures', keypoints=THREE)
    (ann,) = annotations(tmp_path / 'd')[1]
    assert ann['num_keypoints'] == 0


def changed(index, **changes):
    result = copy.deepcopy(RESULT)
    result[index] |= changes
    return result


@pytest.mark.parametrize(
    ('result', 'task', 'message'),
    [
        (
            [*RESULT[:2], spot('z', 'haed', 15, 40)],
            {},
            "task 7, region z: the label 'haed' is none",
        ),
        ([*RESULT[:2], spot('z', 'head', 15, 40)], {}, "region z: 'head' again"),
        (
            [RESULT[0], RESULT[4], spot('z', 'head', 95, 95)],
            {},
            'no parent region or relation, and',
        ),
        (changed(0, original_width=640), {}, 'a picture of 640x100 according'),
        ([spot('z', 'head', 150, 40, parentID='r'), RESULT[0]], {}, 'region r: keypoint 0 lies at'),
        ([spot('z', 'head', 'x', 40)], {}, "region z: a coordinate is 'x', which is not a number"),
        (RESULT, dict(annotations=[]), 'no annotated pictures. .* without an annotation are left'),
        (RESULT, dict(data=dict(image='/data/upload/gone.png')), 'gone.png is not in'),
        (RESULT, dict(annotations=None, label=[]), 'annotations have no|has no'),
        (
            [region('z', 'ellipselabels', 'fly', dict(x=1, y=1, radiusX=2, radiusY=2))],
            {},
            'region z: neither a keypoint, a rectangle nor a polygon',
        ),
        ([region('z', 'brushlabels', 'fly', dict(rle=[1, 2]))], {}, 'region z: neither a keypoint'),
    ],
)
def test_label_studio_errors(result, task, message, picture, tmp_path):
    if task.get('label') == []:  # as JSON-MIN has it
        file = tmp_path / 'export.json'
        file.write_text(json.dumps([dict(id=1, image='x.png', label=[])]))
        with pytest.raises(ValueError, match='is not an export of Label Studio as JSON'):
            convert_dataset([file], tmp_path / 'c', images=tmp_path / 'pictures', keypoints=THREE)
        return
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert_tasks(tmp_path, result, **task)
    assert not (tmp_path / 'c').exists()


# ------------------------------------------------------------------ the rest
def test_mirror_partners_from_names():
    assert mirrored(NAMES) == list(SWAPS)
    assert mirrored(['LeftEye', 'rightEye', 'l-ear', 'R ear', 'tail', 'wing.left']) == [
        1,
        0,
        3,
        2,
        4,
        5,
    ]


def test_holding_out_is_the_same_every_time(tmp_path):
    flies = draw_flies(tmp_path / 'flies', dict(every=10), most=1)
    source = flies / 'annotations/every.json'
    options = dict(images=flies / 'images', target_format='coco', val=0.3)
    names = {}
    for out in ('a', 'b'):
        convert_dataset([source], tmp_path / out, **options)
        for split in ('train', 'val'):
            contents = json.loads((tmp_path / out / f'annotations/{split}.json').read_text())
            names[out, split] = [image['file_name'] for image in contents['images']]
    assert names['a', 'val'] == names['b', 'val'] and len(names['a', 'val']) == 3
    assert len({*names['a', 'train'], *names['a', 'val']}) == 10


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(outside='clip', keypoints=THREE), 'outside is'),
        (dict(val=1, keypoints=THREE), 'val is a share'),
        (
            dict(target_format='yolo', pictures='keep', keypoints=THREE),
            'pictures is one of link, copy',
        ),
        (dict(sigma=0, keypoints=THREE), 'sigmas above 0'),
        (dict(keypoints=['head', 'head']), "'head' twice"),
        (dict(keypoints=THREE, metainfo='m.py'), 'leave one of them out'),
        (dict(metainfo='gone.py'), 'metainfo file not found'),
        (dict(source_format='voc', keypoints=THREE), 'source format is one of'),
    ],
)
def test_bad_arguments(options, message, picture, tmp_path):
    folder = write_labelme(picture, FLY)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert_dataset([folder], tmp_path / 'c', **options)
    assert not (tmp_path / 'c').exists()


def test_command(picture, tmp_path, monkeypatch, capsys):
    folder, out = write_labelme(picture, FLY), tmp_path / 'c'
    command = ['convert_dataset', str(folder), '--out', str(out), '--keypoints', *THREE]
    monkeypatch.setattr(sys, 'argv', command)
    tool = str(ROOT / 'tools/convert_dataset.py')
    runpy.run_path(tool, run_name='__main__')
    assert '1 objects, 1 labelled keypoints' in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(tool, run_name='__main__')
    assert ended.value.code == 2 and 'is not an empty folder' in capsys.readouterr().err
