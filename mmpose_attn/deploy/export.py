"""Export to ONNX; needs ``onnx``, the extra ``mmpose_attn[onnx]``."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import torch
from mmpose.models.pose_estimators.base import BasePoseEstimator
from torch import Tensor, nn

from mmpose_attn.models import DiteHRNet, fuse_for_inference

from .extra import require

OPSET = 17
_MOST_STEP = 128  # pixels; the largest multiple of a size that is tried


def export_onnx(
    network: nn.Module,
    path: str | Path,
    size: tuple[int, int] = (192, 256),
    batch: int = 1,
    in_channels: int = 3,
) -> None:
    """Write a network as ONNX; a :class:`DiteHRNet`, also one inside, in its form for inference.

    The input is called ``image`` and the outputs ``output0``, ``output1``, ...; their shapes are
    fixed, because a batch of dynamic kernels is one convolution of as many groups.

    Args:
        network: from a tensor (N, in_channels, H, W) to a tensor or a tuple of them, or a pose
            estimator of MMPose, whose outputs are then its head's maps. It is written as in
            evaluation mode; it and every module in it stay as they are.
        path: of the file, in a folder that exists.
        size: (width, height) in pixels, as in MMPose's configs. Most networks also take
            (height, width): nothing notices that they are exchanged.
        batch: how many images.
        in_channels: of an image.

    onnxruntime has no convolutions of float64.

    Raises:
        ImportError: if ``onnx`` is missing.
        OSError: if the file cannot be written, which is tried first.
        ValueError: if an argument has no meaning, or the network cannot take such images.
    """
    require('export_onnx', 'onnx')
    path = Path(path)
    width, height = _pair(size)
    batch, in_channels = _positive('batch', batch), _positive('in_channels', in_channels)
    first = next(network.parameters(), torch.zeros(()))
    part = _place(path)
    if isinstance(network, BasePoseEstimator):
        network = _Maps(network)
    try:
        with _inference(network):
            image = first.new_zeros(batch, in_channels, height, width)
            with torch.no_grad():
                count = _outputs(network, image)
            fused = _fused(network)
            with torch.no_grad(), warnings.catch_warnings():
                # The exporter by tracing takes a tenth of the other's time for the same graph. It
                # warns that there is another, and of every shape that it takes for a constant.
                warnings.simplefilter('ignore', DeprecationWarning)
                warnings.simplefilter('ignore', torch.jit.TracerWarning)
                torch.onnx.export(
                    fused,
                    (image,),
                    str(part),
                    input_names=['image'],
                    output_names=[f'output{i}' for i in range(count)],
                    opset_version=OPSET,
                    dynamo=False,
                )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------- arguments
def _positive(name: str, value: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f'{name} must be a positive whole number, got {value!r}')
    return int(value)


def _pair(size: Sequence[int]) -> tuple[int, int]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise ValueError(f'size must be (width, height) in pixels, got {size!r}')
    return _positive('width in size', size[0]), _positive('height in size', size[1])


def _place(path: Path) -> Path:
    """The file that becomes ``path``; raises an :class:`OSError` unless it can be written."""
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder: give the name of the ONNX file in it')
    if not path.parent.is_dir():
        raise FileNotFoundError(f'the folder {path.parent} of {path.name} does not exist')
    part = path.with_name(f'{path.name}.part')
    try:
        part.touch()
    except OSError as error:
        raise type(error)(f'{path} cannot be written: {error.strerror}') from error
    part.unlink()
    return part


# --------------------------------------------------------------------------------------- network
class _Maps(nn.Module):
    """What the head of a pose estimator says of images, not decoded."""

    def __init__(self, estimator: BasePoseEstimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.estimator(image, None, mode='tensor')


@contextmanager
def _inference(network: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards as it was."""
    modes = [(module, module.training) for module in network.modules()]
    grads = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
        # the exporter calls train(), in which some networks freeze parameters
        for parameter, needed in grads:
            parameter.requires_grad_(needed)


def _fused(network: nn.Module) -> nn.Module:
    """The network or, if a :class:`DiteHRNet` is in it, its form for inference."""
    if not any(isinstance(module, DiteHRNet) for module in network.modules()):
        return network  # the exporter folds norms itself
    fused = fuse_for_inference(network)
    for module in fused.modules():
        if isinstance(module, DiteHRNet):
            module.fast = False  # onnxruntime is faster with (N, C, H, W)
    return fused


def _outputs(network: nn.Module, image: Tensor) -> int:
    """How many tensors the network makes of images; ValueError if it cannot take them."""
    try:
        outputs = network(image)
    except RuntimeError as error:
        height, width = image.shape[2:]
        step = _step(network, image)
        if step is None or not (height % step or width % step):
            raise
        raise ValueError(
            f'the network cannot take images of {width}x{height}: give multiples of {step}'
        ) from error
    return len(outputs) if isinstance(outputs, (tuple, list)) else 1


def _step(network: nn.Module, image: Tensor) -> int | None:
    """The power of two whose multiples the network takes as sizes, if it is one."""
    step = 2
    while step <= _MOST_STEP:
        # odd multiples, which are multiples of nothing larger
        sides = [step * (side // step // 2 * 2 + 1) for side in image.shape[2:]]
        try:
            network(image.new_zeros(1, image.shape[1], *sides))
        except RuntimeError:
            step *= 2
        else:
            return step
    return None
