"""ONNX files compute what the network computes."""

import sys

import pytest
import torch

from mmpose_attn.deploy import export_onnx
from mmpose_attn.models import DiteHRNet
from tests.helpers import dite_extra, randomize

onnxruntime = pytest.importorskip('onnxruntime')
pytestmark = pytest.mark.usefixtures('mmpose_scope')


def run(path, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return session.run(None, {'image': image.numpy()})


@pytest.mark.parametrize(
    'batch, size, pooling',
    [(1, (64, 96), 'released'), (2, (64, 32), 'released'), (3, (32, 64), 'spatial')],
)
def test_dite(tmp_path, batch, size, pooling):
    torch.manual_seed(0)
    net = randomize(DiteHRNet(dite_extra(8, (1, 1, 1), 8, blocks=1), pooling=pooling)).train()
    export_onnx(net, tmp_path / 'net.onnx', size, batch)
    assert net.training
    image = torch.randn(batch, 3, *size[::-1])
    (ours,) = run(tmp_path / 'net.onnx', image)
    with torch.no_grad():
        theirs = net.eval()(image)[0]
    assert abs(ours - theirs.numpy()).max() < 1e-4 * theirs.abs().max()


def test_errors(tmp_path, monkeypatch):
    net = DiteHRNet(dite_extra(8, (1, 1, 1), 8, blocks=1))
    with pytest.raises(ValueError, match='multiples of 32'):
        export_onnx(net, tmp_path / 'net.onnx', (48, 64))
    assert net.training
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ImportError, match=r'mmpose_attn\[onnx\]'):
        export_onnx(net, tmp_path / 'net.onnx')
