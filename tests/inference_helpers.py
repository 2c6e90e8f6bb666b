"""Networks of milliseconds for inference, trained on nothing but otherwise real, and videos."""

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from tests.data_helpers import ROOT, write_config
from tests.helpers import hrnet_extra, randomize

TOPDOWN = """
_base_ = [{runtime!r}]

codec = dict(type='MSRAHeatmap', input_size=(64, 96), heatmap_size=(16, 24), sigma=1)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(type='AttnHRNet', extra={extra!r}),
    head=dict(
        type='HeatmapHead',
        in_channels=4,
        out_channels=17,
        deconv_out_channels=None,
        loss=dict(type='KeypointMSELoss'),
        decoder=codec,
    ),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True),
)
pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs'),
]
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_mode='topdown', test_mode=True, pipeline=pipeline
    ),
)
test_evaluator = dict(type='CocoMetric')
val_cfg = None
"""


def save_weights(config, path, seed=0):
    """Random weights of ordinary size for the network of a config file."""
    model = randomize(MODELS.build(Config.fromfile(config).model), seed)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def write_networks(folder):
    """``{'topdown' or 'bottomup': (config, checkpoint)}`` in a folder."""
    topdown = folder / 'topdown.py'
    runtime = str(ROOT / 'configs' / '_base_' / 'default_runtime.py')
    topdown.write_text(TOPDOWN.format(runtime=runtime, extra=hrnet_extra(4)))
    configs = dict(topdown=topdown, bottomup=write_config(folder))
    with DefaultScope.overwrite_default_scope('mmpose'):
        return {
            kind: (path, save_weights(path, path.with_suffix('.pth')))
            for kind, path in configs.items()
        }


def write_video(path, frames=10, size=(64, 48), fps=25):
    """A video in which a bright square walks to the right."""
    codec = cv2.VideoWriter_fourcc(*('mp4v' if path.suffix == '.mp4' else 'MJPG'))
    writer = cv2.VideoWriter(str(path), codec, fps, size)
    for i in range(frames):
        image = np.full((size[1], size[0], 3), 60, np.uint8)
        left = i % (size[0] - 16)
        image[16:32, left : left + 16] = 220
        writer.write(image)
    writer.release()
    return path
