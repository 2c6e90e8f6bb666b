"""Metrics: importing this package registers them into MMPose's registries."""

from .coco_metric import CheckedCocoMetric

__all__ = ['CheckedCocoMetric']
