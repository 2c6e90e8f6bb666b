"""Export to ONNX; needs ``onnx``, the extra ``mmpose_attn[onnx]``."""

import warnings
from pathlib import Path

import torch
from torch import nn

from ..models import DiteHRNet
from . import channel_blocks
from .dite_blocks import in_blocks
from .extra import require

OPSET = 17


def export_onnx(
    network: nn.Module,
    path: str | Path,
    size: tuple[int, int] = (192, 256),
    batch: int = 1,
    in_channels: int = 3,
    block: int | None = None,
) -> None:
    """Write a network as ONNX, its inference form where it has one (``fuse_for_inference``).

    The input is called ``image`` and the outputs ``output0``, ``output1``, ...; their shapes are
    fixed, because a batch of dynamic kernels is one convolution of as many groups.

    Args:
        network: from a tensor (N, in_channels, H, W) to a tensor or a tuple of them. It stays as
            it is.
        path: of the file.
        size: (width, height) in pixels, as in MMPose's configs.
        batch: how many images.
        in_channels: of an image.
        block: how many channels a block of onnxruntime's convolutions has on the computer for which
            the file is, see :func:`channel_block`: a :class:`DiteHRNet`'s dynamic convolutions
            are then written as onnxruntime's inner operators, which is faster. Of networks
            without dynamic convolutions onnxruntime itself reorders all kernels, so that there it
            changes nothing.

    onnxruntime has no convolutions of float64.

    Raises:
        ImportError: if ``onnx`` is missing.
        ValueError: if the network cannot take such images, or not with ``block``.
    """
    require('export_onnx', 'onnx')
    first = next(network.parameters())
    blocks = block is not None and isinstance(network, DiteHRNet)
    if block not in (None, *channel_blocks.BLOCKS):
        raise ValueError(f"block={block} is no size of onnxruntime's blocks: 8 or 16")
    if (
        block is not None
        and not blocks
        and any(isinstance(module, DiteHRNet) for module in network.modules())
    ):
        raise ValueError(f'block={block} is for a DiteHRNet itself: pass the backbone alone')
    if blocks and (batch != 1 or first.dtype != torch.float32):
        raise ValueError(
            f'block={block} is for one image and torch.float32, got batch={batch} and {first.dtype}'
        )
    training, part = network.training, Path(f'{path}.part')
    try:
        network.eval()
        fuse = getattr(network, 'fuse_for_inference', None)
        fused = fuse(record=False) if fuse else network
        if fuse:
            fused.fast = False  # onnxruntime is faster with (N, C, H, W)
        if blocks:
            fused = in_blocks(fused, block)
        image = torch.zeros(batch, in_channels, *size[::-1], dtype=first.dtype, device=first.device)
        with torch.no_grad(), warnings.catch_warnings():
            # The exporter by tracing takes a tenth of the other's time for the same graph. It warns
            # that there is another, and of every shape that it takes for a constant.
            warnings.simplefilter('ignore', DeprecationWarning)
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            outputs = fused(image)
            count = len(outputs) if isinstance(outputs, tuple) else 1
            torch.onnx.export(
                fused,
                (image,),
                str(part),
                input_names=['image'],
                output_names=[f'output{i}' for i in range(count)],
                opset_version=OPSET,
                custom_opsets={channel_blocks.DOMAIN: 1} if blocks else None,
                dynamo=False,
            )
        if blocks:
            channel_blocks.guard(part, block)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        network.train(training)
