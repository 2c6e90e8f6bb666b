"""Annotation files, looked at as a whole: what is wrong with them, and what can be put right."""

from .coco import examine, read_annotations
from .detections import LAYOUT, examine_detections
from .images import find_images
from .mpii import examine_mpii
from .objects import MetaInfo
from .report import Problem, Report

__all__ = [
    'LAYOUT',
    'MetaInfo',
    'Problem',
    'Report',
    'examine',
    'examine_detections',
    'examine_mpii',
    'find_images',
    'read_annotations',
]
