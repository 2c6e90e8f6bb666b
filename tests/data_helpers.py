"""Small data sets, a config for a very small network, and the way to run it."""

import json
import os
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmpose_attn.datasets.synthetic import SyntheticConfig, make_dataset

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'configs' / 'demo_higherhrnet_se_synthetic_256.py'
TRAIN, VAL = (f'annotations/person_keypoints_{split}2017.json' for split in ('train', 'val'))

# The demo's network a few channels wide, on images of 64 pixels.
TINY = """
_base_ = [{base!r}]

codec = dict(_base_.codec, input_size=(64, 64), heatmap_size=[(16, 16), (32, 32)])
model = dict(
    backbone=dict(
        extra=dict(
            stage1=dict(num_channels=(8,)),
            stage2=dict(num_blocks=(1, 1), num_channels=(4, 8)),
            stage3=dict(num_blocks=(1, 1, 1), num_channels=(4, 8, 16)),
            stage4=dict(num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 16, 32)),
        )
    ),
    head=dict(
        in_channels=4,
        deconv_out_channels=(4,),
        decoder=dict(codec, heatmap_size=codec['input_size']),
    ),
)
train_pipeline = [
    dict(type='LoadPoseImage', skip_corrupt=True),
    dict(type='BottomupUniformAffine', input_size=codec['input_size']),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='BottomupCrowdMask'),
    dict(type='PackBottomupInputs'),
]
val_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupMultiScaleResize', input_size=codec['input_size'], scales=(1,)),
    dict(type='PackBottomupInputs'),
]
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline), **workers)
val_dataloader = dict(batch_size=2, dataset=dict(pipeline=val_pipeline), **workers)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
"""


def real_data(*parts: str) -> Path:
    """A file or folder of the real data: below ``MMPOSE_ATTN_DATA``, or beside the repository.

    Skips the test if it is not there.
    """
    root = os.environ.get('MMPOSE_ATTN_DATA')
    root = Path(root) if root else ROOT.parent / 'shared' / 'data'
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f'no real data: {"/".join(parts)} not found, see MMPOSE_ATTN_DATA')
    return path


def make_small_dataset(folder: Path, num_train: int = 4, num_val: int = 2, **look) -> Path:
    """A synthetic data root with images of 96x80 pixels and people that fill them."""
    look = dict(dict(image_size=(96, 80), people=(1, 2), size=(0.6, 0.9)), **look)
    return make_dataset(folder, num_train, num_val, config=SyntheticConfig(**look))


def edit_json(path: Path, edit) -> dict:
    """Change the contents of a JSON file by ``edit(contents)``, in place; returns them."""
    contents = json.loads(path.read_text())
    edit(contents)
    path.write_text(json.dumps(contents))
    return contents


def write_config(folder: Path, more: str = '', name: str = 'tiny.py', base: Path = DEMO) -> Path:
    """The config of a very small network, in ``folder``; ``more`` goes below.

    Its data are in the folder named by the environment variable ``SYNTHETIC_ROOT``.
    """
    path = folder / name
    path.write_text(TINY.format(base=str(base)) + more)
    return path


def build_runner(config: Path, work_dir: Path, **options) -> Runner:
    """MMEngine's Runner for a config file, as the command line makes it."""
    cfg = Config.fromfile(config)
    # yapf takes longer than everything else, and fromfile's own argument has no effect here
    object.__setattr__(cfg, '_format_python_code', False)
    cfg.work_dir = str(work_dir)
    # loggers and visualizers are global, by name
    cfg.experiment_name = uuid.uuid4().hex
    cfg.merge_from_dict(options)
    return Runner.from_cfg(cfg)


def record_log(monkeypatch, *modules) -> list[str]:
    """What modules give to ``print_log`` from now on, which logs it as well."""
    lines = []

    def record(message, *args, **kwargs):
        lines.append(message)
        print_log(message, *args, **kwargs)

    for module in modules:
        monkeypatch.setattr(module, 'print_log', record)
    return lines


def log_of(work_dir: Path) -> str:
    """What all runs in a work dir logged."""
    return '\n'.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))


def jpeg(height: int = 80, width: int = 96) -> bytes:
    """A valid JPEG file of that size."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.imencode('.jpg', noise)[1].tobytes()
