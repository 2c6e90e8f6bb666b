"""What attention modules show of themselves, and how it is recorded."""

import copy
import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModule
from mmpose.apis import inference_bottomup, inference_topdown, init_model
from mmpose.registry import MODELS
from torch import nn
from torch.nn import functional as F

from mmpose_attn.models import DetailEnhancement, DySample, SEAttention, plugins
from mmpose_attn.models.layers import (
    DenseContextModeling,
    DynamicConv,
    GlobalContextModeling,
)
from mmpose_attn.models.layers.context_modeling import masked_pool
from mmpose_attn.models.layers.dynamic_conv import convolve_each
from mmpose_attn.visualization.attention_maps import (
    DIMS,
    attention_sites,
    collect,
    prepare,
    record,
)
from tests.helpers import ROOT, build, hrnet_extra, randomize
from tests.inference_helpers import write_networks
from tests.models.test_dite_hrnet import small
from tests.models.test_plugins import every_plugin, images, make, with_identity

pytestmark = pytest.mark.usefixtures('mmpose_scope')


# ------------------------------------------------------------------ contract
def wide(gates):
    return gates[:, :, None, None]


# what every plugin's docstring says its output is
OUTPUT = dict(
    SEAttention=lambda m, x, channel: x * wide(channel),
    ECAAttention=lambda m, x, channel: x * wide(channel),
    DetailEnhancement=lambda m, x, channel: x * wide(channel),
    CBAMAttention=lambda m, x, channel, spatial: x * wide(channel) * spatial,
    CAMSAMAttention=lambda m, x, channel, spatial: x * (wide(channel) * spatial + m.residual),
    PolarizedAttention=lambda m, x, channel, spatial, mask: (
        x * (wide(channel) + spatial) if m.layout == 'parallel' else x * wide(channel) * spatial
    ),
)
SHAPES = dict(channel=(3, 64), spatial=(3, 1, 7, 5), mask=(3, 1, 7, 5))


@every_plugin
@pytest.mark.parametrize('identity', [False, True])
def test_what_is_shown_is_what_is_applied(case, identity):
    options = dict(identity_init=True) if identity and with_identity(case) else {}
    module = randomize(make(case, 64, **options)).eval()
    before = copy.deepcopy(module.state_dict())
    x = images(3, 64, 7, 5)
    kept = x.clone()
    maps = module.attention_maps(x)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        name: SHAPES[name] for name in maps
    }
    assert torch.equal(OUTPUT[case['type']](module, x, **maps), module(x))
    assert torch.equal(x, kept)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(f'``{name}``' in module.attention_maps.__doc__ for name in maps)
    if 'mask' in maps:
        torch.testing.assert_close(maps['mask'].sum((1, 2, 3)), torch.ones(3))
    # images differ, and so do their gates: nothing is averaged over the batch
    assert not any(torch.equal(value, value[:1].expand_as(value)) for value in maps.values())


def test_every_plugin_says_what_its_output_is():
    assert set(OUTPUT) == set(plugins.__all__)


def test_detail_enhancement_of_two_inputs():
    module = randomize(DetailEnhancement(8, high_channels=4)).eval()
    x, high = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6, 10)
    maps = module.attention_maps(x, high)
    joined = x + module.align(high)
    torch.testing.assert_close(joined * wide(maps['channel']), module(x, high))


def test_kernels_of_a_dynamic_convolution():
    module = randomize(DynamicConv(8, 6, 3, padding=1, num_kernels=4)).eval()
    x = torch.randn(2, 8, 5, 4)
    kernels = module.attention_maps(x)['kernels']
    assert kernels.shape == (2, 4) and 0 < kernels.min() < kernels.max() < 1
    expected = convolve_each(x, module.aggregation(kernels), module)
    torch.testing.assert_close(module(x), expected)


def test_global_context():
    module = randomize(GlobalContextModeling(8, 4)).eval()
    x = torch.randn(2, 8, 6, 4)
    maps = module.attention_maps(x)
    assert torch.equal(module.bn(x * wide(maps['channel'])), module(x))
    pooled = (x * maps['mask']).sum((2, 3))
    torch.testing.assert_close(
        pooled, masked_pool(x, module.conv_mask(x), (1, 1), 'released').flatten(1)
    )


