"""AttnHRNet: MMPose's HRNet without plugins, and nothing but the plugins with them."""

import copy
import pickle
import re

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from mmpose.models import HRNet
from mmpose.registry import MODELS
from torch import nn

from mmpose_attn.models import AttnHRNet, CBAMAttention, SEAttention
from mmpose_attn.models.backbones.attn_hrnet import AttnHRModule
from tests.helpers import ROOT, build, higherhrnet_cfg, hrnet_extra, randomize

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def swapped(extra):
    """BASIC in stage 1 and BOTTLENECK in the others; two of them in a branch of stage 2."""
    extra = copy.deepcopy(extra)
    for stage, cfg in extra.items():
        cfg['block'] = 'BASIC' if stage == 'stage1' else 'BOTTLENECK'
    extra['stage2']['num_blocks'] = (1, 2)
    return extra


EXTRA = hrnet_extra(4, modules=(1, 2, 2))
FULL = hrnet_extra(4, modules=(1, 2, 2), multiscale_output=True)
SWAPPED = swapped(hrnet_extra(4, modules=(1, 1, 2)))
both_kinds = pytest.mark.parametrize('extra', [EXTRA, SWAPPED], ids=['basic', 'bottleneck'])

POSITIONS = ['stem', 'after_conv1', 'after_conv2', 'after_conv3', 'block', 'transition', 'fuse']
every_position = pytest.mark.parametrize('position', POSITIONS)

SE_STEM = dict(cfg=dict(type='SEAttention', ratio=16), position='stem')
SE_FUSE = dict(cfg=dict(type='SEAttention', ratio=2), position='fuse')
CBAM_FUSE = dict(cfg=dict(type='CBAMAttention', ratio=2), position='fuse')
SE_KEYS = ['fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias']


@MODELS.register_module()
class AffinePlugin(BaseModule):
    """x * scale + shift, so that order and place show; with a norm that has statistics."""

    def __init__(self, in_channels, scale=1.0, shift=0.0, norm=False, drop=0.0, init_cfg=None):
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.norm = nn.BatchNorm2d(in_channels) if norm else None
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        x = self.drop(x * self.scale + self.shift)
        return x if self.norm is None else self.norm(x)


@MODELS.register_module()
class SigmoidPlugin(BaseModule):
    """Needs its own output in the backward pass."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x):
        return self.conv(x).sigmoid()


def affine(position, stages=None, branches=None, **kwargs):
    plugin = dict(cfg=dict(type='AffinePlugin', **kwargs), position=position)
    if stages is not None:
        plugin['stages'] = stages
    if branches is not None:
        plugin['branches'] = branches
    return plugin


def everywhere(type_, **cfg):
    return [dict(cfg=dict(type=type_, **cfg), position=position) for position in POSITIONS]


def modules_of(net):
    return [plugin.module for plugin in net.named_plugins()]


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


def is_plugin(key):
    return re.search(r'plugins\.|after_(conv\d|block)\.', key) is not None


def without_plugins(net):
    return {k: v for k, v in net.state_dict().items() if not is_plugin(k)}


def step(net, x):
    """Outputs and every gradient of a training step."""
    x = x.clone().requires_grad_()
    outs = net(x)
    sum((out * (i + 1)).square().mean() for i, out in enumerate(outs)).backward()
    return outs, {'input': x.grad, **{name: p.grad for name, p in net.named_parameters()}}


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert not [
        name
        for name in a
        if (a[name] is None) is not (b[name] is None)
        or (a[name] is not None and not torch.equal(a[name], b[name]))
    ]


# ------------------------------------------------------- without plugins
GN = dict(norm_cfg=dict(type='GN', num_groups=2))
SAME_PADDING = dict(conv_cfg=dict(type='Conv2dAdaptivePadding'))


@pytest.mark.parametrize(
    'extra, kwargs',
    [
        (EXTRA, {}),
        (FULL, dict(plugins=[])),
        (SWAPPED, dict(plugins=())),
        (swapped(FULL), {}),
        (EXTRA, GN),
        (SWAPPED, SAME_PADDING),
        (SWAPPED, dict(frozen_stages=2, norm_eval=True)),
        (dict(EXTRA, upsample=dict(mode='bilinear', align_corners=False)), {}),
    ],
)
def test_bit_identical_to_hrnet(extra, kwargs):
    attn = AttnHRNet(extra, **kwargs)
    kwargs = {k: v for k, v in kwargs.items() if k != 'plugins'}
    stock = randomize(HRNet(extra, **kwargs))
    assert list(stock.state_dict()) == list(attn.state_dict())
    attn.load_state_dict(stock.state_dict(), strict=True)
    for training in (True, False):
        (outs, grads), (others, other_grads) = (
            step(mode(net, training), image()) for net in (stock, attn)
        )
        assert type(others) is tuple
        assert len(others) == (4 if extra['stage4'].get('multiscale_output') else 1)
        assert all(torch.equal(a, b) for a, b in zip(outs, others, strict=True))
        assert_same(grads, other_grads)
        # the running statistics as well
        assert_same(stock.state_dict(), attn.state_dict())
        stock.zero_grad(), attn.zero_grad()


def test_w32_is_hrnet_w32():
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'higherhrnet_w32.py')
    extra = config.model.backbone.extra
    stock, attn = HRNet(extra), AttnHRNet(extra)
    assert list(stock.state_dict()) == list(attn.state_dict())
    attn.load_state_dict(stock.state_dict(), strict=True)
    with torch.no_grad():
        for training in (True, False):
            outs, others = (mode(net, training)(image())[0] for net in (stock, attn))
            assert outs.shape == (2, 32, 16, 8) and torch.equal(outs, others)
    assert_same(stock.state_dict(), attn.state_dict())


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


def blocks_of(net):
    """Path, stage, branch and module of every residual block, by HRNet's own structure."""
    for i, block in enumerate(net.layer1):
        yield f'layer1.{i}', 1, 0, block
    for stage in (2, 3, 4):
        for m, module in enumerate(getattr(net, f'stage{stage}')):
            for branch, blocks in enumerate(module.branches):
                for i, block in enumerate(blocks):
                    yield f'stage{stage}.{m}.branches.{branch}.{i}', stage, branch, block


