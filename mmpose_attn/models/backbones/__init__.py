from .attn_hrnet import AttnHRNet

__all__ = ['AttnHRNet']
