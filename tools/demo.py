"""Makes synthetic people, trains a small HigherHRNet-SE on them through mim and shows its AP."""

import argparse
import sys
from pathlib import Path

from mmpose_attn.command_line import BAD_INPUT, one_line_errors

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # demo/ is not installed

from demo.training import run_demo


def setting(text: str) -> str:
    _, _ = text.split('=', 1)  # argparse reports the ValueError
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', default='demo_output', help='folder for data, weights, pictures')
    parser.add_argument('--num-train', type=int, default=3600, help='training images')
    parser.add_argument('--num-val', type=int, default=200, help='held-out images')
    parser.add_argument('--pictures', type=int, default=24, help='images on the contact sheet')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        default=[],
        metavar='KEY=VALUE',
        help="changes to the training's config",
    )
    args = parser.parse_args()
    with one_line_errors(parser, (*BAD_INPUT, RuntimeError)):
        run_demo(args.out, args.num_train, args.num_val, args.pictures, args.cfg_options)


if __name__ == '__main__':
    main()
