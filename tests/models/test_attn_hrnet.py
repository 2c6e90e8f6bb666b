"""AttnHRNet: MMPose's HRNet without plugins, and nothing but the plugins with them."""

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from mmpose.models import HRNet
from mmpose.registry import MODELS
from torch import nn

from mmpose_attn.models import AttnHRNet, CBAMAttention, SEAttention
from tests.helpers import build, higherhrnet_cfg, hrnet_extra, randomize

pytestmark = pytest.mark.usefixtures('mmpose_scope')

EXTRA = hrnet_extra(4, modules=(1, 2, 2))
FULL = hrnet_extra(4, modules=(1, 2, 2), multiscale_output=True)
SE_STEM = dict(cfg=dict(type='SEAttention', ratio=16), position='stem')
SE_FUSE = dict(cfg=dict(type='SEAttention', ratio=2), position='fuse')
CBAM_FUSE = dict(cfg=dict(type='CBAMAttention', ratio=2), position='fuse')
SE_KEYS = ['fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias']


@MODELS.register_module()
class AffinePlugin(BaseModule):
    """x * scale + shift, so that order and place show; with a norm that has statistics."""

    def __init__(self, in_channels, scale=1.0, shift=0.0, norm=False, init_cfg=None):
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.norm = nn.BatchNorm2d(in_channels) if norm else None

    def forward(self, x):
        x = x * self.scale + self.shift
        return x if self.norm is None else self.norm(x)


def affine(position, stages=None, branches=None, **kwargs):
    plugin = dict(cfg=dict(type='AffinePlugin', **kwargs), position=position)
    if stages is not None:
        plugin['stages'] = stages
    if branches is not None:
        plugin['branches'] = branches
    return plugin


def image(batch=2, size=(64, 32), seed=0):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def mode(net, training):
    """MMPose's HRNet returns nothing from train() and eval()."""
    net.train(training)
    return net


def with_stock(stock, plugins, extra=EXTRA, **kwargs):
    """Stock weights under plugins as constructed, in evaluation mode."""
    net = AttnHRNet(extra, plugins=plugins, **kwargs)
    net.load_state_dict(stock.state_dict(), strict=False)
    return mode(net, False)


def without_plugins(net):
    return {k: v for k, v in net.state_dict().items() if 'plugins' not in k}


def step(net, x):
    """Outputs and every gradient of a training step."""
    x = x.clone().requires_grad_()
    outs = net(x)
    sum((out * (i + 1)).square().mean() for i, out in enumerate(outs)).backward()
    return outs, {'input': x.grad, **{name: p.grad for name, p in net.named_parameters()}}


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


# ------------------------------------------------------- without plugins
@pytest.mark.parametrize('plugins', [None, [], ()])
@pytest.mark.parametrize('extra', [EXTRA, FULL], ids=['one output', 'four outputs'])
def test_bit_identical_to_hrnet(extra, plugins):
    stock, attn = randomize(HRNet(extra)), AttnHRNet(extra, plugins=plugins)
    assert list(stock.state_dict()) == list(attn.state_dict())
    attn.load_state_dict(stock.state_dict(), strict=True)
    for training in (True, False):
        (outs, grads), (others, other_grads) = (
            step(mode(net, training), image()) for net in (stock, attn)
        )
        assert type(others) is tuple and len(others) == (4 if extra is FULL else 1)
        assert all(torch.equal(a, b) for a, b in zip(outs, others, strict=True))
        assert_same(grads, other_grads)
        # the running statistics as well
        assert_same(stock.state_dict(), attn.state_dict())
        stock.zero_grad(), attn.zero_grad()


@pytest.mark.parametrize('zero_init_residual', [False, True])
def test_same_initialisation_as_hrnet(zero_init_residual):
    states = []
    for cls in (HRNet, AttnHRNet):
        torch.manual_seed(5)
        net = cls(EXTRA, zero_init_residual=zero_init_residual)
        net.init_weights()
        states.append(net.state_dict())
    assert_same(*states)
    last_norm = 'stage4.0.branches.0.0.bn2.weight'
    assert (states[1][last_norm] == (0 if zero_init_residual else 1)).all()


def test_other_arguments_reach_hrnet():
    net = AttnHRNet(EXTRA, in_channels=5, norm_cfg=dict(type='GN', num_groups=4), init_cfg=None)
    assert net.conv1.in_channels == 5 and isinstance(net.norm1, nn.GroupNorm)
    assert isinstance(net.stage3[0].branches[0][0].norm1, nn.GroupNorm)


