"""Prints what configs cost: parameters, multiply-accumulates (of convolutions and matrix products,
counted by torch.utils.flop_counter) and time, in all and at every plugin."""

import argparse
from pathlib import Path

import torch

from mmpose_attn.apis.building import check_device
from mmpose_attn.command_line import one_line_errors
from mmpose_attn.evaluation import complexity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('configs', nargs='+', type=Path, metavar='CONFIG', help='config files')
    add('--repeat', type=int, default=10, help='timed passes; 0 only counts (default: 10)')
    add('--device', default='cpu', help='torch device of the timed passes')
    add('--threads', type=int, help="torch's threads (default: torch's choice)")
    add('--markdown', action='store_true', help='print Markdown')
    add(
        '--overview',
        type=Path,
        metavar='PAGE',
        help='only count, and replace the table of this Markdown page, with the published figures '
        'of the metafiles beside the configs',
    )
    args = parser.parse_args()
    missing = [str(path) for path in args.configs if not path.is_file()]
    if missing:
        parser.error(f'no such config: {", ".join(missing)}')
    if args.repeat < 0:
        parser.error('--repeat must not be negative')
    if args.threads is not None:
        if args.threads < 1:
            parser.error('--threads must be positive')
        torch.set_num_threads(args.threads)
    with one_line_errors(parser):
        device = check_device(args.device)
        if args.overview:
            metafiles = sorted(
                {file for path in args.configs for file in path.parent.glob('*.yml')}
            )
            complexity.write_overview(args.overview, sorted(args.configs), metafiles)
            return
        for config in args.configs:
            cost = complexity.measure(config, args.repeat, device)
            print(complexity.format_cost(cost, args.markdown), end='\n\n', flush=True)


if __name__ == '__main__':
    main()
