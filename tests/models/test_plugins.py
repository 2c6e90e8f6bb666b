"""Attention plugins: one battery for all of them, and each one's definition."""

import copy
import inspect
import json
import pickle

import numpy as np
import pytest
import torch
from mmcv.cnn import build_plugin_layer
from mmengine.model import BaseModule
from mmpose.registry import MODELS

from mmpose_attn.models import (
    CAMSAMAttention,
    CBAMAttention,
    ECAAttention,
    PolarizedAttention,
    SEAttention,
    plugins,
)
from tests.helpers import (
    PARITY,
    assert_close,
    build,
    hrnet_extra,
    parity_sample,
    parity_state,
    randomize,
)

pytestmark = pytest.mark.usefixtures('mmpose_scope')

# a new plugin is one line here, and the whole battery is about it
CASES = [
    dict(type='SEAttention'),
    dict(type='CBAMAttention'),
    dict(type='ECAAttention'),
    dict(type='CAMSAMAttention'),
    dict(type='DetailEnhancement'),
    dict(type='PolarizedAttention', layout='parallel'),
    dict(type='PolarizedAttention', layout='sequential'),
]


def with_identity(case):
    return 'identity_init' in inspect.signature(getattr(plugins, case['type'])).parameters


def over(cases):
    return pytest.mark.parametrize('case', cases, ids=lambda case: '-'.join(case.values()))


every_plugin = over(CASES)
every_identity = over([case for case in CASES if with_identity(case)])


def make(case, channels=16, seed=0, **kwargs):
    torch.manual_seed(seed)
    return MODELS.build(dict(case, in_channels=channels, **kwargs))


def images(batch, channels, height, width):
    """Features whose channels' means differ, so that no hidden unit is off in all images."""
    return torch.randn(batch, channels, 1, 1) + torch.randn(batch, channels, height, width)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_the_battery_is_complete():
    assert {case['type'] for case in CASES} == set(plugins.__all__)


# ---------------------------------------------------------------- battery
@every_plugin
@pytest.mark.parametrize('channels', [8, 15, 16, 17, 32, 64, 384])
def test_any_shape(case, channels):
    module = make(case, channels)
    for size in ((1, 1), (1, 9), (7, 5)):
        for batch in (1, 3):
            x = torch.randn(batch, channels, *size)
            before = x.clone()
            module.train(batch * size[0] * size[1] > 1)  # batch norm refuses a single value
            y = module(x)
            assert y.shape == x.shape and y.isfinite().all()
            assert torch.equal(x, before)  # branches share their input
            assert not torch.equal(y, x)


@every_plugin
def test_evaluation_is_repeatable_and_by_image(case):
    module = make(case).eval()
    x = torch.randn(3, 16, 6, 5)
    y = module(x)
    assert torch.equal(module(x), y)
    torch.testing.assert_close(module(x[1:2]), y[1:2])
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last)), y)


@every_plugin
@pytest.mark.parametrize('training', [False, True])
def test_gradcheck(case, training):
    module = randomize(make(case, 16)).double().train(training)
    torch.manual_seed(3)
    x = torch.randn(2, 16, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *params: torch.func.functional_call(
            module, dict(zip(dict(module.named_parameters()), params, strict=True)), (x,)
        ),
        (x, *module.parameters()),
    )


@every_plugin
@pytest.mark.parametrize('size', [(7, 5), (16, 16)])
def test_every_parameter_learns(case, size):
    module = make(case, 32)
    y = module(images(8, 32, *size))
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@every_identity
@pytest.mark.parametrize('channels', [8, 64])
def test_identity_init(case, channels):
    module = make(case, channels, identity_init=True)
    x = images(8, channels, 9, 11)
    x[0, 0, 0, 0] = 0
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        typed = copy.deepcopy(module).to(dtype)
        assert torch.equal(typed(x.to(dtype)), x.to(dtype))
        assert torch.equal(typed.eval()(x.to(dtype)), x.to(dtype))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(module(x), x)
    tiny = torch.randn(2, channels, 1, 3) * 1e-42  # denormal
    assert torch.equal(module(tiny), tiny)


