"""DEHRNet: HRNet with DySample and detail enhancement in its fusions."""

import copy
import pickle

import pytest
import torch
from mmpose.models import HRNet
from mmpose.registry import MODELS

from mmpose_attn.models import AttnHRNet, DEHRNet, DetailEnhancement, DySample
from tests.helpers import hrnet_extra, randomize

pytestmark = pytest.mark.usefixtures('mmpose_scope')

EXTRA = hrnet_extra(4, modules=(1, 2, 2))
# modules x outputs of stages 2, 3, 4; the last module of stage 4 has one output
OUTPUTS = {2: [(0, 1)], 3: [(0, 1, 2)] * 2, 4: [(0, 1, 2, 3), (0,)]}
POSITIONS = ('after_fuse', 'before_fuse', 'stage_end')


def net(extra=EXTRA, **kwargs):
    torch.manual_seed(0)
    return DEHRNet(extra, **kwargs)


def image(side=64, batch=2):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def kinds(network, kind):
    return [plugin for plugin in network.named_plugins() if isinstance(plugin.module, kind)]


@pytest.mark.parametrize('position', POSITIONS)
def test_where_details_are_and_what_they_take(position):
    expected = []
    for stage, modules in OUTPUTS.items():
        for index, outputs in enumerate(modules):
            if position == 'stage_end' and index < len(modules) - 1:
                continue
            branches = range(stage) if position == 'before_fuse' else outputs
            expected += [(f'stage{stage}.{index}.details.{i}', stage, i) for i in branches]
    network = net(dem_position=position)
    found = kinds(network, DetailEnhancement)
    assert [(p.name, p.stage, p.branch) for p in found] == expected
    for plugin in found:
        assert plugin.position == 'detail'
        assert network.get_submodule(plugin.name) is plugin.module
        assert (plugin.module.align is None) == (plugin.branch == 0)


def test_upsampling_is_dysample_at_every_path_that_goes_up():
    network = net()
    paths = {
        f'stage{stage}.{index}.fuse_layers.{i}.{j}.2': (4 * 2**i, 2 ** (j - i))
        for stage, modules in OUTPUTS.items()
        for index, outputs in enumerate(modules)
        for i in outputs
        for j in range(i + 1, stage)
    }
    found = kinds(network, DySample)
    assert {p.name: (p.module.in_channels, p.module.scale_factor) for p in found} == paths
    assert not [m for m in network.modules() if isinstance(m, torch.nn.Upsample)]


def test_stock_names_and_checkpoints():
    stock = HRNet(EXTRA).state_dict()
    network = net()
    missing, unexpected = network.load_state_dict(stock, strict=False)
    assert not unexpected
    added = tuple(p.name + '.' for p in network.named_plugins())
    # torch makes up the counters of norms that a state dict without version lacks
    counters = {key for key in network.state_dict() if key.endswith('num_batches_tracked')}
    keys = {key for key in network.state_dict() if key.startswith(added)}
    assert set(missing) == keys - counters


@pytest.mark.parametrize('extra', [EXTRA, hrnet_extra(4, modules=(1, 1, 1))])
def test_without_both_it_is_attn_hrnet(extra):
    plain = randomize(AttnHRNet(extra)).eval()
    network = net(extra, upsample=None, dem=None).eval()
    network.load_state_dict(plain.state_dict())
    for out, expected in zip(network(image()), plain(image()), strict=True):
        assert torch.equal(out, expected)


def test_identity_init_and_bilinear_offsets_give_bilinear_hrnet():
    """Without offsets DySample is bilinear interpolation, which HRNet itself can do."""
    bilinear = dict(EXTRA, upsample=dict(mode='bilinear', align_corners=False))
    plain = randomize(HRNet(bilinear))
    plain.eval()
    network = net(dem=dict(type='DetailEnhancement', identity_init=True))
    network.init_weights()
    network.load_state_dict(plain.state_dict(), strict=False)
    for plugin in kinds(network, DySample):
        torch.nn.init.zeros_(plugin.module.offset.weight)
    network.eval()
    with torch.no_grad():
        for out, expected in zip(network(image()), plain(image()), strict=True):
            assert torch.allclose(out, expected, atol=1e-4 * float(expected.abs().max()))


