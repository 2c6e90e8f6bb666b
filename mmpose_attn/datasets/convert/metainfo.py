"""MMPose's metainfo files: names, mirror partners, sigmas and lines of keypoints."""

import colorsys
import pprint
from pathlib import Path

from mmengine import Config

from .records import Keypoints


def read_metainfo(file: Path) -> Keypoints:
    """Keypoints as a metainfo file describes them.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no metainfo, or contradicts itself.
    """
    if not file.is_file():
        raise FileNotFoundError(f'metainfo file not found: {file}')
    try:
        info = Config.fromfile(file).dataset_info
        by_id = dict(sorted(info['keypoint_info'].items()))
        if list(by_id) != list(range(len(by_id))):
            raise ValueError(f'keypoint_info must count 0, 1, ..., got {list(by_id)}')
        names = [entry['name'] for entry in by_id.values()]
        place = {name: i for i, name in enumerate(names)}
        swaps = [place[entry['swap'] or entry['name']] for entry in by_id.values()]
        links = [entry['link'] for entry in info.get('skeleton_info', {}).values()]
        skeleton = tuple((place[a], place[b]) for a, b in links)
        return Keypoints(tuple(names), tuple(swaps), tuple(info['sigmas']), skeleton)
    except (AttributeError, KeyError, SyntaxError, TypeError, ValueError) as error:
        reason = f'it has no {error}' if isinstance(error, KeyError) else error
        raise ValueError(f'{file} is not a metainfo file of MMPose: {reason}') from error


def metainfo_text(keypoints: Keypoints, name: str) -> str:
    """The contents of a metainfo file; ``name`` is the data set's."""
    names, count = keypoints.names, len(keypoints)
    colors = [_color(i / max(count, 1)) for i in range(count)]
    info = dict(
        dataset_name=name,
        paper_info={},
        keypoint_info={
            i: dict(
                name=names[i],
                id=i,
                color=colors[i],
                # RandomHalfBody of top-down training wants a half, and takes none if all are ''
                type='',
                swap='' if other == i else names[other],
            )
            for i, other in enumerate(keypoints.swaps)
        },
        skeleton_info={
            i: dict(link=(names[a], names[b]), id=i, color=colors[b])
            for i, (a, b) in enumerate(keypoints.skeleton)
        },
        joint_weights=[1.0] * count,
        sigmas=list(keypoints.sigmas),
    )
    body = pprint.pformat(info, sort_dicts=False, width=96)
    return (
        '# Written by tools/convert_dataset.py. Check swap (the partner in a mirror image) and\n'
        f'# sigmas (how far annotators disagree): docs/own_data.md\ndataset_info = {body}\n'
    )


def _color(share: float) -> list[int]:
    return [round(255 * v) for v in colorsys.hsv_to_rgb(share, 0.75, 0.95)]
