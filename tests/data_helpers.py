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
from scipy.io import savemat

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

# A top-down config with a network a few channels wide.
TINY_TOPDOWN = """
_base_ = [{base!r}]

model = dict(
    backbone=dict(
        init_cfg=None,
        extra=dict(
            stage1=dict(num_blocks=(1,), num_channels=(8,)),
            stage2=dict(num_blocks=(1, 1), num_channels=(8, 16)),
            stage3=dict(num_modules=1, num_blocks=(1, 1, 1), num_channels=(8, 16, 32)),
            stage4=dict(num_modules=1, num_blocks=(1, 1, 1, 1), num_channels=(8, 16, 32, 64)),
            # Lite-HRNet's way of saying it
            stages_spec=dict(
                num_modules=(1, 1, 1),
                num_blocks=(1, 1, 1),
                num_channels=((8, 16), (8, 16, 32), (8, 16, 32, 64)),
            ),
        ),
    ),
    head=dict(in_channels=8),
)
workers = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_dataloader = workers
val_dataloader = workers
test_dataloader = workers
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


def make_crowdpose(coco: Path, folder: Path) -> Path:
    """A synthetic COCO's images with CrowdPose's joints and file names."""
    order = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 5]  # a nose for the head's top
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'images').mkdir()
    for source, target in ((TRAIN, 'trainval'), (VAL, 'test')):
        file = json.loads((coco / source).read_text())
        for annotation in file['annotations']:
            points = np.array(annotation['keypoints']).reshape(17, 3)[order]
            annotation['keypoints'] = points.ravel().tolist()
            annotation['num_keypoints'] = int((points[:, 2] > 0).sum())
        for image in file['images']:
            image['crowdIndex'] = 0.5
        link_images(coco, folder / 'images', file)
        (folder / f'annotations/mmpose_crowdpose_{target}.json').write_text(json.dumps(file))
    return folder


def make_mpii(coco: Path, folder: Path) -> Path:
    """A synthetic COCO's images with MPII's joints, files and way of counting from 1."""
    order = [16, 14, 12, 11, 13, 15, 11, 5, 0, 0, 10, 8, 6, 5, 7, 9]
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'images').mkdir()
    for source, target in ((TRAIN, 'train'), (VAL, 'val')):
        file = json.loads((coco / source).read_text())
        names = {image['id']: image['file_name'] for image in file['images']}
        people = []
        for annotation in persons(file):
            points = np.array(annotation['keypoints'], float).reshape(17, 3)[order]
            x, y, width, height = annotation['bbox']
            scale = max(width, height) / 200
            people.append(
                dict(
                    image=names[annotation['image_id']],
                    # MPII's centre lies higher; the data set lowers it by 15 times the scale
                    center=[x + width / 2 + 1, y + height / 2 + 1 - 15 * scale],
                    scale=scale,
                    joints=(points[:, :2] + 1).tolist(),
                    joints_vis=(points[:, 2] > 0).astype(int).tolist(),
                )
            )
        link_images(coco, folder / 'images', file)
        (folder / f'annotations/mpii_{target}.json').write_text(json.dumps(people))
    heads = np.tile(np.array([[10.0, 10], [22, 26]])[..., None], len(people))
    savemat(folder / 'annotations/mpii_gt_val.mat', dict(headboxes_src=heads))
    return folder


def make_lspet(coco: Path, folder: Path) -> Path:
    """A synthetic COCO's images with the joints and files of Leeds Sports Pose Extended."""
    (folder / 'images').mkdir(parents=True)
    for source, target in ((TRAIN, 'train'), (VAL, 'val')):
        file = json.loads((coco / source).read_text())
        for annotation in file['annotations']:
            annotation['keypoints'][: 3 * 5] = [0] * (3 * 5)  # nobody has a face
        link_images(coco, folder / 'images', file)
        (folder / f'lspet_{target}.json').write_text(json.dumps(file))
    return folder


def persons(file: dict) -> list[dict]:
    """The labelled people of a COCO file's contents."""
    return [ann for ann in file['annotations'] if ann['num_keypoints'] and not ann['iscrowd']]


def link_images(coco: Path, folder: Path, file: dict) -> None:
    """Symbolic links, in one folder, to the images of a COCO file's contents."""
    for image in file['images']:
        source = next(coco.glob(f'*2017/{image["file_name"]}'))
        (folder / image['file_name']).symlink_to(source)


def make_detections(annotations: Path, detections: Path) -> Path:
    """A detector's file: every labelled person's box, with a score."""
    people = persons(json.loads(annotations.read_text()))
    boxes = [
        dict(image_id=ann['image_id'], category_id=1, bbox=ann['bbox'], score=0.5 + 0.4 / (i + 1))
        for i, ann in enumerate(people)
    ]
    detections.parent.mkdir(exist_ok=True)
    detections.write_text(json.dumps(boxes))
    return detections


def make_topdown_data(folder: Path, num_train: int = 4, num_val: int = 2) -> dict[str, Path]:
    """COCO, CrowdPose, MPII and LSPET for the top-down configs, by their environment variables."""
    coco = make_small_dataset(folder / 'coco', num_train, num_val)
    name = 'COCO_val2017_detections_AP_H_56_person.json'
    make_detections(coco / VAL, coco / 'person_detection_results' / name)
    crowdpose = make_crowdpose(coco, folder / 'crowdpose') / 'annotations'
    test = crowdpose / 'mmpose_crowdpose_test.json'
    make_detections(test, crowdpose / 'det_for_crowd_test_0.1_0.5.json')
    mpii = make_mpii(coco, folder / 'mpii')
    return dict(
        COCO_ROOT=coco,
        CROWDPOSE_ROOT=crowdpose.parent,
        MPII_ROOT=mpii,
        LSPET_ROOT=make_lspet(coco, folder / 'lspet'),
    )


def edit_json(path: Path, edit) -> dict:
    """Change the contents of a JSON file by ``edit(contents)``, in place; returns them."""
    contents = json.loads(path.read_text())
    edit(contents)
    path.write_text(json.dumps(contents))
    return contents


def write_config(folder: Path, more: str = '', name: str = 'tiny.py', base: Path = DEMO) -> Path:
    """The config of a very small network, in ``folder``; ``more`` goes below.

    Its data are in the folder named by the environment variable of its base: ``SYNTHETIC_ROOT``.
    """
    path = folder / name
    text = TINY if 'higherhrnet' in base.name else TINY_TOPDOWN
    path.write_text(text.format(base=str(base)) + more)
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
