"""Associative embedding loss: Newell, Huang, Deng, NeurIPS 2017, arXiv 1611.05424."""

from collections.abc import Sequence

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


@MODELS.register_module()
class BatchedAssociativeEmbeddingLoss(nn.Module):
    r"""The official HigherHRNet grouping loss for a whole batch at once.

    With :math:`t_{nk}` the tag read at visible keypoint k of person n and
    :math:`\bar t_n` its mean over the person's visible keypoints, an image
    with N people who have at least one visible keypoint gives

    .. math::
        L_{pull} = \frac 1 N \sum_n \frac{1}{|V_n|} \sum_{k \in V_n} (t_{nk} - \bar t_n)^2,
        \qquad
        L_{push} = \frac{1}{2 N (N - 1)} \sum_{n \ne m} e^{-(\bar t_n - \bar t_m)^2}

    (push is 0 for N < 2), and the loss is the mean over the images of the
    batch. MMPose 1.3.2 sums over the images, which makes the loss batch-size
    times stronger, and keeps the constant n = m terms in push.

    No operation waits for the device: people are padded and masked.

    Args:
        pull_weight: factor of the pull loss; 1e-3 in the official code.
        push_weight: factor of the push loss; 1e-3 in the official code.
    """

    def __init__(self, pull_weight: float = 1e-3, push_weight: float = 1e-3) -> None:
        super().__init__()
        self.pull_weight = pull_weight
        self.push_weight = push_weight

    def forward(
        self, tags: Tensor, keypoint_indices: Tensor | Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute both losses.

        Args:
            tags: (B, L*K, H, W) tag maps, L tags a keypoint (usually 1).
            keypoint_indices: (B, N, K, 2), or B tensors (N_i, K, 2), of
                ``(y * W + x, visible)``.

        Returns:
            ``(pull, push)``, two scalars.

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        if not isinstance(keypoint_indices, Tensor):
            keypoint_indices = pad_sequence(list(keypoint_indices), batch_first=True)
        batch, channels, height, width = tags.shape
        num_people, num_keypoints = keypoint_indices.shape[1:3]
        if keypoint_indices.shape[0] != batch or channels % num_keypoints:
            raise ValueError(
                f'tags {tuple(tags.shape)} do not fit keypoint_indices '
                f'{tuple(keypoint_indices.shape)}: expected tags (B, L*K, H, W) and '
                'indices (B, N, K, 2)'
            )
        if num_people == 0:
            zero = tags.sum() * 0
            return zero, zero

        visible = keypoint_indices[..., 1] > 0  # (B, N, K)
        index = torch.where(visible, keypoint_indices[..., 0], 0)
        index = index.transpose(1, 2)[:, None]  # (B, 1, K, N)
        dims = channels // num_keypoints
        maps = tags.reshape(batch, dims, num_keypoints, height * width)
        picked = maps.gather(3, index.expand(-1, dims, -1, -1)).permute(0, 3, 2, 1)
        picked = picked.float()  # (B, N, K, L); half precision cannot hold the sums

        weight = visible[..., None].float()
        count = weight.sum(2)  # (B, N, 1)
        person = (count > 0).float()
        mean = (picked * weight).sum(2) / count.clamp(min=1)  # (B, N, L)
        spread = ((picked - mean[:, :, None]).square().mean(3, keepdim=True) * weight).sum(2)
        people = person.sum(1)  # (B, 1)
        pull = (spread / count.clamp(min=1)).sum(1) / people.clamp(min=1)

        pair = person * person.transpose(1, 2)  # (B, N, N)
        near = torch.exp(-(mean[:, :, None] - mean[:, None]).square()).sum(3) * pair
        others = near.sum((1, 2)) - dims * people[:, 0]
        pairs = people[:, 0] * (people[:, 0] - 1)
        push = 0.5 * others / pairs.clamp(min=1) * (pairs > 0)
        return self.pull_weight * pull.mean(), self.push_weight * push.mean()
