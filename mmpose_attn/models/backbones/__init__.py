from .attn_hrnet import AttnHRNet
from .de_hrnet import DEHRNet
from .dite_hrnet import DiteHRNet
from .plugin_sites import PlacedPlugin

__all__ = ['AttnHRNet', 'DEHRNet', 'DiteHRNet', 'PlacedPlugin']
