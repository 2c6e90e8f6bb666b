"""Annotations of labelling tools and of other frameworks, to and from COCO keypoint files."""

from .convert import FORMATS, PLACING, convert_dataset

__all__ = ['FORMATS', 'PLACING', 'convert_dataset']
