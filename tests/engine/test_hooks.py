"""Hooks on models and on checkpoints."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope

from mmpose_attn.apis import PosePredictor
from mmpose_attn.engine import ChannelsLastHook, PlainCheckpointHook
from mmpose_attn.models.layers.dynamic_conv import DynamicConv
from tests.data_helpers import ROOT, build_runner, log_of, make_topdown_data, write_config


def test_channels_last_hook_takes_kernels_of_five_dimensions():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), DynamicConv(8, 4, 3)).eval()
    x = torch.randn(2, 4, 9, 9)
    before = net(x)
    ChannelsLastHook().before_run(SimpleNamespace(model=net))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[0](x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x), before)


# --- Checkpoints of plain values ------------------------------------------------------------------

EMA = "\ncustom_hooks = [dict(type='SyncBuffersHook'), dict(type='EMAHook')]\n"


def without_hook(runner):
    runner._hooks = [hook for hook in runner._hooks if type(hook) is not PlainCheckpointHook]
    return runner


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The runner of an epoch of training; its last state is saved with our hook and without."""
    folder = tmp_path_factory.mktemp('trained')
    base = ROOT / 'configs' / 'hrnet_w32_coco_256x192.py'
    with pytest.MonkeyPatch.context() as patch, DefaultScope.overwrite_default_scope('mmpose'):
        patch.setenv('COCO_ROOT', str(make_topdown_data(folder / 'data')['COCO_ROOT']))
        runner = build_runner(write_config(folder, EMA, base=base), folder / 'work')
        runner.train()
        for name in ('plain', 'mmengine'):
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            runner.save_checkpoint(runner.work_dir, f'{name}.pth', meta=meta)
            without_hook(runner)
        yield runner


def resumed(trained, work_dir, name, change=lambda runner: runner):
    runner = change(build_runner(trained.cfg.filename, work_dir, resume=True))
    runner.call_hook('before_run')
    runner.resume(f'{trained.work_dir}/{name}.pth')
    return runner


def run_without_us(code, *args):
    """Python in which this package cannot be imported."""
    blocked = 'import sys; sys.modules["mmpose_attn"] = None\n'
    command = [sys.executable, '-W', 'ignore', '-c', blocked + code, *map(str, args)]
    return subprocess.run(command, text=True, capture_output=True)


def test_torch_alone_reads_checkpoints(trained):
    code = 'import torch\nfor name in sys.argv[1:]: print(*torch.load(name))'
    names = ('epoch_1', 'best_coco_AP_epoch_1', 'plain')
    result = run_without_us(code, *(f'{trained.work_dir}/{name}.pth' for name in names))
    best = 'meta state_dict message_hub ema_state_dict'
    full = 'meta state_dict message_hub optimizer param_schedulers ema_state_dict'
    assert result.stdout.splitlines() == [full, best, full], result.stderr
    refused = run_without_us(code, f'{trained.work_dir}/mmengine.pth')
    assert 'Weights only load failed' in refused.stderr


@pytest.mark.parametrize('name', ['plain', 'mmengine'])
def test_resumed_state_is_the_saved_one(trained, tmp_path, name):
    runner = resumed(trained, tmp_path, name)
    assert (runner.epoch, runner.iter) == (trained.epoch, trained.iter) == (1, trained.iter)
    before, after = trained.message_hub, runner.message_hub
    assert after.log_scalars.keys() == before.log_scalars.keys() >= {'train/loss', 'train/lr'}
    for key, history in before.log_scalars.items():
        for expected, values in zip(history.data, after.log_scalars[key].data, strict=True):
            assert values.dtype == expected.dtype
            np.testing.assert_array_equal(values, expected)
    info = dict(before.state_dict()['runtime_info'])
    assert {'best_score', 'last_ckpt', 'keep_ckpt_ids'} <= info.keys()
    for key, value in info.items():
        if key != 'dataset_meta':  # taken from the data anew
            assert after.get_info(key) == value
    weights, average = (r.model.state_dict() for r in (runner, trained))
    torch.testing.assert_close(weights, average, rtol=0, atol=0)
    old, new = (r.optim_wrapper.state_dict() for r in (trained, runner))
    assert new['param_groups'] == old['param_groups']
    torch.testing.assert_close(new['state'], old['state'], rtol=0, atol=0)
    old, new = ([s.state_dict() for s in r.param_schedulers] for r in (trained, runner))
    assert new == old
    assert 'metainfo from the resumed' not in log_of(tmp_path)


def test_another_datasets_metainfo_is_still_reported(trained, tmp_path):
    def with_other_joints(runner):
        runner.train_dataloader.dataset._metainfo['sigmas'][0] += 1
        return runner

    resumed(trained, tmp_path, 'plain', with_other_joints)
    assert 'metainfo from the resumed' in log_of(tmp_path)