def places(stock, position):
    """Path, stage, branch and channels of every place, by HRNet's own structure."""
    if position == 'stem':
        return [('stem_plugins', 1, 0, 64)]
    if position == 'transition':
        widths = [getattr(stock, f'stage{s}')[0].in_channels for s in (2, 3, 4)]
        return [
            (f'transition{s}_plugins.{b}', s, b, widths[s - 1][b])
            for s in (1, 2, 3)
            for b in range(s + 1)
        ]
    if position == 'fuse':
        return [
            (f'stage{s}.{m}.fuse_plugins.{b}', s, b, module.in_channels[b])
            for s in (2, 3, 4)
            for m, module in enumerate(getattr(stock, f'stage{s}'))
            for b in range(s if s < 4 or m == 0 or module.multiscale_output else 1)
        ]
    if position == 'block':
        return [
            (f'{path}.after_block', s, b, block.out_channels)
            for path, s, b, block in blocks_of(stock)
        ]
    return [
        (f'{path}.{position}', s, b, getattr(block, position[6:]).out_channels)
        for path, s, b, block in blocks_of(stock)
        if hasattr(block, position[6:])
    ]


@every_position
@both_kinds
def test_every_place_of_a_position(position, extra):
    stock, cfg = HRNet(extra), dict(type='SEAttention', ratio=2)
    net = AttnHRNet(extra, plugins=[dict(cfg=cfg, position=position), affine(position)])
    expected = places(stock, position)
    found = list(net.named_plugins())
    assert [(p.name, p.stage, p.branch) for p in found] == [
        (f'{path}.{i}', s, b) for path, s, b, _ in expected for i in range(2)
    ]
    assert {p.position for p in found} == {position}
    assert all(net.get_submodule(p.name) is p.module for p in found)
    assert [type(p.module).__name__ for p in found[:2]] == ['SEAttention', 'AffinePlugin']
    assert [p.module.in_channels for p in found[1::2]] == [c for *_, c in expected]
    assert net.plugin_sites()[position] == {(s, b): c for _, s, b, c in expected}
    # every one a module of its own, and these are all the names that HRNet does not have
    assert len({id(p.module) for p in found}) == len(found)
    names = [f'0.{key}' for key in SE_KEYS] + ['1.scale', '1.shift']
    keys = {f'{path}.{name}' for path, *_ in expected for name in names}
    missing = net.load_state_dict(stock.state_dict(), strict=False)
    assert set(missing.missing_keys) == keys == {k for k in net.state_dict() if is_plugin(k)}
    assert not missing.unexpected_keys