# --------------------------------------------------------- names and sites
def fuse_keys(sites, names):
    return {
        f'stage{stage}.{module}.fuse_plugins.{branch}.{i}.{name}'
        for stage, module, branch in sites
        for i, chain in enumerate(names)
        for name in chain
    }


ALL_FUSE = [
    *[(2, 0, b) for b in range(2)],
    *[(3, m, b) for m in range(2) for b in range(3)],
    *[(4, 0, b) for b in range(4)],
    (4, 1, 0),  # the last module has one output
]


@pytest.mark.parametrize(
    'plugins, keys',
    [
        ([SE_STEM], {f'stem_plugins.0.{k}' for k in SE_KEYS}),
        ([SE_FUSE], fuse_keys(ALL_FUSE, [SE_KEYS])),
        (
            [dict(SE_FUSE, stages=(3,), branches=(0, 2))],
            fuse_keys([(3, m, b) for m in range(2) for b in (0, 2)], [SE_KEYS]),
        ),
        (
            [dict(SE_FUSE, stages=[2, 4], branches=[1])],
            fuse_keys([(2, 0, 1), (4, 0, 1)], [SE_KEYS]),
        ),
        (
            [
                SE_STEM,
                dict(SE_FUSE, stages=(2,)),
                dict(SE_FUSE, branches=(1,), stages=(2,)),
                SE_STEM,
            ],
            {f'stem_plugins.{i}.{k}' for i in range(2) for k in SE_KEYS}
            | fuse_keys([(2, 0, 0)], [SE_KEYS])
            | fuse_keys([(2, 0, 1)], [SE_KEYS, SE_KEYS]),
        ),
    ],
)
def test_stock_checkpoint_lacks_exactly_the_plugins(plugins, keys, tmp_path):
    stock, net = randomize(HRNet(EXTRA)), AttnHRNet(EXTRA, plugins=plugins)
    assert set(net.state_dict()) - set(stock.state_dict()) == keys
    result = net.load_state_dict(stock.state_dict(), strict=False)
    assert set(result.missing_keys) == keys and not result.unexpected_keys
    assert_same(without_plugins(net), stock.state_dict())
    # and through a file and MMEngine
    randomize(net, seed=1)
    torch.save(dict(state_dict=stock.state_dict()), tmp_path / 'stock.pth')
    load_checkpoint(net, str(tmp_path / 'stock.pth'), strict=False)
    assert_same(without_plugins(net), stock.state_dict())


def test_sites_and_their_channels():
    fuse = {(s, b): 4 * 2**b for s in (2, 3, 4) for b in range(s)}
    assert AttnHRNet(EXTRA).plugin_sites() == {'stem': {(1, 0): 64}, 'fuse': fuse}
    single = hrnet_extra(4, modules=(1, 1, 1))
    fuse = {place: c for place, c in fuse.items() if place[0] < 4 or place[1] == 0}
    assert AttnHRNet(single).plugin_sites()['fuse'] == fuse

    for extra, count in ((EXTRA, 13), (FULL, 16)):
        net = AttnHRNet(extra, plugins=[affine('fuse'), affine('stem')])
        channels = [plugin.in_channels for plugin in net.plugin_modules()]
        assert len(channels) == count + 1 and channels[0] == 64
        for stage in (2, 3, 4):
            for module in getattr(net, f'stage{stage}'):
                for branch, chain in module.fuse_plugins.items():
                    assert [p.in_channels for p in chain] == [4 * 2 ** int(branch)]


def test_stem_is_between_the_convolutions():
    stock = mode(randomize(HRNet(EXTRA)), False)
    net = with_stock(stock, [affine('stem', scale=2.0), affine('stem', shift=1.0)])
    x = image()
    with torch.no_grad():
        seen = []
        net.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        outs = net(x)
        stem = stock.relu(stock.norm1(stock.conv1(x)))
        assert stem.shape == (2, 64, 32, 16) and torch.equal(seen[0], stem * 2 + 1)
        stock.conv2.register_forward_pre_hook(lambda _, args: (args[0] * 2 + 1,))
        assert torch.equal(outs[0], stock(x)[0])


