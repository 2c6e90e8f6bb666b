"""Finds people and their keypoints in pictures, videos and streams: draws them, and writes COCO
JSON and CSV. Exit status: 0, 1 if a picture or frame had to be skipped, 2 for a bad input or
argument, 130 after Ctrl-C, 143 after SIGTERM (kill)."""

import argparse
import os
import sys
from pathlib import Path

import cv2
from mmengine.config import DictAction

from mmpose_attn.apis import InferenceSession
from mmpose_attn.command_line import one_line
from mmpose_attn.engine import CheckpointError


def quiet_libraries() -> None:
    """Leave it to the errors below to say what is wrong with a file; print any name."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help="picture, video, folder, pattern ('shots/**/*.jpg'), camera index, stream (rtsp://, "
        "http://), pipe ('pipe:0' is stdin), or - for a list of paths on stdin",
    )
    add('--config', required=True, help='config of the pose network')
    add('--checkpoint', required=True, help='its weights')
    add(
        '--allow-missing',
        action='store_true',
        help='go on where a checkpoint lacks weights, which then are random (default: an error)',
    )
    add('--out', required=True, metavar='DIR', help='folder for the results')
    boxes = parser.add_argument_group(
        'boxes for a top-down network (default: every image is one person)'
    ).add_argument
    boxes('--detector', metavar='CONFIG', help="of MMDetection: file, or a name like 'yolox_nano'")
    boxes('--detector-checkpoint', metavar='FILE', help='its weights')
    boxes('--boxes', metavar='JSON', help='COCO detection file instead of a detector')
    boxes(
        '--person-class',
        type=int,
        nargs='+',
        metavar='ID',
        help='labels of the detector that count (default: that of "person"), or category ids in '
        'the file (default: 1)',
    )
    boxes('--box-score', type=float, help='least score (default: 0.3 of a detector, 0 of a file)')
    boxes('--box-nms', type=float, help='IoU above which the worse of two boxes goes')
    add('--ann-file', metavar='JSON', help='COCO file with the image ids to write')
    video = parser.add_argument_group('video').add_argument
    video('--track', action='store_true', help='give people ids that they keep')
    video('--smooth', action='store_true', help='filter keypoints (one-euro); implies --track')
    speed = parser.add_argument_group('network').add_argument
    speed('--device', default='auto', help="'auto' (default), 'cpu', 'cuda' or 'cuda:1'")
    speed('--batch', type=int, default=8, help='people or images at a time (default: 8)')
    speed('--amp', action='store_true', help='half precision')
    speed(
        '--flip-test',
        action=argparse.BooleanOptionalAction,
        help="also predict the mirror image (default: the config's choice)",
    )
    speed('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='of the config')
    show = parser.add_argument_group('pictures').add_argument
    show('--draw', action=argparse.BooleanOptionalAction, default=True, help='write DIR/drawn')
    show(
        '--person-score',
        type=float,
        metavar='SCORE',
        help='least score of who is drawn, counted and tracked (default: 0.2 of a bottom-up '
        'network, 0 of a top-down one); the tables have everybody',
    )
    show('--keypoint-score', type=float, default=0.3, help='least score drawn (default: 0.3)')
    show('--show', action='store_true', help='show them in a window; q ends')
    add('--resume', action='store_true', help='go on where an earlier run into DIR ended')
    add('--overwrite', action='store_true', help='replace the results of an earlier run')
    return parser.parse_args()


def infer() -> int:
    prog = Path(sys.argv[0]).name
    try:
        session = InferenceSession(**vars(parse_args()))
    except (ValueError, OSError, CheckpointError) as error:
        print(f'{prog}: error: {one_line(error)}', file=sys.stderr)
        return 2
    try:
        summary = session.run()
    except OSError as error:
        print(f'{prog}: error: {one_line(error)}; --resume goes on', file=sys.stderr)
        return 2
    print(summary)
    return summary.exit_status


def main() -> int:
    quiet_libraries()
    try:
        return infer()
    except KeyboardInterrupt:  # before the first result, or after all was written
        return 130


if __name__ == '__main__':
    sys.exit(main())
