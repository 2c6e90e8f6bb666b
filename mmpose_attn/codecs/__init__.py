"""Keypoint codecs: importing this package registers them into MMPose's ``KEYPOINT_CODECS``."""

from .grouping import group_by_tags
from .higher_hrnet import HigherHRNetCodec

__all__ = ['HigherHRNetCodec', 'group_by_tags']