@every_identity
def test_identity_init_is_left(case):
    module = make(case, 64, identity_init=True)
    off = [p for n, p in module.named_parameters() if n.endswith('weight') and not p.any()]
    x = images(8, 64, 7, 5)
    target = torch.randn_like(x)
    (module(x) * target).sum().backward()
    assert off and all(p.grad.abs().max() > 0 for p in off)
    torch.optim.SGD(module.parameters(), 0.1).step()
    module.zero_grad()
    y = module(x)
    (y * target).sum().backward()
    assert not torch.equal(y, x)
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@every_identity
def test_state_dict_does_not_depend_on_identity_init(case):
    shapes = [
        {k: v.shape for k, v in make(case, identity_init=flag).state_dict().items()}
        for flag in (False, True)
    ]
    assert shapes[0] == shapes[1]


@every_identity
def test_identity_init_survives_a_network(case):
    cfg = dict(type='AttnHRNet', extra=hrnet_extra(8))
    plain = randomize(build(cfg))
    plugin = dict(cfg=dict(case, identity_init=True), position='fuse')
    attended = build(dict(cfg, plugins=[plugin]))
    attended.init_weights()  # HRNet's default is Normal on every convolution
    missing = attended.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all('plugins' in key for key in missing)
    plain.eval()
    attended.eval()
    x = torch.randn(1, 3, 64, 64)
    for y, expected in zip(attended(x), plain(x), strict=True):
        assert torch.equal(y, expected)


@every_plugin
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(case, dtype):
    module = make(case).eval()
    x = images(2, 16, 8, 8)
    with torch.autocast('cpu', dtype=dtype):
        full, half = module(x), module(x.to(dtype))
    # the stream keeps its own precision, whatever the gate is computed in
    assert (full.dtype, half.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(full, module(x), rtol=0.01, atol=0.01)
    torch.testing.assert_close(half.float(), module(x), rtol=0.02, atol=0.02)
    full.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())
    assert module.to(dtype)(x.to(dtype)).dtype == dtype


@every_plugin
def test_compiles_without_graph_breaks(case):
    module = make(case)
    x = torch.randn(2, 16, 6, 5, requires_grad=True)
    weight = torch.randn_like(x)
    torch.compiler.reset()  # earlier tests count towards the limit of recompilations
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager')
    expected = torch.autograd.grad((module(x) * weight).sum(), x)[0]
    y = compiled(x)
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(torch.autograd.grad((y * weight).sum(), x)[0], expected)


@every_plugin
@pytest.mark.parametrize('identity', [False, True])
def test_exports_with_dynamic_size_and_batch(case, identity):
    if identity and not with_identity(case):
        pytest.skip('has no identity form')
    module = make(case, **dict(identity_init=True) if identity else {}).eval()
    randomize(module)
    dims = {i: torch.export.Dim(name, min=2) for i, name in ((0, 'n'), (2, 'h'), (3, 'w'))}
    program = torch.export.export(module, (torch.randn(2, 16, 6, 8),), dynamic_shapes=(dims,))
    for shape in ((2, 16, 6, 8), (3, 16, 11, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), module(x))


@every_plugin
@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(case, copier):
    module = make(case).eval()
    twin = copier(module)
    x = torch.randn(2, 16, 4, 4)
    y = module(x)
    assert torch.equal(twin(x), y)
    with torch.no_grad():
        for p in twin.parameters():
            p.fill_(0.3)
    assert torch.equal(module(x), y) and not torch.equal(twin(x), y)


@every_plugin
def test_build_by_config(case):
    cfg = dict(case)
    name, module = build_plugin_layer(cfg, postfix='_1', in_channels=32)
    assert type(module) is getattr(plugins, case['type']) and isinstance(module, BaseModule)
    assert name.endswith('_1') and cfg == case


