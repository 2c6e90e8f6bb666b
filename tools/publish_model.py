"""Strip a checkpoint of what only training needs, and name it by its hash: MMPose's script.

MMPose's own cannot load what MMEngine writes without ``PlainCheckpointHook`` where torch >= 2.6
protects loading; with this package imported it can, and code in a checkpoint is still refused.
"""

import sys

from mmpose_attn.command_line import one_line
from mmpose_attn.engine import CheckpointError, run_mmpose_tool
from mmpose_attn.engine.checkpoint import load_from_local

if __name__ == '__main__':
    try:
        for path in sys.argv[1:2]:
            if not path.startswith('-'):
                load_from_local(path, 'cpu')  # says clearly what is wrong with a file
        run_mmpose_tool('misc/publish_model')
    except (OSError, CheckpointError) as error:
        print(f'publish_model.py: error: {one_line(error)}', file=sys.stderr)
        sys.exit(2)
