"""Measures speed against MMPose on the same inputs: decoding, grouping loss, targets,
what attention costs, Dite-HRNet, flip test."""

import argparse
import sys
from pathlib import Path

import torch

from mmpose_attn.apis.building import check_device
from mmpose_attn.command_line import one_line_errors

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is not installed

from benchmarks import BENCHMARKS, DEFAULT, run
from benchmarks.report import environment, format_head, format_row


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--quick', action='store_true', help='tiny inputs: shows that it runs, not how fast')
    add('--full', action='store_true', help='also the flip test of a whole HigherHRNet-W32')
    add('--only', choices=tuple(BENCHMARKS), help='measure this part alone')
    add('--repeat', type=int, help='interleaved pairs per input')
    add('--threads', type=int, help="torch's threads (default: torch's choice)")
    add('--device', default='cpu', help='torch device of all but the targets')
    add('--markdown', action='store_true', help='print the table as Markdown')
    args = parser.parse_args()
    for name in ('repeat', 'threads'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} must be positive')
    with one_line_errors(parser):
        args.device = check_device(args.device)
    return args


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    parts = (args.only,) if args.only else tuple(BENCHMARKS) if args.full else DEFAULT
    print(environment(args.device), end='\n\n')
    print(format_head(args.markdown))
    for row in run(parts, args.quick, args.repeat, args.device):
        print(format_row(row, args.markdown), flush=True)


if __name__ == '__main__':
    main()