@pytest.mark.parametrize('extra', [EXTRA, FULL], ids=['one output', 'four outputs'])
@pytest.mark.parametrize(
    'stages, branches',
    [(None, None), ((2,), None), ((3,), (1,)), (None, (0,)), ((2, 4), (0, 1)), ([4], [0])],
)
def test_fuse_is_every_output_of_the_chosen_modules(extra, stages, branches):
    stock = mode(randomize(HRNet(extra)), False)
    net = with_stock(stock, [affine('fuse', stages, branches, scale=1.5, shift=0.25)], extra)

    def change(module, args, outs):
        return [
            out * 1.5 + 0.25 if branches is None or b in branches else out
            for b, out in enumerate(outs)
        ]

    with torch.no_grad():
        plain = stock(image())
        for stage in stages or (2, 3, 4):
            for module in getattr(stock, f'stage{stage}'):
                module.register_forward_hook(change)
        outs, expected = net(image()), stock(image())
    assert all(torch.equal(a, b) for a, b in zip(outs, expected, strict=True))
    assert not torch.equal(outs[0], plain[0])


@pytest.mark.parametrize('position', ['stem', 'fuse'])
def test_plugins_chain_in_list_order(position):
    stock = randomize(HRNet(EXTRA))
    double, add = affine(position, scale=2.0), affine(position, shift=3.0)
    both = affine(position, scale=2.0, shift=3.0)
    with torch.no_grad():
        one, right, wrong = (
            with_stock(stock, plugins)(image())[0]
            for plugins in ([both], [double, add], [add, double])
        )
    assert torch.equal(right, one) and not torch.allclose(wrong, one)


def test_configs_are_not_changed():
    plugins = [dict(SE_STEM), dict(SE_FUSE, stages=(2,))]
    before = copy.deepcopy(plugins)
    AttnHRNet(EXTRA, plugins=plugins)
    assert plugins == before


def test_type_may_be_a_class():
    plugin = dict(cfg=dict(type=SEAttention, ratio=4), position='stem')
    assert isinstance(AttnHRNet(EXTRA, plugins=[plugin]).stem_plugins[0], SEAttention)


# ------------------------------------------------------------------ knobs
@pytest.mark.parametrize('plugins', [[SE_STEM, CBAM_FUSE], None])
def test_with_cp_changes_no_number(plugins):
    plain = mode(randomize(AttnHRNet(EXTRA, plugins=plugins)), True)
    saving = mode(AttnHRNet(EXTRA, plugins=plugins, with_cp=True), True)
    saving.load_state_dict(plain.state_dict())
    assert saving.stage2[0].branches[0][0].with_cp
    (outs, grads), (others, other_grads) = step(plain, image()), step(saving, image())
    assert torch.equal(outs[0], others[0])
    assert_same(grads, other_grads)


