"""Forms for inference: equal to the network, which stays as it is."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from mmpose.registry import MODELS
from torch import nn

from mmpose_attn.models import AttnHRNet, DiteHRNet, fuse_for_inference
from mmpose_attn.models.layers.fusing import can_fold
from tests.helpers import build, dite_extra, higherhrnet_cfg, hrnet_extra, randomize

pytestmark = pytest.mark.usefixtures('mmpose_scope')

PLUGINS = [
    dict(cfg=dict(type='CAMSAMAttention', ratio=2), position='block', stages=(1, 3)),
    dict(cfg=dict(type='SEAttention', ratio=2), position='stem'),
    dict(cfg=dict(type='ECAAttention'), position='after_conv1', stages=2),
    dict(cfg=dict(type='CBAMAttention', ratio=2), position='fuse', stages=4),
    dict(cfg=dict(type='PolarizedAttention'), position='transition'),
]


def lite_extra():
    extra = dite_extra(16, (1, 1, 1), 32, blocks=1)
    extra['stages_spec']['module_type'] = ('LITE', 'NAIVE', 'LITE')
    return extra


NETWORKS = {
    'attn': dict(type='AttnHRNet', extra=hrnet_extra(8)),
    'plugins': dict(type='AttnHRNet', extra=hrnet_extra(8), plugins=PLUGINS),
    'de': dict(type='DEHRNet', extra=hrnet_extra(8), plugins=PLUGINS[:2]),
    'de conv': dict(
        type='DEHRNet', extra=hrnet_extra(8), dem=dict(type='DetailEnhancement', merge='conv3x3')
    ),
    'hrnet': dict(type='HRNet', extra=hrnet_extra(8)),
    'lite': dict(type='LiteHRNet', extra=lite_extra()),
    'higher': higherhrnet_cfg(8),
}
IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def outputs(network, x=IMAGE):
    with torch.no_grad():
        outs = network(x) if not hasattr(network, 'head') else network(x, None, mode='tensor')
    return list(outs) if isinstance(outs, (tuple, list)) else [outs]


def assert_equal(ours, theirs, tolerance=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        assert b.abs().max() > 0 and (a - b).abs().max() <= tolerance * b.abs().max()


def condition(network):
    return (
        [(name, type(each), each.training) for name, each in network.named_modules()],
        [(name, each.requires_grad) for name, each in network.named_parameters()],
    )


@pytest.mark.parametrize('name', NETWORKS)
def test_equal_and_the_network_stays_as_it_is(name):
    torch.manual_seed(0)
    network = randomize(build(NETWORKS[name])).double()
    before, state = condition(network), copy.deepcopy(network.state_dict())
    own = getattr(network, 'fuse_for_inference', None)
    fused = own() if own else fuse_for_inference(network)
    assert condition(network) == before
    after = network.state_dict()
    assert after.keys() == state.keys() and all(torch.equal(after[k], state[k]) for k in state)
    assert not any(module.training for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert not any(map(can_fold, fused.modules()))
    network.eval()
    theirs = outputs(network)
    assert_equal(outputs(fused), theirs)
    network.float()
    single = fuse_for_inference(network)
    assert_equal(outputs(single, IMAGE.float()), outputs(network, IMAGE.float()), 1e-5)
    for other in (
        copy.deepcopy(fused),
        pickle.loads(pickle.dumps(fused)),
        fuse_for_inference(fused),
    ):
        assert all(torch.equal(a, b) for a, b in zip(outputs(other), outputs(fused), strict=True))
    # it shares no memory with the network
    for parameter in network.parameters():
        parameter.data.zero_()
    assert_equal(outputs(fused), theirs)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(frozen_stages=2),
        dict(norm_eval=True),
        dict(norm_cfg=dict(type='BN', requires_grad=False)),
        dict(norm_cfg=dict(type='SyncBN')),
        dict(zero_init_residual=True, with_cp=True),
    ],
    ids=lambda kwargs: next(iter(kwargs)),
)
def test_with_frozen_and_other_norms(kwargs):
    network = randomize(AttnHRNet(hrnet_extra(8), plugins=PLUGINS[:1], **kwargs)).double().train()
    before = condition(network)
    fused = network.fuse_for_inference()
    assert condition(network) == before
    assert not [m for m in fused.modules() if can_fold(m)]
    assert_equal(outputs(fused), outputs(network.eval()))
    assert [p.name for p in fused.named_plugins()] == [p.name for p in network.named_plugins()]


@pytest.mark.parametrize(
    'norm_cfg, fast',
    [
        (dict(type='GN', num_groups=1), True),
        (dict(type='BN', track_running_stats=False), True),
        (dict(type='BN', affine=False), True),
        (dict(type='BN', affine=False), False),
    ],
)
def test_dite_with_norms_of_other_kinds(norm_cfg, fast):
    """What cannot be folded stays, and no form computes with statistics that there are not."""
    network = DiteHRNet(dite_extra(16, (1, 1), 16, blocks=1), norm_cfg=norm_cfg, fast=fast)
    network = randomize(network).double().eval()
    fused = network.fuse_for_inference(record=False)
    assert_equal(outputs(fused), outputs(network))
    kinds = (nn.GroupNorm, nn.BatchNorm2d)
    kept = any(isinstance(module, kinds) for module in fused.modules())
    assert kept == ('affine' not in norm_cfg)


def test_without_torchscript_the_fused_network_runs(monkeypatch):
    network = randomize(DiteHRNet(dite_extra(16, (1, 1), 16, blocks=1))).double().eval()
    monkeypatch.delattr(torch.jit, 'trace')
    assert_equal(outputs(network.fuse_for_inference(), IMAGE[:1]), outputs(network, IMAGE[:1]))


# ------------------------------------------------------------------------- what must not be folded
class NormFirst(nn.Module):
    """Registers a norm right after the convolution that it runs before."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.bn(x))


