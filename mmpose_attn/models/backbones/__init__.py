from .attn_hrnet import AttnHRNet, PlacedPlugin
from .de_hrnet import DEHRNet

__all__ = ['AttnHRNet', 'DEHRNet', 'PlacedPlugin']
