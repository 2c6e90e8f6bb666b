"""Optimiser wrappers: importing this module registers them into MMPose's ``OPTIM_WRAPPERS``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmpose.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAutocastOptimWrapper(OptimWrapper):
    """Trains in bfloat16 on a CPU that computes in it, otherwise in float32.

    MMEngine's ``AmpOptimWrapper`` needs an accelerator. Weights, gradients
    and optimiser stay in float32; bfloat16 has float32's range, so that
    nothing is scaled.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        able = torch.cpu._is_avx512_bf16_supported()
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16, enabled=able):
            yield
