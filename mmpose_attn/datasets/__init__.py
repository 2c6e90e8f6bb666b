"""Datasets and transforms: importing this package registers them into MMPose's registries."""

from .checked import CheckedCocoDataset, CheckedCrowdPoseDataset, CheckedMpiiDataset
from .transforms import (
    BottomupCrowdMask,
    BottomupMultiScaleResize,
    BottomupUniformAffine,
    LoadPoseImage,
    PackBottomupInputs,
)

__all__ = [
    'BottomupCrowdMask',
    'BottomupMultiScaleResize',
    'BottomupUniformAffine',
    'CheckedCocoDataset',
    'CheckedCrowdPoseDataset',
    'CheckedMpiiDataset',
    'LoadPoseImage',
    'PackBottomupInputs',
]
