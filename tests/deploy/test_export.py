"""ONNX files compute what the network computes."""

import sys

import pytest
import torch

from mmpose_attn.deploy import channel_block, channel_blocks, export_onnx, onnx_session
from mmpose_attn.deploy.dite_blocks import BlockedStem, in_blocks
from mmpose_attn.models import DiteHRNet
from tests.helpers import dite_extra, randomize

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


@pytest.mark.parametrize('block', [8, 16])
@pytest.mark.parametrize('stem', [8, 32, 128])
def test_channel_blocks_compute_the_same(block, stem):
    net = small_net(width=20, stem=stem, blocks=2, modules=(1, 1)).eval()
    fused = net.fuse_for_inference(record=False)
    fused.fast = False
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        blocked = in_blocks(fused, block)
        assert isinstance(blocked.stem, BlockedStem) == (stem == 32)
        assert_near(blocked(image)[0], net(image)[0], 1e-5)


@pytest.mark.parametrize(
    'width, stem, size, kwargs',
    [
        (8, 8, (64, 96), {}),
        (20, 32, (96, 64), {}),
        (8, 128, (32, 32), {}),
        (10, 32, (64, 32), dict(pooling='spatial')),
        (12, 64, (32, 64), dict(plugins=[dict(cfg=dict(type='ECAAttention'), position='block')])),
    ],
)
def test_dite_in_channel_blocks(tmp_path, width, stem, size, kwargs):
    net = small_net(width, stem=stem, blocks=2, **kwargs).eval()
    export_onnx(net, tmp_path / 'net.onnx', size, block=channel_block())
    image = torch.randn(1, 3, *size[::-1])
    with torch.no_grad():
        theirs = net(image)[0].numpy()
    assert_near(run(tmp_path / 'net.onnx', image)[0], theirs)
    session = onnx_session(tmp_path / 'net.onnx', threads=1)
    assert_near(session.run(None, {'image': image.numpy()})[0], theirs)


@pytest.mark.skipif(channel_block() is None, reason='this onnxruntime has no blocks')
def test_file_for_another_cpu_says_so(tmp_path):
    net, image = small_net(stem=32).eval(), torch.randn(1, 3, 32, 32)
    block = 8 if channel_block() == 16 else 16
    export_onnx(net, tmp_path / 'net.onnx', (32, 32), block=block)
    with pytest.raises(Exception, match=f'CPUs_whose_channel_blocks_are_of_{block}'):
        run(tmp_path / 'net.onnx', image)
    with pytest.raises(Exception, match=f'CPUs_whose_channel_blocks_are_of_{block}'):
        onnx_session(tmp_path / 'net.onnx').run(None, {'image': image.numpy()})


def test_no_blocks_where_onnxruntime_has_none(monkeypatch):
    import onnx

    node = onnx.helper.make_node('NoSuchOperator', [], ['order'], domain=channel_blocks.DOMAIN)
    monkeypatch.setattr(channel_blocks, '_order', lambda: ([node], []))
    assert channel_block.__wrapped__() is None


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError('no space left')

    monkeypatch.setattr(channel_blocks, 'guard', fail)
    with pytest.raises(OSError, match='no space'):
        export_onnx(small_net(), tmp_path / 'net.onnx', (32, 32), block=8)
    assert not list(tmp_path.iterdir())


def test_blocks_change_nothing_of_other_networks(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    for name, block in (('a', None), ('b', 16)):
        export_onnx(net, tmp_path / name, (16, 16), batch=2, block=block)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_errors(tmp_path, monkeypatch):
    net = DiteHRNet(dite_extra(8, (1, 1, 1), 8, blocks=1))
    with pytest.raises(ValueError, match='multiples of 32'):
        export_onnx(net, tmp_path / 'net.onnx', (48, 64))
    assert net.training
    with pytest.raises(ValueError, match='block=16 is for one image .* batch=2'):
        export_onnx(net, tmp_path / 'net.onnx', (64, 64), batch=2, block=16)
    with pytest.raises(ValueError, match=r'torch\.float64'):
        export_onnx(net.double(), tmp_path / 'net.onnx', (64, 64), block=16)
    with pytest.raises(ValueError, match='block=5 .* 8 or 16'):
        export_onnx(net.float(), tmp_path / 'net.onnx', (64, 64), block=5)
    with pytest.raises(ValueError, match='pass the backbone alone'):
        export_onnx(torch.nn.Sequential(net), tmp_path / 'net.onnx', (64, 64), block=16)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ImportError, match=r'mmpose_attn\[onnx\]'):
        export_onnx(net, tmp_path / 'net.onnx')
