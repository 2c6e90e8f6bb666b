"""An empty stand-in for chumpy, which MMPose requires and never uses.

The real chumpy 0.70 cannot be built by a current pip nor imported on a
current numpy. Any use of this module is therefore an error, and says so.
"""

__version__ = '0.70+mmpose.attn'


def __getattr__(name: str):
    if name.startswith('__'):
        raise AttributeError(name)
    raise NotImplementedError(
        f'chumpy.{name}: this is the empty stand-in that mmpose_attn installs '
        'to satisfy the requirement of MMPose, which does not use chumpy. '
        'Install the real chumpy if you need it.'
    )
