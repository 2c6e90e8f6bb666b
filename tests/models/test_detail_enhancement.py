"""DE-HRNet's detail enhancement module."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmcv.cnn import build_plugin_layer
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import nn

from mmpose_attn.models import DetailEnhancement
from tests.helpers import randomize

pytestmark = pytest.mark.usefixtures('mmpose_scope')

MERGES = ['conv1x1', 'conv3x3', 'global']
every_merge = pytest.mark.parametrize('merge', MERGES)
every_form = pytest.mark.parametrize('merge', [None, *MERGES])


def make(merge=None, channels=8, high_channels=6, random=True, seed=0, **kwargs):
    """Form (a) for ``merge=None``, else form (b)."""
    torch.manual_seed(seed)
    if merge is not None:
        kwargs.update(high_channels=high_channels, merge=merge)
    module = DetailEnhancement(channels, **dict(dict(ratio=2), **kwargs))
    return randomize(module) if random else module


def inputs(module, size=(3, 4), batch=2, channels=8, high_channels=6):
    xs = [torch.randn(batch, channels, *size)]
    if module.align is not None:
        sides = (side * module.stride for side in size)
        xs.append(torch.randn(batch, high_channels, *sides))
    return xs


# ------------------------------------------------------------- definition
def sea(x, weight):
    """Gate (N, C) of x (N, C, H, W)."""
    hidden = x.mean((2, 3)) @ weight['fc1.weight'].T + weight['fc1.bias']
    scores = np.maximum(hidden, 0) @ weight['fc2.weight'].T + weight['fc2.bias']
    return 1 / (1 + np.exp(-scores))


def aligned(module, high, weight):
    """What the higher branch adds, cell by cell."""
    n, _, high_h, high_w = high.shape
    if module.merge == 'global':
        added = high.mean((2, 3)) @ weight['align.weight'].T + weight['align.bias']
        return added[:, :, None, None]
    s, kernel = module.stride, weight['align.1.weight']
    out = np.empty((n, len(kernel), high_h // s, high_w // s))
    padded = np.pad(high, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for b, i, j in np.ndindex(n, high_h // s, high_w // s):
        if module.merge == 'conv1x1':
            cells = high[b, :, i * s : (i + 1) * s, j * s : (j + 1) * s].mean((1, 2))
            out[b, :, i, j] = kernel[:, :, 0, 0] @ cells
        else:
            cells = padded[b, :, i * s : i * s + 3, j * s : j * s + 3]
            out[b, :, i, j] = (kernel * cells).sum((1, 2, 3))
    if module.training:
        mean, var = out.mean((0, 2, 3)), out.var((0, 2, 3))
    else:
        mean, var = weight['align.2.running_mean'], weight['align.2.running_var']
    gain = weight['align.2.weight'] / np.sqrt(var + 1e-5)
    shift = weight['align.2.bias'] - mean * gain
    return out * gain[:, None, None] + shift[:, None, None]


@every_form
@pytest.mark.parametrize('stride', [2, 4])
@pytest.mark.parametrize('training', [False, True])
def test_is_the_formula(merge, stride, training):
    module = make(merge, stride=stride, dropout=0).double().train(training)
    xs = [x.double() for x in inputs(module, (3, 5))]
    weight = {k: v.numpy().copy() for k, v in module.state_dict().items()}
    y = module(*xs).detach().numpy()
    alpha = xs[0].numpy()
    if merge is not None:
        alpha = alpha + aligned(module, xs[1].numpy(), weight)
    np.testing.assert_allclose(y, (sea(alpha, weight) + 1)[:, :, None, None] * alpha, atol=1e-12)


@every_form
def test_without_identity_only_the_gated_input_passes(merge):
    module = make(merge, dropout=0, identity=False).eval()
    xs = inputs(module)
    weight = {k: v.numpy() for k, v in module.state_dict().items()}
    alpha = xs[0].numpy()
    if merge is not None:
        alpha = alpha + aligned(module, xs[1].numpy(), weight)
    with torch.no_grad():
        out = module(*xs).numpy()
    np.testing.assert_allclose(out, sea(alpha, weight)[:, :, None, None] * alpha, rtol=1e-4)
    assert module.state_dict().keys() == make(merge).state_dict().keys()


def test_parameter_counts():
    def count(*args, **kwargs):
        return sum(p.numel() for p in DetailEnhancement(*args, **kwargs).parameters())

    form_a = 64 * 4 + 4 + 4 * 64 + 64
    assert count(64) == form_a
    assert count(64, 32) == form_a + 32 * 64 + 2 * 64
    assert count(64, 32, merge='conv3x3') == form_a + 9 * 32 * 64 + 2 * 64
    assert count(64, 32, merge='global') == form_a + 32 * 64 + 64


@every_form
@pytest.mark.parametrize('channels', [1, 15, 16, 17])
@pytest.mark.parametrize('size', [(1, 1), (7, 2)])
def test_any_shape(merge, channels, size):
    module = make(merge, channels, ratio=16).eval()
    assert module.fc1.out_features == 1
    for batch in (1, 3):
        xs = inputs(module, size, batch, channels)
        before = [x.clone() for x in xs]
        y = module(*xs)
        assert y.shape == xs[0].shape
        assert all(map(torch.equal, xs, before))  # branches share their inputs
        torch.testing.assert_close(y[:1], module(*(x[:1] for x in xs)))


def test_global_takes_any_size():
    module = make('global').eval()
    assert module(torch.randn(2, 8, 3, 5), torch.randn(2, 6, 7, 4)).shape == (2, 8, 3, 5)


def test_norm_by_config():
    module = make('conv1x1', norm_cfg=dict(type='GN', num_groups=2))
    assert isinstance(module.align[2], nn.GroupNorm)
    assert isinstance(make('conv1x1').align[2], nn.BatchNorm2d)


# --------------------------------------------------------------- training
@every_form
@pytest.mark.parametrize('identity', [False, True])
def test_gradients(merge, identity):
    module = make(merge, identity_init=identity, dropout=0).double()
    xs = [x.double().requires_grad_() for x in inputs(module, (2, 3))]
    names = [name for name, _ in module.named_parameters()]
    parameters = [p.requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(
        lambda *tensors: torch.func.functional_call(
            copy.deepcopy(module),  # running statistics
            dict(zip(names, tensors[len(xs) :], strict=True)),
            tensors[: len(xs)],
        ),
        (*xs, *parameters),
    )
    module(*xs).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in parameters)


@every_merge
def test_dropout_acts_on_elements_in_training_alone(merge):
    module, still = (make(merge, dropout=p) for p in (0.3, 0))
    xs = inputs(module, (40, 50))
    y, expected = module(*xs), still(*xs)
    kept = y != 0
    torch.testing.assert_close(y[kept], expected[kept] / 0.7)
    assert 0.68 < kept.float().mean() < 0.72
    assert (kept.float().mean((2, 3)) > 0).all() and (kept.float().mean((2, 3)) < 1).all()
    module.eval()
    # the running statistics moved alike
    assert torch.equal(module(*xs), still.eval()(*xs))


def test_one_input_has_no_dropout():
    module = make(dropout=0.9)
    (x,) = inputs(module)
    assert torch.equal(module(x), module.eval()(x))


# --------------------------------------------------------------- identity
@every_form
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_identity_init(merge, training, dtype):
    module = make(merge, random=False, ratio=1, identity_init=True, dropout=0)
    module.to(dtype).train(training)
    xs = [x.to(dtype) for x in inputs(module)]
    xs[0][0, 0, 0, 0] = 0
    y = module(*xs)
    assert torch.equal(y, xs[0])
    # and it can leave the identity, every layer of it
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        module(*xs).square().sum().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())
    assert not torch.equal(module(*xs), xs[0])


@every_merge
def test_identity_init_still_drops_out(merge):
    module = make(merge, random=False, identity_init=True, dropout=0.5)
    xs = inputs(module)
    y = module(*xs)
    kept = y != 0
    assert 0 < kept.float().mean() < 1
    assert torch.equal(y[kept], 2 * xs[0][kept])
    assert torch.equal(module.eval()(*xs), xs[0])


@every_form
def test_papers_form_starts_near_one_and_a_half(merge):
    module = make(merge, channels=32, random=False, ratio=16, dropout=0).eval()
    xs = inputs(module, channels=32)
    alpha = xs[0]
    if merge is not None:
        added = module.align(xs[1] if merge != 'global' else xs[1].mean((2, 3)))
        alpha = alpha + added.reshape(2, 32, *added.shape[2:] or (1, 1))
    ratio = module(*xs) / alpha
    assert (ratio > 1.2).all() and (ratio < 1.8).all()


@every_form
def test_state_dict_does_not_depend_on_identity_init(merge):
    assert make(merge).state_dict().keys() == make(merge, identity_init=True).state_dict().keys()


# ----------------------------------------------------------- environments
@every_form
@pytest.mark.parametrize('identity', [False, True])
def test_bf16(merge, identity):
    module = make(merge, identity_init=identity).eval()
    xs = inputs(module)
    expected = module(*xs)
    halves = [x.bfloat16() for x in xs]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        full, half = module(*xs), module(*halves)
        # the stream keeps x's precision, whatever the higher branch comes in
        mixed = module(halves[0], *xs[1:])
    own = copy.deepcopy(module).bfloat16()(*halves)
    assert full.dtype == torch.float32
    for y in (full, half, mixed, own):
        assert y.dtype == torch.bfloat16 or y is full
        torch.testing.assert_close(y.float(), expected, rtol=0.03, atol=0.05)
    full.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())


@every_form
@pytest.mark.parametrize('training', [False, True])
def test_compiles_without_graph_breaks(merge, training):
    module = make(merge, dropout=0).train(training)
    torch.compiler.reset()  # earlier tests count towards the limit of recompilations
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager', dynamic=True)
    for size in [(3, 4), (5, 6)]:
        xs = [x.requires_grad_() for x in inputs(module, size)]
        y, expected = compiled(*xs), module(*xs)
        torch.testing.assert_close(y, expected)
        gradients = torch.autograd.grad(y.square().sum(), xs)
        torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), xs))


def export(module):
    """The module with dynamic batch and sizes, h = stride x."""
    n, h, w = (torch.export.Dim(name) for name in ('n', 'h', 'w'))
    shapes = [{0: n, 2: h, 3: w}, {0: n, 2: module.stride * h, 3: module.stride * w}]
    xs = inputs(module, (6, 7))
    return torch.export.export(module, tuple(xs), dynamic_shapes=tuple(shapes[: len(xs)]))


OTHER_SHAPES = [((5, 2), 3), ((4, 9), 1)]


@every_form
def test_torch_export_with_dynamic_shapes(merge):
    module = make(merge).eval()
    program = export(module).module()
    for size, batch in OTHER_SHAPES:
        xs = inputs(module, size, batch)
        torch.testing.assert_close(program(*xs), module(*xs))


@every_form
@pytest.mark.parametrize('dynamo', [False, True], ids=['legacy', 'dynamo'])
def test_onnx_with_dynamic_shapes(merge, dynamo, tmp_path):
    for name in ('onnx', 'onnxruntime', *(['onnxscript'] if dynamo else [])):
        pytest.importorskip(name)
    import onnxruntime

    module, path = make(merge).eval(), str(tmp_path / 'model.onnx')
    xs = inputs(module, (6, 7))
    names = ['x', 'high'][: len(xs)]
    if dynamo:
        torch.onnx.export(export(module), (), path, input_names=names, dynamo=True)
    else:
        axes = {name: {0: 'n', 2: f'{name}_h', 3: f'{name}_w'} for name in names}
        torch.onnx.export(
            module, tuple(xs), path, input_names=names, dynamo=False, dynamic_axes=axes
        )
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for size, batch in OTHER_SHAPES:
        xs = inputs(module, size, batch)
        feed = {name: x.numpy() for name, x in zip(names, xs, strict=True)}
        y = torch.from_numpy(session.run(None, feed)[0])
        torch.testing.assert_close(y, module(*xs), rtol=0, atol=1e-5)


@every_form
@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(merge, copier):
    module = make(merge).eval()
    twin, xs = copier(module), inputs(module)
    y = module(*xs)
    assert torch.equal(twin(*xs), y)
    nn.init.ones_(twin.fc2.bias)
    assert torch.equal(module(*xs), y) and not torch.equal(twin(*xs), y)


# ----------------------------------------------------------- construction
def test_build_by_config():
    cfg = dict(type='DetailEnhancement', ratio=4)
    name, module = build_plugin_layer(cfg, postfix='_1', in_channels=32)
    assert type(module) is DetailEnhancement and isinstance(module, BaseModule)
    assert name == 'detail_enhancement_1' and module.fc1.out_features == 8
    assert module.align is None and cfg == dict(type='DetailEnhancement', ratio=4)
    module = MODELS.build(dict(cfg, in_channels=8, high_channels=4, merge='global', dropout=0.2))
    assert module.align.in_features == 4 and module.dropout.p == 0.2


@every_form
def test_init_cfg(merge):
    init_cfg = dict(type='Constant', layer=['Linear', 'Conv2d', 'BatchNorm2d'], val=0.25, bias=0.5)
    module = make(merge, init_cfg=init_cfg)
    module.init_weights()
    for name, parameter in module.named_parameters():
        assert (parameter == (0.5 if name.endswith('bias') else 0.25)).all()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(in_channels=0), 'in_channels must be positive, got in_channels=0'),
        (dict(in_channels=8, high_channels=0), 'high_channels must be positive'),
        (dict(in_channels=8, ratio=0), 'ratio must be positive'),
        (dict(in_channels=8, stride=0), 'stride must be positive'),
        (dict(in_channels=8, merge='max'), "merge must be one of .*'global'.*, got 'max'"),
        (dict(in_channels=8, dropout=1), r'dropout must be in \[0, 1\), got 1'),
        (dict(in_channels=8, dropout=-0.1), r'dropout must be in \[0, 1\), got -0.1'),
        (
            dict(in_channels=8, identity=False, identity_init=True),
            'identity_init starts with the identity, got identity=False',
        ),
        (
            dict(
                in_channels=8,
                high_channels=4,
                identity_init=True,
                norm_cfg=dict(type='BN', affine=False),
            ),
            'identity_init needs a norm with weights, got norm_cfg=.*affine',
        ),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f'DetailEnhancement: {message}'):
        DetailEnhancement(**kwargs)


@every_form
def test_wrong_number_of_inputs(merge):
    module = make(merge)
    x, high = torch.randn(2, 8, 3, 4), torch.randn(2, 6, 6, 8)
    takes, wrong = ('x alone', (x, high)) if merge is None else ('x and high', (x,))
    with pytest.raises(ValueError, match=f'takes {takes}; high_channels in the constructor'):
        module(*wrong)


# 1 x 1 would broadcast without a word
@pytest.mark.parametrize('merge', ['conv1x1', 'conv3x3'])
@pytest.mark.parametrize(
    'size, high_size', [((3, 4), (12, 16)), ((3, 4), (6, 7)), ((1, 1), (4, 4))]
)
def test_wrong_size_of_the_higher_branch(merge, size, high_size):
    wanted = rf'stride=2 times .*\({2 * size[0]}, {2 * size[1]}\), got \({high_size[0]}, '
    with pytest.raises(ValueError, match=wanted):
        make(merge)(torch.randn(2, 8, *size), torch.randn(2, 6, *high_size))
