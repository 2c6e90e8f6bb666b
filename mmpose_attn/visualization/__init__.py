"""Pictures of what a model sees and says."""

from .people import contact_sheet, draw_people

__all__ = ['contact_sheet', 'draw_people']