def test_positions_of_a_network():
    assert sorted(AttnHRNet(EXTRA).plugin_sites()) == sorted(POSITIONS)
    basic = copy.deepcopy(EXTRA)
    basic['stage1']['block'] = 'BASIC'
    assert 'after_conv3' not in AttnHRNet(basic).plugin_sites()
    # stage 4 has one output
    fuse = AttnHRNet(hrnet_extra(4, modules=(1, 1, 1))).plugin_sites()['fuse']
    assert [place for place in fuse if place[0] == 4] == [(4, 0)]


@pytest.mark.parametrize(
    'chosen, count',
    [
        ([{}], 9),
        ([dict(branches=(0,))], 3),
        ([dict(branches=0)], 3),
        ([dict(branches=(0, 1))], 6),
        ([dict(branches=range(3))], 8),
        ([dict(stages=1)], 2),
        ([dict(stages=(1, 2))], 5),
        ([dict(stages=[1, 2, 3], branches=[0, 1, 2, 3])], 9),
        # HRNet + CAM/SAM's proposed model: 3 blocks in branch 0, 1 in branch 1
        ([dict(branches=(0,)), dict(stages=(1,), branches=(1,))], 4),
    ],
)
def test_how_many_transitions(chosen, count):
    plugins = [dict(cfg=dict(type='AffinePlugin'), position='transition', **c) for c in chosen]
    found = [(p.stage, p.branch) for p in AttnHRNet(EXTRA, plugins=plugins).named_plugins()]
    assert len(found) == len(set(found)) == count


def attend(stock, position, chosen, change):
    """Change stock HRNet's own tensors at the chosen (stage, branch) of a position."""

    def before(_, args):
        return (change(args[0]),)

    def after(_, args, out):
        return change(out)

    def several(stage, tensors):
        return [change(x) if (stage, b) in chosen else x for b, x in enumerate(tensors)]

    if position == 'stem':
        stock.conv2.register_forward_pre_hook(before)
    elif position == 'transition':
        for s in (1, 2, 3):
            getattr(stock, f'stage{s + 1}').register_forward_pre_hook(
                lambda _, args, s=s: (several(s, args[0]),)
            )
    elif position == 'fuse':
        for s in (2, 3, 4):
            for module in getattr(stock, f'stage{s}'):
                module.register_forward_hook(lambda _, args, outs, s=s: several(s, outs))
    else:
        for _, s, b, block in blocks_of(stock):
            number = int(position[-1]) if position != 'block' else 0
            if (s, b) not in chosen or not hasattr(block, f'conv{max(number, 1)}'):
                continue
            if position == 'block':
                block.register_forward_hook(after)
            elif hasattr(block, f'conv{number + 1}'):
                getattr(block, f'conv{number + 1}').register_forward_pre_hook(before)
            else:
                getattr(block, f'norm{number}').register_forward_hook(after)


@pytest.mark.parametrize(
    'position, stages, branches, extra',
    [
        ('stem', None, None, EXTRA),
        ('stem', 1, 0, SWAPPED),
        *[
            (position, stages, branches, extra)
            for position in ('after_conv1', 'after_conv2', 'block')
            for extra in (EXTRA, SWAPPED)
            for stages, branches in [(None, None), (1, None), ((1, 3), [0]), ([4], (1, 2))]
        ],
        ('after_conv3', None, None, EXTRA),
        ('after_conv3', None, None, SWAPPED),
        ('after_conv3', (2, 4), 1, SWAPPED),
        *[
            ('transition', stages, branches, extra)
            for extra in (EXTRA, SWAPPED)
            for stages, branches in [(None, None), (1, None), (None, (0,)), ([2, 3], [1, 2])]
        ],
        *[
            ('fuse', stages, branches, extra)
            for extra in (EXTRA, FULL)
            for stages, branches in [(None, None), (2, None), ((2, 4), (0, 1)), ([4], 0)]
        ],
        ('fuse', (3,), (1,), SWAPPED),
    ],
)
def test_position_is_where_it_says(position, stages, branches, extra):
    stock = mode(randomize(HRNet(extra)), False)
    # in list order: the other order would give x * 2 + 6
    plugins = [affine(position, stages, branches, **c) for c in (dict(scale=2), dict(shift=3))]
    net = with_stock(stock, plugins, extra)
    selected = [
        set(range(5)) if value is None else {value} if isinstance(value, int) else set(value)
        for value in (stages, branches)
    ]
    chosen = {(s, b) for s in selected[0] for b in selected[1]}
    with torch.no_grad():
        plain = stock(image())
        attend(stock, position, chosen, lambda x: x * 2 + 3)
        outs, expected = net(image()), stock(image())
    assert all(torch.equal(a, b) for a, b in zip(outs, expected, strict=True))
    assert not torch.equal(outs[0], plain[0])


