"""Dite-HRNet: the authors' numbers under the authors' names."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from mmpose.registry import MODELS
from torch import nn

from mmpose_attn.models import CSPPAN, DiteHRNet, SEAttention
from tests.helpers import (
    PARITY,
    assert_close,
    dite_extra,
    parity_sample,
    parity_state,
    randomize,
)

pytestmark = pytest.mark.usefixtures('mmpose_scope')
NAME = 'dite18_256x192'


@pytest.fixture
def two_threads():
    """What the parity numbers were computed with: the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def small(**kwargs):
    """Float64, so that what differs is arithmetic and not rounding."""
    torch.manual_seed(0)
    net = DiteHRNet(dite_extra(8, (1, 1, 1), 8, blocks=1), **kwargs)
    return randomize(net).double()


def image(batch=3, size=(32, 64), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *size, generator=generator, dtype=torch.float64)


def step(net, x):
    x = x.clone().requires_grad_()
    out = net(x)[0]
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    (out * weight).mean().backward()
    grads = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    return {'out': out.detach(), 'input': x.grad, **grads}


def relative(actual, expected):
    return float((actual - expected).abs().max() / expected.abs().max())


# ----------------------------------------------------------------- the authors' network
@pytest.mark.parametrize('fast', [False, True])
def test_parity(fast, two_threads):
    net = DiteHRNet(dite_extra(), fast=fast)
    shapes = json.loads((PARITY / f'{NAME}.keys.json').read_text())
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == shapes
    assert sum(p.numel() for p in net.parameters()) == 1_186_236
    net.load_state_dict(parity_state(shapes), strict=False)
    with np.load(PARITY / f'{NAME}.npz') as expected:
        noise = np.random.default_rng(0).normal(size=tuple(expected['input_shape']))
        x = torch.from_numpy(noise.astype(np.float32))
        with torch.no_grad():
            outs = [net.eval()(x)[0]]
            if fast:
                outs.append(net.fuse_for_inference()(x)[0])
        for y in outs:
            assert tuple(y.shape) == tuple(expected['eval_0_shape'])
            assert_close(parity_sample(y), expected['eval_0'], 1e-5)

        # Batch norms over two images' means make this ill-conditioned: noise of 1e-7 in the input
        # changes the gradient by half, even in float64. Both forms take the same operations in the
        # same order for two images, so on most machines nothing is rounded differently.
        def distances(ours, theirs):
            return [float(np.abs(a - b).max()) for a, b in zip(ours, theirs)]

        def run(x):
            net.load_state_dict(parity_state(shapes), strict=False)
            return step_of_parity(net.train(), x)

        theirs = expected['train_0'], expected['train_dx']
        limits = [1e-4 * np.abs(each).max() for each in theirs]
        ours = run(x)
        errors = distances(ours, theirs)
        if any(error > limit for error, limit in zip(errors, limits)):
            limits = distances(ours, run(x + 1e-7 * torch.randn_like(x)))
        assert all(error <= 2 * limit for error, limit in zip(errors, limits))


def step_of_parity(net, x):
    x = x.clone().requires_grad_()
    y = net(x)[0]
    weight = np.random.default_rng(100).normal(size=y.shape).astype(np.float32)
    (y * torch.from_numpy(weight)).mean().backward()
    return parity_sample(y), parity_sample(x.grad)


def test_other_widths_and_depths():
    assert (
        sum(p.numel() for p in DiteHRNet(dite_extra(modules=(3, 8, 3))).parameters()) == 1_861_852
    )
    net = DiteHRNet(dite_extra(24, (1, 1), 16)).eval()
    assert net(torch.randn(1, 3, 32, 48))[0].shape == (1, 24, 8, 12)


