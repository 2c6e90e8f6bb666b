import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmpose_attn.datasets.synthetic import (
    MARKER,
    SyntheticConfig,
    make_dataset,
    render,
    render_scene,
)
from mmpose_attn.datasets.synthetic.annotations import see, to_polygons, to_rle
from mmpose_attn.datasets.synthetic.body import build_person
from mmpose_attn.datasets.synthetic.painting import paint_person
from mmpose_attn.datasets.synthetic.parts import ADJACENT, KEYPOINTS, PARTS, UPPER_ARM

ROOT = Path(__file__).resolve().parents[2]
CONFIG = SyntheticConfig(image_size=(192, 160), crowd_prob=0.4, max_overlap=0.5, occluder_prob=0.4)


def _bytes(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()
    }


def _points(annotation):
    return np.array(annotation['keypoints']).reshape(17, 3)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp('data') / 'coco', 24, 8, seed=3, config=CONFIG)


@pytest.fixture(scope='module')
def scenes():
    return [render_scene(i, CONFIG, seed=5) for i in range(40)]


def test_same_arguments_same_bytes_whatever_the_workers(dataset, tmp_path):
    again = make_dataset(tmp_path / 'again', 24, 8, seed=3, config=CONFIG, workers=2)
    assert _bytes(again) == _bytes(dataset)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['again']


def test_a_picture_depends_on_seed_split_and_index_alone():
    image, annotations = render(7, CONFIG, seed=1)
    render(2, CONFIG, seed=9)
    same, same_annotations = render(7, CONFIG, seed=1)
    assert np.array_equal(image, same) and annotations == same_annotations
    for other in (
        render(7, CONFIG, seed=2),
        render(8, CONFIG, seed=1),
        render(7, CONFIG, seed=1, split='val'),
    ):
        assert other[1] != annotations and not np.array_equal(other[0], image)


def test_validation_does_not_depend_on_the_training_size(dataset, tmp_path):
    small = make_dataset(tmp_path / 'small', 0, 8, seed=3, config=CONFIG)
    name = 'annotations/person_keypoints_val2017.json'
    assert (small / name).read_bytes() == (dataset / name).read_bytes()
    assert (
        json.loads((small / 'annotations/person_keypoints_train2017.json').read_text())['images']
        == []
    )


def test_json_is_valid_coco(dataset):
    seen = set()
    for split, count in (('train', 24), ('val', 8)):
        coco = COCO(str(dataset / f'annotations/person_keypoints_{split}2017.json'))
        assert len(coco.imgs) == count == len(list((dataset / f'{split}2017').iterdir()))
        assert not seen & set(coco.imgs)
        seen |= set(coco.imgs)
        (category,) = coco.loadCats(coco.getCatIds(['person']))
        assert category['keypoints'] == list(KEYPOINTS) and len(category['skeleton']) == 19
        assert category['skeleton'][0] == [16, 14] and category['id'] == 1
        assert len(coco.anns) == len(coco.dataset['annotations'])  # ids are unique
        for image in coco.imgs.values():
            pixels = cv2.imread(str(dataset / f'{split}2017' / image['file_name']))
            assert pixels.shape == (image['height'], image['width'], 3) == (160, 192, 3)
            assert image['file_name'] == f'{image["id"]:012d}.jpg'
            assert coco.getAnnIds(image['id'], iscrowd=False)
        for a in coco.anns.values():
            image = coco.imgs[a['image_id']]
            mask = coco.annToMask(a)
            assert a['area'] == mask.sum() == mask_utils.area(coco.annToRLE(a))
            ys, xs = np.nonzero(mask)
            assert a['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            points = _points(a)
            assert a['num_keypoints'] == (points[:, 2] > 0).sum() and a['category_id'] == 1
            assert set(points[:, 2]) <= {0, 1, 2}
            labelled = points[points[:, 2] > 0]
            assert (points[points[:, 2] == 0] == 0).all() and (labelled >= 0).all()
            assert (labelled[:, :2] <= (image['width'] - 1, image['height'] - 1)).all()
            if a['iscrowd']:
                assert a['num_keypoints'] == 0 and isinstance(a['segmentation']['counts'], list)
    assert json.loads((dataset / MARKER).read_text())['images'] == {'train': 24, 'val': 8}


def test_masks_are_the_rendered_pixels(scenes):
    for scene in scenes:
        h, w = scene.owners.shape
        for a, entity in zip(scene.annotations, scene.entities):
            rle = mask_utils.merge(mask_utils.frPyObjects(a['segmentation'], h, w))
            assert np.array_equal(mask_utils.decode(rle) > 0, scene.owners // PARTS == entity)


def test_holes_survive_polygons():
    mask = np.zeros((20, 30), bool)
    mask[2:18, 3:25] = True
    mask[5:9, 6:12] = mask[7:15, 15:20] = mask[12, 5] = False
    mask[0, 29] = True
    polygons = to_polygons(mask)
    decoded = mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(polygons, 20, 30)))
    assert len(polygons) == 2 and np.array_equal(decoded > 0, mask)


