"""Networks outside of PyTorch."""

from .export import export_onnx

__all__ = ['export_onnx']
