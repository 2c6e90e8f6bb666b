"""What a data set's ``metainfo`` says of its keypoints, checked before anything is made of it.

MMPose turns the names in ``swap`` and ``link`` into numbers without a look at them: a swap that is
given on one side only, or keypoints that are not in the order of their ids, train and test with
joints that are mixed up, and a name that does not exist ends in a bare ``KeyError``.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any

import mmpose
import numpy as np
from mmengine.config import Config

_PARTS = dict(
    dataset_name="'beetles', or what it is called",
    keypoint_info="{0: dict(name='head', id=0, color=[255, 128, 0], type='upper', swap=''), ...}",
    skeleton_info="{0: dict(link=('head', 'tail'), color=[96, 96, 255]), ...}, or {}",
    joint_weights='[1.0] * K, a factor of the loss for every keypoint',
    sigmas='[0.05] * K, for OKS a number above 0 for every keypoint, [] without OKS',
)


class CheckedMetainfo:
    """Mixin for MMPose's data sets: what is wrong with their ``metainfo`` is one error."""

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        if metainfo is not None:
            raw, where = read_metainfo(metainfo)
            problems = check_metainfo(raw)
            if problems:
                raise ValueError('\n  '.join([f'{where} cannot be used:', *problems]))
        return super()._load_metainfo(metainfo)


