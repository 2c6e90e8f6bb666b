"""Squeeze-and-Excitation: Hu, Shen, Sun, CVPR 2018, arXiv 1709.01507."""

from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SEAttention(BaseModule):
    r"""Squeeze-and-Excitation channel attention.

    .. math:: y = x \cdot \sigma(W_2 \, \mathrm{ReLU}(W_1 \, \mathrm{GAP}(x)))

    Args:
        in_channels: number of channels, C.
        ratio: the hidden width is ``max(1, C // ratio)``; 16 in the paper.
        bias: whether the two fully connected layers have biases, as in the paper.
        identity_init: start as an exact identity (the last layer is zero and
            the gate is :math:`2\sigma`), so that a pretrained network gives
            its own output at step 0. The paper's gate starts near 0.5 and
            halves the features.
        init_cfg: MMEngine's initialisation config; ``None`` keeps torch's
            default initialisation of linear layers.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: if ``in_channels`` or ``ratio`` is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: int = 16,
        bias: bool = True,
        identity_init: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if in_channels < 1 or ratio < 1:
            raise ValueError(
                'SEAttention: in_channels and ratio must be positive, '
                f'got in_channels={in_channels}, ratio={ratio}'
            )
        hidden = max(1, in_channels // ratio)
        self.fc1 = nn.Linear(in_channels, hidden, bias=bias)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(hidden, in_channels, bias=bias)
        self.gate_scale = 2.0 if identity_init else 1.0
        if identity_init:
            nn.init.zeros_(self.fc2.weight)
            if bias:
                nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x * self._gates(x)[:, :, None, None]

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``channel`` (N, C): ``x * channel[:, :, None, None]`` is the output."""
        return dict(channel=self._gates(x))

    def _gates(self, x: Tensor) -> Tensor:
        gate = self.fc2(self.relu(self.fc1(x.mean((2, 3))))).sigmoid()
        if self.gate_scale != 1.0:
            gate = gate * self.gate_scale
        return gate.to(x.dtype)
