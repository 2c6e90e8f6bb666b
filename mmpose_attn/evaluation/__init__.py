"""Metrics: importing this package registers them into MMPose's registry."""

from .mpii import MpiiMultiPersonAP

__all__ = ['MpiiMultiPersonAP']
