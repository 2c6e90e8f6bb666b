"""The DySample upsampler."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from mmcv.cnn.bricks.upsample import build_upsample_layer
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import nn
from torch.nn import functional as F

from mmpose_attn.models import DySample
from tests.helpers import PARITY, assert_close, parity_sample, parity_state

pytestmark = pytest.mark.usefixtures('mmpose_scope')

every_style = pytest.mark.parametrize('style', ['lp', 'pl'])
every_scope = pytest.mark.parametrize('dynamic', [False, True], ids=['static', 'dynamic'])


def make(channels=8, scale=2, style='lp', groups=2, dynamic=False, std=0.4, seed=0):
    """A layer whose offsets reach into neighbouring pixels and over the border."""
    torch.manual_seed(seed)
    module = DySample(channels, scale, style, groups, dynamic)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


# ------------------------------------------------------------- definition
@every_style
@every_scope
def test_parity(style, dynamic):
    name = f'dysample_{style}_{"dynamic" if dynamic else "static"}_x2'
    shapes = json.loads((PARITY / f'{name}.keys.json').read_text())
    module = DySample(32, style=style, dynamic_scope=dynamic)
    state = module.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == shapes
    del shapes['init_pos']
    module.load_state_dict(parity_state(shapes) | {'init_pos': state['init_pos']})

    with np.load(PARITY / f'{name}.npz') as expected:
        shape = tuple(expected['input_shape'])
        noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        x = torch.from_numpy(noise).requires_grad_()
        y = module.eval()(x)
        assert tuple(y.shape) == tuple(expected['eval_0_shape'])
        assert_close(parity_sample(y), expected['eval_0'], 1e-5)
        y = module.train()(x)
        assert_close(parity_sample(y), expected['train_0'], 1e-5)
        weight = np.random.default_rng(100).normal(size=y.shape).astype(np.float32)
        loss = (y * torch.from_numpy(weight)).mean()
        loss.backward()
        assert loss.item() == pytest.approx(float(expected['train_loss']), rel=1e-4)
        assert_close(parity_sample(x.grad), expected['train_dx'], 1e-4)


def reference(module, x):
    """The definition, pixel by pixel in float64."""
    s, g = module.scale_factor, module.groups
    n, c, h, w = x.shape
    weight = {k: p.detach().double().numpy() for k, p in module.named_parameters()}
    out = np.empty((n, c, h * s, w * s))
    for b, row, col, group in np.ndindex(n, h * s, w * s, g):
        (i, r), (j, q) = divmod(row, s), divmod(col, s)
        if module.style == 'lp':
            z = x[b, :, i, j]
            outs = [((axis * g + group) * s + r) * s + q for axis in (0, 1)]
        else:
            z = x[b, r * s + q :: s * s, i, j]
            outs = [group, g + group]
        offset = weight['offset.weight'][outs, :, 0, 0] @ z + weight['offset.bias'][outs]
        if module.scope is None:
            offset = 0.25 * offset
        else:
            scope = weight['scope.weight'][outs, :, 0, 0] @ z
            offset = 0.5 * offset / (1 + np.exp(-scope))
        at_x = np.clip((col + 0.5) / s + offset[0] - 0.5, 0, w - 1)
        at_y = np.clip((row + 0.5) / s + offset[1] - 0.5, 0, h - 1)
        left, top = int(at_x), int(at_y)
        right, bottom = min(left + 1, w - 1), min(top + 1, h - 1)
        fx, fy = at_x - left, at_y - top
        of_group = slice(group * c // g, (group + 1) * c // g)
        image = x[b, of_group]
        out[b, of_group, row, col] = (1 - fy) * (
            (1 - fx) * image[:, top, left] + fx * image[:, top, right]
        ) + fy * ((1 - fx) * image[:, bottom, left] + fx * image[:, bottom, right])
    return out


@every_style
@every_scope
@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize(
    'scale, size', [(1, (3, 4)), (2, (5, 7)), (3, (3, 5)), (4, (1, 3)), (8, (3, 2))]
)
def test_is_the_definition(style, dynamic, groups, scale, size):
    channels = 4 if style == 'lp' else 4 * scale**2
    std = 2 / (channels if style == 'lp' else 4) ** 0.5
    module = make(channels, scale, style, groups, dynamic, std=std).double()
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    np.testing.assert_allclose(module(x).detach().numpy(), reference(module, x.numpy()), atol=1e-12)


@every_style
@every_scope
@pytest.mark.parametrize('scale', [2, 3, 4, 8])
def test_without_offsets_it_is_bilinear(style, dynamic, scale):
    module = DySample(64 if style == 'lp' else 4 * scale**2, scale, style, 4, dynamic)
    nn.init.zeros_(module.offset.weight)
    x = torch.randn(1, module.in_channels, 5, 9)
    expected = F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    'channels, scale, style, dynamic, count',
    [
        (32, 2, 'lp', False, 1056),
        (32, 4, 'lp', False, 4224),
        (48, 8, 'lp', False, 25088),
        (32, 2, 'lp', True, 1056 + 1024),
        (32, 2, 'pl', False, 72),
        (32, 2, 'pl', True, 72 + 64),
    ],
)
def test_parameter_counts(channels, scale, style, dynamic, count):
    module = DySample(channels, scale, style, dynamic_scope=dynamic)
    assert sum(p.numel() for p in module.parameters()) == count


def test_positions_in_the_checkpoint():
    # (xy, group, row, column)
    positions = DySample(6, 3, groups=2).init_pos.reshape(2, 2, 3, 3)
    third = torch.tensor([-1, 0, 1]) / 3
    torch.testing.assert_close(positions[0], third.expand(2, 3, 3))
    torch.testing.assert_close(positions[1], third[:, None].expand(2, 3, 3))


@every_style
@every_scope
def test_gradients(style, dynamic):
    module = make(8, 2, style, 2, dynamic, seed=3).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *params: torch.func.functional_call(
            module, dict(zip(dict(module.named_parameters()), params, strict=True)), (x,)
        ),
        (x, *module.parameters()),
    )


@every_style
@every_scope
def test_a_new_layer_learns_every_parameter(style, dynamic):
    module = DySample(16, 2, style, 4, dynamic)
    module(torch.randn(2, 16, 5, 4)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_input_layout_and_value_are_left_alone(layout):
    module = make()
    x = torch.randn(3, 8, 5, 6)
    laid_out = x.clone(memory_format=layout)
    y = module(laid_out)
    assert torch.equal(laid_out, x)
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(y[1:2], module(x[1:2]))


def test_empty_batch():
    assert make()(torch.randn(0, 8, 5, 6)).shape == (0, 8, 10, 12)


# --------------------------------------------------------- initialisation
def is_paper_init(module):
    if module.scope is not None and module.scope.weight.any():
        return False
    std = module.offset.weight.std().item()
    return 0.0009 < std < 0.0011 and not module.offset.bias.any()


@every_style
@every_scope
def test_initial_weights(style, dynamic):
    torch.manual_seed(0)
    module = DySample(1024, 2, style, 4, dynamic)
    assert is_paper_init(module)
    assert abs(module.offset.weight.mean()) < 1e-4
    module = make(1024, 2, style, 4, dynamic)
    assert not is_paper_init(module)
    module.init_weights()
    assert is_paper_init(module)


def test_initial_weights_below_a_network_that_initialises_all_convolutions():
    class Network(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Normal', layer='Conv2d', std=1, bias=1))
            self.conv = nn.Conv2d(3, 3, 1)
            self.upsample = DySample(256, dynamic_scope=True)

    network = Network()
    network.init_weights()
    assert (network.conv.bias == 1).all()
    assert is_paper_init(network.upsample)


def test_init_cfg_comes_last_and_once():
    init_cfg = dict(type='Constant', layer='Conv2d', val=0.25, bias=0.5)
    module = DySample(8, dynamic_scope=True, init_cfg=init_cfg)
    module.init_weights()
    for name, parameter in module.named_parameters():
        assert (parameter == (0.5 if name.endswith('bias') else 0.25)).all()
    nn.init.ones_(module.offset.weight)
    module.init_weights()
    assert (module.offset.weight == 1).all()


# -------------------------------------------------------------- precision
@every_style
@every_scope
@pytest.mark.parametrize('dtype, tolerance', [(torch.float16, 0.004), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize('width', [96, 130, 300])
def test_half_precision(style, dynamic, dtype, tolerance, width, monkeypatch):
    module = make(8, 2, style, 2, dynamic, std=0.2).to(dtype).float()
    x = torch.randn(1, 8, 6, width).to(dtype).float()
    expected, half = module(x), copy.deepcopy(module).to(dtype)

    def error(y):
        return (y.float() - expected).abs().max().item()

    y = half(x.to(dtype))
    assert y.dtype == dtype and error(y) < tolerance
    with torch.autocast('cpu', dtype=dtype):
        y = module(x.to(dtype))
        assert y.dtype == dtype and error(y) < tolerance
        y = module(x)
    assert y.dtype == torch.float32 and error(y) < tolerance
    y.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())
    half(x.to(dtype)).float().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in half.parameters())

    # the bound is tight: coordinates of this type alone go far beyond it
    sample = F.grid_sample
    monkeypatch.setattr(
        F, 'grid_sample', lambda x, grid, **kwargs: sample(x, grid.to(dtype).to(x.dtype), **kwargs)
    )
    assert error(module(x)) > 10 * tolerance


def test_float64_is_not_rounded():
    module = make().double()
    x = torch.randn(1, 8, 4, 6, dtype=torch.float64)
    y = module(x)
    assert y.dtype == torch.float64
    assert (y - module.float()(x.float())).abs().max() > 1e-9


# --------------------------------------------------------------- exporters
@every_style
@every_scope
def test_compiles_without_graph_breaks(style, dynamic):
    module = make(8, 2, style, 2, dynamic)
    torch.compiler.reset()  # earlier tests count towards the limit of recompilations
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager', dynamic=True)
    for shape in [(2, 8, 5, 6), (3, 8, 7, 4)]:
        x = torch.randn(shape, requires_grad=True)
        y, expected = compiled(x), module(x)
        torch.testing.assert_close(y, expected)
        gradient = torch.autograd.grad(y.square().sum(), x)[0]
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0])


def dynamic_shapes():
    return ({axis: torch.export.Dim(name, min=1) for axis, name in ((0, 'n'), (2, 'h'), (3, 'w'))},)


OTHER_SHAPES = [(1, 8, 5, 7), (3, 8, 9, 2), (1, 8, 4, 131)]


@every_style
@every_scope
def test_torch_export_with_dynamic_shapes(style, dynamic):
    module = make(8, 2, style, 2, dynamic).eval()
    program = torch.export.export(
        module, (torch.randn(2, 8, 6, 8),), dynamic_shapes=dynamic_shapes()
    ).module()
    for shape in OTHER_SHAPES:
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), module(x))


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
@every_style
@every_scope
@pytest.mark.parametrize('dynamo', [False, True], ids=['legacy', 'dynamo'])
def test_onnx_with_dynamic_shapes(style, dynamic, dynamo, tmp_path):
    for name in ('onnx', 'onnxruntime', *(['onnxscript'] if dynamo else [])):
        pytest.importorskip(name)
    import onnxruntime

    module = make(8, 2, style, 2, dynamic).eval()
    path, axes = tmp_path / 'model.onnx', {0: 'n', 2: 'h', 3: 'w'}
    how = dict(dynamic_shapes=(axes,)) if dynamo else dict(dynamic_axes=dict(x=axes))
    torch.onnx.export(
        module,
        (torch.randn(2, 8, 6, 8),),
        str(path),
        input_names=['x'],
        dynamo=dynamo,
        opset_version=18 if dynamo else 17,
        **how,
    )
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for shape in OTHER_SHAPES:
        x = torch.randn(shape)
        y = torch.from_numpy(session.run(None, {'x': x.numpy()})[0])
        torch.testing.assert_close(y, module(x), rtol=0, atol=1e-4)


@every_style
@every_scope
def test_makes_nothing_on_another_device(style, dynamic):
    # meta refuses to meet tensors of the CPU, and has no values to wait for
    module = make(8, 2, style, 2, dynamic).to('meta')
    y = module(torch.empty(2, 8, 5, 6, device='meta'))
    assert y.shape == (2, 8, 10, 12) and y.is_meta


@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copier):
    module = make(dynamic=True)
    twin, x = copier(module), torch.randn(2, 8, 4, 4)
    y = module(x)
    assert torch.equal(twin(x), y)
    nn.init.ones_(twin.offset.bias)
    assert torch.equal(module(x), y) and not torch.equal(twin(x), y)


# ----------------------------------------------------------- construction
def test_build_by_config():
    cfg = dict(type='DySample', groups=2)
    module = build_upsample_layer(cfg, in_channels=6, scale_factor=4)
    assert type(module) is DySample and module.scale_factor == 4
    assert module(torch.randn(1, 6, 3, 2)).shape == (1, 6, 12, 8)
    assert cfg == dict(type='DySample', groups=2)
    module = MODELS.build(dict(cfg, in_channels=8, style='pl', dynamic_scope=True))
    assert module.scale_factor == 2 and module.scope.in_channels == 2


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(in_channels=18), r'groups=4 .*in_channels=18; choose one of \[1, 2, 3, 6, 9, 18\]'),
        (dict(in_channels=0), 'in_channels .*positive integer, got 0'),
        (dict(in_channels=8, groups=0), 'groups .*positive integer, got 0'),
        (dict(in_channels=8, scale_factor=2.0), 'scale_factor .*positive integer, got 2.0'),
        (dict(in_channels=8, scale_factor=-2), 'scale_factor .*positive integer, got -2'),
        (dict(in_channels=8, style='LP'), "style must be 'lp' or 'pl', got 'LP'"),
        (dict(in_channels=32, scale_factor=8, style='pl'), ".* = 64, got in_channels=32; .*'lp'"),
        (dict(in_channels=18, groups=2, style='pl'), ".* = 4, got in_channels=18; use style='lp'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f'DySample: {message}'):
        DySample(**kwargs)
