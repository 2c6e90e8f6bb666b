"""Metrics: for this model, these keypoints and these images, and which way is better."""

import os
import re
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import load
from mmpose.evaluation.metrics import (
    AUC,
    EPE,
    MPJPE,
    NME,
    CocoMetric,
    JhmdbPCKAccuracy,
    MpiiPCKAccuracy,
    PCKAccuracy,
)
from mmpose.models.pose_estimators import BottomupPoseEstimator

from mmpose_attn.datasets.checked import CheckedAnnotations
from mmpose_attn.datasets.transforms import PackBottomupInputs
from mmpose_attn.evaluation import CheckedCocoMetric, MpiiMultiPersonAP

from .disagreement import Disagreement
from .parts import Data, Parts

_TOPDOWN = (PCKAccuracy, AUC, EPE, NME)
# what MMPose's metrics call their figures, and whether more is better
_RULES = (
    (CocoMetric, ('AP', 'AR'), 'greater'),
    (PCKAccuracy, ('PCK', 'tPCK', 'PCKh'), 'greater'),
    (AUC, ('AUC',), 'greater'),
    (EPE, ('EPE',), 'less'),
    (NME, ('NME',), 'less'),
    (MPJPE, ('MPJPE', 'P-MPJPE', 'N-MPJPE'), 'less'),
    (MpiiMultiPersonAP, ('AP',), 'greater'),
)
_COCO_FIGURE = r'(AP|AR)( \.5| \.75| \([ML]\)|\([EMH]\))?'
_FIXED = ((MpiiPCKAccuracy, 16), (JhmdbPCKAccuracy, 15), (MpiiMultiPersonAP, 16))


def check_metrics(parts: Parts) -> Iterator[Disagreement]:
    """Every metric against the model and the data of its phase."""
    bottomup = isinstance(parts.model, BottomupPoseEstimator)
    for phase, metrics in parts.metrics.items():
        data = [data for data in parts.data if data.phase == phase]
        for key, metric in metrics:
            kind = _inner(metric)
            if bottomup and isinstance(kind, _TOPDOWN):
                yield Disagreement(
                    key,
                    f'{type(kind).__name__} compares one person with one person, as top-down '
                    'models have them; a bottom-up model finds any number',
                    "Write type='CheckedCocoMetric', ann_file=...",
                )
                continue
            if len(data) != 1 or data[0].seen is None:  # wrappers: whose figures is not known
                continue
            joints = data[0].seen['num_keypoints']
            for kind, count in _FIXED:
                if isinstance(metric, kind) and joints != count:
                    yield Disagreement(
                        key,
                        f'{kind.__name__} is for {count} keypoints, but {data[0].key} has {joints}',
                        "Write type='PCKAccuracy' (top-down) or 'CheckedCocoMetric'",
                    )
            if isinstance(metric, MpiiMultiPersonAP):
                yield from _check_mpii(key, data[0], bottomup)
            if isinstance(metric, CocoMetric):
                yield from _check_coco(key, metric, data[0])
                yield from _check_categories(key, metric, data[0], bottomup)


def _check_coco(key: str, metric: CocoMetric, data: Data) -> Iterator[Disagreement]:
    if getattr(metric, 'gt_converter', None) is None and not metric.format_only:
        sigmas, joints = np.atleast_1d(data.seen['sigmas']), data.seen['num_keypoints']
        where = f'{data.seen_key}, sigmas'
        if len(sigmas) != joints:
            yield Disagreement(
                where,
                f'there are {len(sigmas)} for {joints} keypoints, CocoMetric needs one for each',
                f'Write sigmas=[0.05] * {joints}, or better ones',
            )
        elif not (np.isfinite(sigmas) & (sigmas > 0)).all():
            bad = sigmas[~(np.isfinite(sigmas) & (sigmas > 0))][0]
            yield Disagreement(where, f'one is {bad:g}', 'Write numbers above 0')
    part = 'indices' if getattr(data.dataset, '_indices', None) is not None else ''
    if not part and getattr(data.dataset, 'sample_interval', 1) != 1:
        part = 'sample_interval'
    if part and not metric.format_only:
        yield Disagreement(
            f'{data.key}.{part}',
            f'{type(metric).__name__} evaluates all images of its file, also those left out here',
            'Leave it out, and give data set and evaluator a file of the images to test on',
        )
    mine, other = getattr(data.dataset, 'ann_file', ''), metric.ann_file
    if mine and other and os.path.realpath(mine) != os.path.realpath(other):
        yield from _check_files(key, data.key, mine, other)


def _check_mpii(key: str, data: Data, bottomup: bool) -> Iterator[Disagreement]:
    if not bottomup:
        yield Disagreement(
            key, 'MpiiMultiPersonAP is for bottom-up models', "Write type='MpiiPCKAccuracy'"
        )
    elif not getattr(data.dataset, 'headbox_file', None):
        yield Disagreement(
            f'{data.key}.headbox_file',
            'MpiiMultiPersonAP measures in head sizes, and there are none',
            "Write type='BottomupMpiiDataset', headbox_file='.../annotations/mpii_gt_val.mat'",
        )