@pytest.mark.parametrize('first', [False, True])
def test_uncompressed_rle(first):
    mask = np.random.default_rng(0).random((9, 7)) < 0.5
    mask[0, 0], mask[-1, -1] = first, not first
    rle = to_rle(mask)
    assert sum(rle['counts']) == 63
    assert np.array_equal(mask_utils.decode(mask_utils.frPyObjects(rle, 9, 7)) > 0, mask)


def test_visibility_agrees_with_the_picture(scenes):
    hidden_by_others = hidden_by_self = outside = 0
    for scene in scenes:
        for a, entity in zip(scene.annotations, scene.entities):
            for j, (x, y, v) in enumerate(_points(a)):
                who, part = divmod(int(scene.owners[int(y + 0.5), int(x + 0.5)]), PARTS)
                if v == 2:  # nothing nearer, and if it is the person then the right part
                    assert who < entity or (who == entity and part in ADJACENT[j])
                elif v == 1 and j not in (*range(5), 5, 6, 11, 12):
                    # Head and trunk also hide what is on their far side, limbs do not.
                    assert who > entity or (who == entity and part not in ADJACENT[j])
                    hidden_by_others += who > entity
                    hidden_by_self += who == entity
                outside += v == 0
    assert hidden_by_others > 20 and hidden_by_self > 20 and outside > 5


def test_an_occluder_hides_what_it_covers():
    """Painting the same people without objects in front changes v, where the object is, only."""
    person = build_person(np.random.default_rng(1), 0.0)
    owners = np.zeros((300, 300), np.int32)
    image = np.zeros((300, 300, 3), np.uint8)
    origin = np.array([150.0, 160.0])
    paint_person(
        np.random.default_rng(0), image, owners, person, 240.0, origin, np.array([0.0, -1.0]), 1
    )
    before = see(person, 240.0, origin, 1, owners)
    box = owners.copy()
    box[:, :150] = 2 * PARTS
    after = see(person, 240.0, origin, 1, box)
    covered = after[:, 0] + 0.5 < 150
    assert covered.any() and not covered.all()
    assert (after[covered, 2] == 1).all() and (after[~covered] == before[~covered]).all()


def test_left_is_on_the_right_of_a_person_who_faces_the_camera(scenes):
    """The nose and both eyes show only from the front; then the body mostly faces front too."""
    front, back = [], []
    for scene in scenes:
        for a in scene.annotations:
            p = _points(a)
            trunk = p[[5, 6, 11, 12]]
            if a['iscrowd'] or (trunk[:, 2] == 0).any():
                continue
            upright = trunk[2:, 1].mean() - trunk[:2, 1].mean() > 0.3 * a['bbox'][3]
            side = p[5, 0] - p[6, 0]
            if upright and abs(side) > 0.2 * a['bbox'][2]:
                (front if (p[:3, 2] == 2).all() else back).append(side > 0)
    assert len(front) > 15 and np.mean(front) > 0.9
    if back:
        assert np.mean(back) < 0.7


def test_keypoints_lie_on_their_limbs(scenes):
    """Visible elbows, wrists, knees and ankles are on the person's own pixels."""
    on_limb = [
        int(scene.owners[int(y + 0.5), int(x + 0.5)]) // PARTS == entity
        for scene in scenes
        for a, entity in zip(scene.annotations, scene.entities)
        for x, y, v in _points(a)[7:]
        if v == 2
    ]
    assert np.mean(on_limb) > 0.99
    assert min(min(parts) for parts in ADJACENT[7:11]) >= UPPER_ARM