# ------------------------------------------------------------------------ the fast forms
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('pooling', ['released', 'spatial'])
def test_fast_is_plain(training, pooling):
    net = small(pooling=pooling)
    other = small(pooling=pooling, fast=False)
    other.load_state_dict(net.state_dict())
    ours, theirs = step(net.train(training), image()), step(other.train(training), image())
    assert ours.keys() == theirs.keys()
    for name in ours:
        if theirs[name].abs().max() > 1e-12:  # a mask's bias does nothing
            assert relative(ours[name], theirs[name]) < 1e-7, name
    for name, value in other.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('kwargs', [dict(norm_eval=True), dict(with_cp=True)])
def test_fast_is_plain_with(kwargs):
    net, other = small(**kwargs), small(fast=False)
    if 'norm_eval' in kwargs:
        net.train(), other.eval()
    ours, theirs = step(net, image()), step(other, image())
    assert all(
        relative(ours[name], theirs[name]) < 1e-7
        for name in ours
        if theirs[name].abs().max() > 1e-12
    )


def test_other_norms_and_autocast_take_the_plain_form():
    torch.manual_seed(0)
    net = DiteHRNet(dite_extra(16, (1, 1, 1), 16), norm_cfg=dict(type='GN', num_groups=1))
    assert net(torch.randn(2, 3, 64, 64))[0].isfinite().all()
    net = small().float()
    with torch.autocast('cpu', torch.bfloat16):
        out = net.eval()(image().float())[0]
    assert relative(out.double(), net.double()(image())[0]) < 0.1


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('pooling', ['released', 'spatial'])
def test_fused(batch, pooling):
    plugins = [
        dict(cfg=dict(type='SEAttention', ratio=2), position=position)
        for position in ('block', 'after_context')
    ]
    net = small(pooling=pooling, plugins=plugins).eval()
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        fused = net.fuse_for_inference()
        for fast in (True, False):  # (H, W, N, C), and (N, C, H, W) as for an export
            fused.fast = fast
            assert relative(fused(image(batch))[0], net(image(batch))[0]) < 1e-10
        fused.fast = True
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert len(list(fused.modules())) < 0.7 * len(list(net.modules()))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    for changed in (fused, net):
        x = image(batch)
        with torch.no_grad():
            changed(x)
        assert torch.equal(x, image(batch))


@pytest.mark.parametrize('with_fuse', [(False, True, True), (True, False, True)])
def test_fused_without_an_exchange(with_fuse):
    extra = dite_extra(8, (1, 1, 1), 8, blocks=1)
    extra['stages_spec']['with_fuse'] = with_fuse
    net = randomize(DiteHRNet(extra, norm_cfg=dict(type='SyncBN'))).double().eval()
    with torch.no_grad():
        fused = net.fuse_for_inference(record=False)
        for fast in (True, False):
            fused.fast = fast
            assert relative(fused(image())[0], net(image())[0]) < 1e-10


@pytest.mark.parametrize('kwargs', [{}, dict(pooling='spatial', all_branches=True)], ids=str)
def test_recorded(kwargs):
    net = small(**kwargs).eval()
    fused, recorded = net.fuse_for_inference(record=False), net.fuse_for_inference()
    other = pickle.loads(pickle.dumps(copy.deepcopy(recorded)))
    with torch.no_grad():
        for size in ((32, 64), (96, 32), (32, 64)):
            x = image(1, size)
            expected = fused(x)
            for network in (recorded, other):
                for ours, theirs in zip(network(x), expected, strict=True):
                    assert relative(ours, theirs) < 1e-12
        traced = torch.jit.trace(recorded, x, check_trace=False)
        assert relative(traced(x)[0], expected[0]) < 1e-12
        # what runs for one image is the recording, not the modules; for several these
        recorded.stage0 = None
        assert relative(recorded(x)[0], expected[0]) < 1e-12
        assert relative(recorded.to('cpu')(x)[0], expected[0]) < 1e-12
        with pytest.raises(TypeError):
            recorded(image(2))