@both_kinds
def test_named_plugins_are_in_the_order_of_the_forward_pass(extra):
    net, called = AttnHRNet(extra, plugins=everywhere('AffinePlugin')[::-1]), []
    for plugin in net.named_plugins():
        plugin.module.register_forward_hook(lambda *_, name=plugin.name: called.append(name))
    net(image())
    assert called == [plugin.name for plugin in net.named_plugins()]


def test_log_says_what_is_where(caplog, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmpose_attn.models.backbones.plugin_sites.print_log', lambda text, *_: lines.append(text)
    )
    se = dict(type=SEAttention, ratio=4)
    plugins = [dict(SE_STEM, cfg=se), dict(cfg=se, position='transition', branches=0)]
    net = AttnHRNet(EXTRA, plugins=[*plugins, affine('block', stages=4)])
    # 64 channels: 2 * 64 * 16 + 16 + 64; 4 channels: 2 * 4 + 1 + 4
    assert lines == [
        'AttnHRNet plugins: SEAttention at stem x1 (+2,128 parameters); '
        'SEAttention at transition x3 (+39 parameters); '
        'AffinePlugin at block x8 (+16 parameters)'
    ]
    assert len(list(net.named_plugins())) == 1 + 3 + 8
    AttnHRNet(EXTRA)
    assert len(lines) == 1


@MODELS.register_module()
class GreedyPlugin(nn.Module):
    """Takes its nested arguments apart."""

    def __init__(self, in_channels, parts):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, parts.pop('kernel_size'))
        self.parts = parts

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize('wrap', [dict, ConfigDict])
def test_one_config_for_several_plugins(wrap):
    cfg = wrap(type='GreedyPlugin', parts=wrap(kernel_size=1, other=[1]))
    plugins = [wrap(cfg=cfg, position='fuse'), wrap(cfg=cfg, position='stem')]
    before = copy.deepcopy([plugins, cfg])
    found = modules_of(AttnHRNet(EXTRA, plugins=[*plugins, plugins[0]]))
    assert [plugins, cfg] == before
    assert len({id(p.conv.weight) for p in found}) == len(found) == 2 * 13 + 1
    assert len({id(p.parts['other']) for p in found}) == len(found)


def test_type_may_be_a_class():
    plugin = dict(cfg=dict(type=SEAttention, ratio=4), position='stem')
    assert isinstance(AttnHRNet(EXTRA, plugins=[plugin]).stem_plugins[0], SEAttention)


# ------------------------------------------------------------------ knobs
@both_kinds
@pytest.mark.parametrize(
    'plugins',
    [everywhere('AffinePlugin', norm=True, drop=0.5), everywhere('CBAMAttention', ratio=2), None],
    ids=['norm and dropout', 'cbam', 'none'],
)
def test_with_cp_changes_no_number(plugins, extra):
    plain = mode(randomize(AttnHRNet(extra, plugins=plugins)), True)
    saving = mode(AttnHRNet(extra, plugins=plugins, with_cp=True), True)
    saving.load_state_dict(plain.state_dict())
    results, called = [], []
    for plugin in saving.named_plugins():
        # a recomputation stops within its last module, before that one's forward hook
        plugin.module.register_forward_pre_hook(lambda *_, p=plugin.position: called.append(p))
    for net in (plain, saving):
        torch.manual_seed(0)
        results.append(step(net, image()))
    (outs, grads), (others, other_grads) = results
    assert torch.equal(outs[0], others[0])
    assert_same(grads, other_grads)
    # a plugin in or after a block is run again with the block, the others are not
    for position in POSITIONS if plugins else ():
        count = len(places(HRNet(extra), position))
        inside = position not in ('stem', 'transition', 'fuse')
        assert called.count(position) == count * (1 + inside)


