"""What surrounds a model while it is trained and loaded: checkpoint safety and hooks."""

from .checkpoint import (
    CheckpointError,
    CorruptCheckpointError,
    UnsafeCheckpointError,
    install_safe_loading,
)
from .hooks import ChannelsLastHook, FinetuneCheckHook, PlainCheckpointHook
from .optim import CPUAutocastOptimWrapper
from .upstream import run_mmpose_tool
from .weights import check_shapes, register_missing_check, register_shape_check, whole_weights

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
    'register_missing_check',
    'register_shape_check',
    'run_mmpose_tool',
    'whole_weights',
]
