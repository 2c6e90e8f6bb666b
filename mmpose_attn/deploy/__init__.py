"""Networks outside of PyTorch."""

from .channel_blocks import channel_block
from .export import export_onnx
from .session import onnx_session

__all__ = ['channel_block', 'export_onnx', 'onnx_session']
