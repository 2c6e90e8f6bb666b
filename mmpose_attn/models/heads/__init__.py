from .higher_hrnet_head import HigherHRNetHead

__all__ = ['HigherHRNetHead']