@every_plugin
def test_init_cfg(case):
    layers = ['Linear', 'Conv1d', 'Conv2d', '_BatchNorm', 'LayerNorm']
    module = make(case, init_cfg=[dict(type='Constant', layer=layers, val=0.25, bias=0.5)])
    module.init_weights()
    for name, parameter in module.named_parameters():
        assert (parameter == (0.5 if name.endswith('bias') else 0.25)).all(), name


@every_plugin
@pytest.mark.parametrize('channels', [0, -4])
def test_bad_channels(case, channels):
    with pytest.raises(ValueError, match=f'{case["type"]}: .*in_channels={channels}'):
        make(case, channels)


@pytest.mark.parametrize(
    'plugin, kwargs, message',
    [
        (SEAttention, dict(ratio=0), 'ratio=0'),
        (CBAMAttention, dict(ratio=0), 'ratio=0'),
        *((CBAMAttention, dict(kernel_size=k), f'odd, got {k}') for k in (0, 2, 6, -1)),
        *((ECAAttention, dict(kernel_size=k), f'odd, got {k}') for k in (0, 2, 6, -1)),
        (ECAAttention, dict(gamma=0), 'gamma=0'),
        (ECAAttention, dict(gamma=-2), 'gamma=-2'),
        (CAMSAMAttention, dict(ratio=0), 'ratio=0'),
        (CAMSAMAttention, dict(spatial_channels=0), 'spatial_channels=0'),
        (PolarizedAttention, dict(layout='p'), "'parallel' or 'sequential', got 'p'"),
        (PolarizedAttention, dict(in_channels=1), 'at least 2 channels, got in_channels=1'),
        (
            PolarizedAttention,
            dict(in_channels=7, layout='sequential'),
            'at least 8 channels, got in_channels=7',
        ),
    ],
)
def test_bad_arguments(plugin, kwargs, message):
    with pytest.raises(ValueError, match=f'{plugin.__name__}: .*{message}'):
        plugin(**{'in_channels': 8, **kwargs})


# ------------------------------------------------------------ definitions
def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def arrays(module):
    """Parameters and statistics by name, as NumPy arrays of doubles."""
    return {k: v.double().numpy() for k, v in module.state_dict().items()}


def conv3x3(maps, kernel):
    """(I, H, W), (O, I, 3, 3) -> (O, H, W), zeros around."""
    _, height, width = maps.shape
    out = np.zeros((len(kernel), height, width))
    for o, row, col in np.ndindex(out.shape):
        for i, dy, dx in np.ndindex(kernel.shape[1:]):
            y, x = row + dy - 1, col + dx - 1
            if 0 <= y < height and 0 <= x < width:
                out[o, row, col] += kernel[o, i, dy, dx] * maps[i, y, x]
    return out


def test_se_is_the_formula():
    module = make(CASES[0], 12, ratio=3)
    x = torch.randn(2, 12, 5, 7)
    w1, b1 = module.fc1.weight, module.fc1.bias
    w2, b2 = module.fc2.weight, module.fc2.bias
    expected = torch.empty_like(x)
    for n in range(2):
        squeezed = torch.stack([x[n, c].sum() / 35 for c in range(12)])
        gate = 1 / (1 + torch.exp(-(w2 @ (w1 @ squeezed + b1).clamp(min=0) + b2)))
        for c in range(12):
            expected[n, c] = x[n, c] * gate[c]
    torch.testing.assert_close(module(x), expected)


def test_se_without_bias():
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(SEAttention(8, bias=False, identity_init=True)(x), x)


