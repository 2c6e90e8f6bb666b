"""The command line from beginning to end: training, testing, resuming and inference by ``mim``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data_helpers import (
    DEMO,
    ROOT,
    make_small_dataset,
    make_topdown_data,
    real_data,
    write_config,
)
from tests.test_packaging import build_wheel, copy_sources
from tests.test_packaging import run as run_in

# COCO's ten figures, as the evaluation prints them
TABLE = [
    f' {what} @[ IoU={iou} | area={area} | maxDets= 20 ] ='
    for what in ('Average Precision  (AP)', 'Average Recall     (AR)')
    for iou, area in (
        ('0.50:0.95', '   all'),
        ('0.50     ', '   all'),
        ('0.75     ', '   all'),
        ('0.50:0.95', 'medium'),
        ('0.50:0.95', ' large'),
    )
]


class Project:
    """A folder with data, a config and what a user types there."""

    def __init__(self, folder: Path, base: Path = DEMO) -> None:
        self.folder = folder
        if base == DEMO:
            self.data = make_small_dataset(folder / 'data')
            self.roots = dict(SYNTHETIC_ROOT=self.data)
        else:
            self.roots = make_topdown_data(folder / 'data')
        self.config = write_config(folder, base=base)
        self.work = folder / 'work'

    def run(self, *command, ok: bool = True, gpu: bool = False, **env) -> str:
        roots = {name: str(root) for name, root in self.roots.items()}
        env = dict(os.environ, **roots, **env)
        if not gpu:
            env['CUDA_VISIBLE_DEVICES'] = '-1'
        result = subprocess.run(
            [sys.executable, '-W', 'ignore', *map(str, command)],
            cwd=self.folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (result.returncode == 0) is ok, result.stdout
        return result.stdout

    def mim(self, command: str, *args, **kwargs) -> str:
        return self.run('-m', 'mim', command, 'mmpose', self.config.name, *args, **kwargs)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp('project'))


@pytest.fixture(scope='module')
def trained(project):
    """The output of one epoch of training."""
    return project.mim('train', '--work-dir', project.work)


def epoch(project, number):
    return project.work / f'epoch_{number}.pth'


def test_mim_train(project, trained):
    assert 'Epoch(train) [1][2/2]' in trained and 'loss_heatmap_1' in trained
    assert 'AttnHRNet plugins: SEAttention at stem x1' in trained
    assert 'coco/AP: ' in trained and 'Training finished successfully' in trained
    assert epoch(project, 1).is_file() and (project.work / 'last_checkpoint').is_file()
    assert (project.work / 'tiny.py').is_file()  # the config, as it was used
    weights = torch.load(epoch(project, 1), weights_only=False)['state_dict']
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert 'backbone.stem_plugins.0.' in ' '.join(weights)


def test_mim_test(project, trained):
    out = project.folder / 'metrics.json'
    text = project.mim(
        'test', '--checkpoint', epoch(project, 1), '--out', out, '--work-dir', project.work
    )
    lines = text.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith(TABLE[0])]
    for line, expected in zip(lines[start:], TABLE):
        assert line.startswith(expected)
    assert 'Load checkpoint from' in text and 'Testing finished successfully' in text
    assert 'unexpected key' not in text and 'missing key' not in text
    metrics = json.loads(out.read_text())
    assert {'coco/AP', 'coco/AP .5', 'coco/AR (L)'} <= metrics.keys()
    assert f'coco/AP: {metrics["coco/AP"]:.4f}' in text


def test_tools_train_resumes(project, trained):
    options = ('--work-dir', project.work, '--cfg-options', 'train_cfg.max_epochs=2')
    text = project.run(ROOT / 'tools/train.py', project.config, '--resume', *options)
    assert 'resumed epoch: 1' in text and 'Epoch(train) [2][2/2]' in text
    assert 'Epoch(train) [1]' not in text
    first, second = (torch.load(epoch(project, n), weights_only=False) for n in (1, 2))
    assert second['meta']['epoch'] == 2 and second['meta']['iter'] == 4
    key = 'head.final_layers.0.weight'
    assert not torch.equal(first['state_dict'][key], second['state_dict'][key])
    # Adam's memory went on
    steps = [next(iter(c['optimizer']['state'].values()))['step'] for c in (first, second)]
    assert [int(step) for step in steps] == [2, 4]
    # and so did the log
    losses = [c['message_hub']['log_scalars']['train/loss']['log'] for c in (first, second)]
    assert len(losses[1]) == 4 and torch.equal(losses[1][:2], losses[0])


def test_tools_train_amp(project):
    config, work = project.folder / 'amp.py', project.folder / 'amp'
    # MMPose's script takes --amp for MMEngine's own wrapper alone
    config.write_text(
        f"_base_ = [{str(project.config)!r}]\noptim_wrapper = dict(type='OptimWrapper')\n"
    )
    command = (ROOT / 'tools/train.py', config, '--amp', '--no-validate', '--work-dir', work)
    if not torch.cuda.is_available():
        assert 'is only available training on gpu' in project.run(*command, ok=False)
        return
    text = project.run(*command, gpu=True)
    assert 'AmpOptimWrapper' in text and 'Epoch(train) [1][2/2]' in text
    assert 'loss: nan' not in text and 'Epoch(val)' not in text
    weights = torch.load(work / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_tools_test(project, trained):
    text = project.run(
        ROOT / 'tools/test.py',
        project.config,
        epoch(project, 1),
        '--work-dir',
        project.work,
        '--dump',
        project.folder / 'predictions.pkl',
    )
    assert TABLE[0] in text and 'coco/AP: ' in text
    assert (project.folder / 'predictions.pkl').stat().st_size > 0


def test_errors_reach_the_user(project):
    checkpoint = project.folder / 'gone.pth'
    text = project.run(ROOT / 'tools/test.py', project.config, checkpoint, ok=False)
    assert 'FileNotFoundError: Checkpoint' in text and 'gone.pth does not exist' in text


def test_inference_on_an_image(project, trained, monkeypatch, mmpose_scope):
    from mmpose.apis import inference_bottomup, init_model

    monkeypatch.setenv('SYNTHETIC_ROOT', str(project.folder / 'no data needed'))
    model = init_model(str(project.config), str(epoch(project, 1)), device='cpu')
    image = next((project.data / 'val2017').iterdir())
    (by_path,) = inference_bottomup(model, str(image))
    instances = by_path.pred_instances
    assert instances.keypoints.shape[1:] == (17, 2)
    assert instances.keypoint_scores.shape == instances.keypoints.shape[:2]
    assert instances.bbox_scores.shape == (len(instances.keypoints),)

    (by_array,) = inference_bottomup(model, cv2.imread(str(image)))
    assert np.array_equal(by_array.pred_instances.keypoints, instances.keypoints)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, figure',
    [
        ('hrnet_camsam_w32_coco_256x192', 'coco/AP'),
        ('dehrnet_w32_crowdpose_256x192', 'crowdpose/AP'),
        ('hrnet_w32_mpii_256x256', 'PCK'),
        ('dite_hrnet_cbam_block_18_coco_256x192', 'coco/AP'),
    ],
)
def test_mim_trains_and_tests_top_down(tmp_path, name, figure):
    project = Project(tmp_path, ROOT / 'configs' / f'{name}.py')
    text = project.mim('train', '--work-dir', project.work)
    assert 'loss_kpt' in text and 'acc_pose' not in text and f'{figure}: ' in text
    assert 'Training finished successfully' in text
    assert list(project.work.glob(f'best_{figure.replace("/", "_")}_epoch_1.pth'))

    options = ['--work-dir', project.work, '--out', tmp_path / 'metrics.json']
    if figure != 'PCK':
        # ground-truth boxes: the detections are not needed
        for root in project.roots.values():
            for file in (*root.glob('*/COCO_val2017_detections*'), *root.glob('*/det_for_*')):
                file.unlink()
        text = project.mim('test', '--checkpoint', epoch(project, 1), *options, ok=False)
        assert 'detection file not found' in text and 'bbox_file=None' in text
        options += ['--cfg-options', 'test_dataloader.dataset.bbox_file=None']
    text = project.mim('test', '--checkpoint', epoch(project, 1), *options)
    assert 'missing key' not in text and 'Testing finished successfully' in text
    assert figure in json.loads((tmp_path / 'metrics.json').read_text())


@pytest.mark.slow
def test_mim_trains_and_tests_dite_hrnet_on_real_images(tmp_path):
    root = real_data('coco_real')
    project = Project(tmp_path, ROOT / 'configs' / 'dite_hrnet_18_coco_256x192.py')
    val = 'annotations/person_keypoints_val.json'
    with project.config.open('a') as config:
        config.write(
            f"""
