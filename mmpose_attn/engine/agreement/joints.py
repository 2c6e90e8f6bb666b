"""Keypoints: how many, which, in what order, and which are exchanged by a flip."""

from collections.abc import Iterator
from typing import Any

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.datasets.transforms import GenerateTarget
from mmpose.models.heads import CPMHead, HeatmapHead, MSPNHead, RTMCCHead, SimCCHead
from torch import nn

from mmpose_attn.datasets.metainfo import flip_problem

from .disagreement import Disagreement
from .parts import Data, Parts

_MAPS = (HeatmapHead, CPMHead, MSPNHead, SimCCHead, RTMCCHead)


def head_joints(head: nn.Module) -> tuple[str, int] | None:
    """Key and number of a head's keypoints; None where it is not known."""
    for name in ('num_keypoints', 'num_joints'):
        if isinstance(getattr(head, name, None), int):
            return name, getattr(head, name)
    if isinstance(head, _MAPS) and isinstance(head.out_channels, int):
        channels, each = head.out_channels, maps_each(head)
        return ('out_channels', channels // each) if channels % each == 0 else None
    return None


def maps_each(head: nn.Module) -> int:
    """Maps a keypoint of a head: a combined UDP has two offsets besides."""
    return 3 if getattr(head.decoder, 'heatmap_type', '') == 'combined' else 1


def check_joints(parts: Parts) -> Iterator[Disagreement]:
    """Numbers of keypoints, ``decode_keypoint_order``, names, flips and weights."""
    # some of what a network has learned is put out in a test
    chosen = (getattr(parts.model, 'test_cfg', None) or {}).get('output_keypoint_indices')
    counts = {
        data.key: data.joints
        for data in parts.data
        if data.joints and (data.phase == 'train' or not chosen)
    }
    joints = next(iter(counts.values()), None)
    if len(set(counts.values())) > 1:
        text = ', '.join(f'{key} {count}' for key, count in counts.items())
        yield Disagreement(
            ', '.join(f'{key}.metainfo' for key in counts),
            f'the data sets have different numbers of keypoints ({text})',
            'Give all the same metainfo (or a KeypointConverter): metainfo=dict(from_file=...)',
        )
        joints = None
    head = getattr(parts.model, 'head', None)
    if head is not None:
        yield from _check_head(head, joints, next(iter(counts), ''))
    for data in parts.data:
        yield from _check_data(data)
    yield from _check_names(parts)


def _check_head(head: nn.Module, joints: int | None, data_key: str) -> Iterator[Disagreement]:
    known = head_joints(head)
    if known and joints and known[1] != joints:
        name, count = known
        count, right = (
            n * (maps_each(head) if name == 'out_channels' else 1) for n in (count, joints)
        )
        yield Disagreement(
            f'model.head.{name}',
            f'it is {count}, but {data_key} has {joints} keypoints',
            f'Write model.head.{name}={right}, or give the data set the metainfo of its keypoints',
        )
    order = getattr(getattr(head, 'decoder', None), 'decode_keypoint_order', None)
    wanted = joints or (known and known[1])
    if order is None or not wanted:
        return
    whole = all(isinstance(i, int) for i in order)
    if whole and sorted(order) == list(range(wanted)):
        return
    missing = [i for i in range(wanted) if i not in order]
    what = f'it has {len(order)} entries for {wanted} keypoints'
    if len(order) == wanted:
        what = f'it is no order of {wanted} keypoints, {missing} are missing'
    yield Disagreement(
        'model.head.decoder.decode_keypoint_order',
        what,
        f'Name each of 0 to {wanted - 1} once, those that are found best first, for example '
        f'{list(range(wanted))}',
    )


def _check_data(data: Data) -> Iterator[Disagreement]:
    """One data set by itself."""
    count = data.metainfo and data.metainfo['num_keypoints']
    for converter in data.converters:
        if count and max(_sources(converter), default=0) >= count:
            yield Disagreement(
                f'{data.key}.pipeline, KeypointConverter.mapping',
                f'it takes keypoint {max(_sources(converter))} of {count}',
                f'Sources are 0 to {count - 1}',
            )
        if max(converter.target_index, default=0) >= converter.num_keypoints:
            yield Disagreement(
                f'{data.key}.pipeline, KeypointConverter.mapping',
                f'it gives keypoint {max(converter.target_index)} of {converter.num_keypoints}',
                f'Targets are 0 to {converter.num_keypoints - 1}',
            )
        count = converter.num_keypoints
    seen = data.seen
    if seen is None:
        return
    if data.combined and count and count != seen['num_keypoints']:
        yield Disagreement(
            f'{data.key}.pipeline',
            f'it gives {count} keypoints, but the metainfo around it, {data.seen_key}, has '
            f'{seen["num_keypoints"]}',
            f'Add a KeypointConverter with num_keypoints={seen["num_keypoints"]}',
        )
    elif data.combined and not data.converters and _names(data.metainfo) != _names(seen):
        yield Disagreement(
            f'{data.key}.pipeline',
            f'its keypoints have other names or another order than {data.seen_key}: '
            + _difference(_names(data.metainfo), _names(seen)),
            'Add a KeypointConverter, or give it the same metainfo',
        )
    # an own one: what MMPose ships is not for its users to correct
    stock = _stock(data.dataset)
    flips = list(seen.get('flip_indices', ()))  # a checkpoint of MMPose 0.x may have none
    problem = flip_problem(flips)
    if problem and (stock is None or stock['flip_indices'] != flips):
        yield Disagreement(data.seen_key, problem, 'Correct the swaps of its keypoint_info')
    weights = seen.get('dataset_keypoint_weights', ())
    for step in data.transforms:
        used = isinstance(step, GenerateTarget) and step.use_dataset_keypoint_weights
        if used and len(weights) != seen['num_keypoints']:
            yield Disagreement(
                f'{data.seen_key}, joint_weights',
                f'it has {len(weights)} entries for {seen["num_keypoints"]} keypoints',
                'Write one for each',
            )


def _check_names(parts: Parts) -> Iterator[Disagreement]:
    """Training against validation and test."""
    known = [data for data in parts.data if data.seen is not None]
    train = next((data for data in known if data.phase == 'train'), None)
    for data in known:
        if train is None or data.phase == 'train':
            continue
        one, other = _names(train.seen), _names(data.seen)
        if parts.model is not None and (parts.model.test_cfg or {}).get('output_keypoint_indices'):
            continue
        if len(one) == len(other) and one != other:
            yield Disagreement(
                data.seen_key,
                f'its keypoints have other names or another order than {train.seen_key}: '
                + _difference(one, other),
                'Give both the same metainfo',
            )
        elif one == other and list(train.seen['flip_indices']) != list(data.seen['flip_indices']):
            yield Disagreement(
                data.seen_key,
                f'its keypoints have other swaps than those of {train.seen_key}: flip_indices '
                f'{data.seen["flip_indices"]} and {train.seen["flip_indices"]}',
                'Give both the same metainfo',
            )


def _names(metainfo: dict) -> list[str]:
    return [name for _, name in sorted(metainfo['keypoint_id2name'].items())]


def _difference(one: list[str], other: list[str]) -> str:
    pairs = [(i, *names) for i, names in enumerate(zip(one, other)) if names[0] != names[1]]
    more = ', ...' if len(pairs) > 3 else ''
    return ', '.join(f'{i} is {a!r} and {b!r}' for i, a, b in pairs[:3]) + more


def _sources(converter: Any) -> list[int]:
    return [*converter.source_index, *getattr(converter, 'source_index2', [])]


def _stock(dataset: Any) -> dict | None:
    """The metainfo of MMPose's that a data set has if it is given none."""
    raw = getattr(dataset, 'METAINFO', None)
    return parse_pose_metainfo(raw) if raw else None
