"""Detail enhancement module of DE-HRNet: PLoS One 20(9), 2025, doi 10.1371/journal.pone.0325540."""

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn

MERGES = ('conv1x1', 'conv3x3', 'global')


@MODELS.register_module()
class DetailEnhancement(BaseModule):
    r"""DE-HRNet's detail enhancement module (DEM), in both of its forms.

    .. math::
        y &= (\mathrm{SEA}(x) + 1) \odot x && \text{(a) one input} \\
        y &= \mathrm{Dropout}((\mathrm{SEA}(\alpha) + 1) \odot \alpha), \;
        \alpha = x + \mathrm{Align}(h) && \text{(b) with a branch } h
        \text{ of higher resolution}

    .. math::
        \mathrm{SEA}(x) = \sigma(W_2 \, \mathrm{ReLU}(W_1 \, \mathrm{GAP}(x)))

    The paper states: the two forms, (a) for the branch of the highest
    resolution and (b) for every other one; SEA; in a figure's caption, global
    average pooling before it and dropout after it in (b), and "selective
    identity mappings". Its full text was not at hand and no code is known, so
    these were chosen here: how two branches make :math:`\alpha`, ``ratio``,
    the probability of ``dropout``, which acts on single elements, the biases
    of SEA's layers, and that there is an ``identity`` everywhere.

    Args:
        in_channels: number of channels of x, C.
        high_channels: number of channels of h; ``None`` is form (a).
        ratio: the hidden width of SEA is ``max(1, C // ratio)``.
        merge: Align, of form (b). ``'conv1x1'``: average pooling over
            ``stride`` x ``stride`` cells, 1x1 convolution, norm;
            ``'conv3x3'``: strided 3x3 convolution, norm; ``'global'``, the
            caption to the letter: global average pooling and a linear layer,
            the same vector everywhere.
        dropout: probability of the dropout of form (b); (a) has none.
        identity_init: start as an exact identity in x, apart from dropout in
            training: SEA's last layer is zero and its factor is
            :math:`2\sigma` in place of :math:`\sigma + 1`, and Align starts
            at zero by its norm's weight (``'global'``: its linear layer). The
            paper's form starts near 1.5 x. The parameters are the same, but
            their meaning is not: keep the value a network was trained with.
        norm_cfg: the norm of Align; ``None`` is ``dict(type='BN')``.
        stride: how many times larger than x's are both sides of h, unless
            ``merge='global'``; 2 for the next higher branch.
        init_cfg: MMEngine's initialisation config; ``None`` keeps torch's
            default initialisation.
        identity: whether the input passes beside its gated copy, the 1 of
            :math:`\mathrm{SEA} + 1`; False is one reading of "selective". The
            parameters are the same.

    Shape:
        (a) (N, C, H, W) -> (N, C, H, W);
        (b) (N, C, H, W), (N, C_h, stride H, stride W) -> (N, C, H, W)

    Raises:
        ValueError: if an argument is out of its range; in a forward pass, if
            the number of inputs is not the form's or h is not ``stride`` times
            as large as x.
    """

    def __init__(
        self,
        in_channels: int,
        high_channels: int | None = None,
        ratio: int = 16,
        merge: str = 'conv1x1',
        dropout: float = 0.1,
        identity_init: bool = False,
        norm_cfg: dict | None = None,
        stride: int = 2,
        init_cfg: dict | list[dict] | None = None,
        identity: bool = True,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        numbers = dict(in_channels=in_channels, ratio=ratio, stride=stride)
        if high_channels is not None:
            numbers['high_channels'] = high_channels
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f'DetailEnhancement: {name} must be positive, got {name}={number}')
        if merge not in MERGES:
            raise ValueError(f'DetailEnhancement: merge must be one of {MERGES}, got {merge!r}')
        if not 0 <= dropout < 1:
            raise ValueError(f'DetailEnhancement: dropout must be in [0, 1), got {dropout}')
        if identity_init and not identity:
            raise ValueError(
                'DetailEnhancement: identity_init starts with the identity, got identity=False'
            )
        self.merge, self.stride, self.identity_init = merge, stride, identity_init
        self.identity = identity
        hidden = max(1, in_channels // ratio)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(hidden, in_channels)
        zeros = [*self.fc2.parameters()]

        self.align = self.dropout = None
        if high_channels is not None:
            self.dropout = nn.Dropout(dropout)
            if merge == 'global':
                self.align = nn.Linear(high_channels, in_channels)
                zeros += self.align.parameters()
            else:
                if merge == 'conv1x1':
                    pool = nn.AvgPool2d(stride)
                    conv = nn.Conv2d(high_channels, in_channels, 1, bias=False)
                else:
                    pool = nn.Identity()
                    conv = nn.Conv2d(high_channels, in_channels, 3, stride, padding=1, bias=False)
                norm = build_norm_layer(norm_cfg or dict(type='BN'), in_channels)[1]
                self.align = nn.Sequential(pool, conv, norm)
                if identity_init and not [*norm.parameters()]:
                    raise ValueError(
                        'DetailEnhancement: identity_init needs a norm with weights, '
                        f'got norm_cfg={norm_cfg}'
                    )
                zeros += norm.parameters()
        if identity_init:
            for parameter in zeros:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, high: Tensor | None = None) -> Tensor:
        x = self._joined(x, high)
        x = x * self._gates(x)[:, :, None, None]
        return x if self.dropout is None else self.dropout(x)

    def attention_maps(self, x: Tensor, high: Tensor | None = None) -> dict[str, Tensor]:
        """``channel`` (N, C): ``x * channel[:, :, None, None]`` is the output of form (a); in (b)
        it is :math:`\\alpha` that is multiplied, and then passes the dropout."""
        return dict(channel=self._gates(self._joined(x, high)))

    def _joined(self, x: Tensor, high: Tensor | None) -> Tensor:
        if (high is None) != (self.align is None):
            form = 'x alone' if self.align is None else 'x and high'
            raise ValueError(
                f'DetailEnhancement: this one takes {form}; high_channels in the constructor '
                'is what asks for a second input'
            )
        return x if high is None else x + self._aligned(x, high).to(x.dtype)

    def _gates(self, x: Tensor) -> Tensor:
        gate = self.fc2(self.relu(self.fc1(x.mean((2, 3))))).sigmoid().to(x.dtype)
        if self.identity_init:
            return 2 * gate
        return gate + 1 if self.identity else gate

    def _aligned(self, x: Tensor, high: Tensor) -> Tensor:
        if self.merge == 'global':
            return self.align(high.mean((2, 3)))[:, :, None, None]
        wanted = tuple(side * self.stride for side in x.shape[2:])
        # in a trace sizes are tensors, which cannot be compared without a warning
        if not torch.jit.is_tracing() and high.shape[2:] != wanted:
            raise ValueError(
                f'DetailEnhancement: high must be stride={self.stride} times as large as x, '
                f'{wanted}, got {tuple(high.shape[2:])}; change stride'
            )
        return self.align(high)