class Reversed(nn.Sequential):
    def forward(self, x):
        for layer in reversed([*self]):
            x = layer(x)
        return x


class Doubling(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Clamping(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).clamp(-0.1, 0.1)


def twice():
    relu = nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 3, 1), relu, nn.Conv2d(3, 3, 1), relu, nn.BatchNorm2d(3))


def shared():
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    return nn.Sequential(conv, norm, nn.Sequential(conv, nn.BatchNorm2d(3)), conv, norm)


@pytest.mark.parametrize(
    'make, left',
    [
        (NormFirst, 1),
        (lambda: Reversed(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), 1),
        (lambda: nn.Sequential(Doubling(3, 3, 1), nn.BatchNorm2d(3)), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Clamping(3)), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)), 1),
        (lambda: ConvModule(3, 3, 1, norm_cfg=dict(type='BN'), order=('norm', 'act', 'conv')), 1),
        (lambda: ConvModule(3, 3, 1, norm_cfg=dict(type='BN'), order=('conv', 'act', 'norm')), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)), 0),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 2), nn.BatchNorm2d(6)), 0),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 3, 2, groups=3), nn.BatchNorm2d(3)), 1),
        (twice, 1),
        (shared, 0),
    ],
)
def test_what_does_not_follow_is_not_folded(make, left):
    module = randomize(make()).double().eval()
    fused = fuse_for_inference(module)
    assert_equal(outputs(fused), outputs(module))
    assert len([each for each in fused.modules() if isinstance(each, nn.BatchNorm2d)]) == left


def test_a_module_is_asked_for_its_form():
    @MODELS.register_module(force=True)
    class Halving(nn.Module):
        def __init__(self, in_channels):
            super().__init__()

        def forward(self, x):
            return x / 2

        def inference_form(self):
            return nn.Dropout(0.5)  # in evaluation nothing: half of what was there is seen

    network = AttnHRNet(hrnet_extra(8), plugins=[dict(cfg=dict(type='Halving'), position='stem')])
    fused = randomize(network).double().fuse_for_inference()
    assert isinstance(fused.stem_plugins[0], nn.Dropout)
    network.eval()
    with torch.no_grad():
        x = network.relu(network.norm1(network.conv1(IMAGE)))
        y = fused.relu(fused.norm1(fused.conv1(IMAGE)))
    assert_equal([fused.stem_plugins(y)], [2 * network.stem_plugins(x)])