def _check_categories(
    key: str, metric: CocoMetric, data: Data, bottomup: bool
) -> Iterator[Disagreement]:
    """MMPose's own metric has results of category 1, unless their samples say another."""
    path = metric.ann_file or getattr(data.dataset, 'ann_file', '')
    if isinstance(metric, CheckedCocoMetric) or metric.format_only or not path:
        return
    try:
        anns = load(path)['annotations']
        ids = {ann.get('category_id', 1) for ann in anns if any(ann.get('keypoints') or ())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    packs = [step for step in data.transforms if 'category_id' in getattr(step, 'meta_keys', ())]
    if bottomup:  # a sample has the categories of all its objects, else
        said = len(ids) == 1 and any(isinstance(step, PackBottomupInputs) for step in packs)
    else:
        boxes = getattr(data.dataset, 'bbox_file', None)
        said = packs and (not boxes or isinstance(data.dataset, CheckedAnnotations))
    if ids - {1} and not said:
        names = ', '.join(map(str, sorted(ids, key=str)))
        yield Disagreement(
            f'{key}.type',
            f'{type(metric).__name__} takes all results for category 1, but the objects of {path} '
            f'have the category_id {names}',
            "Write type='CheckedCocoMetric'",
        )


def _check_files(key: str, data_key: str, mine: str, other: str) -> Iterator[Disagreement]:
    """Whether the files of a data set and of a metric are of the same images."""
    try:
        files = [load(mine), load(other)]
        images, known = ({image['id']: image for image in file['images']} for file in files)
    except (OSError, ValueError, KeyError, TypeError):  # those who need them say so
        return
    strange, untested = images.keys() - known.keys(), known.keys() - images.keys()
    both = images.keys() & known.keys()
    renamed = [i for i in both if _stem(images[i]) != _stem(known[i])]
    problem = ''
    if strange:
        one = min(strange, key=str)
        problem = f'results on {len(strange):,} images, such as {one}, that are not in {other}'
    elif untested:
        one = min(untested, key=str)
        problem = f'no results on {len(untested):,} images, such as {one}, that are not in {mine}'
    elif renamed:
        i = sorted(renamed, key=str)[0]
        names = [file[i].get('file_name') for file in (images, known)]
        problem = f'image {i} is {names[0]} in {mine}, but {names[1]} in {other}'
    else:
        labels = [
            {(ann['image_id'], *ann['keypoints']) for ann in anns if any(ann.get('keypoints', ()))}
            for anns in (file.get('annotations', []) for file in files)
        ]
        if all(labels) and not labels[0] & labels[1]:
            problem = f'no keypoints of {mine} are among those of {other}'
    if problem:
        yield Disagreement(
            f'{key}.ann_file',
            f'it is not the annotation file of {data_key}: {problem}',
            f'Write ann_file={mine!r}',
        )


def _stem(image: dict) -> str:
    return PurePath(str(image.get('file_name', ''))).stem


def check_best(parts: Parts) -> Iterator[Disagreement]:
    """Which checkpoint is kept as the best, by a figure that exists, in the right direction."""
    hook, metrics = parts.checkpoint_hook, parts.metrics.get('val')
    if hook is None or not hook.save_best or not metrics:
        return
    for name, rule in zip(hook.key_indicators, hook.rules, strict=True):
        if name == 'auto':
            known = _rule(metrics[0][1])
            if known is None and rule is None:
                yield Disagreement(
                    'default_hooks.checkpoint.rule',
                    f'whether more of {type(metrics[0][1]).__name__} is better is not known',
                    "Write save_best='NAME OF ITS FIGURE' and rule='greater' or 'less'",
                )
                continue
        else:
            rules = [_rule(metric) for _, metric in metrics]
            mine = [r for r, (_, m) in zip(rules, metrics, strict=True) if r and _has(m, r, name)]
            known = mine[0] if mine else None
            if not mine and all(rules):
                figures = [_figure(m, r[0][0]) for r, (_, m) in zip(rules, metrics, strict=True)]
                yield Disagreement(
                    'default_hooks.checkpoint.save_best',
                    f'{name!r} is no figure of val_evaluator',
                    f"Write save_best='{figures[0]}' or 'auto'",
                )
        if known and rule and rule != known[1]:
            yield Disagreement(
                'default_hooks.checkpoint.rule',
                f'{rule!r} would keep the worst checkpoint: of {known[0][0]} '
                f'{"more" if known[1] == "greater" else "less"} is better',
                f"Write rule='{known[1]}', or leave it out",
            )


def _rule(metric: BaseMetric) -> tuple[tuple[str, ...], str] | None:
    """Figures of a metric of MMPose's, and which way they are better."""
    metric = _inner(metric)
    return next((known[1:] for known in _RULES if isinstance(metric, known[0])), None)


def _inner(metric: BaseMetric) -> BaseMetric:
    """One of those that a metric has for parts of the body, which are of one kind."""
    parts = getattr(metric, 'metrics', None)
    return next(iter(parts.values())) if isinstance(parts, dict) and parts else metric


def _figure(metric: BaseMetric, name: str) -> str:
    return f'{metric.prefix}/{name}' if metric.prefix else name


def _has(metric: BaseMetric, rule: tuple, name: str) -> bool:
    parts = getattr(metric, 'metrics', None)
    if isinstance(parts, dict):  # whose names are before those of the figures
        return any(name.startswith(f'{part}.') for part in parts)
    start = _figure(metric, '')
    if isinstance(metric, CocoMetric):
        return name.startswith(start) and bool(re.fullmatch(_COCO_FIGURE, name[len(start) :]))
    return name.startswith(start) and any(figure in name[len(start) :] for figure in rule[0])
