"""Networks: importing this package registers them into MMPose's ``MODELS``."""

from .backbones import AttnHRNet, DEHRNet, DiteHRNet
from .heads import HigherHRNetHead
from .layers import DySample
from .losses import BatchedAssociativeEmbeddingLoss
from .plugins import (
    CAMSAMAttention,
    CBAMAttention,
    DetailEnhancement,
    ECAAttention,
    PolarizedAttention,
    SEAttention,
)
from .pose_estimators import BottomupDataPreprocessor, HigherHRNetEstimator

__all__ = [
    'AttnHRNet',
    'BatchedAssociativeEmbeddingLoss',
    'BottomupDataPreprocessor',
    'CAMSAMAttention',
    'CBAMAttention',
    'DEHRNet',
    'DetailEnhancement',
    'DiteHRNet',
    'DySample',
    'ECAAttention',
    'HigherHRNetEstimator',
    'HigherHRNetHead',
    'PolarizedAttention',
    'SEAttention',
]
