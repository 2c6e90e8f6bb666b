"""The parts of a config that must agree, as they were built."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import BaseLoop, Runner
from mmpose.datasets.dataset_wrappers import CombinedDataset
from mmpose.datasets.transforms import KeypointConverter
from mmpose.registry import DATASETS, HOOKS, MODELS
from torch import nn

from .disagreement import Disagreement

PHASES = ('train', 'val', 'test')


@dataclass
class Data:
    """A data set without wrappers, and what is done to its samples until the model sees them.

    Attributes:
        phase: ``'train'``, ``'val'`` or ``'test'``.
        key: its place in the config.
        dataset: as built; its annotations need not be loaded. None where there is only a pipeline.
        metainfo: its own, parsed.
        transforms: those of its pipeline, then of the wrappers'.
        combined: key and metainfo of the :class:`CombinedDataset` around it, if there is one.
    """

    phase: str
    key: str
    dataset: Any
    metainfo: dict | None
    transforms: list
    combined: tuple[str, dict] | None = None

    @property
    def converters(self) -> list[KeypointConverter]:
        return [step for step in self.transforms if isinstance(step, KeypointConverter)]

    @property
    def joints(self) -> int | None:
        """How many keypoints the model sees."""
        if self.converters:
            return self.converters[-1].num_keypoints
        return self.metainfo and self.metainfo['num_keypoints']

    @property
    def seen(self) -> dict | None:
        """The metainfo of what the model sees; None where only a converter knows it."""
        if self.combined:
            return self.combined[1]
        return None if self.converters else self.metainfo

    @property
    def seen_key(self) -> str:
        return f'{self.combined[0] if self.combined else self.key}.metainfo'


@dataclass
class Parts:
    """A model, its data and metrics, or those of them that are known.

    Attributes:
        model: the estimator, without the wrappers of distributed training.
        data: all data sets without their wrappers.
        metrics: of every phase, with their places in the config.
        checkpoint_hook: that of the training.
        broken: what could not even be built.
    """

    model: nn.Module | None = None
    data: list[Data] = field(default_factory=list)
    metrics: dict[str, list[tuple[str, BaseMetric]]] = field(default_factory=dict)
    checkpoint_hook: CheckpointHook | None = None
    broken: list[Disagreement] = field(default_factory=list)


def parts_of_runner(runner: Runner) -> Parts:
    """The parts of what a runner is about to do, from its hooks' ``before_run`` on."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    parts = Parts(model)
    for phase in PHASES:
        loop = getattr(runner, f'_{phase}_loop')
        if not isinstance(loop, BaseLoop):  # not of this run
            continue
        parts.data += leaves(phase, loop.dataloader.dataset)
        if phase != 'train':
            parts.metrics[phase] = _metrics(phase, loop.evaluator)
    if isinstance(runner._train_loop, BaseLoop):
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        parts.checkpoint_hook = hooks[0] if hooks else None
    return parts


def parts_of_config(config: Config) -> Parts:
    """The parts of a config, built here; what cannot be built is among ``broken``.

    Annotations are not loaded, except by a :class:`CombinedDataset` and by metrics.
    """
    parts = Parts()
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmpose'):
        parts.model = _build(parts, 'model', MODELS, config.get('model'))
        for phase in PHASES:
            key = f'{phase}_dataloader.dataset'
            dataset = (config.get(f'{phase}_dataloader') or {}).get('dataset')
            if dataset:
                if 'ann_file' in dataset:
                    dataset = dict(dataset, lazy_init=True)
                dataset = _build(parts, key, DATASETS, dataset)
            if dataset is not None:
                parts.data += leaves(phase, dataset)
            evaluator = config.get(f'{phase}_evaluator')
            if evaluator and phase != 'train':
                built = _build(parts, f'{phase}_evaluator', Runner, evaluator)
                parts.metrics[phase] = _metrics(phase, built) if built else []
        hook = (config.get('default_hooks') or {}).get('checkpoint')
        if hook and config.get('train_cfg'):
            key = 'default_hooks.checkpoint'
            parts.checkpoint_hook = _build(parts, key, HOOKS, hook)
    return parts


def parts_of_model(model: nn.Module, config: Config, pipeline: Any) -> Parts:
    """The parts of an inference: a model with its ``dataset_meta``, and the test pipeline."""
    key = 'test_dataloader.dataset'
    kind = DATASETS.get(f'mmpose.{config.test_dataloader.dataset.get("type")}')
    meta = getattr(model, 'dataset_meta', None)
    known = isinstance(meta, dict) and 'num_keypoints' in meta
    return Parts(model, [Data('test', key, kind, meta if known else None, pipeline.transforms)])


def leaves(
    phase: str,
    dataset: Any,
    key: str = '',
    after: tuple = (),
    combined: tuple[str, dict] | None = None,
) -> Iterator[Data]:
    """The data sets inside of wrappers, in the order of the config.

    Args:
        phase: as in :class:`Data`.
        dataset: of ``{phase}_dataloader``, or inside of a wrapper at ``key``.
        after: transforms of the wrappers around it.
        combined: as in :class:`Data`.
    """
    key = key or f'{phase}_dataloader.dataset'
    pipeline = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    transforms = [*pipeline, *after]
    if isinstance(dataset, CombinedDataset):
        combined = key, dataset.metainfo
    inside = getattr(dataset, 'datasets', None)
    if inside is not None:
        for i, part in enumerate(inside):
            yield from leaves(phase, part, f'{key}.datasets[{i}]', tuple(transforms), combined)
    elif hasattr(dataset, 'dataset'):
        yield from leaves(phase, dataset.dataset, f'{key}.dataset', tuple(transforms), combined)
    else:
        metainfo = getattr(dataset, 'metainfo', None)
        known = isinstance(metainfo, dict) and 'num_keypoints' in metainfo
        yield Data(phase, key, dataset, metainfo if known else None, transforms, combined)


def _metrics(phase: str, evaluator: Any) -> list[tuple[str, BaseMetric]]:
    """With their keys; a metric of several data sets is left alone."""
    metrics = evaluator.metrics
    if hasattr(evaluator, 'metrics_dict'):  # MultiDatasetEvaluator
        return []
    key = f'{phase}_evaluator'
    several = len(metrics) > 1
    return [(f'{key}[{i}]' if several else key, metric) for i, metric in enumerate(metrics)]


def _build(parts: Parts, key: str, registry: Any, cfg: Any) -> Any:
    if cfg is None:
        return None
    try:
        if registry is Runner:
            return Runner.build_evaluator(None, copy.deepcopy(cfg))
        return registry.build(copy.deepcopy(cfg))
    except Exception as error:  # whatever it is, the rest can still be looked at
        reason = ' '.join(str(error).split())
        parts.broken.append(Disagreement(key, f'{type(error).__name__}: {reason}', 'Correct it'))
        return None
