"""ONNX files compute what the network computes."""

import sys
from pathlib import Path

import pytest
import torch

from mmpose_attn.deploy import export_onnx, onnx_session
from mmpose_attn.models import DiteHRNet
from tests.helpers import build, dite_extra, higherhrnet_cfg, hrnet_extra, randomize

onnxruntime = pytest.importorskip('onnxruntime')
pytestmark = pytest.mark.usefixtures('mmpose_scope')


def run(path, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return session.run(None, {'image': image.numpy()})


def small_net(width=8, modules=(1, 1, 1), stem=8, blocks=1, **kwargs):
    torch.manual_seed(0)
    return randomize(DiteHRNet(dite_extra(width, modules, stem, blocks=blocks), **kwargs))


def assert_near(ours, theirs, tolerance=1e-4):
    assert abs(ours - theirs).max() < tolerance * abs(theirs).max()


@pytest.mark.parametrize(
    'batch, size, pooling',
    [(1, (64, 96), 'released'), (2, (64, 32), 'released'), (3, (32, 64), 'spatial')],
)
def test_dite(tmp_path, batch, size, pooling):
    net = small_net(pooling=pooling).train()
    export_onnx(net, tmp_path / 'net.onnx', size, batch)
    assert net.training
    image = torch.randn(batch, 3, *size[::-1])
    with torch.no_grad():
        theirs = net.eval()(image)[0].numpy()
    assert_near(run(tmp_path / 'net.onnx', image)[0], theirs)


@pytest.mark.parametrize(
    'width, stem, size, kwargs',
    [
        (20, 32, (96, 64), {}),
        (12, 64, (32, 64), dict(plugins=[dict(cfg=dict(type='ECAAttention'), position='block')])),
    ],
)
def test_dite_in_a_session(tmp_path, width, stem, size, kwargs):
    net = small_net(width, stem=stem, blocks=2, **kwargs).eval()
    export_onnx(net, tmp_path / 'net.onnx', size)
    image = torch.randn(1, 3, *size[::-1])
    with torch.no_grad():
        theirs = net(image)[0].numpy()
    session = onnx_session(tmp_path / 'net.onnx', threads=1)
    assert_near(session.run(None, {'image': image.numpy()})[0], theirs)


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(_, __, path, **___):
        Path(path).write_bytes(b'a half')
        raise OSError('no space left')

    monkeypatch.setattr(torch.onnx, 'export', fail)
    with pytest.raises(OSError, match='no space'):
        export_onnx(small_net(), tmp_path / 'net.onnx', (32, 32))
    assert not list(tmp_path.iterdir())


def test_errors(tmp_path, monkeypatch):
    net = DiteHRNet(dite_extra(8, (1, 1, 1), 8, blocks=1))
    with pytest.raises(ValueError, match='multiples of 32'):
        export_onnx(net, tmp_path / 'net.onnx', (48, 64))
    assert net.training
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ImportError, match=r'mmpose_attn\[onnx\]'):
        export_onnx(net, tmp_path / 'net.onnx')


# -------------------------------------------------------------------- the network stays as it is
class Whole(torch.nn.Module):
    """What people write round a network to export it: fresh, and so in training mode."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image)


class Freezing(torch.nn.Module):
    """Freezes its parameters whenever the mode is set, as HRNet's ``frozen_stages`` do."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def train(self, mode=True):
        self.conv.requires_grad_(False)
        return super().train(mode)

    def forward(self, image):
        if image.shape[2] == 17:
            raise OSError('something else')
        return self.norm(self.conv(image))


def state(network):
    """All that a network is, but for its class."""
    return (
        [(name, each.training) for name, each in network.named_modules()],
        [(name, each.requires_grad) for name, each in network.named_parameters()],
        [(name, each.clone()) for name, each in network.state_dict().items()],
        [sorted(vars(each)) for each in network.modules()],
        [len(each._forward_hooks) for each in network.modules()],
    )


@pytest.mark.parametrize('size', [(16, 16), (17, 17), (2, 2)])
def test_every_module_stays_as_it_is(tmp_path, size):
    """Also where the export fails: within the network, or for its size."""
    frozen_norm = Whole(Freezing())
    frozen_norm.network.norm.eval()
    evaluated = Whole(Whole(Freezing()))
    evaluated.network.network.eval()
    free = Whole(Freezing())
    free.network.conv.requires_grad_(True)
    for network in (frozen_norm, evaluated, evaluated.network.network, free):
        before = state(network)
        if size == (16, 16):
            export_onnx(network, tmp_path / 'net.onnx', size)
        else:
            with pytest.raises((OSError, ValueError)):
                export_onnx(network, tmp_path / 'net.onnx', size)
        after = state(network)
        assert before[:2] == after[:2] and before[3:] == after[3:]
        assert all(torch.equal(a[1], b[1]) for a, b in zip(before[2], after[2], strict=True))


