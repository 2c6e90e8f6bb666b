"""onnxruntime's inner operators on blocks of channels, for PyTorch's exporter by tracing.

onnxruntime convolves fast where memory is (N, C / block, H, W, block). By itself it reorders
constant kernels alone, so that a convolution with computed ones is slow. The functions here are
plain convolutions in PyTorch, where every tensor is (N, C, H, W), and those operators in the ONNX
file, where the same shape names memory in that order.
"""

import functools
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from .extra import require

DOMAIN = 'com.microsoft.nchwc'
BLOCKS = (8, 16)


def padded(channels: int, block: int) -> int:
    """The channels of whole blocks."""
    return -(-channels // block) * block


def in_memory(x: Tensor, block: int) -> Tensor:
    """Kernels (..., O, I, k, k) -> (..., padded O * I * k * k) in the order of their memory.

    Either of a depthwise convolution, or with fewer input channels than a block.
    """
    *rows, outs, ins, k, _ = x.shape
    x = F.pad(x, (0, 0) * 3 + (0, padded(outs, block) - outs))
    return x.reshape(*rows, -1, block, ins * k * k).transpose(-1, -2).flatten(len(rows))


def _typed(value, like, shape):
    value.setType(like.type().with_sizes(list(shape)))
    return value


class _ReorderInput(Function):
    @staticmethod
    def forward(ctx, x, block):
        return F.pad(x, (0, 0) * 2 + (0, padded(x.shape[1], block) - x.shape[1]))

    @staticmethod
    def symbolic(g, x, block):
        batch, channels, *size = x.type().sizes()
        out = g.op(f'{DOMAIN}::ReorderInput', x)
        return _typed(out, x, (batch, padded(channels, block), *size))


class _ReorderOutput(Function):
    @staticmethod
    def forward(ctx, x, channels):
        return x[:, :channels].clone()

    @staticmethod
    def symbolic(g, x, channels):
        batch, _, *size = x.type().sizes()
        out = g.op(f'{DOMAIN}::ReorderOutput', x, channels_i=channels)
        return _typed(out, x, (batch, channels, *size))


class _Conv(Function):
    @staticmethod
    def forward(ctx, x, kernels, bias, stride, groups, relu, block):
        ins, k = kernels.shape[1:3]
        if (groups != 1 and ins != 1) or (groups == 1 and ins >= block):
            raise ValueError(f'onnxruntime has no kernels {tuple(kernels.shape)} in these blocks')
        kernels = kernels.reshape(-1, ins * k * k, block).transpose(1, 2).reshape(kernels.shape)
        out = F.conv2d(x, kernels, bias, stride, k // 2, 1, groups)
        return out.relu() if relu else out

    @staticmethod
    def symbolic(g, x, kernels, bias, stride, groups, relu, block):
        batch, _, *size = x.type().sizes()
        outs, _, k, _ = kernels.type().sizes()
        out = g.op(
            f'{DOMAIN}::Conv',
            x,
            kernels,
            bias,
            kernel_shape_i=[k, k],
            pads_i=[k // 2] * 4,
            strides_i=[stride] * 2,
            dilations_i=[1, 1],
            group_i=groups,
            **({'activation_s': 'Relu'} if relu else {}),
        )
        return _typed(out, x, (batch, outs, *((each - 1) // stride + 1 for each in size)))


class _Mean(Function):
    @staticmethod
    def forward(ctx, x):
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def symbolic(g, x):
        return _typed(g.op(f'{DOMAIN}::GlobalAveragePool', x), x, (*x.type().sizes()[:2], 1, 1))


def reorder(x: Tensor, block: int) -> Tensor:
    """(N, C, H, W) -> the same in blocks, with zeros up to the last one's end."""
    return _ReorderInput.apply(x, block)


def reorder_back(x: Tensor, channels: int) -> Tensor:
    """What :func:`reorder` does, back."""
    return _ReorderOutput.apply(x, channels)


def conv(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor,
    block: int,
    stride: int = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """A convolution padded to keep the size.

    Args:
        x: (N, C, H, W), in blocks if it is depthwise; otherwise not, and C less than a block.
        kernels: (O, I, k, k), their memory as of :func:`in_memory`; O is padded.
        bias: (O,).
        block: channels of one.
        stride: the same in both directions.
        groups: 1 or, depthwise, O.
        relu: rectify.

    Returns:
        in blocks
    """
    return _Conv.apply(x, kernels, bias, stride, groups, relu, block)


def mean(x: Tensor) -> Tensor:
    """In blocks (N, C, H, W) -> (N, C)"""
    return _Mean.apply(x).flatten(1)


@functools.cache
def channel_block() -> int | None:
    """How many channels onnxruntime's blocks have on this computer.

    Returns:
        16 with AVX-512, 8 on other x86-64, None where onnxruntime has no such operators

    Raises:
        ImportError: if ``onnx`` or ``onnxruntime`` is missing.
    """
    onnx, onnxruntime = require('channel_block', 'onnx', 'onnxruntime')
    helper = onnx.helper
    nodes, constants = _order()
    order = helper.make_tensor_value_info('order', onnx.TensorProto.FLOAT, [len(PROBE)])
    model = helper.make_model(
        helper.make_graph(nodes, 'order', [], [order], constants),
        opset_imports=[helper.make_opsetid('', 17), helper.make_opsetid(DOMAIN, 1)],
        ir_version=8,
    )
    missing = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=['CPUExecutionProvider']
        )
    except (missing.Fail, missing.NotImplemented):
        return None
    return session.run(None, {})[0].tolist().index(1)


# 16 channels of two pixels each: in blocks, the second value comes after as many as one has
PROBE = np.arange(32, dtype=np.float32)


def _order():
    """Nodes and constants whose result is called order, the order of 32 values in memory."""
    from onnx import helper, numpy_helper

    constants = {'probe': PROBE.reshape(1, 16, 1, 2), 'flat': np.array([len(PROBE)])}
    nodes = [
        helper.make_node('ReorderInput', ['probe'], ['blocks'], domain=DOMAIN),
        helper.make_node('Reshape', ['blocks', 'flat'], ['order']),
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


def guard(path: str | Path, block: int) -> None:
    """Make a file fail where blocks are of another size, and not compute something else.

    Args:
        path: of a file; one without convolutions of blocks stays as it is.
        block: channels of one.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    convs = [n for n in model.graph.node if (n.domain, n.op_type) == (DOMAIN, 'Conv')]
    if not convs:
        return
    name = f'this_file_is_for_CPUs_whose_channel_blocks_are_of_{block}'
    nodes, constants = _order()
    values = {'place': np.array(block), 'one': np.float32(1), 'zero': np.zeros(1, np.float32)}
    constants += [numpy_helper.from_array(np.asarray(v), key) for key, v in values.items()]
    nodes += [
        helper.make_node('Gather', ['order', 'place'], ['value']),
        helper.make_node('Sub', ['value', 'one'], ['difference']),
        helper.make_node('Cast', ['difference'], ['index'], to=onnx.TensorProto.INT64),
        helper.make_node('Gather', ['zero', 'index'], ['nothing'], name=name),
    ]
    conv = convs[0]
    nodes.append(helper.make_node('Add', [conv.input[2], 'nothing'], ['guarded_bias']))
    conv.input[2] = 'guarded_bias'
    model.graph.initializer.extend(constants)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)
    onnx.save(model, str(path))
