"""Convolutional Block Attention Module: Woo et al., ECCV 2018, arXiv 1807.06521."""

import torch
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CBAMAttention(BaseModule):
    r"""Channel attention followed by spatial attention.

    .. math::
        x' = x \cdot \sigma(M(\mathrm{GAP}(x)) + M(\mathrm{GMP}(x))), \quad
        y = x' \cdot \sigma(f^{7 \times 7}([\mathrm{mean}_c(x'); \max_c(x')]))

    with one two-layer perceptron M shared by both poolings.

    Args:
        in_channels: number of channels, C.
        ratio: the perceptron's hidden width is ``max(1, C // ratio)``.
        kernel_size: kernel of the spatial convolution, odd; 7 in the paper.
        identity_init: start as an exact identity (last layers zero, gates
            :math:`2\sigma`).
        init_cfg: MMEngine's initialisation config; ``None`` keeps torch's
            default initialisation.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: if ``in_channels`` or ``ratio`` is not positive or
            ``kernel_size`` is even.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: int = 16,
        kernel_size: int = 7,
        identity_init: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if in_channels < 1 or ratio < 1:
            raise ValueError(
                'CBAMAttention: in_channels and ratio must be positive, '
                f'got in_channels={in_channels}, ratio={ratio}'
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'CBAMAttention: kernel_size must be odd, got {kernel_size}')
        hidden = max(1, in_channels // ratio)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, in_channels)
        )
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gate_scale = 2.0 if identity_init else 1.0
        if identity_init:
            for parameter in (*self.mlp[-1].parameters(), self.spatial.weight):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self._channel_gates(x)[:, :, None, None]
        return x * self._spatial_gates(x)

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``channel`` (N, C) and ``spatial`` (N, 1, H, W): the output is
        ``x * channel[:, :, None, None] * spatial``."""
        channel = self._channel_gates(x)
        return dict(channel=channel, spatial=self._spatial_gates(x * channel[:, :, None, None]))

    def _channel_gates(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.mean((2, 3)), x.amax((2, 3))))
        return (self.gate_scale * self.mlp(pooled).sum(0).sigmoid()).to(x.dtype)

    def _spatial_gates(self, x: Tensor) -> Tensor:
        maps = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)
        return (self.gate_scale * self.spatial(maps).sigmoid()).to(x.dtype)
