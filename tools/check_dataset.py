"""Checks the data sets of a config: whether they agree with the network, every annotation, every
picture, and what evaluator and codec make of perfect predictions. Exit status: 0, 1 if anything is
wrong, 2 for a bad argument."""

import argparse
import sys

from mmengine.config import DictAction

from mmpose_attn.command_line import one_line_errors
from mmpose_attn.datasets.check import PHASES, check_dataset


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('--phase', nargs='+', choices=PHASES, help='default: all that the config has')
    add('--out', metavar='DIR', help='folder for report.html and the contact sheets')
    add('--jobs', type=int, metavar='N', help='processes (default: one a core, at most 8)')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='of the config')
    args = parser.parse_args()
    with one_line_errors(parser):
        report = check_dataset(args.config, args.phase, args.out, args.jobs, args.cfg_options)
    print(report.text())
    return report.exit_status


if __name__ == '__main__':
    sys.exit(main())
