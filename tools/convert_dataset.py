"""Converts keypoint annotations: YOLO-pose, labelme and Label Studio to COCO's format and MMPose's
metainfo, and COCO's back to YOLO-pose. Exit status 2 for a bad argument or file; then nothing is
written."""

import argparse

from mmpose_attn.command_line import one_line_errors
from mmpose_attn.datasets.convert import FORMATS, PLACING, convert_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        'sources',
        nargs='+',
        metavar='SOURCE',
        help="YOLO's data.yaml, a folder of labelme's files, Label Studio's export as JSON, or "
        'COCO files; SPLIT=SOURCE names a split',
    )
    add('--out', required=True, metavar='DIR', help='where it goes: absent or empty')
    add('--from', dest='source_format', choices=FORMATS, help='format (default: as it looks)')
    add(
        '--to',
        dest='target_format',
        choices=('coco', 'yolo'),
        help='format (default: coco, and yolo from coco)',
    )
    add('--images', metavar='DIR', help='folder of the pictures, for Label Studio and COCO')
    names = parser.add_argument_group('keypoints').add_argument
    names('--metainfo', metavar='FILE', help="MMPose's file with their names, swaps and sigmas")
    names(
        '--keypoints', nargs='+', metavar='NAME', help='their names in order, without such a file'
    )
    names('--sigma', type=float, help="of every keypoint (default: 0.05, or COCO's)")
    add('--val', type=float, default=0.0, metavar='SHARE', help='of pictures to validate with')
    add('--pictures', choices=PLACING, help='default: keep, and link for YOLO')
    add(
        '--outside',
        choices=('error', 'unlabel'),
        default='error',
        help='what becomes of keypoints beyond their picture (default: error)',
    )
    args = vars(parser.parse_args())
    with one_line_errors(parser):
        print(convert_dataset(args.pop('sources'), args.pop('out'), **args))


if __name__ == '__main__':
    main()
