"""The interface of xtcocotools over faster-coco-eval.

MMPose imports ``xtcocotools.coco``, ``xtcocotools.cocoeval`` and
``xtcocotools.mask``. The real package (github.com/jin-s13/xtcocoapi) has
wheels for NumPy 1 alone and none for Python 3.12 and later; this adapter needs
no compiler and gives the same figures.
"""

__version__ = '1.14.3+mmpose.attn'
