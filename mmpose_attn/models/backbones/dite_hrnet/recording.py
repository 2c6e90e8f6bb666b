"""A recording of a fused network, which saves Python's share of the time of one image.

It is a TorchScript graph. PyTorch has deprecated TorchScript without another recorder of all sizes
that starts in seconds: in a PyTorch without it there is no recording, and the fused network itself
runs. Outside of Python ``mmpose_attn.deploy.export_onnx`` takes its place.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .network import DiteHRNet


class Recording:
    """The graph of a network for one image of any size; copies and pickles of it are empty.

    Args:
        graph: None for an empty one.
        dtype: of its weights and images.
    """

    def __init__(
        self,
        graph: Callable[[Tensor], tuple[Tensor, ...]] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.graph, self.dtype = graph, dtype

    @classmethod
    def of(cls, network: 'DiteHRNet') -> 'Recording':
        """Record a fused network on the CPU.

        Returns:
            an empty one where there is none: without TorchScript, or of a plugin that computes
            with its input's size as with a constant
        """
        trace = getattr(getattr(torch, 'jit', None), 'trace', None)
        if trace is None:
            return cls()
        dtype, channels = next(network.parameters()).dtype, network.stem.conv1.conv.in_channels
        tall, wide = (
            torch.randn(1, channels, *size, dtype=dtype, generator=torch.Generator())
            for size in ((3 * network.step, 2 * network.step), (network.step, 4 * network.step))
        )
        with torch.no_grad(), warnings.catch_warnings():
            # what is constant in the graph is so for one image; and TorchScript is deprecated
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            warnings.simplefilter('ignore', DeprecationWarning)
            try:
                graph = torch.jit.freeze(trace(network, tall, check_trace=False))
                for image in (tall, tall, wide):  # the first two optimise it
                    for ours, theirs in zip(graph(image), network(image), strict=True):
                        limit = 1e-5 * theirs.abs().max()
                        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit)
            except (RuntimeError, AssertionError):
                return cls()
        return cls(graph, dtype)

    def __reduce__(self) -> tuple:
        return Recording, ()

    def suits(self, x: Tensor) -> bool:
        """Whether it takes these images, which are on the CPU."""
        if self.graph is None or len(x) != 1 or x.dtype != self.dtype:
            return False
        return not torch.jit.is_tracing()  # a graph cannot be part of another

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.graph(x)
