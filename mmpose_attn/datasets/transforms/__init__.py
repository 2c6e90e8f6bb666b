from .bottomup import (
    BottomupCrowdMask,
    BottomupMultiScaleResize,
    BottomupUniformAffine,
    PackBottomupInputs,
)
from .loading import LoadPoseImage, exif_orientation

__all__ = [
    'BottomupCrowdMask',
    'BottomupMultiScaleResize',
    'BottomupUniformAffine',
    'LoadPoseImage',
    'PackBottomupInputs',
    'exif_orientation',
]
