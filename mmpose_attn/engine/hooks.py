"""Hooks: importing this module registers them into MMPose's ``HOOKS``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import BaseLoop, Runner
from mmpose.registry import HOOKS

from .agreement import Disagreement, DisagreementError, find_disagreements, parts_of_runner
from .weights import is_checked, register_missing_check, register_shape_check


@HOOKS.register_module()
class AgreementHook(Hook):
    """Before the first step: data, network, codec and metric agree, and so does the checkpoint.

    Ends a training, validation or test with one error that names all that does not, see
    :func:`find_disagreements`. A checkpoint whose tensors have other shapes, or that holds NaN, is
    an error for any model (see :func:`register_shape_check`), and, unless a training starts from
    it, one that lacks some of the model's.

    Args:
        allow_missing: whether a test may go on with random weights for what a checkpoint lacks.
    """

    priority = 'VERY_HIGH'

    def __init__(self, allow_missing: bool = False) -> None:
        self.allow_missing = allow_missing
        self._handle: Any = None

    def before_run(self, runner: Runner) -> None:
        parts = parts_of_runner(runner)
        found = find_disagreements(parts)
        if found:
            raise DisagreementError(found)
        # init_cfg loads into a part of the model alone
        for module in (parts.model, *parts.model.children()):
            if not is_checked(module):
                register_shape_check(module)
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        if not starts and not self.allow_missing:
            remedy = '--cfg-options default_hooks.agreement.allow_missing=True goes on without.'
            self._handle = register_missing_check(parts.model, remedy)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """A test by the names of the training; a training goes on only from one."""
        if runner._resume and 'epoch' not in (checkpoint.get('meta') or {}):
            # once the weights have been found to fit
            parts_of_runner(runner).model.register_load_state_dict_post_hook(_no_training)
        trained = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        names = list((trained.get('keypoint_id2name') or {}).values())
        if isinstance(runner._train_loop, BaseLoop) or not names:
            return
        for data in parts_of_runner(runner).data:
            own = list(data.seen['keypoint_id2name'].values()) if data.seen else []
            if own != names and sorted(own) == sorted(names):
                problem = f'its keypoints are in another order than those of the training, {names}'
                key, remedy = data.seen_key, 'Give it the metainfo of the training'
                raise DisagreementError([Disagreement(key, problem, remedy)])

    def _loaded(self, runner: Runner) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    before_train = before_val = before_test = _loaded


def _no_training(*_: Any) -> None:
    raise ValueError(
        'the checkpoint to resume from holds weights alone, no state of a training: start from it '
        'with load_from=FILE resume=False'
    )


@HOOKS.register_module()
class FinetuneCheckHook(Hook):
    """Says so when a fine-tuning recipe starts without weights to tune."""

    def before_train(self, runner: Runner) -> None:
        # the runner forgets load_from when it resumes, and counts what it did
        if runner.cfg.get('load_from') is None and runner.iter == 0:
            runner.logger.warning(
                'this is a fine-tuning recipe, and it starts from random weights: its schedule is '
                'far too short for that. Give a checkpoint by --cfg-options load_from=FILE'
            )


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Puts the model into ``torch.channels_last``, from which its activations follow.

    The same numbers up to summation order; convolutions then run without reordering their inputs,
    on CPUs, and on GPUs in half precision.
    """

    def before_run(self, runner: Runner) -> None:
        # not Module.to(), which refuses parameters of five dimensions, such as DynamicConv's
        for parameter in runner.model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Has checkpoints hold nothing but tensors, numbers, strings and containers of these.

    MMEngine's own hold its log history and NumPy arrays besides, which ``torch.load`` refuses since
    2.6 unless told otherwise. With this hook it reads them wherever there is torch, and resuming
    goes on with the same history. The arrays in ``meta['dataset_meta']`` (colours, sigmas) become
    lists, with which MMPose does the same. Checkpoints written without the hook resume as well.
    """

    priority = 'LOWEST'  # what other hooks add to a checkpoint is there by then

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        for part in ('meta', 'message_hub'):
            checkpoint[part] = _plain(checkpoint[part])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, history in scalars.items():
            if isinstance(history, dict):
                log, count = (history[key].cpu().numpy() for key in ('log', 'count'))
                scalars[name] = HistoryBuffer(log, count, history['max_length'])
        if runner._resume and 'meta' in checkpoint:
            # The runner compares the bytes of the two and warns if they differ.
            current = getattr(runner.train_dataloader.dataset, 'metainfo', None)
            if _plain(checkpoint['meta'].get('dataset_meta')) == _plain(current):
                checkpoint['meta']['dataset_meta'] = current


def _plain(value: Any) -> Any:
    """The same with lists for arrays, and for a log history a dict of which one can be made."""
    if isinstance(value, HistoryBuffer):
        log, count = map(torch.from_numpy, value.data)
        return dict(log=log, count=count, max_length=value.max_length)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value
