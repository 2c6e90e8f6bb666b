"""ONNX files in onnxruntime, set up for networks of many small operations on a CPU."""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mmpose_attn.files import MOST_BYTES, path_inside, printable, read_file

from .extra import require

if TYPE_CHECKING:
    import onnx
    import onnxruntime

_SILENT = 4  # errors are raised
# messages in which there is no tensor: types of values, what is counted, texts
_WITHOUT = ('ValueInfoProto', 'TypeProto', 'OperatorSetIdProto', 'StringStringEntryProto')


def onnx_session(path: str | Path, threads: int | None = None) -> 'onnxruntime.InferenceSession':
    """An ``onnxruntime.InferenceSession`` on the CPU, faster for small networks than its default.

    onnxruntime optimises the graph, whose operations then run in an order that uses results while
    they are in the cache, each with memory of its own: an image takes less time, the session more
    memory. Its threads stop waiting between two runs.

    Args:
        path: of an ONNX file, such as :func:`export_onnx` writes.
        threads: how many; onnxruntime's own choice by default.

    Returns:
        a session: ``session.run(None, {'image': array})`` is a list of the outputs' arrays. A file
        for CPUs of another kind fails when it is run.

    Raises:
        FileNotFoundError: if there is no such file, or none of its external data.
        ValueError: if ``threads`` is not a positive number, or the file is damaged, no ONNX file,
            one that onnxruntime does not run, or has external data outside of its folder.
        ImportError: if ``onnx`` or ``onnxruntime`` is missing.
    """
    onnx, onnxruntime = require('onnx_session', 'onnx', 'onnxruntime')
    if threads is not None and not (isinstance(threads, int) and threads > 0):
        raise ValueError(f'threads must be a positive number or None, got {threads!r}')
    if not Path(path).exists():
        raise FileNotFoundError(f'there is no ONNX file {printable(path)}')
    contents = read_onnx(path).SerializeToString()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT  # what it writes is for this computer: so it is
    cpu = ['CPUExecutionProvider']
    with TemporaryDirectory() as folder, _naming(path):
        options.optimized_model_filepath = str(Path(folder, 'optimized.onnx'))
        onnxruntime.InferenceSession(contents, options, providers=cpu)
        model = onnx.load(options.optimized_model_filepath)
    del contents
    nodes = in_cache_order(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED  # that of the nodes
    options.enable_mem_reuse = False
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.log_severity_level = _SILENT
    with _naming(path):
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=cpu)


def read_onnx(path: str | Path) -> 'onnx.ModelProto':
    """An ONNX file and its external data, which must lie in its folder.

    Raises:
        FileNotFoundError: if there is no such file, or none of its external data.
        ValueError: if the file is damaged, no ONNX file, or has external data outside of its folder
            or more than protobuf holds, 2 GB in all.
        ImportError: if ``onnx`` is missing.
    """
    (onnx,) = require('read_onnx', 'onnx')
    contents = read_file(path, 'ONNX file')
    with _naming(path):
        model = onnx.load_model_from_string(contents)
        if not model.graph.node:
            raise ValueError('it has no operators')
    total = len(contents)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            data = _external(Path(path), {each.key: each.value for each in tensor.external_data})
            total += len(data)
            if total >= MOST_BYTES:
                raise ValueError(f'ONNX file {printable(path)} has more than 2 GB with its data')
            tensor.ClearField('data_location')
            tensor.ClearField('external_data')
            tensor.raw_data = data
    return model


def _external(path: Path, place: dict[str, str]) -> bytes:
    name = f'external data of {printable(path)}:'
    file = path_inside(path.parent, place.get('location', ''), name)
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError(f'{name} {printable(file)} is a link that leads out of its folder')
    data = read_file(file, name)
    try:
        start = int(place.get('offset', 0))
        end = start + int(place['length']) if 'length' in place else len(data)
    except ValueError:
        start, end = -1, 0
    if not 0 <= start <= end <= len(data):
        raise ValueError(f'{name} {printable(file)} has {len(data):,} bytes, not {place}')
    return data[start:end]


def _tensors(message: Any) -> Iterator['onnx.TensorProto']:
    """All of a message, those of graphs within nodes, of functions and of sparse ones included."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.name in _WITHOUT:
            continue
        for each in [value] if hasattr(value, 'ListFields') else value:
            if field.message_type.name == 'TensorProto':
                yield each
            else:
                yield from _tensors(each)


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Within it, whatever onnx and onnxruntime raise becomes a ValueError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = printable(' '.join(str(error).split()))
        reason = re.sub(r'\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+ ', '', reason)
        raise ValueError(
            f'ONNX file {printable(path)} is damaged, no ONNX file, or not one that onnxruntime '
            f'runs: {reason[:500]}'
        ) from error


def in_cache_order(nodes: Iterable['onnx.NodeProto']) -> Sequence['onnx.NodeProto']:
    """A graph's nodes so that each comes soon after those whose results it takes.

    Nodes with graphs of their own, which take results without naming them, stay as they are.
    """
    nodes = list(nodes)
    if any(attribute.HasField('g') for node in nodes for attribute in node.attribute):
        return nodes
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in node.input if name in maker} for node in nodes]
    users = [[] for _ in nodes]
    for index, need in enumerate(needs):
        for each in need:
            users[each].append(index)
    missing = [len(need) for need in needs]
    # first of all whose oldest input is the latest; of several the first in the file
    ready, place = [(1, index) for index, count in enumerate(missing) if not count], {}
    while ready:
        _, index = heapq.heappop(ready)
        place[index] = len(place)
        for user in users[index]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (-min(place[each] for each in needs[user]), user))
    return [nodes[index] for index in place]
