"""Polarized self-attention: Liu et al., arXiv 2107.00782, as in the authors' released code."""

from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class PolarizedAttention(BaseModule):
    r"""Polarized self-attention, the released code's function and parameter names.

    With all maps linear and 1x1, P the softmax over the H * W places and
    :math:`\mathrm{up}` a convolution (parallel) or convolution, layer norm, ReLU,
    convolution through C // 8 channels (sequential):

    .. math::
        c(x) = \sigma(\mathrm{up}(W_v x \cdot P(w_q x))), \quad
        y_{sequential} = s(c(x) x), \quad
        y_{parallel} = c(x) x + \sigma(P(U_q \mathrm{GAP}(x) \cdot U_v x)) x, \\
        s(x) = \sigma(U_q \mathrm{GAP}(x) \cdot P(U_v x)) x

    The parallel layout has :math:`2 C^2 + C` parameters for even C, the
    sequential one :math:`1.6875 C^2 + 2.375 C` for multiples of 8. Wherever
    nothing nonlinear lies between, maps are applied after pooling, so that the
    parallel layout needs about :math:`3 C` multiplications a place in place of
    the released code's :math:`1.5 C^2` and more; published operation counts are
    those of the latter.

    Two properties of the released form: in the parallel layout the spatial gate
    is nearly constant (a sigmoid of a softmax over all places, 1/2 + 1/(4 H W)
    on average); the sequential layout starts with about a quarter of its input,
    and its channel gate is the same for every image below 16 channels, where
    the layer norm has one channel.

    With ``identity_init`` the last convolution before the channel gate and
    :math:`U_q` are zero. Sequential: both gates are :math:`2 \sigma`. Parallel:
    the spatial gate becomes :math:`\sigma(P - \min P)`, for good, within
    1/(4 H W) of the released gate whatever the weights; both gates are
    1/2 then. Both get gradients from the first step.

    Args:
        in_channels: number of channels, C.
        layout: ``'parallel'`` or ``'sequential'`` (PSA_p and PSA_s in the
            released code).
        identity_init: start as an exact identity.
        init_cfg: MMEngine's initialisation config; ``None`` keeps the released
            code's: Kaiming normal, fan in, for :math:`W_v, w_q, U_v, U_q` and
            torch's default for the rest.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: if ``layout`` is another or ``in_channels`` is below 2
            (parallel) or 8 (sequential).
    """

    def __init__(
        self,
        in_channels: int,
        layout: str = 'parallel',
        identity_init: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        smallest = dict(parallel=2, sequential=8)
        if layout not in smallest:
            raise ValueError(
                f"PolarizedAttention: layout must be 'parallel' or 'sequential', got {layout!r}"
            )
        if in_channels < smallest[layout]:
            raise ValueError(
                f'PolarizedAttention: layout={layout!r} needs at least {smallest[layout]} '
                f'channels, got in_channels={in_channels}'
            )
        self.layout = layout
        self.identity_init = identity_init
        self.gate_scale = 2.0 if identity_init and layout == 'sequential' else 1.0
        inner, hidden = in_channels // 2, in_channels // 8
        self.conv_q_right = nn.Conv2d(in_channels, 1, 1, bias=False)
        self.conv_v_right = nn.Conv2d(in_channels, inner, 1, bias=False)
        if layout == 'parallel':
            self.conv_up = nn.Conv2d(inner, in_channels, 1, bias=False)
        else:
            self.conv_up = nn.Sequential(
                nn.Conv2d(inner, hidden, 1),
                nn.LayerNorm((hidden, 1, 1)),
                nn.ReLU(inplace=True),
                nn.Conv2d(hidden, in_channels, 1),
            )
        self.conv_q_left = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.conv_v_left = nn.Conv2d(in_channels, inner, 1, bias=False)
        for conv in (self.conv_q_right, self.conv_v_right, self.conv_q_left, self.conv_v_left):
            nn.init.kaiming_normal_(conv.weight, mode='fan_in', nonlinearity='relu')
        if identity_init:
            last = self.conv_up if layout == 'parallel' else self.conv_up[-1]
            for parameter in (*last.parameters(), self.conv_q_left.weight):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        channel = self._channel_gates(x)
        if self.layout == 'parallel':
            return x * (channel + self._spatial_gates(x)).to(x.dtype)
        x = x * channel.to(x.dtype)
        return x * self._spatial_gates(x).to(x.dtype)

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """``channel`` (N, C), ``spatial`` and ``mask`` (N, 1, H, W).

        The output is ``x * (channel[:, :, None, None] + spatial)`` or, sequential,
        ``x * channel[:, :, None, None] * spatial``. ``mask`` is :math:`P(w_q x)`, by which x is
        pooled for the channel gates.
        """
        channel = self._channel_gates(x)
        spatial = self._spatial_gates(x if self.layout == 'parallel' else x * channel.to(x.dtype))
        mask = self._places(x).unflatten(-1, x.shape[2:])
        return dict(channel=channel.flatten(1), spatial=spatial, mask=mask)

    def _places(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H * W)"""
        return self.conv_q_right(x).flatten(2).softmax(-1)

    def _channel_gates(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)"""
        pooled = x.flatten(2) @ self._places(x).transpose(1, 2)
        return self._gates(self.conv_up(self.conv_v_right(pooled[..., None])))

    def _spatial_gates(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)"""
        parallel = self.layout == 'parallel'
        return self._gates(self._parallel_logits(x) if parallel else self._sequential_logits(x))

    def _gates(self, logits: Tensor) -> Tensor:
        gates = logits.sigmoid()
        return gates if self.gate_scale == 1.0 else self.gate_scale * gates

    def _query(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, C // 2)"""
        return self.conv_q_left(x.mean((2, 3), keepdim=True)).flatten(1)[:, None]

    def _parallel_logits(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)"""
        query = self._query(x) @ self.conv_v_left.weight.flatten(1)
        places = (query @ x.flatten(2)).softmax(-1)
        if self.identity_init:
            # equal logits give equal bits, so this is exactly 0, which 1 / (H * W) need not
            places = places - places.amin(-1, keepdim=True)
        return places.unflatten(-1, x.shape[2:])

    def _sequential_logits(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)"""
        places = self.conv_v_left(x).flatten(2).softmax(-1)
        return (self._query(x) @ places).unflatten(-1, x.shape[2:])
