from .context_modeling import DenseContextModeling, GlobalContextModeling
from .dynamic_conv import DynamicConv, DynamicSplitConv
from .dysample import DySample
from .fusing import fuse_for_inference

__all__ = [
    'DenseContextModeling',
    'DySample',
    'DynamicConv',
    'DynamicSplitConv',
    'GlobalContextModeling',
    'fuse_for_inference',
]
