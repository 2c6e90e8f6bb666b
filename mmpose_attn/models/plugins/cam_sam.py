"""CAM and SAM: Tran et al., "Efficient High-Resolution Network for Human Pose Estimation"."""

from collections.abc import Mapping
from types import MappingProxyType

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn

from mmpose_attn.models.defaults import BN

_RELU = MappingProxyType(dict(type='ReLU', inplace=True))


@MODELS.register_module()
class CAMSAMAttention(BaseModule):
    r"""Channel, then spatial attention, added to the input.

    .. math::
        c = \sigma(W_2 \, \mathrm{ReLU}(W_1 \, \mathrm{GAP}(x))), \quad
        s = \sigma(f_2^{3 \times 3}(f_1^{3 \times 3}(\mathrm{mean}_c(c \cdot x)))), \quad
        y = x + s \cdot c \cdot x

    The paper names no biases and nothing between the two 3x3 convolutions; the
    defaults there, one hidden channel, BN and ReLU, are this package's choice,
    and the convolutions have no biases. So it has :math:`2 C \lfloor C / r
    \rfloor + 20` parameters, :math:`C^2/8 + 20` for ``ratio=16``. The paper's
    own tables count some 0.87 M for each place, which the module that it
    describes cannot have.

    The added term starts near x/4. With ``identity_init`` the convolutions
    before both sigmoids are zero, and the term's value there is taken off:
    :math:`y = x + (s c - 1/4) x`, for good. This is x itself at step 0, no
    parameters are added, and both gates get gradients from the first step.

    Args:
        in_channels: number of channels, C.
        ratio: the channel gate's hidden width is ``max(1, C // ratio)``.
        spatial_channels: channels between the two 3x3 convolutions.
        spatial_norm_cfg: norm layer between them; ``None`` for none, the first
            of them has a bias then.
        spatial_act_cfg: activation between them; ``None`` for none.
        identity_init: start as an exact identity.
        init_cfg: MMEngine's initialisation config; ``None`` keeps torch's
            default initialisation.

    Shape:
        (N, C, H, W) -> (N, C, H, W). In training, batch norm needs more than
        one value: N * H * W > 1.

    Raises:
        ValueError: if ``in_channels``, ``ratio`` or ``spatial_channels`` is
            not positive.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: int = 16,
        spatial_channels: int = 1,
        spatial_norm_cfg: Mapping | None = BN,
        spatial_act_cfg: Mapping | None = _RELU,
        identity_init: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if in_channels < 1 or ratio < 1 or spatial_channels < 1:
            raise ValueError(
                'CAMSAMAttention: in_channels, ratio and spatial_channels must be positive, got '
                f'in_channels={in_channels}, ratio={ratio}, spatial_channels={spatial_channels}'
            )
        hidden = max(1, in_channels // ratio)
        self.channel = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1, bias=False),
        )
        # not mmcv's ConvModule: its init_weights would overrule this module's init_cfg
        between = []
        if spatial_norm_cfg is not None:
            between.append(build_norm_layer(dict(spatial_norm_cfg), spatial_channels)[1])
        if spatial_act_cfg is not None:
            between.append(build_activation_layer(dict(spatial_act_cfg)))
        self.spatial = nn.Sequential(
            nn.Conv2d(1, spatial_channels, 3, padding=1, bias=spatial_norm_cfg is None),
            *between,
            nn.Conv2d(spatial_channels, 1, 3, padding=1, bias=False),
        )
        self.residual = 0.75 if identity_init else 1.0
        if identity_init:
            nn.init.zeros_(self.channel[-1].weight)
            nn.init.zeros_(self.spatial[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        channel, spatial = self._gates(x)
        return x * (channel * spatial + self.residual)

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``channel`` (N, C) and ``spatial`` (N, 1, H, W): the output is
        ``x * (channel[:, :, None, None] * spatial + residual)``."""
        channel, spatial = self._gates(x)
        return dict(channel=channel.flatten(1), spatial=spatial)

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        channel = self.channel(x.mean((2, 3), keepdim=True)).sigmoid().to(x.dtype)
        maps = (x * channel).mean(1, keepdim=True)
        return channel, self.spatial(maps).sigmoid().to(x.dtype)
