"""Attention plugins: SEAttention and CBAMAttention."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import build_plugin_layer
from mmengine.model import BaseModule
from mmpose.registry import MODELS

from mmpose_attn.models import CBAMAttention, SEAttention

pytestmark = pytest.mark.usefixtures('mmpose_scope')

PLUGINS = [SEAttention, CBAMAttention]
every_plugin = pytest.mark.parametrize('plugin', PLUGINS)


def hidden_width(module):
    return (module.fc1 if isinstance(module, SEAttention) else module.mlp[0]).out_features


def make(plugin, channels=16, seed=0, **kwargs):
    torch.manual_seed(seed)
    return plugin(channels, **kwargs)


# ------------------------------------------------------------- definition
def test_se_is_the_formula():
    module = make(SEAttention, 12, ratio=3)
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


def test_cbam_is_the_formula():
    module = make(CBAMAttention, 8, ratio=2, kernel_size=3)
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


def test_parameter_counts():
    # the SE paper's stem block: 64 channels, ratio 16
    assert sum(p.numel() for p in SEAttention(64).parameters()) == 64 * 4 + 4 + 4 * 64 + 64
    assert sum(p.numel() for p in SEAttention(64, bias=False).parameters()) == 2 * 64 * 4
    assert sum(p.numel() for p in CBAMAttention(64).parameters()) == 580 + 2 * 49


@every_plugin
@pytest.mark.parametrize('channels', [8, 15, 16, 17, 32, 64, 384])
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (7, 5)])
def test_any_shape(plugin, channels, size):
    module = make(plugin, channels)
    assert hidden_width(module) == max(1, channels // 16)
    for batch in (1, 3):
        x = torch.randn(batch, channels, *size)
        before = x.clone()
        y = module(x)
        assert y.shape == x.shape and y.isfinite().all()
        assert torch.equal(x, before)  # branches share their input
        assert (y.abs() < x.abs()).all()  # a gate is a sigmoid


@every_plugin
def test_images_of_a_batch_are_independent(plugin):
    module = make(plugin)
    x = torch.randn(3, 16, 6, 5)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]))


@every_plugin
@pytest.mark.parametrize('channels, ratio', [(6, 2), (5, 16)])
def test_gradients(plugin, channels, ratio):
    module = make(plugin, channels, ratio=ratio, seed=3).double()
    x = torch.randn(2, channels, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *params: torch.func.functional_call(
            module, dict(zip(dict(module.named_parameters()), params, strict=True)), (x,)
        ),
        (x, *module.parameters()),
    )


@every_plugin
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_identity_init(plugin, dtype):
    module = make(plugin, 64, identity_init=True).to(dtype)
    x = torch.randn(2, 64, 9, 11).to(dtype)
    x[0, 0, 0, 0] = 0
    assert torch.equal(module(x), x)
    # and it can leave the identity
    module(x).square().sum().backward()
    last = module.fc2 if plugin is SEAttention else module.mlp[-1]
    assert last.weight.grad.abs().max() > 0
    assert not torch.equal(make(plugin, 64)(x.float()), x.float())


def test_identity_init_without_bias():
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(SEAttention(8, bias=False, identity_init=True)(x), x)


# ----------------------------------------------------------- environments
@every_plugin
@pytest.mark.parametrize('identity', [False, True])
def test_bf16_autocast(plugin, identity):
    module = make(plugin, 16, identity_init=identity)
    x = torch.randn(2, 16, 8, 8)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        full, half = module(x), module(x.bfloat16())
        if plugin is SEAttention:  # CBAM's cat refuses float16 under bfloat16
            assert module(x.half()).dtype == torch.float16
    # the stream keeps its own precision, whatever the gate is computed in
    assert (full.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(full, module(x), rtol=0.02, atol=0.02)
    torch.testing.assert_close(half.float(), module(x), rtol=0.03, atol=0.03)
    full.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())


@every_plugin
def test_compiles_without_graph_breaks(plugin):
    module = make(plugin, 16, identity_init=False)
    x = torch.randn(2, 16, 6, 6, requires_grad=True)
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager')
    expected = torch.autograd.grad(module(x).sum(), x)[0]
    y = compiled(x)
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], expected)


@every_plugin
def test_exports_with_dynamic_size(plugin):
    module = make(plugin, 16).eval()
    height, width = torch.export.Dim('height', min=2), torch.export.Dim('width', min=2)
    program = torch.export.export(
        module, (torch.randn(1, 16, 6, 8),), dynamic_shapes=({2: height, 3: width},)
    )
    x = torch.randn(1, 16, 11, 5)
    torch.testing.assert_close(program.module()(x), module(x))


@every_plugin
@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(plugin, copier):
    module = make(plugin, 16, identity_init=True)
    twin = copier(module)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(twin(x), x)
    with torch.no_grad():
        for p in twin.parameters():
            p.fill_(0.3)
    assert torch.equal(module(x), x) and not torch.equal(twin(x), x)


@every_plugin
def test_state_dict_does_not_depend_on_identity_init(plugin):
    assert make(plugin).state_dict().keys() == make(plugin, identity_init=True).state_dict().keys()


# ----------------------------------------------------------- construction
@every_plugin
def test_build_by_config(plugin):
    cfg = dict(type=plugin.__name__, ratio=4)
    name, module = build_plugin_layer(cfg, postfix='_1', in_channels=32)
    assert type(module) is plugin and hidden_width(module) == 8
    assert name.endswith('attention_1') and cfg == dict(type=plugin.__name__, ratio=4)
    assert type(MODELS.build(dict(cfg, in_channels=8))) is plugin
    assert isinstance(module, BaseModule)


@every_plugin
def test_init_cfg(plugin):
    init_cfg = [dict(type='Constant', layer=['Linear', 'Conv2d'], val=0.25, bias=0.5)]
    module = make(plugin, 16, init_cfg=init_cfg)
    module.init_weights()
    for name, parameter in module.named_parameters():
        assert (parameter == (0.5 if name.endswith('bias') else 0.25)).all()


@every_plugin
@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(in_channels=0), 'in_channels=0'),
        (dict(in_channels=-4), 'in_channels=-4'),
        (dict(in_channels=8, ratio=0), 'ratio=0'),
    ],
)
def test_bad_arguments(plugin, kwargs, message):
    with pytest.raises(ValueError, match=f'{plugin.__name__}: .*{message}'):
        plugin(**kwargs)


@pytest.mark.parametrize('kernel_size', [0, 2, 6, -1])
def test_bad_kernel(kernel_size):
    with pytest.raises(ValueError, match=f'kernel_size must be odd, got {kernel_size}'):
        CBAMAttention(8, kernel_size=kernel_size)