def test_a_recording_is_forgotten_with_its_weights():
    recorded, other = (small().eval().fuse_for_inference() for _ in range(2))
    with torch.no_grad():
        before = recorded(image(1))[0]
        for parameter in other.parameters():
            parameter.mul_(1.1)
        recorded.load_state_dict(other.state_dict())
        expected = copy.deepcopy(other)(image(1))[0]
        assert relative(before, expected) > 1e-3
        assert relative(recorded(image(1))[0], expected) < 1e-12


class RemembersSize(nn.Module):
    """A plugin that no recording can hold: its input's width is a constant to it."""

    def __init__(self, in_channels):
        super().__init__()

    def forward(self, x):
        return x * int(x.shape[3])


def test_not_recorded_where_a_plugin_prevents_it():
    plugin = dict(cfg=dict(type=RemembersSize), position='block')
    net = small(plugins=[plugin]).eval()
    fused = net.fuse_for_inference()
    with torch.no_grad():
        for size in ((32, 64), (96, 32)):
            assert relative(fused(image(1, size))[0], net(image(1, size))[0]) < 1e-10


def test_every_parameter_has_a_gradient():
    net = small().train()
    assert not [name for name, grad in step(net, image()).items() if grad is None]
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    # what the authors have and never use
    assert frozen and all('.dcm.conv_mask.' in name for name in frozen)


# ------------------------------------------------------------------------------- plugins
def test_plugins():
    cfg = dict(type='SEAttention', ratio=2)
    with_one = small(plugins=[dict(cfg=cfg, position='after_context', stages=3, branches=(0, 2))])
    places = [(p.name, p.stage, p.branch) for p in with_one.named_plugins()]
    assert places == [
        (f'stage1.0.layers.0.sites.after_context.{branch}.0', 3, branch) for branch in (0, 2)
    ]
    assert with_one.plugin_sites()['block'] == {
        (stage, branch): 8 * 2**branch for stage in (2, 3, 4) for branch in range(stage)
    }
    assert with_one.plugin_sites()['after_context'][4, 3] == 32
    plain = small()
    missing = with_one.load_state_dict(plain.state_dict(), strict=False)
    assert all('.sites.after_context.' in key for key in missing.missing_keys)
    # a gate of one changes nothing, another does
    for plugin in with_one.named_plugins():
        assert isinstance(plugin.module, SEAttention)
        nn.init.constant_(plugin.module.fc2.bias, 100)
    with_one.eval(), plain.eval()
    assert relative(with_one(image())[0], plain(image())[0]) < 1e-7
    nn.init.constant_(plugin.module.fc2.bias, -100)
    assert relative(with_one(image())[0], plain(image())[0]) > 1e-3
    with pytest.raises(ValueError, match=r"the positions are \['after_context', 'block'\]"):
        small(plugins=[dict(cfg=cfg, position='fuse')])


# ------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    'shape', [(1, 3, 64, 80), (1, 3, 48, 64), (0, 3, 64, 64)], ids=['width', 'height', 'batch']
)
def test_bad_image(shape):
    for net in (small(), small().fuse_for_inference()):
        with pytest.raises(ValueError, match='multiples of 32'):
            net(torch.randn(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(num_modules=(1, 1)), "'num_modules'.*num_stages=3"),
        (dict(num_channels=((8, 16), (8, 16), (8, 16, 32, 64))), 'stage 1 .*num_branches=3'),
        (dict(num_channels=((8, 16), (8, 15, 32), (8, 16, 32, 64))), 'must be even'),
        (dict(num_kernels=(4, 4, 2)), 'stage 2 has 4 branches, but num_kernels only 3'),
        (dict(ratios=(4, 4, 8, 99)), 'reduction ratio'),
        (dict(num_groups=(1, 1, 2, 3)), 'num_groups must divide'),
        (dict(num_blocks=2), "'num_blocks'.* must have num_stages=3 entries, got 2"),
        (dict(with_fuse=(True,)), "'with_fuse'.*num_stages=3"),
        (dict(reduce_ratios=(8, 8)), "'reduce_ratios'.*num_stages=3"),
        (
            dict(num_branches=(1, 2, 3), num_channels=((8,), (8, 16), (8, 16, 32))),
            'stage 0 needs at least two branches, got 1',
        ),
    ],
)
def test_bad_extra(change, message):
    extra = dite_extra(16, (1, 1, 1), 16)
    extra['stages_spec'].update(change)
    with pytest.raises(ValueError, match=message):
        DiteHRNet(extra)


