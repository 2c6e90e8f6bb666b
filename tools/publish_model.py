"""Strip a checkpoint of what only training needs, and name it by its hash: MMPose's script.

MMPose's own cannot load what MMEngine writes where torch >= 2.6 protects loading; with this package
imported it can, and code in a checkpoint is still refused.
"""

from mmpose_attn.engine import run_mmpose_tool

if __name__ == '__main__':
    run_mmpose_tool('misc/publish_model')