@pytest.mark.parametrize('pooling', ['released', 'spatial'])
def test_dense_context(pooling):
    module = randomize(DenseContextModeling([4, 8], 2, pooling)).eval()
    x = [torch.randn(2, 4, 6, 8), torch.randn(2, 8, 3, 2)]
    maps = module.attention_maps(x)
    for each, found, out in zip(x, maps, module(x), strict=True):
        assert torch.equal(each * F.interpolate(found['gates'], size=each.shape[2:]), out)
    assert 'mask' not in maps[1]
    mask = maps[0]['mask']
    assert mask.shape == (2, 1, 6, 8)
    if pooling == 'spatial':
        pooled = F.avg_pool2d(x[0] * mask, (2, 4), divisor_override=1)
        expected = masked_pool(x[0], module.conv_mask[0](x[0]), (3, 2), pooling)
        torch.testing.assert_close(pooled, expected)
    else:
        assert torch.equal(mask.flatten(1), module.conv_mask[0](x[0]).flatten(1).softmax(1))


@pytest.mark.parametrize('style, scope', [('lp', False), ('pl', True)])
def test_offsets_of_dysample(style, scope):
    module = randomize(DySample(8, 2, style=style, groups=1, dynamic_scope=scope))
    x = torch.randn(1, 8, 3, 4)
    offsets, out = module.attention_maps(x)['offsets'], module(x)
    assert offsets.shape == (1, 2, 6, 8) and offsets.abs().max() > 0.01
    for i, j in np.ndindex(6, 8):
        # the definition: bilinear, from the nearest pixel outside of the image
        u = (j + 0.5) / 2 + offsets[0, 0, i, j].item() - 0.5
        v = (i + 0.5) / 2 + offsets[0, 1, i, j].item() - 0.5
        u, v = min(max(u, 0), 3), min(max(v, 0), 2)
        left, top = min(int(u), 2), min(int(v), 1)
        cell = x[0, :, top : top + 2, left : left + 2]
        weights = torch.tensor([[(1 - v + top)], [v - top]]) * torch.tensor(
            [1 - u + left, u - left]
        )
        torch.testing.assert_close((cell * weights).sum((1, 2)), out[0, :, i, j])
    grouped = randomize(DySample(8, 2, groups=4))
    per_group = grouped._offsets(x)[0] * 0.25
    torch.testing.assert_close(
        grouped.attention_maps(x)['offsets'],
        torch.cat((per_group[:, :4].mean(1, True), per_group[:, 4:].mean(1, True)), 1),
    )


def test_the_example_of_the_documentation():
    page = (ROOT / 'docs' / 'your_own_attention.md').read_text()
    scope = {}
    exec(re.search(r'# my_surprise.py\n(.*?)```', page, re.DOTALL)[1], scope)
    del MODELS.module_dict['SurpriseAttention']
    module = randomize(scope['SurpriseAttention'](8))
    x = torch.randn(2, 8, 5, 4)
    maps = module.attention_maps(x)
    assert torch.equal(x * maps['spatial'], module(x))
    table = re.findall(r'^\| `(\w+)` \| \((.*?)\) \|', page, re.MULTILINE)
    assert {name: shape.count(',') + 1 for name, shape in table} == DIMS
    (found,) = collect(Alone(module).eval(), x)
    assert torch.equal(found.spatial, maps['spatial'])


# ----------------------------------------------------------------- recording
def network(*cfgs, position='fuse', **kwargs):
    placed = [dict(cfg=cfg, position=position) for cfg in cfgs]
    cfg = dict(type='AttnHRNet', extra=hrnet_extra(8), plugins=placed, **kwargs)
    return randomize(build(cfg)).eval()


def names(found):
    return [maps.name for maps in found]


