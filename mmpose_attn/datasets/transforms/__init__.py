from .bottomup import (
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
    'LoadPoseImage',
    'PackBottomupInputs',
]
