"""Inference: people in pictures, videos and streams."""

from .attention import save_attention_maps
from .detection import GivenBoxes, PersonDetector, whole_image
from .outputs import draw_result
from .pose import PosePredictor
from .results import Category, Frame, People, PoseResult
from .session import InferenceSession
from .smoothing import OneEuroFilter
from .sources import Source, find_sources, read_frames
from .streams import Stream
from .summary import Summary
from .tracking import PoseTracker, follow

__all__ = [
    'Category',
    'Frame',
    'GivenBoxes',
    'InferenceSession',
    'OneEuroFilter',
    'People',
    'PersonDetector',
    'PosePredictor',
    'PoseResult',
    'PoseTracker',
    'Source',
    'Stream',
    'Summary',
    'draw_result',
    'find_sources',
    'follow',
    'read_frames',
    'save_attention_maps',
    'whole_image',
]
