"""What surrounds a model while it is trained and loaded: checkpoint safety and hooks."""

from .checkpoint import (
    CheckpointError,
    CorruptCheckpointError,
    UnsafeCheckpointError,
    check_shapes,
    install_safe_loading,
    register_shape_check,
)
from .hooks import ChannelsLastHook, FinetuneCheckHook, PlainCheckpointHook
from .optim import CPUAutocastOptimWrapper
from .upstream import run_mmpose_tool

__all__ = [
    'CPUAutocastOptimWrapper',
    'ChannelsLastHook',
    'CheckpointError',
    'CorruptCheckpointError',
    'FinetuneCheckHook',
    'PlainCheckpointHook',
    'UnsafeCheckpointError',
    'check_shapes',
    'install_safe_loading',
    'register_shape_check',
    'run_mmpose_tool',
]
