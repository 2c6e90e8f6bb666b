"""The norm of layers that see one value of a channel an image."""

from collections.abc import Mapping

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNormOfMeans(nn.BatchNorm2d):
    """A batch norm for maps of 1x1, which also trains on a batch of one image.

    A single value has no variance, and torch refuses it; such a batch is normalised by the running
    statistics, which it leaves as they are. In everything else, the parameters' names included, it
    is :class:`torch.nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.track_running_stats and x.numel() == x.shape[1]:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, eps=self.eps)
        return super().forward(x)


def build_norm_of_means(norm_cfg: Mapping, channels: int) -> nn.Module:
    """The norm of a config, a plain batch norm as :class:`BatchNormOfMeans`."""
    cfg = dict(norm_cfg)
    if cfg['type'] in ('BN', 'BN2d'):
        cfg['type'] = BatchNormOfMeans
    return build_norm_layer(cfg, channels)[1]
