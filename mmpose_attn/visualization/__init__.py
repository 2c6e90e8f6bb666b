"""Pictures of what a model sees and says."""

from .people import contact_sheet, draw_people
from .visualizer import AttnPoseVisualizer

__all__ = ['AttnPoseVisualizer', 'contact_sheet', 'draw_people']
