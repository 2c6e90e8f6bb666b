"""Networks: importing this package registers them into MMPose's ``MODELS``."""

from .backbones import AttnHRNet, DEHRNet, DiteHRNet
from .heads import HigherHRNetHead
from .layers import DynamicConv, DySample, fuse_for_inference
from .losses import BatchedAssociativeEmbeddingLoss
from .necks import CSPPAN
from .plugins import (
    CAMSAMAttention,
    CBAMAttention,
    DetailEnhancement,
    ECAAttention,
    PolarizedAttention,
    SEAttention,
)
from .pose_estimators import (
    BottomupDataPreprocessor,
    CheckedTopdownPoseEstimator,
    HigherHRNetEstimator,
)

__all__ = [
    'CSPPAN',
    'AttnHRNet',
    'BatchedAssociativeEmbeddingLoss',
    'BottomupDataPreprocessor',
    'CAMSAMAttention',
    'CBAMAttention',
    'CheckedTopdownPoseEstimator',
    'DEHRNet',
    'DetailEnhancement',
    'DiteHRNet',
    'DySample',
    'DynamicConv',
    'ECAAttention',
    'HigherHRNetEstimator',
    'HigherHRNetHead',
    'PolarizedAttention',
    'SEAttention',
    'fuse_for_inference',
]
