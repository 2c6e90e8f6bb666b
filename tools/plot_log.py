"""Draws loss curves of trainings of different length over each other, to compare their shapes."""

import argparse
from pathlib import Path

from mmpose_attn.command_line import one_line_errors
from mmpose_attn.files import printable
from mmpose_attn.visualization.curves import plot_curves, read_curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('logs', nargs='+', type=Path, metavar='LOG', help="MMEngine's vis_data/scalars.json, ...")
    add('--out', type=Path, required=True, help='the picture')
    add('--names', nargs='+', help='one for each log, for the legend (default: the paths)')
    add('--lengths', nargs='+', type=int, help='of the schedules, in steps (default: as logged)')
    add('--start', type=float, default=0.1, help='part of the schedule that is warm-up')
    add('--end', type=float, default=1.0, help='part of the schedule behind which nothing is drawn')
    args = parser.parse_args()
    names = args.names or [str(path) for path in args.logs]
    lengths = args.lengths or [None] * len(args.logs)
    if not len(names) == len(lengths) == len(args.logs):
        parser.error(f'{len(args.logs)} logs, but {len(names)} names and {len(lengths)} lengths')
    with one_line_errors(parser, (OSError, ValueError)):
        curves = {
            name: read_curve(path, length).until(args.end)
            for name, path, length in zip(names, args.logs, lengths)
        }
        plot_curves(curves, args.out, args.start)
    for name, curve in curves.items():
        slope, level = curve.power_law(args.start)
        print(
            f'{printable(name)}: loss {curve.losses[0]:.3g} first, {level:.3g} at {args.start:g} '
            f'of the schedule, {curve.losses[-1]:.3g} at {curve.fractions[-1]:.2f}; '
            f'slope {slope:.3f}'
        )


if __name__ == '__main__':
    main()
