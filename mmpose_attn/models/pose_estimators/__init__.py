from .higher_hrnet import BottomupDataPreprocessor, HigherHRNetEstimator
from .partial_load import CheckedTopdownPoseEstimator

__all__ = ['BottomupDataPreprocessor', 'CheckedTopdownPoseEstimator', 'HigherHRNetEstimator']