@every_plugin
def test_every_plugin_is_recorded_in_a_network(case):
    net = network(case)
    x = torch.randn(2, 3, 64, 64)
    inputs = {}
    for name, module in net.named_modules():
        if name in attention_sites(net):
            module.register_forward_hook(
                lambda m, args, out, name=name: inputs.update({name: (args[0], out.clone())})
            )
    found = collect(net, x)
    assert set(names(found)) == set(inputs) and len(found) == 6
    for maps in found:
        module = net.get_submodule(maps.name)
        assert (maps.kind, maps.call, maps.note) == (case['type'], 0, '')
        given, out = inputs[maps.name]
        with torch.no_grad():
            expected = module.attention_maps(given)
        for name in DIMS:
            value = getattr(maps, name)
            assert (value is None) == (name not in expected)
            assert value is None or torch.equal(value, expected[name])
        torch.testing.assert_close(maps.before, given.square().mean(1, keepdim=True).sqrt())
        torch.testing.assert_close(
            maps.gain, out.flatten(1).norm(dim=1) / given.flatten(1).norm(dim=1)
        )
    assert found[0].place == 'fuse, stage 2, branch 0'


def test_nothing_is_left_behind():
    net = network(dict(type='CBAMAttention'))
    x = torch.randn(1, 3, 64, 64)
    state, pickled, y = copy.deepcopy(net.state_dict()), pickle.dumps(net), net(x)[0]
    with torch.no_grad(), record(net) as found:
        assert torch.equal(net(x)[0], y)  # looking changes nothing
    assert len(found) == 6
    net(x)
    assert len(found) == 6
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert len(pickle.dumps(net)) == len(pickled)

    def fails(*_):
        raise ZeroDivisionError

    handle = net.stage4.register_forward_pre_hook(fails)
    with pytest.raises(ZeroDivisionError):
        collect(net, x)
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_sites_are_chosen_by_a_pattern():
    net = network(dict(type='SEAttention'), dict(type='ECAAttention'))
    x = torch.randn(1, 3, 64, 64)
    every = names(collect(net, x))
    assert len(every) == 12
    assert names(collect(net, x, sites='stage4.*')) == every[-2:]
    assert names(collect(net, x, sites='*.1')) == every[1::2]
    with pytest.raises(ValueError, match=r"'stage5.*' match none of stage2.*12 in all"):
        collect(net, x, sites='stage5.*')


def test_a_network_without_attention():
    with pytest.raises(ValueError, match='AttnHRNet has no attention'):
        collect(network(), torch.randn(1, 3, 64, 64))


class Scaled(BaseModule):
    """In place, and without a word about itself."""

    def __init__(self, in_channels):
        super().__init__()
        self.scale = nn.Parameter(torch.full((in_channels, 1, 1), 0.5))

    def forward(self, x):
        return x.mul_(self.scale) if not x.requires_grad else x * self.scale


class Wrapped(SEAttention):
    """Has another attention inside, which runs once in forward and once to be shown."""

    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.inner = SEAttention(in_channels)

    def forward(self, x):
        return super().forward(self.inner(x))

    def attention_maps(self, x):
        return super().attention_maps(self.inner(x))


class Wrong(Scaled):
    answer = dict(channel=torch.zeros(1, 2, 3))

    def attention_maps(self, x):
        return self.answer


