"""Serves a page: drop a picture or a video in the browser, see people, their poses and what
attention does, and take the results as COCO JSON. Needs Gradio: pip install "mmpose_attn[app]"."""

import argparse
import os
import sys
from getpass import getpass
from pathlib import Path

from mmpose_attn.apis.app import serve
from mmpose_attn.command_line import one_line_errors
from mmpose_attn.engine import CheckpointError

PASSWORD = 'MMPOSE_ATTN_PASSWORD'


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
    add(
        '--host',
        default='127.0.0.1',
        help='address to listen at (default: this machine alone); if others reach it, the link '
        'that is printed has a token without which the page is not shown',
    )
    add('--port', type=int, default=7860, help='default: 7860; 0 is any that is free')
    add(
        '--allowed-host',
        action='append',
        default=[],
        metavar='NAME',
        help='a further name under which the page may be asked for; may be given several times',
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        '--password',
        action='store_true',
        help=f'ask for a password instead: that in the environment variable {PASSWORD}, '
        'or the terminal asks for one',
    )
    who.add_argument('--password-file', metavar='FILE', help='the same with the line of a file')
    who.add_argument('--no-auth', action='store_true', help='let in whoever reaches the address')
    add('--examples', metavar='DIR', help='pictures and videos to choose from')
    return parser, parser.parse_args()


def read_password(ask: bool, file: str | None) -> str | None:
    """Never from the command line, which other users of the machine can read."""
    if file is not None:
        return Path(file).read_text(encoding='utf-8').removesuffix('\n').removesuffix('\r')
    if not ask or PASSWORD in os.environ:
        return os.environ[PASSWORD] if ask else None
    if not sys.stdin.isatty():
        raise ValueError(f'no terminal to ask for the password: set {PASSWORD}, or --password-file')
    return getpass('Password of the page: ')


def main() -> None:
    parser, args = parse_args()
    with one_line_errors(parser, (ValueError, OSError, ModuleNotFoundError, CheckpointError)):
        password = read_password(args.password, args.password_file)
        del args.password_file
        serve(**dict(vars(args), password=password))


if __name__ == '__main__':
    main()
