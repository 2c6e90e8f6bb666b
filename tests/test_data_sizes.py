"""Data sets of any size train, on 1 to 8 GPUs: a last batch of one included."""

import json

import mmengine.dataset.sampler as sampler
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from torch import nn

from mmpose_attn.models.layers.norms import BatchNormOfMeans, build_norm_of_means
from tests.config_helpers import BOTTOM_UP, NAMES, TOP_DOWN, load, small
from tests.data_helpers import build_runner, log_of, make_topdown_data, write_config
from tests.helpers import (
    ROOT,
    build,
    higherhrnet_cfg,
    raw_sample,
    run_pipeline,
    train_pipeline,
)

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def families(names):
    """The first config of every kind of network: backbone, plugins and neck."""
    first = {}
    for name in names:
        model = load(name).model
        first.setdefault(json.dumps([kinds(model.backbone), kinds(model.get('neck'))]), name)
    return list(first.values())


def kinds(cfg):
    """All types in a config, with what else makes another network of it."""
    if isinstance(cfg, dict):
        keys = ('type', 'fusion', 'out_branch', 'position', 'dem_position')
        return [cfg.get(key) for key in keys] + [kinds(value) for value in cfg.values()]
    return [kinds(value) for value in cfg] if isinstance(cfg, list | tuple) else None


@pytest.mark.parametrize('batch_size', [1, 2, 16, 32])
def test_every_rank_has_the_same_steps_and_images(batch_size, monkeypatch):
    """The configs' training sampler; a rank with fewer steps would leave the others waiting."""
    for number in {1, 2, batch_size - 1, batch_size, batch_size + 1, 2 * batch_size + 1} - {0}:
        for world in range(1, 9):
            steps = []
            for rank in range(world):
                monkeypatch.setattr(sampler, 'get_dist_info', lambda info=(rank, world): info)
                loader = Runner.build_dataloader(
                    dict(
                        dataset=[dict(inputs=i) for i in range(number)],
                        sampler=dict(type='DefaultSampler', shuffle=True),
                        batch_size=batch_size,
                    ),
                    seed=0,
                )
                steps.append([len(batch['inputs']) for batch in loader])
            assert all(each == steps[0] for each in steps) and steps[0]
            assert sum(steps[0]) == -(-number // world)


def test_configs_train_by_that_sampler():
    for name in NAMES:
        loader = load(name).train_dataloader
        assert loader.sampler == dict(type='DefaultSampler', shuffle=True)
        assert loader.get('batch_sampler') is None and not loader.get('drop_last')


def steps(model, batches):
    """Training steps as a runner makes them; all parameters stay numbers."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for batch in batches:
        losses = model(**model.data_preprocessor(pseudo_collate(batch), True), mode='loss')
        total = sum(losses.values())
        assert total.isfinite()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    odd = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    odd += [name for name, b in model.named_buffers() if not b.isfinite().all()]
    assert not odd


@pytest.mark.parametrize('name', families(TOP_DOWN))
def test_top_down_networks_train_on_one_image(name, no_roots):
    cfg = load(name)
    model = small(cfg)
    head = cfg.model.head
    heads = 2 ** (2 + (cfg.model.backbone.get('out_branch') or 0))
    codec = dict(cfg.codec, input_size=(64, 64), heatmap_size=(64 // heads, 64 // heads))
    pipeline = [dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')]
    sample = raw_sample(0, people=1, joints=head.out_channels, size=(64, 64))
    batch = [run_pipeline(pipeline, sample)]
    assert batch[0]['inputs'].shape == (3, 64, 64)
    steps(model, [batch, batch * 2, batch])


@pytest.mark.parametrize('name', families(BOTTOM_UP))
def test_bottom_up_networks_train_on_one_image(name, no_roots):
    cfg = load(name)
    joints = cfg.model.head.num_keypoints
    model = build(higherhrnet_cfg(num_keypoints=joints, plugins=cfg.model.backbone.get('plugins')))
    codec = dict(cfg.codec, input_size=(64, 64), heatmap_size=[(16, 16), (32, 32)])
    np.random.seed(0)
    batch = [run_pipeline(train_pipeline(codec), raw_sample(0, people=1, joints=joints))]
    steps(model, [batch, batch * 2, batch])


@pytest.mark.parametrize('people, batch_size', [(3, 2), (1, 2), (2, 1)])
def test_runner_trains_dite_hrnet(people, batch_size, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPET_ROOT', str(make_topdown_data(tmp_path / 'data')['LSPET_ROOT']))
    config = write_config(tmp_path, base=ROOT / 'configs' / 'dite_hrnet_18_lspet_96x96.py')
    options = {
        'train_dataloader.dataset.indices': people,
        'train_dataloader.batch_size': batch_size,
        'model.backbone.extra.stages_spec.num_channels': [(8, 16), (8, 16, 32), (8, 16, 32, 64)],
    }
    runner = build_runner(config, tmp_path / 'work', **options)
    runner.train()
    assert runner.iter == -(-people // batch_size)
    assert (tmp_path / 'work/epoch_1.pth').is_file() and 'PCK: ' in log_of(tmp_path / 'work')


def test_lspet_takes_fewer_people_than_it_asks_for(tmp_path, monkeypatch):
    monkeypatch.setenv('LSPET_ROOT', str(make_topdown_data(tmp_path)['LSPET_ROOT']))
    cfg = load('dite_hrnet_18_lspet_96x96').train_dataloader
    assert cfg.dataset.indices > 100
    cfg.dataset.indices = 10**6
    loader = Runner.build_dataloader(cfg, seed=0)
    assert 0 < len(loader.dataset) < 100


# ------------------------------------------------------------------------- the norm itself
def twins():
    torch.manual_seed(0)
    ours, torchs = build_norm_of_means(dict(type='BN'), 5), nn.BatchNorm2d(5)
    for norm in (ours, torchs):
        norm.running_mean.copy_(torch.arange(5.0))
        norm.running_var.fill_(4)
    assert type(ours) is BatchNormOfMeans and [*ours.state_dict()] == [*torchs.state_dict()]
    return ours, torchs


@pytest.mark.parametrize('shape', [(2, 5, 1, 1), (1, 5, 1, 2), (3, 5, 4, 4)])
def test_norm_of_means_is_torchs_batch_norm(shape):
    ours, torchs = twins()
    x = torch.randn(shape)
    assert torch.equal(ours(x), torchs(x)) and torch.equal(ours.eval()(x), torchs.eval()(x))
    for key, value in torchs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


def test_norm_of_means_of_one_value_is_the_running_statistics():
    ours, torchs = twins()
    x = torch.randn(1, 5, 1, 1, requires_grad=True)
    with pytest.raises(ValueError, match='more than 1 value'):
        torchs(x)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    out = ours(x)
    assert torch.equal(out, torchs.eval()(x))
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.5))
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


def test_other_norms_stay_what_they_are():
    assert type(build_norm_of_means(dict(type='GN', num_groups=2), 4)) is nn.GroupNorm
    assert isinstance(build_norm_of_means(dict(type='SyncBN'), 4), nn.SyncBatchNorm)
    frozen = build_norm_of_means(dict(type='BN', requires_grad=False, eps=1e-3), 4)
    assert frozen.eps == 1e-3 and not frozen.weight.requires_grad
