"""Forms of modules for inference: batch norms folded into the convolutions before them.

A network is walked, and each module asked for what takes its place: its own
``inference_form()`` where its class has one, else itself with its children's forms. Only what is
known to follow a convolution is folded into it, never what is merely registered after one.
"""

import copy
from collections.abc import Iterable
from itertools import pairwise
from typing import TypeVar

import torch
from mmcv.cnn import Conv2d, ConvModule, ConvTranspose2d
from mmpose.models.backbones.hrnet import HRNet
from mmpose.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .norms import BatchNormOfMeans

Network = TypeVar('Network', bound=nn.Module)
# exactly these: a subclass may do anything with its weights
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormOfMeans)
_PLAIN, _TRANSPOSED = (nn.Conv2d, Conv2d), (nn.ConvTranspose2d, ConvTranspose2d)


def can_fold(norm: nn.Module) -> bool:
    """Whether it is a batch norm with running statistics, in evaluation a scale and a shift."""
    return type(norm) in _NORMS and norm.running_mean is not None and norm.running_var is not None


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A norm in evaluation mode as (C,) scale and shift; an identity's are 1 and 0."""
    if isinstance(norm, nn.Identity):
        return torch.tensor(1.0), torch.tensor(0.0)
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight * scale
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else norm.bias + shift


def fold(module: Network, pairs: Iterable[tuple[str, str]]) -> Network:
    """Fold norms into convolutions, in place, and put the children's forms in their places.

    Args:
        module: in evaluation mode.
        pairs: names of a convolution and of the norm that follows it, wherever the module runs it.

    Returns:
        the module
    """
    for first, second in pairs:
        conv, norm = getattr(module, first), getattr(module, second)
        transposed = type(conv) in _TRANSPOSED and conv.groups == 1
        if (type(conv) in _PLAIN or transposed) and can_fold(norm):
            setattr(module, first, fuse_conv_bn_eval(conv, norm, transposed))
            setattr(module, second, nn.Identity())
    for name, child in module.named_children():
        setattr(module, name, inference_form(child))
    return module


def inference_form(module: nn.Module) -> nn.Module:
    """What takes a module's place for inference: another one, or itself, changed.

    Args:
        module: in evaluation mode; it is not to be used any more.
    """
    own = getattr(module, 'inference_form', None)
    return own() if callable(own) else fold(module, _pairs(module))


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    forward = type(module).forward  # a subclass's own may do anything
    if isinstance(module, nn.Sequential) and forward is nn.Sequential.forward:
        # named_children would leave out what runs a second time
        names = (name for name, _ in module.named_modules(remove_duplicate=False))
        return list(pairwise(name for name in names if name and '.' not in name))
    if isinstance(module, ConvModule) and forward is ConvModule.forward and module.with_norm:
        follows = module.order.index('norm') - module.order.index('conv') == 1
        return [('conv', module.norm_name)] if follows and not module.with_spectral_norm else []
    if type(module) in (BasicBlock, Bottleneck, HRNet):
        names = ((f'conv{i}', getattr(module, f'norm{i}_name', None)) for i in (1, 2, 3))
        return [(conv, norm) for conv, norm in names if norm]
    return []


def fuse_for_inference(network: Network) -> Network:
    """An equal network of fewer operations, for inference alone; the given one stays as it is.

    Batch norms are folded into the convolutions before them, in the network's own modules and in
    its plugins: in sequences, in mmcv's ``ConvModule``, in HRNet and its residual blocks. A class
    with a method ``inference_form()`` says itself what takes its instance's place. All else is
    copied. Parameter names change: load a checkpoint first.

    Args:
        network: any module, such as MMPose's LiteHRNet or a whole pose estimator.

    Returns:
        a copy in evaluation mode, without gradients
    """
    fused = copy.deepcopy(network)
    fused.eval()
    with torch.no_grad():
        fused = inference_form(fused)
    fused.eval()  # what is new as well; MMPose's networks return nothing
    return fused.requires_grad_(False)