def test_cbam_is_the_formula():
    module = make(CASES[1], 8, ratio=2, kernel_size=3)
    x = torch.randn(2, 8, 5, 6)
    (w1, b1, w2, b2), kernel = module.mlp.parameters(), module.spatial.weight[0]
    expected = torch.empty_like(x)
    for n in range(2):
        gate = 0
        for pooled in (x[n].flatten(1).sum(1) / 30, x[n].flatten(1).max(1).values):
            gate = gate + w2 @ (w1 @ pooled + b1).clamp(min=0) + b2
        y = x[n] * (1 / (1 + torch.exp(-gate)))[:, None, None]
        maps = torch.zeros(2, 7, 8)
        maps[0, 1:-1, 1:-1], maps[1, 1:-1, 1:-1] = y.sum(0) / 8, y.max(0).values
        for row in range(5):
            for col in range(6):
                score = (maps[:, row : row + 3, col : col + 3] * kernel).sum()
                expected[n, :, row, col] = y[:, row, col] / (1 + torch.exp(-score))
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize('channels, kernel_size', [(8, None), (6, 5), (4, 1), (2, 7)])
def test_eca_is_the_formula(channels, kernel_size):
    module = randomize(ECAAttention(channels, kernel_size)).double()
    kernel = arrays(module)['conv.weight'].ravel()
    x = np.random.default_rng(0).normal(size=(2, channels, 4, 3))
    expected = np.empty_like(x)
    for n, c in np.ndindex(2, channels):
        score = 0
        for tap, weight in enumerate(kernel):
            neighbour = c + tap - len(kernel) // 2
            if 0 <= neighbour < channels:
                score += weight * x[n, neighbour].sum() / 12
        expected[n, c] = x[n, c] * sigmoid(score)
    assert_close(module(torch.from_numpy(x)).detach(), expected, 1e-12)


def test_eca_adapts_its_kernel():
    def sizes(**kwargs):
        return {c: ECAAttention(c, **kwargs).conv.kernel_size[0] for c in (1, 8, 32, 48, 64, 96)}

    assert sizes() == {1: 1, 8: 3, 32: 3, 48: 3, 64: 3, 96: 3}
    wide = {c: ECAAttention(c).conv.kernel_size[0] for c in (127, 128, 192, 256, 384, 2047, 2048)}
    assert wide == {127: 3, 128: 5, 192: 5, 256: 5, 384: 5, 2047: 5, 2048: 7}
    # |log2(C)| and |log2(C) - 8|, made odd upwards
    assert sizes(gamma=1, beta=0) == {1: 1, 8: 3, 32: 5, 48: 5, 64: 7, 96: 7}
    assert sizes(gamma=1, beta=-8) == {1: 9, 8: 5, 32: 3, 48: 3, 64: 3, 96: 1}
    assert ECAAttention(384, kernel_size=3).conv.kernel_size == (3,)


@pytest.mark.parametrize('identity', [False, True])
@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(spatial_channels=3),
        dict(spatial_channels=2, spatial_norm_cfg=None, spatial_act_cfg=None),
        dict(spatial_norm_cfg=None, spatial_act_cfg=dict(type='Tanh')),
    ],
)
def test_cam_sam_is_the_formula(kwargs, identity):
    module = randomize(CAMSAMAttention(6, ratio=2, identity_init=identity, **kwargs), 3)
    module.double().eval()
    w = arrays(module)
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 4))
    expected = np.empty_like(x)
    for n, image in enumerate(x):
        squeezed = np.array([channel.sum() / 20 for channel in image])
        hidden = np.maximum(w['channel.0.weight'][:, :, 0, 0] @ squeezed, 0)
        channel = sigmoid(w['channel.2.weight'][:, :, 0, 0] @ hidden)
        attended = image * channel[:, None, None]
        maps = conv3x3(attended.sum(0, keepdims=True) / 6, w['spatial.0.weight'])
        if 'spatial_norm_cfg' in kwargs:
            maps += w['spatial.0.bias'][:, None, None]
        else:
            gain = w['spatial.1.weight'] / np.sqrt(w['spatial.1.running_var'] + 1e-5)
            maps = (maps - w['spatial.1.running_mean'][:, None, None]) * gain[:, None, None]
            maps += w['spatial.1.bias'][:, None, None]
        act = kwargs.get('spatial_act_cfg', dict(type='ReLU'))
        if act:
            maps = np.tanh(maps) if act['type'] == 'Tanh' else np.maximum(maps, 0)
        last = f'spatial.{len(module.spatial) - 1}.weight'
        attended = attended * sigmoid(conv3x3(maps, w[last]))
        expected[n] = image + attended - (image / 4 if identity else 0)
    assert_close(module(torch.from_numpy(x)).detach(), expected, 1e-12)