here = dict(data_root={str(root)!r}, data_prefix=dict(img='images/'))
train = dict(here, ann_file='annotations/person_keypoints_train.json')
train_dataloader = dict(workers, dataset=train)
val_dataloader = dict(workers, dataset=dict(here, ann_file={val!r}, bbox_file=None))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={str(root / val)!r})
test_evaluator = val_evaluator
"""
        )
    text = project.mim('train', '--work-dir', project.work)
    assert 'Epoch(train) [1][43/43]' in text and 'coco/AP: ' in text and 'loss: nan' not in text
    options = ('--out', tmp_path / 'metrics.json', '--work-dir', project.work)
    text = project.mim('test', '--checkpoint', epoch(project, 1), *options)
    assert 'missing key' not in text and 'Testing finished successfully' in text
    assert 0 <= json.loads((tmp_path / 'metrics.json').read_text())['coco/AP'] <= 1


@pytest.mark.slow
def test_mim_train_by_name_from_a_wheel(project, tmp_path):
    result, wheel = build_wheel(copy_sources(tmp_path / 'source'), tmp_path)
    assert wheel is not None, result.stderr
    site = tmp_path / 'site'
    result = run_in('-m', 'pip', 'install', '--no-deps', '--target', site, wheel, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    options = ('train_cfg.max_epochs=1', 'train_dataloader.batch_size=2')
    text = project.run(
        '-m',
        'mim',
        'train',
        'mmpose_attn',
        DEMO.name,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        *options,
        PYTHONPATH=str(site),
    )
    assert f'{site}/mmpose_attn/.mim/tools/train.py' in text
    assert 'Epoch(train) [1][2/2]' in text or (tmp_path / 'work' / 'epoch_1.pth').is_file()
