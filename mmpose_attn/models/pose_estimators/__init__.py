from .higher_hrnet import BottomupDataPreprocessor, HigherHRNetEstimator

__all__ = ['BottomupDataPreprocessor', 'HigherHRNetEstimator']