@pytest.mark.parametrize(
    'keys',
    [('stages_spec',), ('with_head',), ('stem', 'out_channels'), ('stages_spec', 'num_blocks')],
)
def test_incomplete_extra(keys):
    extra = inner = dite_extra(16, (1, 1, 1), 16)
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    with pytest.raises(ValueError, match=f"^extra.* has no .'{keys[-1]}'"):
        DiteHRNet(extra)


def test_extra_of_the_released_configs():
    """They leave out what has no choice."""
    extra = dite_extra(16, (1, 1, 1), 16)
    full = DiteHRNet(extra).state_dict()
    del extra['stem']['expand_ratio'], extra['stages_spec']['reduce_ratios']
    del extra['stages_spec']['with_fuse']
    short = DiteHRNet(extra).state_dict()
    assert {k: v.shape for k, v in short.items()} == {k: v.shape for k, v in full.items()}


def test_more_branches_than_tables():
    extra = dite_extra(16, (1, 1, 1, 1), 16)
    with pytest.raises(ValueError, match='stage 3 has 5 branches, but num_groups only 4'):
        DiteHRNet(extra)
    tables = dict(num_groups=(1, 1, 2, 4, 4), num_kernels=(4, 4, 2, 1, 1), ratios=(4, 4, 8, 8, 8))
    extra['stages_spec'].update(tables)
    assert DiteHRNet(extra).eval()(torch.randn(1, 3, 64, 64))[0].shape == (1, 16, 16, 16)


def test_unknown_pooling():
    with pytest.raises(ValueError, match="pooling must be one of .*, got 'mean'"):
        small(pooling='mean')


# ---------------------------------------------------------------------------------- neck
def test_csp_pan():
    extra = dite_extra(16, (1, 1, 1), 16, with_head=False)
    x = DiteHRNet(extra, all_branches=True).eval()(torch.randn(2, 3, 64, 96))
    assert [each.shape[1] for each in x] == [16, 32, 64, 128]
    neck = MODELS.build(dict(type='CSPPAN', in_channels=[16, 32, 64, 128]))
    outs = neck(x)
    assert [tuple(out.shape) for out in outs] == [(2, 16, *each.shape[2:]) for each in x]
    # every output depends on every input, the widths are the smallest, and nothing is idle
    leaves = [each.detach().requires_grad_() for each in x]
    for out in neck(leaves):
        grads = torch.autograd.grad(out.square().sum(), leaves, retain_graph=True)
        assert all(grad.abs().max() > 0 for grad in grads)
    sum(out.square().mean() for out in neck(leaves)).backward()
    assert all(p.grad is not None for p in neck.parameters())
    (joined,) = CSPPAN([16, 32, 64, 128], concat=True).eval()(x)
    assert joined.shape == (2, 4 * 16, 16, 24)
    kernels = {m.kernel_size for m in neck.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    assert kernels == {(5, 5)}


@pytest.mark.parametrize(
    'kwargs', [dict(in_channels=[16]), dict(in_channels=[16, 32], kernel_size=4)]
)
def test_csp_pan_errors(kwargs):
    with pytest.raises(ValueError, match='CSPPAN needs'):
        CSPPAN(**kwargs)
    for widths in ([16], [16, 16]):
        with pytest.raises(ValueError, match='in_channels=.16, 32., but the inputs have .16'):
            CSPPAN([16, 32])([torch.randn(1, width, 8, 8) for width in widths])
