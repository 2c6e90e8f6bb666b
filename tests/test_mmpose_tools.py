"""docs/mmpose_tools.md: its commands and examples run as they are written."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmpose.apis import init_model

from tests.data_helpers import ROOT, build_runner, make_small_dataset, write_config
from tests.inference_helpers import save_weights

PAGE = (ROOT / 'docs' / 'mmpose_tools.md').read_text()
COMMANDS = re.findall(r'^(?:mim|python) .*', PAGE, re.MULTILINE)
EXAMPLES = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
WORK = Path('work_dirs', 'higherhrnet_se_w32_coco_512')


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A folder with configs, tools, data and what one epoch of training leaves."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    data = make_small_dataset(folder / 'synthetic')
    with pytest.MonkeyPatch.context() as patch, DefaultScope.overwrite_default_scope('mmpose'):
        patch.setenv('SYNTHETIC_ROOT', str(data))
        build_runner(write_config(folder), folder / WORK).train()
    (folder / WORK / 'epoch_1.pth').rename(folder / WORK / 'epoch_40.pth')
    return folder


def published(folder):
    deadline = time.monotonic() + 10  # MMPose does not wait for its mv
    while not (files := list(folder.glob('*-????????_????????.pth'))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return files[0]


def test_publish_model_takes_checkpoints_of_mmengine(checkout, tmp_path, monkeypatch):
    checkpoint = torch.load(checkout / WORK / 'epoch_40.pth')
    checkpoint['message_hub']['log_scalars'] = {'loss': HistoryBuffer([1.0], [1])}
    meta = checkpoint['meta']['dataset_meta']
    meta['sigmas'] = np.array(meta['sigmas'], np.float32)
    source = tmp_path / 'source.pth'
    torch.save(checkpoint, source)
    script = str(ROOT / 'tools' / 'publish_model.py')
    monkeypatch.setattr(sys, 'argv', [script, str(source), str(tmp_path / 'small.pth')])
    runpy.run_path(script, run_name='__main__')
    file = published(tmp_path)
    assert re.fullmatch(r'small-[0-9a-f]{8}_\d{8}\.pth', file.name)
    assert file.stat().st_size < source.stat().st_size / 2
    before, after = (CheckpointLoader.load_checkpoint(str(path)) for path in (source, file))
    assert after.keys() == {'meta', 'state_dict'}
    assert after['meta']['dataset_meta']['num_keypoints'] == 17
    torch.testing.assert_close(after['state_dict'], before['state_dict'], rtol=0, atol=0)


def test_page_names_every_tool():
    tools = re.findall(r'mim run mmpose (\w+)|tools/(publish_model)', ' '.join(COMMANDS))
    named = {name for pair in tools for name in pair if name}
    assert named == {
        'get_flops',
        'print_config',
        'browse_dataset',
        'analyze_logs',
        'publish_model',
    }


EXPECTED = {
    'get_flops': ['Input shape: (1, 3, 512, 512)', 'Params: 28.646M', 'backbone.stem_plugins.0'],
    'print_config': ["type='HigherHRNetEstimator'", 'custom_imports = dict('],
    'plot_curve': ['metric is loss_heatmap_1', 'save curve to: curves.png'],
    'cal_train_time': ['average iter time: 0.'],
}


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS)
def test_commands_run(command, checkout):
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH']))
    settings = dict(COCO_ROOT=str(checkout / 'synthetic'), CUDA_VISIBLE_DEVICES='-1')
    result = subprocess.run(
        command,
        shell=True,
        cwd=checkout,
        env=dict(os.environ, PATH=path, **settings),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, result.stdout
    for name, texts in EXPECTED.items():
        for text in texts if name in command else ():
            assert text in result.stdout
    if 'browse_dataset' in command:
        out = 'browse_val' if 'val' in command else 'browse'
        assert len(list((checkout / out).glob('*.jpg'))) >= 2
    if 'plot_curve' in command:
        assert (checkout / 'curves.png').stat().st_size > 5000
    if 'publish_model' in command:
        file = published(checkout)
        assert file.name.startswith('higherhrnet_se_w32-')
        config, image = str(checkout / 'tiny.py'), torch.linspace(-2, 2, 3 * 64 * 64)
        with DefaultScope.overwrite_default_scope('mmpose'), torch.no_grad():
            expected, found = (
                init_model(config, str(path), 'cpu')(image.reshape(1, 3, 64, 64), None)
                for path in (checkout / WORK / 'epoch_40.pth', file)
            )
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize('code', EXAMPLES, ids=['inferencer', 'topdown'])
def test_examples_run(code, checkout, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path('configs').symlink_to(ROOT / 'configs')
    pictures = sorted((checkout / 'synthetic' / 'val2017').iterdir())
    shutil.copytree(pictures[0].parent, 'photos')
    shutil.copy(pictures[0], 'people.jpg')
    with DefaultScope.overwrite_default_scope('mmpose'):
        for name, file in (
            ('higherhrnet_se_w32_coco_512', 'epoch_40.pth'),
            ('hrnet_camsam_w32_coco_256x192', 'epoch_210.pth'),
        ):
            if file in code:
                save_weights(ROOT / 'configs' / f'{name}.py', file)
    found = {}
    exec(code, found)
    if 'keypoints' in found:
        assert found['keypoints'].shape == (1, 17, 2)
        return
    assert {'keypoints', 'keypoint_scores'} <= found['people'][0].keys()
    stems = {path.stem for path in pictures}
    assert {path.stem for path in Path('out').glob('*.jpg')} == stems
    assert all(json.loads(path.read_text()) for path in Path('out').glob('*.json'))
