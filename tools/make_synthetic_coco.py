"""Writes synthetic people with exact keypoints in COCO's folder layout (a ``data_root``)."""

import argparse

from mmpose_attn.command_line import one_line_errors
from mmpose_attn.datasets.synthetic import SyntheticConfig, make_dataset

_DEFAULT = SyntheticConfig()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add('out_dir', help='where the data set goes: absent or empty, unless --overwrite')
    add('--num-train', type=int, default=2000, help='training pictures')
    add('--num-val', type=int, default=200, help='validation pictures')
    add('--seed', type=int, default=0, help='equal seeds give equal files')
    add('--workers', type=int, default=0, help='processes; 0 renders in this one')
    add('--overwrite', action='store_true', help='replace a data set that this tool wrote')
    look = parser.add_argument_group('what the pictures look like').add_argument
    look(
        '--image-size',
        type=int,
        nargs='+',
        default=[256, 240, 352, 320],
        metavar='PX',
        help='W H, or W_MIN H_MIN W_MAX H_MAX',
    )
    for name, kind, text in (
        ('people', int, 'annotated people an image'),
        ('size', float, "a person's longer box side, relative to the image height"),
        ('blur', float, 'sigma of the blur in pixels'),
        ('noise', float, 'standard deviation of the noise in grey levels'),
        ('jpeg-quality', int, 'JPEG quality'),
    ):
        look(
            f'--{name}',
            type=kind,
            nargs=2,
            default=getattr(_DEFAULT, name.replace('-', '_')),
            metavar=('LEAST', 'MOST'),
            help=text,
        )
    for name, text in (
        ('max-overlap', "shared part of the smaller of two people's boxes, at most"),
        ('occluder-prob', 'chance of an object in front, per person'),
        ('truncation-prob', 'chance of being cut by the border, per person'),
        ('crowd-prob', 'chance of a crowd region, per image'),
        ('back-prob', 'chance of being seen from behind, per person'),
    ):
        look(f'--{name}', type=float, default=getattr(_DEFAULT, name.replace('-', '_')), help=text)
    look('--backgrounds', help='folder of photographs to use as backgrounds (default: drawn)')
    return parser


def main() -> None:
    parser = make_parser()
    args = vars(parser.parse_args())
    size = args.pop('image_size')
    run = {
        name: args.pop(name)
        for name in ('out_dir', 'num_train', 'num_val', 'seed', 'workers', 'overwrite')
    }
    look = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    size = (size[:2], size[2:]) if len(size) == 4 else tuple(size)
    with one_line_errors(parser):
        make_dataset(config=SyntheticConfig(image_size=size, **look), **run)


if __name__ == '__main__':
    main()