class Alone(nn.Module):
    """Only the modules given, one after the other; the same one may come twice."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = layers
        self.used = nn.ModuleList(dict.fromkeys(layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_plugin_without_the_contract():
    net = network(dict(type=Scaled), dict(type='ContextBlock', ratio=0.5))
    scaled, other, *_ = collect(net, torch.randn(1, 3, 64, 64))
    assert (scaled.kind, other.kind) == ('Scaled', 'ContextBlock')
    assert 'no attention_maps()' in scaled.note and 'no attention_maps()' in other.note
    assert all(getattr(scaled, name) is None for name in DIMS)
    randomized = net.get_submodule(scaled.name).scale
    assert not torch.equal(randomized, torch.full_like(randomized, 0.5))
    torch.testing.assert_close(scaled.after, other.before)
    assert not torch.equal(scaled.before, scaled.after)  # from before it changed its input


def test_attention_inside_of_attention_is_counted_once():
    net = Alone(Wrapped(8)).eval()
    x = torch.randn(2, 8, 4, 4)
    inner, outer = collect(net, x)
    assert (inner.name, outer.name) == ('used.0.inner', 'used.0')
    assert (inner.call, outer.call) == (0, 0)


def test_calls_of_a_shared_module():
    torch.manual_seed(0)  # the hidden channels of some weights are all zero
    shared = randomize(SEAttention(8))
    net = Alone(shared, Scaled(8), shared).eval()
    first, second = collect(net, torch.randn(2, 8, 4, 4))
    assert first.name == second.name == 'used.0' and (first.call, second.call) == (0, 1)
    assert not torch.equal(first.channel, second.channel)
    torch.testing.assert_close(first.after * 0.5, second.before)


def test_recomputation_adds_no_call():
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    cases = [
        collect(network(dict(type='CBAMAttention'), position='after_conv2', with_cp=with_cp), x)
        for with_cp in (False, True)
    ]
    assert names(cases[0]) == names(cases[1])
    assert all(torch.equal(a.channel, b.channel) for a, b in zip(*cases, strict=True))


@pytest.mark.parametrize(
    'answer, message',
    [
        (dict(channel=torch.zeros(1, 2, 3)), r'channel \(1, 2, 3\) for a batch of 1'),
        (dict(channel=torch.zeros(2, 8)), r'channel \(2, 8\) for a batch of 1'),
        (dict(heat=torch.zeros(1, 1, 2, 2)), 'heat .* known are channel of 2 dimensions'),
        ([{}, {}], '2 maps for 1 tensors'),
    ],
)
def test_a_broken_contract_is_named(answer, message, monkeypatch):
    monkeypatch.setattr(Wrong, 'answer', answer)
    with pytest.raises(ValueError, match=f'used.0: attention_maps of Wrong returns {message}'):
        collect(Alone(Wrong(8)).eval(), torch.randn(1, 8, 4, 4))


def test_training_and_gradients_are_refused():
    net = Alone(SEAttention(8))
    x = torch.randn(1, 8, 4, 4)
    with pytest.raises(RuntimeError, match='used.0: .*evaluation mode'):
        collect(net.train(), x)
    with record(net.eval()), pytest.raises(RuntimeError, match='no_grad'):
        net(x)


def test_a_compiled_network():
    net = Alone(SEAttention(8), nn.ReLU()).eval()
    x = torch.randn(2, 8, 4, 4)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend='eager')
    with torch.no_grad():
        y = compiled(x)
        with record(compiled) as found:
            compiled(x)
        assert len(found) == 1
        assert torch.equal(compiled(x), y) and len(found) == 1


def test_dite_hrnet_takes_no_short_cut():
    net = randomize(small()).float().eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(x)[0]
        with record(net) as found:
            torch.testing.assert_close(net(x)[0], expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(net(x)[0], expected)  # and takes it again
    called = {maps.name.split('[')[0] for maps in found}
    assert called == set(attention_sites(net))
    kinds = {maps.kind for maps in found}
    assert kinds == {'DynamicConv', 'GlobalContextModeling', 'DenseContextModeling'}
    dense = [maps for maps in found if maps.kind == 'DenseContextModeling']
    assert dense[0].name.endswith('dcm[0]') and dense[0].mask is not None
    assert all(maps.gates.shape[0] == 2 for maps in dense)
    with pytest.raises(ValueError, match='fuse_for_inference'):
        collect(net.fuse_for_inference(), x)


def test_a_strangers_fast_is_left_alone():
    class Fast(SEAttention):
        fast = True

        def forward(self, x):
            assert self.fast is True
            return super().forward(x)

    net = nn.Sequential(Fast(16)).eval()
    net[0].fast = True
    with torch.no_grad(), record(net) as found:
        net(torch.randn(1, 16, 8, 8))
    assert net[0].fast is True and len(found) == 1


# -------------------------------------------------------------- whole models
@pytest.fixture(scope='module')
def models(tmp_path_factory, mmpose_scope):
    folder = tmp_path_factory.mktemp('models')
    options = {
        'model.backbone.plugins': [
            dict(cfg=dict(type='SEAttention'), position='stem'),
            dict(cfg=dict(type='CBAMAttention'), position='fuse', stages=(4,)),
        ]
    }
    return {
        kind: init_model(str(config), str(checkpoint), 'cpu', dict(options))
        for kind, (config, checkpoint) in write_networks(folder).items()
    }


def picture(width=90, height=70):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def unnormalized(model, inputs):
    steps = model.data_preprocessor
    pixels = (inputs * steps.std + steps.mean).flip(1)  # to BGR
    return pixels.permute(0, 2, 3, 1).numpy()


def test_top_down_sees_crops(models):
    model, image = models['topdown'], picture()
    boxes = [(5, 5, 45, 65, 0.9), (40, 10, 80, 60, 0.8)]
    seen = prepare(model, image, boxes)
    assert seen.inputs.shape == (2, 3, 96, 64) and seen.pictures.shape == (2, 96, 64, 3)
    assert np.abs(unnormalized(model, seen.inputs) - seen.pictures).max() < 0.01
    assert not np.array_equal(*seen.pictures)
    found = collect(model, image, boxes)
    assert [maps.kind for maps in found] == ['SEAttention', 'CBAMAttention']
    assert found[0].name == 'backbone.stem_plugins.0'
    assert found[1].spatial.shape == (2, 1, 24, 16)
    again = collect(model, seen)
    alone = collect(model, image, boxes[1:])
    for one, other, single in zip(found, again, alone, strict=True):
        assert torch.equal(one.channel, other.channel)
        torch.testing.assert_close(one.channel[1:], single.channel)
    whole = prepare(model, image)
    assert np.array_equal(whole.pictures, prepare(model, image, [(0, 0, 90, 70)]).pictures)


def test_bottom_up_sees_the_image(models, tmp_path):
    model, image = models['bottomup'], picture(100, 64)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    seen = prepare(model, tmp_path / 'image.png')
    assert seen.inputs.shape == (1, 3, 64, 128)
    assert np.array_equal(seen.pictures[0, :, 14:114], image)
    assert np.abs(unnormalized(model, seen.inputs) - seen.pictures).max() < 0.01
    assert len(collect(model, image)) == 2
    with pytest.raises(ValueError, match='bottom-up network takes the whole image'):
        collect(model, image, [(0, 0, 10, 10)])


def test_a_pyramid_is_seen_at_scale_1(models, tmp_path):
    model = models['bottomup']
    image = picture(100, 64)
    expected = prepare(model, image)
    steps = model.cfg.test_dataloader.dataset.pipeline
    kept = copy.deepcopy(steps)
    try:
        steps[1].scales = (0.5, 1, 2)
        steps[1].input_size = (128, 128)
        assert prepare(model, image).inputs.shape == (1, 3, 128, 256)
    finally:
        model.cfg.test_dataloader.dataset.pipeline = kept
    assert torch.equal(prepare(model, image).inputs, expected.inputs)


@pytest.mark.parametrize('boxes', [[], [(5, 5, 5, 9)], [(1, 2, 3)]])
def test_boxes_without_area(models, boxes):
    with pytest.raises(ValueError, match='boxes are rows x1 < x2, y1 < y2'):
        collect(models['topdown'], picture(), boxes)


def test_boxes_need_an_image(models):
    with pytest.raises(ValueError, match='boxes need an image'):
        collect(models['topdown'], torch.zeros(1, 3, 96, 64), [(0, 0, 9, 9)])


def test_flip_test_is_a_batch_of_two_or_two_calls(models):
    for kind, infer in (('topdown', inference_topdown), ('bottomup', inference_bottomup)):
        model = models[kind]
        model.test_cfg = dict(model.test_cfg or {}, flip_test=True)
        with record(model, '*stem_plugins*') as found:
            infer(model, picture())
        assert [maps.call for maps in found] == ([0, 1] if kind == 'topdown' else [0])
        assert sum(len(maps.channel) for maps in found) == 2
        plain = collect(model, picture(), sites='*stem_plugins*')
        torch.testing.assert_close(found[0].channel[:1], plain[0].channel)
