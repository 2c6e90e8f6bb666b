from .cbam import CBAMAttention
from .detail_enhancement import DetailEnhancement
from .se import SEAttention

__all__ = ['CBAMAttention', 'DetailEnhancement', 'SEAttention']
