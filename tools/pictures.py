"""Draws the pictures of the README and the docs anew, with a checkpoint of ``make demo``."""

import argparse
import sys
from pathlib import Path

from mmpose_attn.command_line import BAD_INPUT, one_line_errors
from mmpose_attn.engine import CheckpointError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # demo/ is not installed

from demo.pictures import make_pictures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--checkpoint', required=True, help='what the demo has trained')
    parser.add_argument('--out', default='docs/images', help='folder for the pictures')
    args = parser.parse_args()
    with one_line_errors(parser, (*BAD_INPUT, CheckpointError)):
        for file in make_pictures(args.checkpoint, args.out):
            print(file, f'{file.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