@pytest.mark.parametrize('layout', ['parallel', 'sequential'])
def test_polarized_parity(layout):
    name = f'psa_{layout[0]}_c32'
    keys = json.loads((PARITY / f'{name}.keys.json').read_text())
    module = PolarizedAttention(32, layout)
    assert {k: list(v.shape) for k, v in module.state_dict().items()} == keys
    module.load_state_dict(parity_state(keys))
    with np.load(PARITY / f'{name}.npz') as parity:
        shape = tuple(parity['input_shape'])
        x = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
        y = module.eval()(x)
        assert tuple(y.shape) == tuple(parity['eval_0_shape'])
        assert y.abs().max().item() == pytest.approx(float(parity['eval_0_absmax']), rel=1e-5)
        assert_close(parity_sample(y), parity['eval_0'], 1e-5)
        y = module.train()(x.requires_grad_())
        weight = np.random.default_rng(100).normal(size=shape).astype(np.float32)
        loss = (y * torch.from_numpy(weight)).mean()
        loss.backward()
        assert_close(parity_sample(y), parity['train_0'], 1e-4)
        assert loss.item() == pytest.approx(float(parity['train_loss']), rel=1e-4)
        assert_close(parity_sample(x.grad), parity['train_dx'], 1e-4)


@pytest.mark.parametrize('layout', ['parallel', 'sequential'])
def test_polarized_starts_as_released(layout):
    torch.manual_seed(0)
    module = PolarizedAttention(384, layout)
    for name in ('conv_q_right', 'conv_v_right', 'conv_q_left', 'conv_v_left'):
        std = getattr(module, name).weight.std().item()
        assert std == pytest.approx((2 / 384) ** 0.5, rel=0.15 if name == 'conv_q_right' else 0.02)
    up = module.conv_up if layout == 'parallel' else module.conv_up[-1]
    bound = (up.in_channels) ** -0.5  # torch's default is uniform
    assert 0.99 * bound < up.weight.abs().max() <= bound


def test_polarized_identity_form_is_near_the_released_one():
    x = images(2, 8, 6, 5)
    released = randomize(PolarizedAttention(8), 5).double()
    form = PolarizedAttention(8, identity_init=True).double()
    form.load_state_dict(released.state_dict())
    difference = ((released(x.double()) - form(x.double())) / x.double()).abs().max()
    assert 0 < difference <= 1 / (4 * 30)


def test_parameter_counts():
    # the SE paper's stem block: 64 channels, ratio 16
    assert count(SEAttention(64)) == 64 * 4 + 4 + 4 * 64 + 64
    assert count(SEAttention(64, bias=False)) == 2 * 64 * 4
    assert count(CBAMAttention(64)) == 580 + 2 * 49
    assert (count(ECAAttention(32)), count(ECAAttention(256))) == (3, 5)
    for channels in (32, 48, 64, 256, 384):
        assert count(CAMSAMAttention(channels)) == channels**2 / 8 + 20
        parallel, sequential = (
            count(PolarizedAttention(channels, layout)) for layout in ('parallel', 'sequential')
        )
        assert parallel == 2 * channels**2 + channels
        assert sequential == 1.6875 * channels**2 + 2.375 * channels
    assert count(CAMSAMAttention(8)) == 2 * 8 + 20  # one hidden unit at least
