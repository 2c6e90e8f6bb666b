"""Datasets and transforms: importing this package registers them into MMPose's registries."""

from .checked import CheckedCocoDataset, CheckedCrowdPoseDataset
from .mpii import CheckedMpiiDataset
from .mpii_bottomup import BottomupMpiiDataset
from .transforms import (
    BottomupCrowdMask,
    BottomupMultiScaleResize,
    BottomupUniformAffine,
    LoadPoseImage,
    PackBottomupInputs,
)

__all__ = [
    'BottomupCrowdMask',
    'BottomupMpiiDataset',
    'BottomupMultiScaleResize',
    'BottomupUniformAffine',
    'CheckedCocoDataset',
    'CheckedCrowdPoseDataset',
    'CheckedMpiiDataset',
    'LoadPoseImage',
    'PackBottomupInputs',
]
