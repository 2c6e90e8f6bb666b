"""Metrics: importing this package registers them into MMPose's registries."""

from .coco_metric import CheckedCocoMetric
from .mpii import MpiiMultiPersonAP

__all__ = ['CheckedCocoMetric', 'MpiiMultiPersonAP']