def test_resuming_without_the_hook_loses_the_log_alone(trained, tmp_path):
    runner = resumed(trained, tmp_path, 'plain', without_hook)
    assert 'train/loss' not in runner.message_hub.log_scalars
    assert runner.message_hub.get_info('best_score') == trained.message_hub.get_info('best_score')
    states = (r.optim_wrapper.state_dict()['state'] for r in (runner, trained))
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize(
    'history',
    [
        HistoryBuffer(),
        HistoryBuffer([1, 2, 3], [1, 1, 2]),
        HistoryBuffer([0.5, float('nan')], [1, 1], max_length=2),
    ],
    ids=['empty', 'integers', 'full'],
)
def test_histories_come_back(tmp_path, history):
    numbers = dict(best=np.float32(0.5), ids=[(np.int64(3), np.arange(2))], flag=np.bool_(True))
    hub = dict(log_scalars={'train/loss': history}, runtime_info=numbers, resumed_keys={})
    checkpoint = dict(meta={}, message_hub=hub)
    hook, runner = PlainCheckpointHook(), SimpleNamespace(_resume=False)
    hook.before_save_checkpoint(runner, checkpoint)
    assert hub['log_scalars'] == {'train/loss': history}  # the original is as it was
    torch.save(checkpoint, tmp_path / 'checkpoint.pth')
    names = torch.serialization.get_unsafe_globals_in_checkpoint
    assert names(str(tmp_path / 'checkpoint.pth')) == []
    loaded = torch.load(tmp_path / 'checkpoint.pth')
    hook.after_load_checkpoint(runner, loaded)
    back = loaded['message_hub']['log_scalars']['train/loss']
    for expected, values in zip(history.data, back.data, strict=True):
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
    for buffer in (history, back):
        buffer.update(7)
    np.testing.assert_array_equal(back.data, history.data)
    info = loaded['message_hub']['runtime_info']
    assert info == dict(best=0.5, ids=[(3, [0, 1])], flag=True)
    assert type(info['best']) is float and type(info['ids'][0][0]) is int


def test_weights_alone_load():
    PlainCheckpointHook().after_load_checkpoint(
        SimpleNamespace(_resume=False), {'a': torch.ones(1)}
    )


@pytest.fixture
def image(trained):
    folder = trained.train_dataloader.dataset.data_prefix['img']
    return next(Path(folder).iterdir())


def test_prediction_with_a_plain_checkpoint(trained, image):
    boxes = np.array([[5, 8, 60, 70, 0.9], [5, 8, 60, 70, 0.6]], np.float32)
    people = [
        next(iter(PosePredictor(trained.cfg.filename, path, lambda frames: [boxes])(image))).people
        for path in (f'{trained.work_dir}/{name}.pth' for name in ('plain', 'mmengine'))
    ]
    # the second is suppressed, by the sigmas
    assert len(people[0]) == len(people[1]) == 1
    np.testing.assert_array_equal(people[0].keypoints, people[1].keypoints)


def test_mmpose_alone_predicts_and_draws_with_it(trained, image, tmp_path):
    config = Config.fromfile(trained.cfg.filename)
    config.pop('custom_imports')
    config.visualizer.type = 'PoseLocalVisualizer'
    config.model.backbone.type = 'HRNet'
    config.train_dataloader.dataset.type = config.test_dataloader.dataset.type = 'CocoDataset'
    config.test_dataloader.dataset.pipeline[0].type = 'LoadImage'
    config.dump(tmp_path / 'config.py')
    weights = torch.load(f'{trained.work_dir}/plain.pth')['state_dict']
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')  # metainfo from the config
    code = """
from mmpose.apis import MMPoseInferencer, inference_topdown, init_model
config, image, *checkpoints = sys.argv[1:]
drawn, found, kinds = [], [], []
for checkpoint in checkpoints:
    inferencer = MMPoseInferencer(config, checkpoint, device='cpu', det_model='whole_image')
    drawn.append(next(inferencer(image, return_vis=True))['visualization'][0])
    model = init_model(config, checkpoint, 'cpu')
    found.append(inference_topdown(model, image)[0].pred_instances.keypoints)
    kinds.append(type(model.dataset_meta['sigmas']).__name__)
assert kinds == ['list', 'ndarray']
assert drawn[0].any() and (drawn[0] == drawn[1]).all() and (found[0] == found[1]).all()
"""
    files = (f'{trained.work_dir}/plain.pth', tmp_path / 'weights.pth')
    result = run_without_us(code, tmp_path / 'config.py', image, *files)
    assert result.returncode == 0, result.stderr
