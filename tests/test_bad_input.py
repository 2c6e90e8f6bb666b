"""Bad files and configs, through the Runner that the command line uses.

Each ends in an error that names the file or the key and says what to do, or is left out with one
warning; none in a wrong result.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from mmpose.registry import MODELS

from tests.data_helpers import (
    TRAIN,
    VAL,
    build_runner,
    edit_json,
    jpeg,
    log_of,
    make_small_dataset,
    write_config,
)

pytestmark = pytest.mark.usefixtures('mmpose_scope')

NO_VAL = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    return make_small_dataset(tmp_path_factory.mktemp('data') / 'coco')


@pytest.fixture
def root(synthetic, tmp_path, monkeypatch):
    """A copy of a good data set to damage; the configs read it."""
    root = shutil.copytree(synthetic, tmp_path / 'coco')
    monkeypatch.setenv('SYNTHETIC_ROOT', str(root))
    return root


@pytest.fixture
def config(tmp_path, root):
    return write_config(tmp_path)


@pytest.fixture
def run(config, tmp_path):
    """``run('train' or 'val' or 'both', **options)`` -> the losses or metrics, and the log."""

    def run(what, **options):
        work_dir = tmp_path / 'work'
        if what == 'val':
            metrics = build_runner(config, work_dir, **options).test()
            return metrics, log_of(work_dir)
        runner = build_runner(config, work_dir, **(NO_VAL if what == 'train' else {}), **options)
        runner.train()
        losses = runner.message_hub.get_scalar('train/loss').data[0]
        assert len(losses) == 2 and np.isfinite(losses).all()
        return losses, log_of(work_dir)

    return run


def both_splits(function):
    return pytest.mark.parametrize(('split', 'name'), [('train', TRAIN), ('val', VAL)])(function)


def warnings_in(log):
    return [line for line in log.splitlines() if ' WARNING - ' in line and 'FileClient' not in line]


def labelled(contents):
    return [ann for ann in contents['annotations'] if ann['num_keypoints']]


# ------------------------------------------------------------------ good input
def test_good_input_gives_no_warning(run):
    losses, log = run('both')
    assert losses.max() < 10
    assert not [line for line in warnings_in(log) if 'mmpose_attn' in line or 'annotation' in line]
    assert 'coco/AP: 0.0000' in log  # this network finds nobody yet


def test_nobody_found_is_ap_zero(run):
    metrics, _ = run('val')
    assert metrics['coco/AP'] == metrics['coco/AR'] == 0


def test_annotations_without_info_and_licenses(root, run):
    for name in (TRAIN, VAL):
        edit_json(root / name, lambda c: (c.pop('info'), c.pop('licenses')))
    _, log = run('both')
    assert 'coco/AP: 0.0000' in log


# --------------------------------------------------------------- missing files
@both_splits
def test_missing_annotation_file(root, run, split, name):
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=f'annotation file not found: .*{name}.*COCO_ROOT='):
        run(split)


@both_splits
def test_missing_image_folder(root, run, split, name):
    shutil.rmtree(root / f'{split}2017')
    with pytest.raises(FileNotFoundError, match=f'image folder not found: .*{split}2017.*ROOT='):
        run(split)


@both_splits
@pytest.mark.parametrize('workers', [0, 1])
def test_image_folder_without_images(root, run, split, name, workers):
    for path in (root / f'{split}2017').iterdir():
        path.unlink()
    loader = 'train_dataloader' if split == 'train' else 'test_dataloader'
    with pytest.raises(FileNotFoundError, match=rf'image not found: .*{split}2017/\d+\.jpg.*exist'):
        run(split, **{f'{loader}.num_workers': workers})


def test_data_root_that_nobody_set(run, monkeypatch, tmp_path):
    monkeypatch.delenv('SYNTHETIC_ROOT')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='not found: data/synthetic/.*SYNTHETIC_ROOT'):
        run('train')


def test_missing_checkpoint(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.pth does not exist'):
        run('val', load_from=str(tmp_path / 'gone.pth'))


# -------------------------------------------------------------------- images
IMAGE_DAMAGE = {
    'empty': b'',
    'truncated': jpeg()[:2000],
    'text': b'404 Not Found',
    'other size': jpeg(40, 48),
}


@pytest.mark.parametrize('damage', IMAGE_DAMAGE)
def test_bad_image_is_skipped_in_training(root, run, damage):
    path = sorted((root / 'train2017').iterdir())[1]
    path.write_bytes(IMAGE_DAMAGE[damage])
    _, log = run('train')
    (line,) = [line for line in warnings_in(log) if 'skipped' in line]
    assert f'skipped unusable image {path}' in line


@pytest.mark.parametrize('damage', IMAGE_DAMAGE)
def test_bad_image_is_an_error_in_evaluation(root, run, damage):
    path = sorted((root / 'val2017').iterdir())[1]
    path.write_bytes(IMAGE_DAMAGE[damage])
    with pytest.raises(ValueError, match=f'unusable image {path}.*: replace the file or take it'):
        run('val')


# ---------------------------------------------------------------- annotations
@both_splits
@pytest.mark.parametrize('content', ['', '{"images": [{"id": 1', 'not JSON at all'])
def test_corrupt_json(root, run, split, name, content):
    (root / name).write_text(content)
    with pytest.raises(ValueError, match=f'{name} is not valid JSON'):
        run(split)


@both_splits
def test_wrong_number_of_joints(root, run, split, name):
    def edit(contents):
        for ann in contents['annotations']:
            ann['keypoints'] = ann['keypoints'][: 3 * 14]

    edit_json(root / name, edit)
    with pytest.raises(ValueError, match=rf'{name}: annotation \d+ .* 42 .* 17 keypoints, 51 num'):
        run(split)


def test_wrong_annotation_file_in_the_metric(run, synthetic):
    # a network that finds nobody would hide it: this one finds someone everywhere
    everywhere = dict(type='Constant', layer='Conv2d', val=0.0, bias=1.0)
    with pytest.raises(
        ValueError, match='results on 2 images, such as .*, that are not in .*train'
    ):
        run(
            'val',
            **{
                'test_evaluator.ann_file': str(synthetic / TRAIN),
                'model.head.init_cfg': everywhere,
            },
        )


def no_people(contents):
    contents['annotations'] = []


def all_invisible(contents):
    for ann in contents['annotations']:
        ann['keypoints'][2::3] = [0] * 17


@pytest.mark.parametrize('edit', [no_people, all_invisible])
def test_nobody_in_the_annotations(root, run, edit):
    for name in (TRAIN, VAL):
        edit_json(root / name, edit)
    with pytest.raises(ValueError, match=f'{TRAIN} has no person with a labelled keypoint'):
        run('train')
    metrics, log = run('val')
    (line,) = [line for line in warnings_in(log) if 'annotation' in line]
    assert f'{VAL} has no person' in line and 'AP is not defined (-1)' in line
    if edit is no_people:
        assert metrics['coco/AP'] == -1


def test_some_images_without_people(root, run):
    def edit(contents):
        image = contents['images'][0]['id']
        contents['annotations'] = [a for a in contents['annotations'] if a['image_id'] != image]

    for name in (TRAIN, VAL):
        edit_json(root / name, edit)
    _, log = run('both')  # 3 of 4 images have people: still two batches
    assert 'coco/AP: 0.0000' in log


@pytest.mark.parametrize(
    ('value', 'message'),
    [(float('nan'), 'are not numbers'), (float('inf'), 'are not numbers'), (5000.0, 'lie outside')],
)
def test_bad_coordinates(root, run, value, message):
    def edit(contents):
        for ann in labelled(contents)[:2]:
            ann['keypoints'][:3] = [value, 10.0, 2]

    for name in (TRAIN, VAL):
        edit_json(root / name, edit)
    _, log = run('train')
    (line,) = [line for line in warnings_in(log) if 'keypoints' in line]
    assert f'{TRAIN}: 2 labelled keypoints {message}' in line and 'used as unlabelled' in line
    if np.isfinite(value):
        assert run('val')[0]['coco/AP'] == 0  # the metric's own affair
    else:
        with pytest.raises(ValueError, match=rf'{VAL}: annotation \d+ .* is not a number'):
            run('val')


def test_crowd_of_another_image(root, run):
    contents = json.loads((root / TRAIN).read_text())
    contents['annotations'].append(
        dict(
            id=10**6,
            image_id=contents['images'][0]['id'],
            category_id=1,
            iscrowd=1,
            bbox=[0, 0, 50, 50],
            area=100,
            keypoints=[0] * 51,
            num_keypoints=0,
            segmentation=dict(size=[50, 50], counts=[2400, 100]),
        )
    )
    (root / TRAIN).write_text(json.dumps(contents))
    with pytest.raises(
        ValueError, match=r'annotation 1000000 of image 1: .* of size \[50, 50\], .*\[80, 96\]'
    ):
        run('train')


# ---------------------------------------------------------------- checkpoints
@pytest.fixture
def wider(config, tmp_path):
    """A checkpoint of the same network, twice as wide at the end of the backbone."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {
            'model.backbone.extra.stage4.num_channels': (8, 8, 16, 32),
            'model.head.in_channels': 8,
        }
    )
    path = tmp_path / 'wider.pth'
    save_checkpoint(dict(meta={}, state_dict=MODELS.build(cfg.model).state_dict()), str(path))
    return path