@every_position
def test_plugin_may_need_its_output(position):
    net = mode(randomize(AttnHRNet(SWAPPED, plugins=[affine(position)])), True)
    for plugin in list(net.named_plugins()):
        site = net.get_submodule(plugin.name.rpartition('.')[0])
        site[0] = randomize(SigmoidPlugin(plugin.module.in_channels))
    kept = []
    for plugin in modules_of(net):
        plugin.register_forward_hook(lambda m, a, out: kept.append((out, out.clone())))
        plugin.register_forward_hook(lambda m, args, o: kept.append((args[0], args[0].clone())))
    _, grads = step(net, image())
    assert not [name for name, grad in grads.items() if grad is None]
    # what a hook sees is what stays
    assert kept and all(torch.equal(a, b) for a, b in kept)


FROZEN_PLUGINS = [*everywhere('AffinePlugin', norm=True), *everywhere('SEAttention', ratio=2)]


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages_freeze_their_plugins(frozen):
    net = mode(randomize(AttnHRNet(EXTRA, plugins=FROZEN_PLUGINS, frozen_stages=frozen)), True)

    def is_frozen(name):
        part = re.match(r'(?:layer|transition|stage)(\d)', name)
        return frozen >= (int(part[1]) if part else 0)

    for name, parameter in net.named_parameters():
        assert parameter.requires_grad is not is_frozen(name), name
    for plugin in net.named_plugins():
        assert plugin.module.training is not is_frozen(plugin.name), plugin.name

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
    norms = {m for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    assert any(getattr(p, 'norm', None) in norms for p in modules_of(net))
    assert not any(norm.training for norm in norms)
    assert all(p.requires_grad for p in net.parameters())
    assert all(p.training for p in modules_of(net))


# --------------------------------------------------------- initialisation
def plugin_state(net):
    return {k: v.clone() for k, v in net.state_dict().items() if is_plugin(k)}


@pytest.mark.parametrize('kind', ['SEAttention', 'CBAMAttention', 'SigmoidPlugin'])
@pytest.mark.parametrize('inside', [False, True], ids=['backbone', 'whole model'])
def test_init_weights_leaves_plugins_as_constructed(kind, inside):
    torch.manual_seed(1)
    if inside:
        model = build(higherhrnet_cfg(plugins=everywhere(kind)))
        net = model.backbone
        net.init_cfg = HRNet(EXTRA).init_cfg
    else:
        model = net = AttnHRNet(EXTRA, plugins=everywhere(kind), zero_init_residual=True)
    constructed = plugin_state(net)
    model.init_weights()
    assert_same(plugin_state(net), constructed)
    # HRNet's own Normal(0, 0.001) did reach every convolution of HRNet
    for name, parameter in net.named_parameters():
        if not is_plugin(name) and parameter.ndim == 4:
            assert 0 < parameter.abs().max() < 0.006, name
    assert not [k for k, v in constructed.items() if v.ndim > 1 and v.abs().max() < 0.006]


@every_position
@both_kinds
def test_identity_init_survives_init_weights(position, extra):
    cfgs = [dict(type=kind, identity_init=True) for kind in ('SEAttention', 'CBAMAttention')]
    net = AttnHRNet(extra, plugins=[dict(cfg=cfg, position=position) for cfg in cfgs])
    net.init_weights()
    stock = HRNet(extra)
    stock.load_state_dict(without_plugins(net))
    for training in (True, False):
        outs, others = (mode(each, training)(image()) for each in (net, stock))
        assert torch.equal(outs[0], others[0])


@MODELS.register_module()
class OwnInitPlugin(SigmoidPlugin):
    def init_weights(self):
        super().init_weights()
        nn.init.constant_(self.conv.weight, 0.25)


def test_plugins_own_init_weights_is_called():
    net = AttnHRNet(EXTRA, plugins=everywhere('OwnInitPlugin'))
    net.init_weights()
    assert all((p.conv.weight == 0.25).all() for p in modules_of(net))


def test_plugins_own_init_cfg_is_applied():
    cfg = dict(type='SEAttention', init_cfg=dict(type='Constant', layer='Linear', val=0.5, bias=2))
    plugins = [dict(cfg=cfg, position=position) for position in POSITIONS]
    net = AttnHRNet(EXTRA, plugins=[*plugins, CBAM_FUSE])
    constructed = plugin_state(net)
    net.init_weights()
    for name, value in plugin_state(net).items():
        if '.fc' in name:
            assert (value == (2 if name.endswith('bias') else 0.5)).all()
        else:
            assert torch.equal(value, constructed[name])


@pytest.mark.parametrize('as_list', [False, True])
def test_pretrained_checkpoint_wins(tmp_path, as_list):
    plugins = everywhere('CBAMAttention')
    source = randomize(AttnHRNet(EXTRA, plugins=plugins), seed=3)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'trained.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'trained.pth'))
    if as_list:
        init_cfg = [init_cfg, dict(type='Normal', std=0.001, layer=['Conv2d'])]
    net = AttnHRNet(EXTRA, plugins=plugins, init_cfg=init_cfg)
    net.init_weights()
    assert_same(net.state_dict(), source.state_dict())
    assert net.init_cfg == init_cfg


def test_pretrained_stock_checkpoint_keeps_constructed_plugins(tmp_path):
    stock = randomize(HRNet(EXTRA), seed=3)
    torch.save(stock.state_dict(), tmp_path / 'stock.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth'))
    net = AttnHRNet(EXTRA, plugins=everywhere('CBAMAttention'), init_cfg=init_cfg)
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
def gradients(net):
    """Of a training step; every parameter has one, and all are finite."""
    outs, grads = step(mode(net, True), image())
    assert not [name for name, grad in grads.items() if grad is None]
    assert not [name for name, grad in grads.items() if not grad.isfinite().all()]
    return outs, grads


