"""Efficient Channel Attention: Wang et al., CVPR 2020, arXiv 1910.03151."""

import math

from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ECAAttention(BaseModule):
    r"""Channel attention from each channel's neighbours: one short 1-D convolution.

    .. math:: y = x \cdot \sigma(\mathrm{conv1d}_k(\mathrm{GAP}(x)))

    Args:
        in_channels: number of channels, C.
        kernel_size: k, odd. ``None`` takes the paper's odd number for C: the
            integer part of :math:`|\log_2(C)/\gamma + \beta/\gamma|`, plus one
            if that is even (3 for 8 to 127 channels, 5 for 128 to 2047).
        gamma: divisor of the rule for k, positive.
        beta: offset of the rule for k.
        identity_init: start as an exact identity (kernel zero, gate
            :math:`2\sigma`).
        init_cfg: MMEngine's initialisation config; ``None`` keeps torch's
            default initialisation.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: if ``in_channels`` or ``gamma`` is not positive or
            ``kernel_size`` is not a positive odd number.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        identity_init: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if in_channels < 1 or gamma <= 0:
            raise ValueError(
                'ECAAttention: in_channels and gamma must be positive, '
                f'got in_channels={in_channels}, gamma={gamma}'
            )
        if kernel_size is None:
            kernel_size = int(abs((math.log2(in_channels) + beta) / gamma)) | 1
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'ECAAttention: kernel_size must be odd, got {kernel_size}')
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gate_scale = 2.0 if identity_init else 1.0
        if identity_init:
            nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self._gates(x)[:, :, None, None]

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``channel`` (N, C): ``x * channel[:, :, None, None]`` is the output."""
        return dict(channel=self._gates(x))

    def _gates(self, x: Tensor) -> Tensor:
        gate = self.gate_scale * self.conv(x.mean((2, 3))[:, None]).sigmoid()
        return gate.to(x.dtype)[:, 0]
