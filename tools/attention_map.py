"""Draws what the attention modules of a pose network do with a picture: gates of channels and
places, weights of kernels, poolings, and the energy of features before and after. Writes a PNG and
an HTML page. Exit status: 0, or 2 for a bad input or argument."""

import argparse

from mmengine.config import DictAction

from mmpose_attn.apis import save_attention_maps
from mmpose_attn.command_line import BAD_INPUT, one_line_errors
from mmpose_attn.engine import CheckpointError
from mmpose_attn.files import printable


def box(text: str) -> list[float]:
    try:
        x, y, width, height = map(float, text.split(','))
    except ValueError:
        message = f'bbox is x,y,w,h in pixels, got {text!r}'
        raise argparse.ArgumentTypeError(message) from None
    return [x, y, width, height]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('image', metavar='IMAGE', help='picture')
    add('--config', required=True, help='config of the pose network')
    add('--checkpoint', help='its weights (default: random)')
    add('--out', required=True, metavar='DIR', help='folder for both files')
    add(
        '--bbox',
        type=box,
        metavar='X,Y,W,H',
        help="the person's box in pixels, for a top-down network (default: the whole picture)",
    )
    add(
        '--sites',
        default='*',
        metavar='GLOB',
        help="modules to show, by their paths: 'backbone.stage4.*' (default: all)",
    )
    add('--limit', type=int, default=12, help='most modules in the PNG (default: 12)')
    add('--device', default='auto', help="'auto' (default), 'cpu', 'cuda' or 'cuda:1'")
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='of the config')
    args = parser.parse_args()
    with one_line_errors(parser, (*BAD_INPUT, CheckpointError)):
        print(*map(printable, save_attention_maps(**vars(args))), sep='\n')


if __name__ == '__main__':
    main()
