from .context_modeling import DenseContextModeling, GlobalContextModeling
from .dynamic_conv import DynamicConv, DynamicSplitConv
from .dysample import DySample

__all__ = [
    'DenseContextModeling',
    'DySample',
    'DynamicConv',
    'DynamicSplitConv',
    'GlobalContextModeling',
]
