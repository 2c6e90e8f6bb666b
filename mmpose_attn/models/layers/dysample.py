"""DySample: Liu, Lu, Fu, Cao, ICCV 2023, arXiv 2308.15085."""

import torch
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class DySample(BaseModule):
    r"""Upsampling that learns where to sample.

    Output pixel (i, j) is the bilinear sample of the input at
    :math:`((i + 0.5) / s, (j + 0.5) / s) + o`, with one offset *o*, in input
    pixels, for each output pixel and channel group:

    * static scope: :math:`o = 0.25 \, \mathrm{offset}(z)`;
    * dynamic scope: :math:`o = 0.5 \, \sigma(\mathrm{scope}(z)) \,
      \mathrm{offset}(z)`.

    Style ``'lp'`` (linear, then pixel shuffle) computes offsets from the
    input, *z = x*, and shuffles them to the output's resolution; ``'pl'``
    shuffles the input first, so that *z* has :math:`C / s^2` channels. A new
    layer is close to bilinear interpolation (``align_corners=False``).

    Checkpoints of the authors' code load, since its fix of March 2024 that
    took the bias from the dynamic scope. Coordinates and sampling are computed
    in at least float32, also under autocast and in a half-precision module,
    whose grid could not tell the pixels of a large map apart. Sampling on a
    GPU has no deterministic backward pass in PyTorch.

    For a network that initialises all convolutions below it, such as HRNet:
    :meth:`init_weights` restores this layer's own law.

    Args:
        in_channels: number of channels, C.
        scale_factor: the upsampling ratio, s.
        style: ``'lp'`` or ``'pl'``.
        groups: groups of channels with offsets of their own; a divisor of C.
        dynamic_scope: learn the range of the offsets from the input.
        init_cfg: MMEngine's initialisation config, run after the layer's own
            initialisation: N(0, 0.001) offsets, zero scope.

    Shape:
        (N, C, H, W) -> (N, C, sH, sW), of the input's type

    Raises:
        ValueError: if a number is not a positive integer, ``groups`` does not
            divide C, ``style`` is unknown or ``'pl'`` cannot shuffle C channels.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        style: str = 'lp',
        groups: int = 4,
        dynamic_scope: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        numbers = dict(in_channels=in_channels, scale_factor=scale_factor, groups=groups)
        for name, number in numbers.items():
            if not isinstance(number, int) or number < 1:
                raise ValueError(f'DySample: {name} must be a positive integer, got {number!r}')
        if in_channels % groups:
            divisors = [d for d in range(1, in_channels + 1) if in_channels % d == 0]
            raise ValueError(
                f'DySample: groups={groups} does not divide in_channels={in_channels}; '
                f'choose one of {divisors}'
            )
        if style not in ('lp', 'pl'):
            raise ValueError(f"DySample: style must be 'lp' or 'pl', got {style!r}")
        if style == 'pl' and in_channels % scale_factor**2:
            raise ValueError(
                f"DySample: style='pl' needs in_channels to be a multiple of scale_factor² = "
                f"{scale_factor**2}, got in_channels={in_channels}; use style='lp'"
            )
        self.in_channels, self.scale_factor = in_channels, scale_factor
        self.style, self.groups = style, groups
        subpixels = scale_factor**2
        if style == 'lp':
            channels, outs = in_channels, 2 * groups * subpixels
        else:
            channels, outs = in_channels // subpixels, 2 * groups
        self.offset = nn.Conv2d(channels, outs, 1)
        self.scope = nn.Conv2d(channels, outs, 1, bias=False) if dynamic_scope else None
        # Only for the checkpoints: forward() derives the positions, which stay exact in any type.
        steps = (torch.arange(scale_factor) - (scale_factor - 1) / 2) / scale_factor
        y, x = torch.meshgrid(steps, steps, indexing='ij')
        init_pos = torch.stack((x, y)).unsqueeze(1).repeat(1, groups, 1, 1).reshape(1, -1, 1, 1)
        self.register_buffer('init_pos', init_pos)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the paper's initial weights."""
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def init_weights(self) -> None:
        """Set the paper's initial weights, then what ``init_cfg`` asks for."""
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        scale, groups = self.scale_factor, self.groups
        offset, reach = self._offsets(x)
        # In grid_sample's units, where the input spans -1 to 1. Each side by itself, from the sizes
        # as they are: a tensor of both would be a constant in an exported graph.
        x_offset, y_offset = offset.chunk(2, dim=1)
        grid = torch.stack(
            (
                x_offset * (2 * reach / width) + self._centres(width, offset),
                y_offset * (2 * reach / height) + self._centres(height, offset)[:, None],
            )
        )
        out = F.grid_sample(
            x.to(offset.dtype).reshape(batch * groups, self.in_channels // groups, height, width),
            grid.flatten(1, 2).permute(1, 2, 3, 0),
            mode='bilinear',
            padding_mode='border',
            align_corners=False,
        )
        return out.reshape(batch, self.in_channels, scale * height, scale * width).to(x.dtype)

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``offsets`` (N, 2, sH, sW): x and y of *o*, the means over the groups."""
        offset, reach = self._offsets(x)
        return dict(offsets=reach * offset.unflatten(1, (2, self.groups)).mean(2))

    def _offsets(self, x: Tensor) -> tuple[Tensor, float]:
        """(N, C, H, W) -> (N, 2 * groups, sH, sW), x of all groups first, and their unit."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        source = F.pixel_shuffle(x, self.scale_factor) if self.style == 'pl' else x
        offset, reach = self.offset(source).to(dtype), 0.25
        if self.scope is not None:
            offset, reach = offset * self.scope(source).to(dtype).sigmoid(), 0.5
        return (F.pixel_shuffle(offset, self.scale_factor) if self.style == 'lp' else offset), reach

    def _centres(self, size: int, like: Tensor) -> Tensor:
        """Centres of the output's pixels along a side of the input, which spans -1 to 1."""
        size = size * self.scale_factor
        # the numerator is an exact integer: one rounding in all
        return (2 * torch.arange(size, device=like.device, dtype=like.dtype) + 1 - size) / size
