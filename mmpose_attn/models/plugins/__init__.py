from .cbam import CBAMAttention
from .se import SEAttention

__all__ = ['CBAMAttention', 'SEAttention']
