"""The flip test of a whole HigherHRNet: two forward passes against one of both images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmpose_attn.models import AttnHRNet, HigherHRNetHead

from .networks import NUM_KEYPOINTS, hrnet_extra
from .timing import Row, interleave


def rows(quick: bool, repeat: int | None, device: str) -> Iterator[Row]:
    width, size = (8, 64) if quick else (32, 512)
    head = HigherHRNetHead(width, NUM_KEYPOINTS, deconv_out_channels=(width,))
    network = torch.nn.Sequential(AttnHRNet(hrnet_extra(width)), head).to(device).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def two() -> list[Tensor]:
        return [torch.cat(maps) for maps in zip(network(image), network(image.flip(-1)))]

    @torch.no_grad()
    def one() -> list[Tensor]:
        return network(torch.cat((image, image.flip(-1))))

    difference = max(float((a - b).abs().max()) for a, b in zip(two(), one(), strict=True))
    scale = max(float(maps.abs().max()) for maps in one())
    if difference > 1e-3 * scale:
        raise RuntimeError(f'one and two forward passes differ by {difference:.2g} of {scale:.2g}')
    yield Row(
        f'flip test, HigherHRNet-W{width} at {size}x{size}: two forward passes, then one',
        *interleave(two, one, repeat or (1 if quick else 7), device),
        f'maps within {difference / scale:.1g} of the largest',
    )