@pytest.mark.parametrize('what', ['train', 'val'])
def test_checkpoint_for_another_width(run, wider, what):
    with pytest.raises(ValueError, match='does not fit HigherHRNetEstimator') as error:
        run(what, load_from=str(wider))
    text = str(error.value)
    assert 'backbone.stage4.0.' in text and '(8,' in text
    assert 'Use the config that the checkpoint was trained with' in text


def test_resume_from_another_width(run, wider):
    with pytest.raises(ValueError, match='does not fit HigherHRNetEstimator'):
        run('train', load_from=str(wider), resume=True)


def test_checkpoint_of_another_network(run, tmp_path):
    path = tmp_path / 'other.pth'
    save_checkpoint(dict(state_dict=torch.nn.Linear(2, 2).state_dict()), str(path))
    with pytest.raises(ValueError, match='shares no key with HigherHRNetEstimator'):
        run('val', load_from=str(path))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 half a checkpoint', b'<html>'])
def test_corrupt_checkpoint(run, tmp_path, content):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=r'broken\.pth .* truncated, damaged or no PyTorch'):
        run('val', load_from=str(path))


# -------------------------------------------------------------------- configs
def plugin(type='SEAttention', position='stem', **kwargs):
    return {'model.backbone.plugins': [dict(cfg=dict(type=type), position=position, **kwargs)]}


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (plugin(type='SqueezeAttention'), KeyError, "plugin is registered as 'SqueezeAttention'"),
        (plugin(position='end'), ValueError, "position 'end'; the positions are .*'stem'"),
        (plugin(position='fuse', stages=(9,)), ValueError, r'stages=\(9,\).*matches nothing; .*4'),
        (plugin(where='stem'), ValueError, r"unknown key \['where'\]"),
        ({'model.head.type': 'HighestHRNetHead'}, KeyError, 'HighestHRNetHead is not in the'),
        ({'model.test_cfg.stage_resize': 'nearest'}, ValueError, "stage_resize .* 'nearest'"),
        ({'train_dataloader.dataset.type': 'CocoSet'}, KeyError, 'CocoSet is not in the'),
    ],
)
def test_config_with_an_unknown_name(run, options, error, message):
    what = 'train' if 'train_dataloader.dataset.type' in options else 'val'
    with pytest.raises(error, match=message):
        run(what, **options)


def test_head_for_other_keypoints(run):
    with pytest.raises((RuntimeError, ValueError), match='14.*17'):
        run('train', **{'model.head.num_keypoints': 14})


def test_codec_with_one_resolution(config, run):
    config.write_text(config.read_text().replace('[(16, 16), (32, 32)]', '(16, 16)'))
    with pytest.raises(ValueError, match='2 stages but the targets have 1 resolution'):
        run('train')


def test_test_scales_without_multiscale(config, run):
    config.write_text(config.read_text().replace('scales=(1,)', 'scales=(1, 2)'))
    with pytest.raises(ValueError, match='image pyramid; set model.test_cfg.multiscale_test=True'):
        run('val')