@every_position
@both_kinds
def test_every_parameter_gets_a_gradient(position, extra):
    cfgs = [dict(type=kind, ratio=1) for kind in ('SEAttention', 'CBAMAttention')]
    plugins = [dict(cfg=cfg, position=position) for cfg in cfgs]
    net = randomize(AttnHRNet(extra, plugins=plugins))
    for se, cbam in zip(*[iter(modules_of(net))] * 2, strict=True):
        # no ReLU of few hidden units may be dead
        nn.init.constant_(se.fc1.bias, 3)
        nn.init.constant_(cbam.mlp[0].bias, 3)
    outs, grads = gradients(net)
    assert len(outs) == 1  # stage 4 has one output: nothing may hang on the others
    plugin_grads = {name: grad for name, grad in grads.items() if is_plugin(name)}
    assert plugin_grads
    assert not [name for name, grad in plugin_grads.items() if not grad.abs().max() > 0]


@both_kinds
@pytest.mark.parametrize(
    'copier',
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=['deepcopy', 'pickle'],
)
def test_copies_are_independent(copier, extra):
    net = mode(randomize(AttnHRNet(extra, plugins=everywhere('SEAttention', ratio=2))), False)
    twin = copier(net)
    assert list(twin.plugin_sites().items()) == list(net.plugin_sites().items())
    assert [p.name for p in twin.named_plugins()] == [p.name for p in net.named_plugins()]
    assert torch.equal(net(image())[0], twin(image())[0])
    for plugin in modules_of(twin):
        randomize(plugin, seed=9)
    assert not torch.equal(net(image())[0], twin(image())[0])


def test_exports():
    net = AttnHRNet(hrnet_extra(4), plugins=everywhere('SEAttention', ratio=2))
    mode(randomize(net), False)
    program = torch.export.export(net, (image(),))
    torch.testing.assert_close(program.module()(image(seed=1)), net(image(seed=1)))


# -------------------------------------------------------------- ablations
def fuse_rows(stock):
    """(stage, module, row) -> the keys of every row of HRNet's fuse layers."""
    rows = {}
    for key in stock.state_dict():
        if match := re.match(r'stage(\d)\.(\d)\.fuse_layers\.(\d)\.', key):
            rows.setdefault(tuple(map(int, match.groups())), set()).add(key)
    return rows


