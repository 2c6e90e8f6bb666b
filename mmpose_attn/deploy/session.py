"""ONNX files in onnxruntime, set up for networks of many small operations on a CPU."""

import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .extra import require

if TYPE_CHECKING:
    import onnx
    import onnxruntime


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
        FileNotFoundError: if there is no such file.
        ValueError: if ``threads`` is not a positive number.
        ImportError: if ``onnx`` or ``onnxruntime`` is missing.
    """
    onnx, onnxruntime = require('onnx_session', 'onnx', 'onnxruntime')
    if threads is not None and not (isinstance(threads, int) and threads > 0):
        raise ValueError(f'threads must be a positive number or None, got {threads!r}')
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no ONNX file {path}')

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that what it writes is for this computer: so it is
    cpu = ['CPUExecutionProvider']
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, 'optimized.onnx'))
        onnxruntime.InferenceSession(str(path), options, providers=cpu)
        model = onnx.load(options.optimized_model_filepath)
    nodes = in_cache_order(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED  # that of the nodes
    options.enable_mem_reuse = False
    options.add_session_config_entry('session.force_spinning_stop', '1')
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=cpu)


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