def test_people_count_sizes_and_overlap():
    for people, expected in (((1, 1), {1}), ((2, 4), {2, 3, 4})):
        config = SyntheticConfig(
            image_size=((160, 128), (224, 192)),
            people=people,
            max_overlap=0,
            truncation_prob=0,
            crowd_prob=0,
            size=(0.2, 0.6),
        )
        sizes = set()
        counts = set()
        for i in range(16):
            image, annotations = render(i, config)
            h, w = image.shape[:2]
            assert 160 <= w <= 224 and 128 <= h <= 192
            sizes.add((w, h))
            counts.add(len(annotations))
            boxes = np.array([a['bbox'] for a in annotations])
            assert (boxes[:, 2:].max(1) <= 0.6 * h + 3).all()
            assert all((_points(a)[:, 2] > 0).all() for a in annotations)
            boxes[:, 2:] += boxes[:, :2]
            for k, a in enumerate(boxes):
                for b in boxes[k + 1 :]:  # anti-aliasing may make neighbours touch
                    assert (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min() <= 3
        assert counts <= expected and len(sizes) > 1 and (len(counts) > 1 or people == (1, 1))


def test_crowds_on_demand():
    config = SyntheticConfig(image_size=(192, 160), crowd_prob=1.0, people=(1, 2), size=(0.2, 0.5))
    for i in range(5):
        image, annotations = render(i, config)
        *people, crowd = annotations
        assert crowd['iscrowd'] == 1 and not any(a['iscrowd'] for a in people)
        assert crowd['num_keypoints'] == 0 and not any(crowd['keypoints'])
        mask = mask_utils.decode(mask_utils.frPyObjects(crowd['segmentation'], *image.shape[:2]))
        assert mask.sum() == crowd['area'] >= 64
    assert not any(
        a['iscrowd']
        for i in range(5)
        for a in render(i, SyntheticConfig(image_size=(192, 160), crowd_prob=0.0))[1]
    )


def test_photographs_as_backgrounds(tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    cv2.imwrite(str(photos / 'red.png'), np.full((50, 400, 3), (0, 0, 200), np.uint8))
    config = SyntheticConfig(
        image_size=(96, 128),
        people=(1, 1),
        size=(0.2, 0.4),
        noise=(0, 0),
        backgrounds=photos,
    )
    scene = render_scene(0, config)
    outside = scene.image[scene.owners == 0].mean(0)
    assert scene.image.shape == (128, 96, 3) and outside[2] > 80 + outside[:2].max()
    out = make_dataset(tmp_path / 'out', 1, 0, config=config)
    assert json.loads((out / MARKER).read_text())['config']['backgrounds'] == str(photos)


def test_never_overwrites_what_it_did_not_write(dataset, tmp_path):
    with pytest.raises(FileExistsError, match='not an empty folder'):
        make_dataset(dataset, 1, 0)
    (tmp_path / 'photo.jpg').write_text('mine')
    with pytest.raises(FileExistsError, match=MARKER):
        make_dataset(tmp_path, 1, 0, overwrite=True)
    assert os.listdir(tmp_path) == ['photo.jpg']
    out = make_dataset(tmp_path / 'new', 1, 0, config=CONFIG)
    before = _bytes(out)
    assert _bytes(make_dataset(out, 1, 0, seed=1, config=CONFIG, overwrite=True)) != before
    assert sorted(os.listdir(tmp_path)) == ['new', 'photo.jpg']


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, error):
    out = make_dataset(tmp_path / 'out', 2, 0, config=CONFIG)
    before = _bytes(out)

    def fail(index, *_):
        if index:
            raise error
        return render(index, CONFIG)

    monkeypatch.setattr('mmpose_attn.datasets.synthetic.dataset.render', fail)
    for name, overwrite in (('other', False), ('out', True)):
        with pytest.raises(error):
            make_dataset(tmp_path / name, 2, 0, seed=1, config=CONFIG, overwrite=overwrite)
    assert os.listdir(tmp_path) == ['out'] and _bytes(out) == before


@pytest.mark.parametrize(
    'field, value',
    [
        ('image_size', (32, 32)),
        ('image_size', (320.0, 256.0)),
        ('image_size', 320),
        ('image_size', ((320, 256), (200, 300))),
        ('image_size', ((320, 256), 3)),
        ('people', (0, 3)),
        ('people', (3, 1)),
        ('people', 2),
        ('people', (1.0, 2.0)),
        ('size', (0.9, 0.2)),
        ('size', ('a', 'b')),
        ('max_overlap', 1.5),
        ('max_overlap', None),
        ('occluder_prob', -0.1),
        ('crowd_prob', 'yes'),
        ('truncation_prob', float('nan')),
        ('blur', (-1, 0)),
        ('noise', (0, 100)),
        ('jpeg_quality', (0, 95)),
        ('backgrounds', '/no/such/folder'),
    ],
)
def test_bad_config_names_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        SyntheticConfig(**{field: value})


def test_bad_arguments_are_named(tmp_path):
    for name, value in (('num_train', -1), ('num_val', 1.5), ('seed', -1), ('workers', -2)):
        with pytest.raises(ValueError, match=name):
            make_dataset(tmp_path / 'out', **{'num_train': 1, 'num_val': 1, name: value})
    with pytest.raises(ValueError, match='both be 0'):
        make_dataset(tmp_path / 'out', 0, 0)
    for name, value in (('index', -1), ('seed', -1), ('split', 'test')):
        with pytest.raises(ValueError, match=name):
            render(**{'index': 0, name: value})
    with pytest.raises(ValueError, match='people=.20, 20. do not fit'):
        render(
            0,
            SyntheticConfig(image_size=(96, 96), people=(20, 20), size=(0.9, 0.95), max_overlap=0),
        )
    assert not any(tmp_path.iterdir())


def test_command_line_help(monkeypatch, capsys):
    tool = str(ROOT / 'tools/make_synthetic_coco.py')
    monkeypatch.setattr(sys, 'argv', [tool, '--help'])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(tool, run_name='__main__')
    text = capsys.readouterr().out
    assert done.value.code == 0 and '--max-overlap' in text and '--workers' in text


def test_command_line(tmp_path):
    options = 'out --num-train 3 --num-val 1 --image-size 96 128 --people 1 2 --seed 4'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/make_synthetic_coco.py'), *options.split()],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    config = SyntheticConfig(image_size=(96, 128), people=(1, 2))
    expected = make_dataset(tmp_path / 'expected', 3, 1, seed=4, config=config)
    assert _bytes(tmp_path / 'out') == _bytes(expected)
