"""A small HigherHRNet-SE learns a few images by heart, through ``mim train`` and ``mim test``.

The AP is that of the training images: it says nothing about how well the network generalises, and
everything about whether targets, losses, decoding and the metric fit together. An error of half a
cell in any of them keeps it far below the bar.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from demo.training import CPU_TRAINING
from tests.data_helpers import DEMO, TRAIN, VAL, make_small_dataset, real_data

pytestmark = pytest.mark.slow

CONFIG = """
_base_ = [{base!r}]

model = dict(
    head=dict(
        num_basic_blocks=1,
        # from scratch the official, equal weights leave all tags at zero for long
        tag_loss=dict(pull_weight=0.002, push_weight=0.05),
    )
)
# about the scale at which the test sees the images
train_pipeline = [
    dict(type='LoadPoseImage'),
    dict(
        type='BottomupUniformAffine',
        input_size=(256, 256),
        rotate_factor=10.0,
        scale_factor=(0.9, 1.1),
        shift_factor=0.05,
    ),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='GenerateTarget', encoder=_base_.codec),
    dict(type='BottomupCrowdMask'),
    dict(type='PackBottomupInputs'),
]
# all images in every step
train_dataloader = dict(
    batch_size={images},
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=1)
test_dataloader = val_dataloader

steps = {steps}
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=steps, val_interval=steps)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=30, start_factor=0.05, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=steps, T_max=steps, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=steps))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


def suits(image: dict, people: list[dict]) -> bool:
    """One to three people, well labelled, in the middle square that the training crops."""
    if not 1 <= len(people) <= 3 or any(person.get('iscrowd') for person in people):
        return False
    size = np.array([image['width'], image['height']])
    for person in people:
        points = np.reshape(person['keypoints'], (-1, 3))
        points = points[points[:, 2] > 0, :2]
        if len(points) < 13 or np.abs(points - size / 2).max() > size.min() / 2:
            return False
    return True


def select(source: Path, folder: Path, target: Path, images: int) -> None:
    """Copy the image of several people and those of one who are largest, as training and as
    validation set of a new data root."""
    contents = json.loads(source.read_text())
    people = {image['id']: [] for image in contents['images']}
    for annotation in contents['annotations']:
        people[annotation['image_id']].append(annotation)

    def least_size(image: dict) -> float:
        areas = [person['area'] for person in people[image['id']]]
        return min(areas) ** 0.5 / min(image['width'], image['height'])

    fit = [image for image in contents['images'] if suits(image, people[image['id']])]
    fit.sort(key=least_size, reverse=True)
    several = [image for image in fit if len(people[image['id']]) > 1]
    alone = [image for image in fit if len(people[image['id']]) == 1]
    chosen = several[:1] + alone[: images - 1]
    assert len(several) and len(chosen) == images
    contents['images'] = chosen
    contents['annotations'] = [person for image in chosen for person in people[image['id']]]
    for name, split in ((TRAIN, 'train2017'), (VAL, 'val2017')):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(json.dumps(contents))
        (target / split).mkdir()
        for image in chosen:
            shutil.copy(folder / image['file_name'], target / split)


def test_overfit(tmp_path):
    images, steps = 4, 600
    try:
        root = real_data('coco_real')
        source, folder = root / 'annotations' / 'person_keypoints_val.json', root / 'images'
        kind = 'real images'
    except pytest.skip.Exception:
        look = dict(image_size=(320, 280), people=(1, 2), size=(0.6, 0.9), crowd_prob=0)
        root = make_small_dataset(tmp_path / 'synthetic', 40, 0, max_overlap=0.1, **look)
        source, folder = root / TRAIN, root / 'train2017'
        kind = 'synthetic images'
    select(source, folder, tmp_path / 'data', images)
    config = tmp_path / 'overfit.py'
    config.write_text(CONFIG.format(base=str(DEMO), images=images, steps=steps))
    env = {
        **CPU_TRAINING,
        **os.environ,
        'SYNTHETIC_ROOT': str(tmp_path / 'data'),
        'CUDA_VISIBLE_DEVICES': '-1',
        'OMP_NUM_THREADS': '2',
    }

    def mim(*args) -> None:
        command = [sys.executable, '-W', 'ignore', '-m', 'mim', *map(str, args)]
        result = subprocess.run(
            command,
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert result.returncode == 0, result.stdout

    start = time.perf_counter()
    mim('train', 'mmpose', config, '--work-dir', tmp_path / 'work')
    seconds = time.perf_counter() - start
    checkpoint, out = tmp_path / 'work' / f'iter_{steps}.pth', tmp_path / 'metrics.json'
    mim('test', 'mmpose', config, '--checkpoint', checkpoint, '--out', out)
    metrics = json.loads(out.read_text())
    print(
        f'\n{images} {kind}, {steps} steps: training AP {metrics["coco/AP"]:.3f}, '
        f'AR {metrics["coco/AR"]:.3f}, {seconds:.0f} s'
    )
    assert metrics['coco/AP'] >= 0.9
