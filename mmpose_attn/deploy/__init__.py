"""Networks outside of PyTorch."""

from .export import export_onnx
from .session import onnx_session

__all__ = ['export_onnx', 'onnx_session']
