from .attn_hrnet import AttnHRNet, PlacedPlugin
from .de_hrnet import DEHRNet
from .dite_hrnet import DiteHRNet

__all__ = ['AttnHRNet', 'DEHRNet', 'DiteHRNet', 'PlacedPlugin']
