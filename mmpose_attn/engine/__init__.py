"""What surrounds a model while it is trained and loaded: checkpoint safety and hooks."""

from .agreement import Disagreement, DisagreementError, find_disagreements
from .checkpoint import (
    CheckpointError,
    CorruptCheckpointError,
    UnsafeCheckpointError,
    install_safe_loading,
)
from .hooks import AgreementHook, ChannelsLastHook, FinetuneCheckHook, PlainCheckpointHook
from .optim import CPUAutocastOptimWrapper
from .upstream import run_mmpose_tool
from .weights import check_shapes, register_missing_check, register_shape_check, whole_weights

__all__ = [
    'AgreementHook',
    'CPUAutocastOptimWrapper',
    'ChannelsLastHook',
    'CheckpointError',
    'CorruptCheckpointError',
    'Disagreement',
    'DisagreementError',
    'FinetuneCheckHook',
    'PlainCheckpointHook',
    'UnsafeCheckpointError',
    'check_shapes',
    'find_disagreements',
    'install_safe_loading',
    'register_missing_check',
    'register_shape_check',
    'run_mmpose_tool',
    'whole_weights',
]
