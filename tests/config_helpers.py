"""The configs, by name, and what they mean: joints and learning rates."""

import copy
import os
from functools import cache

import torch
from mmengine import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import DATASETS, OPTIMIZERS, PARAM_SCHEDULERS

from tests.helpers import ROOT, build, hrnet_extra

NAMES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
BOTTOM_UP = [name for name in NAMES if 'higherhrnet' in name]
TOP_DOWN = [name for name in NAMES if name not in BOTTOM_UP]
ROOTS = ('COCO_ROOT', 'CROWDPOSE_ROOT', 'LSPET_ROOT', 'MPII_ROOT', 'SYNTHETIC_ROOT')


@cache
def _load(name, roots):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def load(name: str) -> Config:
    """The config as its file says with the environment variables of now."""
    return copy.deepcopy(_load(name, tuple(os.environ.get(root) for root in ROOTS)))


def metainfo(cfg: Config) -> dict:
    """The joints of a config's data set."""
    return parse_pose_metainfo(DATASETS.get(cfg.train_dataloader.dataset.type).METAINFO)


def rates(cfg: Config, epochs: int) -> tuple[torch.optim.Optimizer, list[float]]:
    """The learning rate of every epoch, by the schedulers themselves."""
    optimizer = OPTIMIZERS.build(
        dict(cfg.optim_wrapper.optimizer, params=[torch.nn.Parameter(torch.zeros(1))])
    )
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in cfg.param_scheduler
    ]
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return optimizer, rates


def small(cfg: Config, width: int = 8) -> torch.nn.Module:
    """A top-down config's estimator with few channels and blocks."""
    model = cfg.model.to_dict()
    backbone, widths = model['backbone'], [width * 2**i for i in range(4)]
    backbone['init_cfg'] = None
    if 'stages_spec' in backbone['extra']:
        backbone['extra']['stages_spec'].update(
            num_modules=(1, 1, 1),
            num_blocks=(1, 1, 1),
            num_channels=[widths[:count] for count in (2, 3, 4)],
        )
    else:
        backbone['extra'] = hrnet_extra(width)
    model['head']['in_channels'] = widths[backbone.get('out_branch') or 0]
    if 'neck' in model:
        model['neck']['in_channels'] = widths
        model['head']['in_channels'] = 4 * width
    torch.manual_seed(0)
    return build(model)
