"""Serves a page: drop a picture or a video in the browser, see people, their poses and what
attention does, and take the results as COCO JSON. Needs Gradio: pip install "mmpose_attn[app]"."""

import argparse

from mmpose_attn.apis.app import serve
from mmpose_attn.command_line import one_line_errors
from mmpose_attn.engine import CheckpointError


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--config', nargs='+', required=True, help='config of the pose network, or of several')
    add('--checkpoint', nargs='+', required=True, help='its weights, in the same order')
    add(
        '--detector',
        nargs='+',
        default=(),
        metavar='CONFIG',
        help="of MMDetection, for top-down networks: file, or a name like 'yolox_nano'",
    )
    add('--detector-checkpoint', nargs='+', default=(), metavar='FILE', help='its weights')
    add('--device', default='auto', help="'auto' (default), 'cpu', 'cuda' or 'cuda:1'")
    add('--host', default='127.0.0.1', help='address to listen at (default: this machine alone)')
    add('--port', type=int, default=7860, help='default: 7860; 0 is any that is free')
    add('--examples', metavar='DIR', help='pictures and videos to choose from')
    return parser, parser.parse_args()


def main() -> None:
    parser, args = parse_args()
    with one_line_errors(parser, (ValueError, OSError, ModuleNotFoundError, CheckpointError)):
        serve(**vars(args))


if __name__ == '__main__':
    main()