def read_metainfo(metainfo: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The contents of a ``metainfo``, also of its ``from_file``, and how to name it.

    Raises:
        FileNotFoundError: there is no such file, also not among MMPose's own.
        ValueError: the file cannot be read, or has no ``dataset_info``.
    """
    if 'from_file' not in metainfo:
        return metainfo, f'metainfo of the data set {metainfo.get("dataset_name", "(no name)")}'
    file = os.fspath(metainfo['from_file'])
    if not os.path.isfile(file):
        # where MMPose looks, too
        own = os.path.join(mmpose.__path__[0], '.mim/configs/_base_/datasets')
        found = os.path.join(own, os.path.basename(file))
        if not os.path.isfile(found):
            raise FileNotFoundError(
                f'metainfo file not found: {file} (metainfo.from_file; a relative path starts in '
                f'the working directory, {os.getcwd()})'
            )
        file = found
    try:
        contents = Config.fromfile(file)
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'metainfo file {file} cannot be read: {type(error).__name__}: {reason}'
        ) from error
    if not isinstance(contents.get('dataset_info'), Mapping):
        raise ValueError(f'metainfo file {file} has no dataset_info = dict(...)')
    return contents.dataset_info, f'metainfo file {file}'


def check_metainfo(meta: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the contents of a ``metainfo`` (not its ``from_file``).

    Args:
        meta: ``dataset_info`` as MMPose's files have it, before it is parsed.

    Returns:
        One sentence a problem, each with what to write instead; empty if all is well.
    """
    problems = [
        f"it has no '{part}': write {part}={text}"
        for part, text in _PARTS.items()
        if part not in meta
    ]
    if 'keypoint_info' not in meta:
        return problems
    joints = meta['keypoint_info']
    order = _order(joints)
    if order:
        return [*problems, order]
    for key, joint in joints.items():
        problems += _entry(f'keypoint {key}', joint, 'name')
        if isinstance(joint, Mapping) and joint.get('type', '') not in ('upper', 'lower', ''):
            problems.append(
                f"keypoint {key}: type is 'upper', 'lower' or '' (for RandomHalfBody), "
                f'got {joint["type"]!r}'
            )
    entries = [joint for joint in joints.values() if isinstance(joint, Mapping)]
    names = [joint['name'] for joint in entries if isinstance(joint.get('name'), str)]
    for name, times in Counter(names).items():
        if times > 1:
            problems.append(f'{times} keypoints have the name {name!r}: every name once')
    problems += _swaps([joint for joint in entries if isinstance(joint.get('name'), str)], names)
    problems += _links(meta.get('skeleton_info', {}), names)
    for part in ('sigmas', 'joint_weights'):
        if part in meta:
            problems += _numbers(part, meta[part], len(joints), above=part == 'sigmas')
    return problems


def flip_problem(flip_indices: Sequence[int]) -> str:
    """Why indices cannot exchange left and right; empty if they can."""
    indices = list(flip_indices)
    if all(0 <= j < len(indices) and indices[j] == i for i, j in enumerate(indices)):
        return ''
    return (
        f'its flip_indices {indices} do not exchange keypoints in pairs: where one says '
        'swap=another, the other must say swap=the one, in the order of ids'
    )


def _order(joints: Any) -> str:
    """What is wrong with the ids of ``keypoint_info``."""
    if not isinstance(joints, Mapping):
        return f'keypoint_info is a dict {_PARTS["keypoint_info"]}, got {type(joints).__name__}'
    keys = list(joints)
    if keys != list(range(len(keys))) or not keys:
        numbers = all(isinstance(key, int) for key in keys)
        if keys and numbers and sorted(keys) == list(range(len(keys))):
            return f'keypoint_info is in another order than its ids {keys}: write 0, 1, ... in turn'
        return (
            f'the keys of keypoint_info are {keys[:4]}: they must be the numbers 0 to K - 1 in '
            'turn, where 0 is the first keypoint of an annotation'
        )
    ids = [joint.get('id', key) for key, joint in joints.items() if isinstance(joint, Mapping)]
    # MMPose itself reads the keys alone, and some of its files have an id twice
    numbers = all(isinstance(i, int) for i in ids)
    if numbers and len(set(ids)) == len(ids) and ids != sorted(ids):
        return (
            f"keypoint_info says two orders, its keys {keys} and its entries' ids {ids}: "
            'write the entries in the order of the annotations, both from 0 on'
        )
    return ''


def _entry(where: str, entry: Any, text: str) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f'{where} is a dict, got {entry!r}'
        return
    if text == 'name' and entry.get('swap', '') is None:
        yield f"{where}: swap is a name, or '' for what has no partner, got None"
    if text == 'name' and not (isinstance(entry.get(text), str) and entry[text]):
        yield f'{where} needs a name, a text; got {entry.get(text)!r}'
    color = entry.get('color', [0, 0, 0])
    numbers = isinstance(color, list | tuple) and len(color) == 3
    if not numbers or not all(isinstance(c, Real) and 0 <= c <= 255 for c in color):
        yield f'{where}: color is three numbers from 0 to 255, got {color!r}'


def _meant(name: Any, names: Sequence[str]) -> str:
    close = get_close_matches(str(name), names, n=1)
    return f'did you mean {close[0]!r}?' if close else f'the names are {", ".join(names)}'


def _swaps(joints: Sequence[Mapping], names: Sequence[str]) -> Iterator[str]:
    swaps = {joint['name']: joint.get('swap') or joint['name'] for joint in joints}
    for name, other in swaps.items():
        if other not in swaps:
            yield f'keypoint {name!r} has swap={other!r}, which is no keypoint: ' + _meant(
                other, names
            )
        elif swaps[other] != name:
            yield (
                f'keypoint {name!r} has swap={other!r}, but {other!r} has '
                f'swap={swaps[other] if swaps[other] != other else ""!r}: each names the other'
            )


def _links(links: Any, names: Sequence[str]) -> Iterator[str]:
    if not isinstance(links, Mapping):
        yield f'skeleton_info is a dict {_PARTS["skeleton_info"]}, got {type(links).__name__}'
        return
    for key, entry in links.items():
        yield from _entry(f'link {key}', entry, 'link')
        link = entry.get('link') if isinstance(entry, Mapping) else ()
        if not isinstance(link, list | tuple) or len(link) != 2:
            yield f'link {key}: link is the names of two keypoints, got {link!r}'
            continue
        for name in link:
            if name not in names:
                yield f'link {key} names {name!r}, which is no keypoint: {_meant(name, names)}'


def _numbers(part: str, values: Any, joints: int, above: bool) -> Iterator[str]:
    try:
        values = np.asarray(values, float)
    except (TypeError, ValueError):
        yield f'{part} are numbers, got {values!r}'
        return
    if values.ndim == 0:
        yield f'{part} is a list of numbers, got {values}'
        return
    if above and values.shape == (0,):  # none needed without OKS
        return
    if values.shape != (joints,):
        yield f'{part} has {values.size} entries for {joints} keypoints: one for each'
    bad = values[~(np.isfinite(values) & (values > 0 if above else values >= 0))]
    if bad.size:
        yield f'{part} must be {"above 0" if above else "0 or more"}, got {bad.ravel()[0]:g}'
    elif above and (values >= 1).any():
        yield (
            f'sigmas are shares of the size of an object, such as 0.05, got {values.max():g}: with '
            'it everything would count as found'
        )