def test_chosen_branches_are_those_of_all():
    everywhere, chosen = randomize(net()).eval(), net(dem_branches=(2, 0)).eval()
    found = {(p.stage, p.branch) for p in kinds(chosen, DetailEnhancement)}
    assert found == {(2, 0), (3, 0), (3, 2), (4, 0), (4, 2)}
    missing, unexpected = chosen.load_state_dict(everywhere.state_dict(), strict=False)
    assert not missing and {key.split('.details.')[1][0] for key in unexpected} == {'1', '3'}
    # the others are identities
    for network in (everywhere, chosen):
        module = network.stage3[-1]
        x = [torch.randn(2, 4 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(3)]
        with torch.no_grad():
            fused = super(type(module), module).fuse(list(x))
            outs = module.fuse(list(x))
        same = [torch.equal(a, b) for a, b in zip(fused, outs, strict=True)]
        assert same == [False, network is chosen, False]


@pytest.mark.parametrize('high', ['next', 'highest'])
@pytest.mark.parametrize('position', POSITIONS)
def test_fusion_is_the_written_out_one(position, high):
    """The last module of stage 3, from its own layers."""
    network = randomize(net(dem_position=position, dem_high=high)).eval()
    module = network.stage3[-1]
    x = [torch.randn(2, 4 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(3)]

    def enhanced(tensors):
        outs = []
        for i, tensor in enumerate(tensors):
            detail = module.details[str(i)]
            other = 0 if high == 'highest' else i - 1
            outs.append(detail(tensor) if i == 0 else detail(tensor, tensors[other]))
        return outs

    def fused(tensors):
        rows = [[module.fuse_layers[str(i)][j] for j in range(3)] for i in range(3)]
        sums = [
            sum(rows[i][j](tensors[j]) if i != j else tensors[j] for j in range(3))
            for i in range(3)
        ]
        return [each.relu() for each in sums]

    with torch.no_grad():
        branches = [branch(each) for branch, each in zip(module.branches, x, strict=True)]
        before = position == 'before_fuse'
        expected = fused(enhanced(branches)) if before else enhanced(fused(branches))
        for out, each in zip(module(list(x)), expected, strict=True):
            assert torch.allclose(out, each, atol=1e-5)


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        dict(dem_position='before_fuse'),
        dict(dem_position='stage_end', dem_high='highest'),
        dict(dem=None),
        dict(upsample=None),
        dict(upsample=dict(type='DySample', dynamic_scope=True, groups=2)),
        dict(fusion='stages'),
        dict(fusion='final', dem_position='before_fuse'),
        dict(out_branch=(2, 0)),
        dict(dem_branches=(0, 2)),
        dict(dem=dict(type='DetailEnhancement', identity=False)),
        dict(with_cp=True),
        dict(plugins=[dict(cfg=dict(type='SEAttention'), position='fuse')]),
    ],
)
def test_every_parameter_has_a_gradient(kwargs):
    network = randomize(net(**kwargs)).train()
    x = image().requires_grad_()
    sum((out * torch.randn_like(out)).mean() for out in network(x)).backward()
    assert x.grad is not None
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert not without
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_init_weights_keeps_the_layers_own_laws():
    network = net(
        upsample=dict(type='DySample', dynamic_scope=True),
        dem=dict(type='DetailEnhancement', identity_init=True),
    )
    network.init_weights()
    for plugin in kinds(network, DySample):
        assert 0 < plugin.module.offset.weight.std() < 0.002
        assert not plugin.module.scope.weight.any()
    for plugin in kinds(network, DetailEnhancement):
        assert not plugin.module.fc2.weight.any()
        if plugin.module.align is not None:
            assert not plugin.module.align[-1].weight.any()
    assert 0.0005 < network.conv1.weight.std() < 0.0015


def test_frozen_stages_freeze_their_details():
    network = net(frozen_stages=3).train()
    for plugin in network.named_plugins():
        frozen = plugin.stage <= 3
        assert plugin.module.training != frozen
        assert all(p.requires_grad != frozen for p in plugin.module.parameters())


def test_copies_and_exports():
    network = randomize(net()).eval()
    expected = network(image())[0]
    assert torch.equal(copy.deepcopy(network)(image())[0], expected)
    assert torch.equal(pickle.loads(pickle.dumps(network))(image())[0], expected)
    exported = torch.export.export(network, (image(),)).module()
    assert torch.allclose(exported(image())[0], expected, atol=1e-5)


def test_arguments_are_not_changed_and_not_shared():
    dem = dict(type='DetailEnhancement', ratio=4)
    upsample = dict(type='DySample', groups=2)
    network = DEHRNet(EXTRA, upsample=upsample, dem=dem)
    assert dem == dict(type='DetailEnhancement', ratio=4)
    assert upsample == dict(type='DySample', groups=2)
    modules = [p.module for p in network.named_plugins()]
    assert len(set(map(id, modules))) == len(modules)


def test_from_a_config():
    network = MODELS.build(dict(type='DEHRNet', extra=EXTRA, dem=dict(type='DetailEnhancement')))
    assert isinstance(network, DEHRNet)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(dem_position='middle'), "dem_position must be one of .*'middle'"),
        (dict(dem_high='lowest'), "dem_high must be 'next' or 'highest', got 'lowest'"),
        (dict(extra=hrnet_extra(6)), r'groups=4 does not divide in_channels=6.*\[1, 2, 3, 6\]'),
        (dict(dem=dict(type='DetailEnhancement', dropout=2)), 'dropout must be in'),
        (dict(dem_branches=4), r'dem_branches must name branches, 0 to 3, got \(4,\)'),
        (dict(dem_branches=()), 'dem_branches must name branches.*dem=None'),
        (dict(dem_branches='all'), 'dem_branches must be an int or a list of ints'),
        (dict(dem_branches=3, dem_position='stage_end'), 'no fusion has these branches there'),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        net(**{'extra': EXTRA, **kwargs})