FROZEN_PLUGINS = [affine('stem', norm=True), affine('fuse', norm=True), SE_STEM, SE_FUSE]


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages_freeze_their_plugins(frozen):
    net = mode(randomize(AttnHRNet(EXTRA, plugins=FROZEN_PLUGINS, frozen_stages=frozen)), True)

    def is_frozen(name):
        if name.startswith(('conv', 'bn', 'stem_plugins')):
            return frozen >= 0
        stage = {'layer1': 1, 'transition1': 1, 'transition2': 2, 'transition3': 3}
        first = name.split('.')[0]
        return stage.get(first, int(first[-1])) <= frozen

    for name, parameter in net.named_parameters():
        assert parameter.requires_grad is not is_frozen(name), name
    plugins = {k for k, _ in net.named_parameters() if 'plugins' in k}
    # 0: the stem's alone; 1: nothing more, layer1 has none; 4: all
    assert {k for k in plugins if is_frozen(k)} == {
        k
        for k in plugins
        if (k.startswith('stem') and frozen >= 0) or (k.startswith('stage') and int(k[5]) <= frozen)
    }

    norms = {k: v.clone() for k, v in net.state_dict().items() if 'running' in k}
    modes = {n: m.training for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    step(net, image()) if frozen < 4 else net(image())
    for name, value in net.state_dict().items():
        if 'running' in name:
            assert torch.equal(norms[name], value) is is_frozen(name), name
    assert all(modes[n] is not is_frozen(n) for n in modes)
    # a trainer switches to evaluation and back
    net.eval()
    net.train()
    assert modes == {n: m.training for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_norm_eval_holds_in_plugins():
    net = mode(AttnHRNet(EXTRA, plugins=FROZEN_PLUGINS, norm_eval=True), True)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any(p.norm is not None for p in net.plugin_modules() if hasattr(p, 'norm'))
    assert not any(norm.training for norm in norms)
    assert all(p.requires_grad for p in net.parameters())
    assert all(p.training for p in net.plugin_modules())


# --------------------------------------------------------- initialisation
def plugin_state(net):
    return {k: v.clone() for k, v in net.state_dict().items() if 'plugins' in k}


@pytest.mark.parametrize('plugins', [[SE_STEM, SE_FUSE], [CBAM_FUSE], FROZEN_PLUGINS])
@pytest.mark.parametrize('inside', [False, True], ids=['backbone', 'whole model'])
def test_init_weights_leaves_plugins_as_constructed(plugins, inside):
    torch.manual_seed(1)
    if inside:
        model = build(higherhrnet_cfg(plugins=plugins))
        net = model.backbone
        net.init_cfg = HRNet(EXTRA).init_cfg
    else:
        model = net = AttnHRNet(EXTRA, plugins=plugins)
    constructed = plugin_state(net)
    model.init_weights()
    assert_same(plugin_state(net), constructed)
    # HRNet's own Normal(0, 0.001) did reach every convolution of HRNet
    for name, parameter in net.named_parameters():
        if 'plugins' not in name and parameter.ndim == 4:
            assert 0 < parameter.abs().max() < 0.006, name
    assert not [k for k, v in constructed.items() if v.ndim > 1 and v.abs().max() < 0.006]


@pytest.mark.parametrize('kind', ['SEAttention', 'CBAMAttention'])
@pytest.mark.parametrize('position', ['stem', 'fuse'])
def test_identity_init_survives_init_weights(kind, position):
    plugin = dict(cfg=dict(type=kind, identity_init=True), position=position)
    net = AttnHRNet(EXTRA, plugins=[plugin])
    net.init_weights()
    stock = HRNet(EXTRA)
    stock.load_state_dict(without_plugins(net))
    for training in (True, False):
        outs, others = (mode(each, training)(image()) for each in (net, stock))
        assert torch.equal(outs[0], others[0])


def test_plugins_own_init_cfg_is_applied():
    cfg = dict(type='SEAttention', init_cfg=dict(type='Constant', layer='Linear', val=0.5, bias=2))
    plugins = [dict(cfg=cfg, position='stem'), dict(cfg=cfg, position='fuse'), CBAM_FUSE]
    net = AttnHRNet(EXTRA, plugins=plugins)
    constructed = plugin_state(net)
    net.init_weights()
    for name, value in plugin_state(net).items():
        if '.fc' in name:
            assert (value == (2 if name.endswith('bias') else 0.5)).all()
        else:
            assert torch.equal(value, constructed[name])


@pytest.mark.parametrize('as_list', [False, True])
def test_pretrained_checkpoint_wins(tmp_path, as_list):
    source = randomize(AttnHRNet(EXTRA, plugins=[SE_STEM, CBAM_FUSE]), seed=3)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'trained.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'trained.pth'))
    if as_list:
        init_cfg = [init_cfg, dict(type='Normal', std=0.001, layer=['Conv2d'])]
    net = AttnHRNet(EXTRA, plugins=[SE_STEM, CBAM_FUSE], init_cfg=init_cfg)
    net.init_weights()
    assert_same(net.state_dict(), source.state_dict())
    assert net.init_cfg == init_cfg


def test_pretrained_stock_checkpoint_keeps_constructed_plugins(tmp_path):
    stock = randomize(HRNet(EXTRA), seed=3)
    torch.save(stock.state_dict(), tmp_path / 'stock.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth'))
    net = AttnHRNet(EXTRA, plugins=[SE_STEM, CBAM_FUSE], init_cfg=init_cfg)
    constructed = plugin_state(net)
    net.init_weights()
    assert_same(net.state_dict(), {**stock.state_dict(), **constructed})


def test_second_init_weights_changes_nothing(tmp_path):
    source = AttnHRNet(EXTRA, plugins=[SE_STEM])
    torch.save(source.state_dict(), tmp_path / 'source.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'source.pth'))
    net = AttnHRNet(EXTRA, plugins=[SE_STEM], init_cfg=init_cfg)
    net.init_weights()
    randomize(net, seed=4)  # training
    trained = copy.deepcopy(net.state_dict())
    net.init_weights()
    assert_same(net.state_dict(), trained)


# --------------------------------------------------------------- training
@pytest.mark.parametrize('kind', ['SEAttention', 'CBAMAttention'])
@pytest.mark.parametrize('position', ['stem', 'fuse'])
@pytest.mark.parametrize('modules', [(1, 1, 1), (1, 2, 2)])
def test_every_parameter_gets_a_gradient(kind, position, modules):
    plugin = dict(cfg=dict(type=kind, ratio=1), position=position)
    net = mode(randomize(AttnHRNet(hrnet_extra(4, modules), plugins=[plugin])), True)
    outs, grads = step(net, image())
    assert len(outs) == 1  # stage 4 has one output: nothing may hang on the others
    assert not [name for name, grad in grads.items() if grad is None]
    assert not [name for name, grad in grads.items() if not grad.isfinite().all()]
    plugin_grads = {name: grad for name, grad in grads.items() if 'plugins' in name}
    assert plugin_grads
    assert not [name for name, grad in plugin_grads.items() if not grad.abs().max() > 0]


def test_deepcopy_is_independent():
    net = mode(randomize(AttnHRNet(EXTRA, plugins=[SE_STEM, CBAM_FUSE])), False)
    twin = copy.deepcopy(net)
    assert torch.equal(net(image())[0], twin(image())[0])
    randomize(twin.stem_plugins, seed=9)
    assert not torch.equal(net(image())[0], twin(image())[0])


# ----------------------------------------------------------------- errors
@pytest.mark.parametrize(
    'plugin, error, message',
    [
        (
            dict(SE_STEM, position='neck'),
            ValueError,
            r"'neck'; the positions are \['fuse', 'stem'\]",
        ),
        (dict(cfg=SE_STEM['cfg']), ValueError, r'SEAttention asks for position None; .*stem'),
        (dict(cfg=dict(type='NoSuch'), position='stem'), KeyError, 'registered as .*NoSuch'),
        (dict(SE_STEM, stage=(2,)), ValueError, r"unknown key \['stage'\] beside SEAttention"),
        (
            dict(cfg=dict(ratio=4), position='stem'),
            ValueError,
            r'cfg=dict\(type=...\), got .*ratio',
        ),
        (dict(position='stem'), ValueError, 'got cfg=None'),
        (dict(cfg='SEAttention', position='stem'), ValueError, "got cfg='SEAttention'"),
        (
            dict(SE_FUSE, stages=(5,)),
            ValueError,
            r'matches nothing; .*\(2, 0\), \(2, 1\), \(3, 0\)',
        ),
        (dict(SE_FUSE, stages=(2,), branches=(2,)), ValueError, r'branches=\(2,\) matches nothing'),
        (dict(SE_STEM, stages=(2,)), ValueError, r'\(stage, branch\) there are \[\(1, 0\)\]'),
        (dict(cfg=dict(type='SEAttention', ratio=0), position='stem'), ValueError, 'ratio=0'),
    ],
)
def test_bad_plugins(plugin, error, message):
    with pytest.raises(error, match=message):
        AttnHRNet(EXTRA, plugins=[SE_STEM, plugin])


@pytest.mark.parametrize('direction', ['wider', 'narrower'])
def test_checkpoint_of_another_width_is_an_error(tmp_path, direction):
    widths = (4, 8) if direction == 'wider' else (8, 4)
    small, large = (AttnHRNet(hrnet_extra(w), plugins=[SE_STEM]) for w in widths)
    torch.save(dict(state_dict=large.state_dict()), tmp_path / 'large.pth')
    before = copy.deepcopy(small.state_dict())
    match = 'does not fit AttnHRNet: .* tensors have another shape'
    with pytest.raises(ValueError, match=match):
        load_checkpoint(small, str(tmp_path / 'large.pth'))
    with pytest.raises((ValueError, RuntimeError), match=match):
        small.load_state_dict(large.state_dict(), strict=False)
    with pytest.raises(ValueError, match=match):
        AttnHRNet(
            hrnet_extra(widths[0]),
            init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'large.pth')),
        ).init_weights()
    assert_same(small.state_dict(), before)


def test_plugin_of_another_shape_is_an_error():
    net, other = (
        AttnHRNet(EXTRA, plugins=[dict(SE_STEM, cfg=dict(type='SEAttention', ratio=ratio))])
        for ratio in (16, 8)
    )
    with pytest.raises(ValueError, match=r'stem_plugins\.0\.fc1\.weight: \(8, 64\) in the checkp'):
        net.load_state_dict(other.state_dict(), strict=False)


def test_cbam_is_what_it_says():
    net = AttnHRNet(EXTRA, plugins=[dict(CBAM_FUSE, stages=(4,), branches=(0,))])
    assert [type(p) for p in net.plugin_modules()] == [CBAMAttention] * 2
