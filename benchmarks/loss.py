"""The grouping loss, forward and backward, against MMPose's."""

from collections.abc import Iterator

import numpy as np
import torch
from mmpose.models.losses import AssociativeEmbeddingLoss
from torch import Tensor

from mmpose_attn.models import BatchedAssociativeEmbeddingLoss

from .networks import NUM_KEYPOINTS
from .timing import Row, interleave


def rows(quick: bool, repeat: int | None, device: str) -> Iterator[Row]:
    batch, people, size = (2, 2, 32) if quick else (24, 8, 128)
    repeat = repeat or (2 if quick else 15)
    rng = np.random.default_rng(0)
    tags = torch.randn(
        batch, NUM_KEYPOINTS, size, size, generator=torch.Generator().manual_seed(0)
    ).to(device)
    tags.requires_grad_(True)
    indices = np.stack(
        (
            rng.integers(0, size * size, (batch, people, NUM_KEYPOINTS)),
            rng.random((batch, people, NUM_KEYPOINTS)) > 0.3,
        ),
        -1,
    )
    indices = torch.from_numpy(indices.astype(np.int64)).to(device)
    stock = AssociativeEmbeddingLoss(loss_weight=1e-3)
    loss = BatchedAssociativeEmbeddingLoss(pull_weight=1e-3, push_weight=1e-3)

    def gradient(kind: torch.nn.Module) -> Tensor:
        tags.grad = None
        sum(kind(tags, indices)).backward()
        return tags.grad

    # MMPose's loss is the sum over the images, this one's the mean
    theirs, ours = gradient(stock).clone() / batch, gradient(loss)
    difference = float((theirs - ours).abs().max() / theirs.abs().max())
    if difference > 1e-4:
        raise RuntimeError(f'the gradients of the losses differ by {difference:.2g} of the largest')
    yield Row(
        f'grouping loss, forward and backward, {batch} images x {people} people, {size}x{size}',
        *interleave(lambda: gradient(stock), lambda: gradient(loss), repeat, device),
        f'gradients within {difference:.1g} of the largest, after division by the batch size',
    )
