"""ONNX files: external data only from their folder, and every damage one error."""

import os

import numpy as np
import pytest

from mmpose_attn.deploy import onnx_session

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WEIGHTS = np.float32([[1, 2, 3, 4]])
ADD = helper.make_node('Add', ['image', 'w'], ['y'])


def model(tensor=None, nodes=(ADD,), opset=17, more=()):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ('image', 'y')]
    tensor = numpy_helper.from_array(WEIGHTS, 'w') if tensor is None else tensor
    graph = helper.make_graph(nodes, 'g', values[:1], values[1:], [tensor, *more])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)


def external(location, dims=(1, 4), **place):
    tensor = TensorProto(name='w', data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in dict(location=location, **place).items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return model(tensor)


@pytest.fixture
def folder(tmp_path):
    """A model's folder, with data in it, and others' data beside it."""
    folder = tmp_path / 'models'
    (folder / 'below').mkdir(parents=True)
    for path in (tmp_path / 'secret', folder / 'data', folder / 'below' / 'data'):
        path.write_bytes(b'\0' * 8 + WEIGHTS.tobytes() + bytes(1000))
    (folder / 'link').symlink_to(tmp_path / 'secret')
    (folder / 'up').symlink_to(tmp_path)
    os.mkfifo(folder / 'pipe')
    return folder


def save(folder, contents):
    path = folder / 'net.onnx'
    path.write_bytes(contents if isinstance(contents, bytes) else contents.SerializeToString())
    return path


@pytest.mark.parametrize('location', ['data', './data', 'below/data'])
def test_external_data_in_the_folder(folder, location, monkeypatch):
    path = save(folder, external(location, offset=8, length=16))
    monkeypatch.chdir(folder)
    for name in (path, 'net.onnx'):
        (y,) = onnx_session(name, 1).run(None, dict(image=np.zeros((1, 4), np.float32)))
        assert np.array_equal(y, WEIGHTS)


@pytest.mark.parametrize(
    ('location', 'message'),
    [
        ('../secret', 'leads out of the folder'),
        ('below/../../secret', 'leads out of the folder'),
        ('..\\secret', 'leads out of the folder'),
        ('/etc/passwd', 'leads out of the folder'),
        ('', 'leads out of the folder'),
        ('data\0', 'leads out of the folder'),
        ('link', 'link that leads out'),
        ('up/secret', 'link that leads out'),
        ('pipe', 'pipe or device'),
        ('below', 'is a folder'),
    ],
)
def test_external_data_elsewhere(folder, location, message):
    path = save(folder, external(location, offset=0, length=16))
    with pytest.raises(ValueError, match=rf'external data of .*net\.onnx.*{message}'):
        onnx_session(path, 1)


@pytest.mark.parametrize(
    'place',
    [
        dict(offset=10**6, length=16),
        dict(offset=2**63 - 1, length=16),
        dict(offset=-5, length=16),
        dict(offset=0, length=-1),
        dict(offset=0, length=4 * 10**10),
        dict(offset='x', length=16),
    ],
)
def test_places_that_are_not_in_the_data(folder, place):
    path = save(folder, external('data', **place))
    with pytest.raises(ValueError, match=r'external data of .*net\.onnx.*has 1,024 bytes, not'):
        onnx_session(path, 1)
    with pytest.raises(FileNotFoundError, match=r'external data of .*net\.onnx.* does not exist'):
        onnx_session(save(folder, external('gone', offset=0, length=16)), 1)


def sized(*dims, **kwargs):
    tensor = numpy_helper.from_array(WEIGHTS, 'w')
    tensor.dims[:] = dims
    return model(tensor, **kwargs)


def deep(levels):
    """A graph in a node's attribute in a graph, and so on, as protobuf writes it."""

    def field(tag, data):
        size, length = len(data), b''
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([tag]) + length + bytes([size]) + data

    data = b''
    for _ in range(levels):
        data = field(0x0A, field(0x2A, field(0x32, data)))
    return field(0x3A, data)


GOOD = model().SerializeToString()
BAD = {
    'empty': b'',
    'truncated': GOOD[: len(GOOD) // 2],
    'text': b'hello world',
    'zip': b'PK\x03\x04' + bytes(100),
    'no operators': onnx.ModelProto(ir_version=8).SerializeToString(),
    'large': sized(10**6, 10**6),
    'overflow': sized(2**40, 2**40),
    'negative': sized(-1, 4),
    'no data': model(TensorProto(name='w', data_type=TensorProto.FLOAT, dims=[10**5, 10**5])),
    'type': model(TensorProto(name='w', data_type=99, dims=[1, 4], raw_data=bytes(16))),
    'operator': model(nodes=[helper.make_node('Evil', ['image'], ['y'], domain='evil')]),
    'cycle': model(
        nodes=[
            helper.make_node('Add', ['image', 'y'], ['z']),
            helper.make_node('Add', ['image', 'z'], ['y']),
        ]
    ),
    'opset': model(opset=999),
    'deep': deep(20_000),
}


@pytest.mark.parametrize('content', BAD)
def test_bad_files_are_one_error(tmp_path, content, capfd):
    path = save(tmp_path, BAD[content])
    with pytest.raises(ValueError, match=r'ONNX file .*net\.onnx is damaged, no ONNX file, or not'):
        onnx_session(path, 1)
    assert capfd.readouterr().err == ''  # onnxruntime's own words are in the message


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for name in ('pipe', '.'):
        with pytest.raises(ValueError, match='pipe or device|folder'):
            onnx_session(tmp_path / name)