@pytest.mark.parametrize(
    'fusion, exchanging',
    [
        ('all', [(2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]),
        ('stages', [(2, 0), (3, 1), (4, 1)]),
        ('final', [(4, 1)]),
    ],
)
@pytest.mark.parametrize('full', [False, True], ids=['one output', 'four outputs'])
def test_fusion(fusion, exchanging, full):
    extra = FULL if full else EXTRA
    stock = randomize(HRNet(extra))
    net = AttnHRNet(extra, fusion=fusion, plugins=[affine('fuse')])
    assert sorted({(p.stage, int(p.name.split('.')[1])) for p in net.named_plugins()}) == exchanging
    unused = [keys for (s, m, _), keys in fuse_rows(stock).items() if (s, m) not in exchanging]
    loaded = net.load_state_dict(stock.state_dict(), strict=False)
    assert set(loaded.unexpected_keys) == set().union(*unused)
    assert all(is_plugin(key) for key in loaded.missing_keys)

    for stage in (2, 3, 4):
        for m, module in enumerate(getattr(stock, f'stage{stage}')):
            if (stage, m) not in exchanging:
                module.forward = lambda x, module=module: [
                    blocks(each) for blocks, each in zip(module.branches, x, strict=True)
                ]
    for training in (True, False):
        outs, others = (mode(each, training)(image()) for each in (stock, net))
        assert all(torch.equal(a, b) for a, b in zip(outs, others, strict=True))
    assert len(gradients(randomize(AttnHRNet(extra, fusion=fusion)))[0]) == (4 if full else 1)


def test_number_of_fusions():
    # HRNet's own modules: 1, 4 and 3; Table 6 of Sun et al. counts 8, 3 and 1 exchange units
    extra = hrnet_extra(4, modules=(1, 4, 3))
    counts = [
        sum(isinstance(m, AttnHRModule) and m.fuse_layers is not None for m in net.modules())
        for net in (AttnHRNet(extra, fusion=f) for f in ('all', 'stages', 'final'))
    ]
    assert counts == [8, 3, 1]


@pytest.mark.parametrize(
    'out_branch, extra',
    [*[(i, EXTRA) for i in (0, 1, 2, 3, (0, 2), [3, 1])], (0, FULL), (3, SWAPPED)],
)
def test_out_branch(out_branch, extra):
    full = copy.deepcopy(extra)
    full['stage4']['multiscale_output'] = True
    stock = randomize(HRNet(full))
    wanted = [out_branch] if isinstance(out_branch, int) else list(out_branch)
    plugins = [affine('fuse', stages=4)]
    net = MODELS.build(
        ConfigDict(type='AttnHRNet', extra=extra, plugins=plugins, out_branch=out_branch)
    )
    last = [p.branch for p in net.named_plugins() if p.name.startswith('stage4.1.')]
    assert last == wanted
    rows = fuse_rows(stock)
    loaded = net.load_state_dict(stock.state_dict(), strict=False)
    assert set(loaded.unexpected_keys) == set().union(
        *(rows[4, 1, i] for i in range(4) if i not in wanted)
    )
    assert all(is_plugin(key) for key in loaded.missing_keys)
    for training in (True, False):
        outs, others = (mode(each, training)(image()) for each in (stock, net))
        assert type(others) is tuple and len(others) == len(wanted)
        assert all(torch.equal(outs[i], out) for i, out in zip(wanted, others, strict=True))
    for fusion in ('all', 'stages', 'final'):
        net = randomize(AttnHRNet(extra, out_branch=out_branch, fusion=fusion))
        outs, _ = gradients(net)
        assert [out.shape[-1] for out in outs] == [32 // 4 // 2**i for i in wanted]


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(fusion='none'), "fusion must be 'all', 'stages' or 'final', got 'none'"),
        (dict(fusion=None), 'fusion must be .* got None'),
        (dict(out_branch=4), 'out_branch must name different branches of stage 4, 0 to 3, got 4'),
        (dict(out_branch=-1), 'out_branch must .* got -1'),
        (dict(out_branch=()), r'out_branch must .* got \(\)'),
        (dict(out_branch=(1, 1)), r'out_branch must .* got \(1, 1\)'),
        (dict(out_branch='0'), "out_branch must be an int or a list of ints, got '0'"),
        (dict(out_branch=(0, 1.0)), r'out_branch must be an int .* got \(0, 1.0\)'),
        (dict(frozen_stages=5), r'frozen_stages must be -1 \(none\), .* got 5'),
    ],
)
def test_bad_ablations(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AttnHRNet(EXTRA, **kwargs)


def test_another_kind_of_module():
    class Doubling(AttnHRModule):
        def fuse(self, x):
            return [2 * out for out in super().fuse(x)]

    class Network(AttnHRNet):
        def _make_module(self, **kwargs):
            return Doubling(**kwargs)

    stock = randomize(HRNet(EXTRA))
    net = mode(Network(EXTRA), False)
    net.load_state_dict(stock.state_dict())
    assert torch.equal(net(image())[0], with_stock(stock, [affine('fuse', scale=2)])(image())[0])


@pytest.mark.parametrize('options', [dict(fusion='final'), dict(out_branch=(2, 0))])
def test_a_stage_is_known_by_its_number(options):
    """Not by which object its dict is: a subclass may copy it."""

    class Copying(AttnHRNet):
        def _make_stage(self, layer_config, *args, **kwargs):
            return super()._make_stage(copy.deepcopy(layer_config), *args, **kwargs)

    extra = hrnet_extra(4, modules=(1, 2, 2))
    shapes = [
        {key: each.shape for key, each in kind(extra, **options).state_dict().items()}
        for kind in (AttnHRNet, Copying)
    ]
    assert shapes[0] == shapes[1]


# ----------------------------------------------------------------- errors
@pytest.mark.parametrize(
    'plugin, error, message',
    [
        (
            dict(SE_STEM, position='neck'),
            ValueError,
            r"'neck'; the positions are \['after_conv1', 'after_conv2', 'after_conv3', 'block', "
            r"'fuse', 'stem', 'transition'\]",
        ),
        (dict(cfg=SE_STEM['cfg']), ValueError, r'SEAttention asks for position None; .*stem'),
        (dict(cfg=dict(type='NoSuch'), position='stem'), KeyError, 'registered as .*NoSuch'),
        (dict(cfg=dict(type='no.such.Kind'), position='stem'), KeyError, 'registered as .*no.such'),
        (
            # a typo inside the plugin's own config is no missing plugin
            dict(
                cfg=dict(type='CAMSAMAttention', spatial_norm_cfg=dict(type='BNN')), position='fuse'
            ),
            KeyError,
            'plugins: CAMSAMAttention cannot be built: Cannot find',
        ),
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
            r'stage 5 matches nothing; .*\(2, 0\), \(2, 1\), \(3, 0\)',
        ),
        (
            dict(SE_FUSE, stages=(1, 2, 7), branches=[0, -1]),
            ValueError,
            r'stage 1 and stage 7 and branch -1 matches nothing; .*\[\(2, 0\), \(2, 1\), \(3, 0\)',
        ),
        (dict(SE_FUSE, stages=5), ValueError, 'stages=5, .* stage 5 matches nothing'),
        (dict(SE_FUSE, position='transition', stages=4), ValueError, r'stage 4 .* \(3, 3\)\]'),
        (dict(SE_FUSE, position='after_conv3', stages=(1, 2)), ValueError, r'are \[\(1, 0\)\]'),
        (dict(SE_FUSE, stages=()), ValueError, r'stages=\(\), .* this matches nothing'),
        (dict(SE_FUSE, stages='2'), ValueError, "stages of SEAttention must be an int .*, got '2'"),
        (
            dict(SE_FUSE, branches=(0, None)),
            ValueError,
            r'branches of SEAttention must be .* got \(0, None\)',
        ),
        (
            dict(SE_FUSE, branches=True),
            ValueError,
            'branches of SEAttention must be an int or .*, got True',
        ),
        (
            dict(SE_FUSE, branches=1.0),
            ValueError,
            'branches of SEAttention must be an int or .*, got 1.0',
        ),
        (dict(SE_FUSE, position=['stem']), ValueError, r"position \['stem'\]; the positions"),
        (dict(SE_STEM, cfg=dict(SE_STEM['cfg'], in_channels=8)), ValueError, 'leave it out'),
        ('SEAttention', ValueError, r"plugins: must be a list of dict\(.* 'SEAttention'\]"),
        (
            dict(SE_FUSE, stages=(2,), branches=(2,)),
            ValueError,
            r'branches=\(2,\): this matches nothing',
        ),
        (dict(SE_STEM, stages=(2,)), ValueError, r'\(stage, branch\) there are \[\(1, 0\)\]'),
        (dict(cfg=dict(type='SEAttention', ratio=0), position='stem'), ValueError, 'ratio=0'),
        (dict(cfg=dict(type=None), position='stem'), ValueError, r'needs cfg=dict\(type=\.\.\.\)'),
        ({**SE_STEM, 3: 4, 'a': 5}, ValueError, r"unknown key \['3', 'a'\]"),
    ],
)
def test_bad_plugins(plugin, error, message):
    with pytest.raises(error, match=message):
        AttnHRNet(EXTRA, plugins=[SE_STEM, plugin])


@pytest.mark.parametrize('plugins', [SE_STEM, 5, 'stem', {SE_STEM['position']}])
def test_plugins_is_a_list(plugins):
    with pytest.raises(ValueError, match='plugins: must be a list of dict'):
        AttnHRNet(EXTRA, plugins=plugins)


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
    assert [type(p) for p in modules_of(net)] == [CBAMAttention] * 2
