"""A checkpoint is of this network, whole, and of numbers; or one error says what it is not."""

import copy
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpose.datasets import CocoDataset
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS

from mmpose_attn.apis import PosePredictor
from mmpose_attn.engine import register_shape_check, whole_weights
from mmpose_attn.engine.weights import is_checked
from tests.data_helpers import DEMO, ROOT, build_runner, make_topdown_data, write_config
from tests.helpers import build, higherhrnet_cfg, hrnet_extra

COCO = ROOT / 'configs' / 'hrnet_w32_coco_256x192.py'


def topdown_cfg(joints=17, **kwargs):
    return dict(
        type='mmpose.TopdownPoseEstimator',
        backbone=dict(type='AttnHRNet', extra=hrnet_extra(4), init_cfg=None),
        head=dict(
            type='HeatmapHead',
            in_channels=4,
            out_channels=joints,
            deconv_out_channels=None,
            loss=dict(type='KeypointMSELoss'),
        ),
        **kwargs,
    )


def saved(path, model, change=None):
    state = copy.deepcopy(model.state_dict())
    if change:
        change(state)
    torch.save(dict(state_dict=state), path)
    return str(path)


@pytest.fixture(scope='module', autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpose'):
        yield


# --------------------------------------------------------------------- other shapes, every family
def test_topdown_head_of_other_keypoints_is_an_error(tmp_path):
    file = saved(tmp_path / 'coco.pth', build(topdown_cfg()))
    other = build(topdown_cfg(joints=7))
    with pytest.raises(ValueError, match='does not fit') as error:
        load_checkpoint(other, file)
    shapes = 'head.final_layer.weight: (17, 4, 1, 1) in the checkpoint, (7, 4, 1, 1) in the model'
    assert shapes in str(error.value)
    assert "set model.partial_load=('head.final_layer',)." in str(error.value)
    tuned = build(topdown_cfg(joints=7, partial_load=('head.final_layer',)))
    load_checkpoint(tuned, file)
    conv = torch.load(file)['state_dict']['backbone.conv1.weight']
    assert torch.equal(tuned.backbone.conv1.weight, conv)
    # the same keys as MMPose's
    cfg = topdown_cfg(joints=7)
    cfg.pop('type')
    assert tuned.state_dict().keys() == TopdownPoseEstimator(**cfg).state_dict().keys()


def test_bottomup_head_names_the_prefixes_that_it_needs(tmp_path):
    file = saved(tmp_path / 'coco.pth', build(higherhrnet_cfg()))
    with pytest.raises(ValueError, match='does not fit') as error:
        load_checkpoint(build(higherhrnet_cfg(num_keypoints=7)), file)
    prefixes = ('head.final_layers', 'head.deconv_layers.0.0.0')
    assert f'set model.partial_load={prefixes}' in str(error.value)
    load_checkpoint(build(higherhrnet_cfg(num_keypoints=7, partial_load=prefixes)), file)


@pytest.mark.parametrize('parts', ['head', ('head.finallayer',)])
def test_partial_load_that_means_nothing(parts):
    with pytest.raises((TypeError, ValueError), match='partial_load'):
        build(topdown_cfg(partial_load=parts))


# --------------------------------------------------------------------- arrays, numbers, missing
def tiny():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    register_shape_check(net)
    return net


def test_arrays_are_loaded(tmp_path):
    source, target = tiny(), tiny()

    def arrays(state):
        for key, value in state.items():
            state[key] = value.numpy()

    load_checkpoint(target, saved(tmp_path / 'a.pth', source, arrays))
    assert torch.equal(source[0].weight, target[0].weight)
    for odd in ([1.0], 'text', None):
        state = dict(source.state_dict(), **{'0.weight': odd})
        with pytest.raises(ValueError, match=rf'{type(odd).__name__} as 0\.weight'):
            target.load_state_dict(state)


@pytest.mark.parametrize(
    'kind', [torch.int8, torch.int64, torch.bool, torch.complex64, torch.qint8]
)
def test_numbers_that_lost_what_they_were_are_an_error(kind):
    state = tiny().state_dict()
    for odd in (kind, torch.float8_e4m3fn):
        weight = state['0.weight']
        quantised = odd is torch.qint8
        new = torch.quantize_per_tensor(weight, 0.1, 0, odd) if quantised else weight.to(odd)
        with pytest.raises(ValueError, match=rf'holds 0\.weight as {odd}, .* floating-point'):
            tiny().load_state_dict(dict(state, **{'0.weight': new}))
    for fine in (torch.float16, torch.bfloat16, torch.float64):
        tiny().load_state_dict(dict(state, **{'0.weight': state['0.weight'].to(fine)}))


@pytest.mark.parametrize('number', [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_an_error(number):
    state = tiny().state_dict()
    state['1.running_var'][2] = number
    with pytest.raises(ValueError, match=r'NaN or infinite.*\n  1\.running_var: 1 of 4\n'):
        tiny().load_state_dict(state)


def test_infinite_masks_of_a_network_are_its_own():
    net = tiny()
    net.register_buffer('mask', torch.full((3,), -torch.inf))
    net.load_state_dict(net.state_dict())


def test_whole_weights():
    net, state = tiny(), tiny().state_dict()
    del state['1.num_batches_tracked']
    with whole_weights(net, 'so go on.'):
        net.load_state_dict(state, strict=False)
    del state['1.weight']
    with (
        whole_weights(net, 'so go on.'),
        pytest.raises(ValueError, match=r'lacks 1 of the 7 tensors.*\n  1\.weight\n.*so go on\.'),
    ):
        net.load_state_dict(state, strict=False)
    with whole_weights(net, strict=False):
        net.load_state_dict(state, strict=False)
    net.load_state_dict(state, strict=False)  # nothing stays behind


# --------------------------------------------------------------------- inference
@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A config and a good checkpoint of each family."""
    folder = tmp_path_factory.mktemp('small')
    found = {}
    for kind, base in (('bottomup', DEMO), ('topdown', COCO)):
        config = write_config(folder, name=f'{kind}.py', base=base)
        model = MODELS.build(Config.fromfile(config).model)
        found[kind] = config, model
    return found


def drop(*prefixes):
    def change(state):
        for key in list(state):
            if key.startswith(prefixes):
                del state[key]

    return change


def diverge(state):
    for value in state.values():
        if value.is_floating_point():
            value.fill_(np.nan)


@pytest.mark.parametrize('kind', ['bottomup', 'topdown'])
def test_inference_needs_all_weights(small, tmp_path, kind):
    config, model = small[kind]
    good = saved(tmp_path / 'good.pth', model)
    assert PosePredictor(config, good).joints == 17
    headless = saved(tmp_path / 'headless.pth', model, drop('head.'))
    with pytest.raises(ValueError, match=r'headless\.pth: .* lacks .*(?s:.*)--allow-missing'):
        PosePredictor(config, headless)
    PosePredictor(config, headless, strict=False)
    nan = saved(tmp_path / 'nan.pth', model, diverge)
    for strict in (True, False):
        with pytest.raises(ValueError, match=r'nan\.pth: The checkpoint holds NaN'):
            PosePredictor(config, nan, strict=strict)


def test_inference_needs_the_plugins(small, tmp_path):
    config, model = small['bottomup']
    plain = saved(tmp_path / 'plain.pth', model, drop('backbone.stem_plugins'))
    with pytest.raises(ValueError, match=r'lacks 4 of.*\n  backbone\.stem_plugins'):
        PosePredictor(config, plain)


def test_inference_with_settings_that_do_not_agree(small, tmp_path):
    config, model = small['bottomup']
    good = saved(tmp_path / 'good.pth', model)
    options = {'model.head.decoder.heatmap_size': (16, 16)}
    with pytest.raises(ValueError, match=r'model\.head\.decoder\.heatmap_size'):
        PosePredictor(config, good, cfg_options=options)
    options = {'model.head.decoder.decode_keypoint_order': list(range(14))}
    with pytest.raises(ValueError, match='14 entries for 17 keypoints'):
        PosePredictor(config, good, cfg_options=options)


# --------------------------------------------------------------------- training and test
@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """``run(kind, checkpoint, **options)`` with the small configs and their data."""
    folder = tmp_path_factory.mktemp('runs')
    with pytest.MonkeyPatch.context() as patch:
        for name, path in make_topdown_data(folder / 'data').items():
            patch.setenv(name, str(path))
        config = write_config(folder, base=COCO)
        runner = build_runner(config, folder / 'built')

        def run(what, checkpoint, **options):
            runner = build_runner(config, folder / 'work', load_from=checkpoint, **options)
            getattr(runner, what)()
            return runner

        yield run, runner.model


def test_a_test_needs_all_weights(runs, tmp_path):
    run, model = runs
    headless = saved(tmp_path / 'headless.pth', model, drop('head.'))
    with pytest.raises(ValueError, match=r'lacks 2 of(?s:.*)agreement\.allow_missing=True'):
        run('test', headless)
    with pytest.raises(ValueError, match='lacks 2 of'):
        run('val', headless)
    run('test', headless, **{'default_hooks.agreement.allow_missing': True})
    with pytest.raises(ValueError, match='holds NaN'):
        run('test', saved(tmp_path / 'nan.pth', model, diverge))


def of_seven_keypoints(state):
    for key in ('head.final_layer.weight', 'head.final_layer.bias'):
        state[key] = state[key][:7]


def test_a_test_of_a_head_of_other_keypoints(runs, tmp_path):
    run, model = runs

    other = saved(tmp_path / 'seven.pth', model, of_seven_keypoints)
    with pytest.raises(ValueError, match=r"partial_load=\('head\.final_layer',\)"):
        run('test', other)


def test_training_on_other_keypoints(runs, tmp_path):
    """But not a test, where what differs would be random."""
    run, model = runs

    other = saved(tmp_path / 'seven.pth', model, of_seven_keypoints)
    with pytest.raises(ValueError, match='does not fit'):
        run('train', other)
    options = {'model.partial_load': ['head.final_layer'], 'default_hooks.checkpoint.interval': 9}
    assert run('train', other, **options).iter > 0
    with pytest.raises(ValueError, match='lacks 2 of'):
        run('test', other, **options)


@pytest.mark.parametrize('change', [dict(ratio=4), dict(type='ECAAttention')])
def test_training_with_other_plugins(tmp_path, change):
    """The message's own prefixes work, also inside of a backbone that checks itself."""
    plugin = dict(cfg=dict(type='SEAttention', ratio=16), position='stem')
    file = saved(tmp_path / 'se.pth', build(higherhrnet_cfg(plugins=[plugin])))
    other = higherhrnet_cfg(plugins=[dict(plugin, cfg=dict(dict(type='SEAttention'), **change))])
    if 'ratio' not in change:  # nothing of another shape
        load_checkpoint(build(other), file)
        return
    with pytest.raises(ValueError, match='partial_load=') as error:
        load_checkpoint(build(other), file)
    prefixes = eval(re.search(r'partial_load=(\(.*?\))', str(error.value))[1])
    load_checkpoint(build(dict(other, partial_load=prefixes)), file)


def test_training_may_start_from_a_part(runs, tmp_path):
    run, model = runs
    headless = saved(tmp_path / 'headless.pth', model, drop('head.'))
    runner = run('train', headless)
    runner.model.load_state_dict(torch.load(headless)['state_dict'], strict=False)
    with pytest.raises(ValueError, match='holds NaN'):
        run('train', saved(tmp_path / 'nan.pth', model, diverge))


def test_a_test_of_keypoints_in_another_order(runs, tmp_path):
    run, model = runs
    file = tmp_path / 'trained.pth'
    names = [f'joint_{i}' for i in range(17)]
    checkpoint = dict(state_dict=model.state_dict(), meta={})
    own = CocoDataset(lazy_init=True).metainfo['keypoint_id2name']
    for ordered in (list(own.values()), names):  # renamed ones may be the same
        checkpoint['meta']['dataset_meta'] = dict(keypoint_id2name=dict(enumerate(ordered)))
        torch.save(checkpoint, file)
        run('test', str(file))
    reverse = dict(enumerate(reversed(own.values())))
    checkpoint['meta']['dataset_meta'] = dict(keypoint_id2name=reverse)
    torch.save(checkpoint, file)
    with pytest.raises(ValueError, match='another order than those of the training'):
        run('test', str(file))


def test_resuming_needs_all_weights(runs, tmp_path):
    run, model = runs
    headless = saved(tmp_path / 'headless.pth', model, drop('head.'))
    whole = saved(tmp_path / 'whole.pth', model)
    with pytest.raises(ValueError, match='holds weights alone'):
        run('train', whole, resume=True)
    meta = dict(epoch=1, iter=2, dataset_meta=None)
    torch.save(dict(torch.load(headless), meta=meta), headless)
    with pytest.raises(ValueError, match='lacks 2 of'):
        run('train', headless, resume=True)


def test_backbones_of_mmpose_are_checked_too(runs):
    run, _ = runs
    runner = run('test', None)
    for module in (runner.model, runner.model.backbone, runner.model.head):
        assert is_checked(module)
