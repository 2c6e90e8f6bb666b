"""Hooks: importing this module registers them into MMPose's ``HOOKS``."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpose.registry import HOOKS


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
