from .cam_sam import CAMSAMAttention
from .cbam import CBAMAttention
from .detail_enhancement import DetailEnhancement
from .eca import ECAAttention
from .polarized import PolarizedAttention
from .se import SEAttention

__all__ = [
    'CAMSAMAttention',
    'CBAMAttention',
    'DetailEnhancement',
    'ECAAttention',
    'PolarizedAttention',
    'SEAttention',
]
