"""Evaluate a checkpoint: MMPose's ``tools/test.py`` and its arguments, plus mmpose_attn."""

from mmpose_attn.engine import run_mmpose_tool

if __name__ == '__main__':
    run_mmpose_tool('test')
