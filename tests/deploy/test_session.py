"""onnxruntime sessions compute the same, in an order that respects what needs what."""

import sys

import pytest
import torch

from mmpose_attn.deploy import export_onnx, onnx_session
from mmpose_attn.deploy.session import in_cache_order

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


def nodes_of(*lines):
    """'OP out: in in' a line"""
    pairs = [line.split(':') for line in lines]
    return [
        onnx.helper.make_node(made.split()[0], needed.split(), made.split()[1:])
        for made, needed in pairs
    ]


def test_result_is_used_while_it_is_new():
    nodes = nodes_of(
        'Relu a: x', 'Relu b: x', 'Neg c: a', 'Neg d: b', 'Add e: c d', 'Add f: e x', 'Abs g: b'
    )
    order = [node.output[0] for node in in_cache_order(nodes)]
    assert order == ['a', 'c', 'b', 'd', 'g', 'e', 'f']


def test_graphs_within_nodes_keep_the_order():
    (relu, neg) = nodes_of('Relu a: x', 'Neg b: y')
    value = onnx.helper.make_tensor_value_info('c', onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph(nodes_of('Abs c: a'), 'then', [], [value])
    branch = onnx.helper.make_node('If', ['z'], ['d'], then_branch=graph, else_branch=graph)
    assert in_cache_order([neg, relu, branch]) == [neg, relu, branch]


def test_session_computes_the_same(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 2, 1)
    ).eval()
    export_onnx(net, tmp_path / 'net.onnx', (16, 8), batch=2)
    session, image = onnx_session(tmp_path / 'net.onnx', threads=1), torch.randn(2, 3, 8, 16)
    with torch.no_grad():
        theirs = net(image)
    for _ in range(2):  # memory is laid out after the first
        (ours,) = session.run(None, {'image': image.numpy()})
        torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-5, atol=1e-5)
    assert session.get_session_options().intra_op_num_threads == 1


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='no ONNX file .*missing'):
        onnx_session(tmp_path / 'missing.onnx')
    for threads in (0, -1, '2'):
        with pytest.raises(ValueError, match='threads must be a positive number'):
            onnx_session(tmp_path / 'missing.onnx', threads)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match=r'mmpose_attn\[onnx\]'):
        onnx_session(tmp_path / 'missing.onnx')