def test_a_dite_hrnet_inside_is_written_fused_and_stays_as_it_is(tmp_path):
    net = small_net()
    whole = Whole(net.eval())
    before = state(whole)
    export_onnx(whole, tmp_path / 'net.onnx', (64, 32))
    assert state(whole)[:2] == before[:2] and whole.network is net and net.fast
    export_onnx(net, tmp_path / 'alone.onnx', (64, 32))
    image = torch.randn(1, 3, 32, 64)
    found, alone = (run(tmp_path / name, image)[0] for name in ('net.onnx', 'alone.onnx'))
    with torch.no_grad():
        assert_near(found, net(image)[0].numpy())
    assert (found == alone).all()


@pytest.mark.parametrize('bottomup', [False, True])
def test_a_pose_estimator_is_written_with_its_maps(tmp_path, bottomup):
    if bottomup:
        net, count = build(higherhrnet_cfg()), 2
    else:
        head = dict(type='HeatmapHead', in_channels=4, out_channels=5, deconv_out_channels=None)
        backbone = dict(type='AttnHRNet', extra=hrnet_extra(4))
        net = build(dict(type='TopdownPoseEstimator', backbone=backbone, head=head))
        count = 1
    randomize(net).train()
    export_onnx(net, tmp_path / 'net.onnx', (64, 32), batch=2)
    assert all(module.training for module in net.modules())
    image = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        theirs = net.eval()(image, None, mode='tensor')
    found = run(tmp_path / 'net.onnx', image)
    assert len(found) == count
    for ours, their in zip(found, theirs if bottomup else [theirs], strict=True):
        assert_near(ours, their.numpy())


# ---------------------------------------------------------------------- errors before the work
class Untouched(torch.nn.Conv2d):
    def forward(self, image):
        raise AssertionError('work before the arguments were checked')


@pytest.mark.parametrize(
    'args, message',
    [
        (dict(batch=0), 'batch must be a positive whole number, got 0'),
        (dict(batch=-1), 'batch must .* got -1'),
        (dict(batch=True), 'batch must .* got True'),
        (dict(batch=1.0), 'batch must .* got 1.0'),
        (dict(in_channels=0), 'in_channels must .* got 0'),
        (dict(size=64), r'size must be \(width, height\) in pixels, got 64'),
        (dict(size=(64, 64, 3)), 'size must be .* got .64, 64, 3.'),
        (dict(size=(0, 64)), 'width in size must .* got 0'),
        (dict(size=(64, -32)), 'height in size must .* got -32'),
        (dict(size=(64.0, 64)), 'width in size must .* got 64.0'),
        (dict(size=(64, True)), 'height in size must .* got True'),
    ],
)
def test_numbers_are_checked_before_the_work(tmp_path, args, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(Untouched(3, 4, 3), tmp_path / 'net.onnx', **args)
    assert not list(tmp_path.iterdir())


def test_the_place_is_checked_before_the_work(tmp_path, monkeypatch):
    net = Untouched(3, 4, 3)
    with pytest.raises(FileNotFoundError, match='the folder .*gone of net.onnx does not exist'):
        export_onnx(net, tmp_path / 'gone' / 'net.onnx')
    with pytest.raises(IsADirectoryError, match='is a folder: give the name of the ONNX file'):
        export_onnx(net, tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'touch', refuse)  # root may write everywhere
    with pytest.raises(PermissionError, match=r'net\.onnx cannot be written: Permission denied'):
        export_onnx(net, tmp_path / 'net.onnx')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size', [(100, 130), (130, 100), (96, 80), (1, 1)])
def test_sizes_that_do_not_fit_name_the_multiple(tmp_path, size):
    net = build(dict(type='AttnHRNet', extra=hrnet_extra(4)))
    with pytest.raises(ValueError, match=f'images of {size[0]}x{size[1]}: give multiples of 32'):
        export_onnx(net, tmp_path / 'net.onnx', size)
    with pytest.raises(RuntimeError, match='expected input.* 3 channels'):  # no size helps
        export_onnx(net, tmp_path / 'net.onnx', (64, 64), in_channels=4)
    assert not list(tmp_path.iterdir())
