"""What several test modules build: small networks, parity weights, scenes and samples."""

import copy
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmpose.registry import MODELS, TRANSFORMS
from scipy.optimize import linear_sum_assignment
from torch import nn

import mmpose_attn  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT / 'tests' / 'data' / 'parity'

COCO_FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
COCO_ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]


# --------------------------------------------------------------- networks
def hrnet_extra(
    width: int = 4, modules: Sequence[int] = (1, 1, 1), blocks: int = 1, **stage4
) -> dict:
    """HRNet's ``extra`` with a Bottleneck in stage 1, for networks of milliseconds."""
    extra = dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)
        )
    )
    for stage, count in enumerate(modules, start=2):
        extra[f'stage{stage}'] = dict(
            num_modules=count,
            num_branches=stage,
            block='BASIC',
            num_blocks=(blocks,) * stage,
            num_channels=tuple(width * 2**i for i in range(stage)),
        )
    extra['stage4'].update(stage4)
    return extra


def dite_extra(width=40, modules=(2, 4, 2), stem=32, with_head=True, blocks=2) -> dict:
    """The ``extra`` of Dite-HRNet's released configs; narrower for networks of milliseconds."""
    return dict(
        stem=dict(stem_channels=stem, out_channels=stem, expand_ratio=1),
        num_stages=len(modules),
        stages_spec=dict(
            num_modules=modules,
            num_branches=tuple(range(2, 2 + len(modules))),
            num_blocks=(blocks,) * len(modules),
            with_fuse=(True,) * len(modules),
            reduce_ratios=(8,) * len(modules),
            num_channels=tuple(
                tuple(width * 2**i for i in range(count)) for count in range(2, 2 + len(modules))
            ),
        ),
        with_head=with_head,
    )


def higherhrnet_cfg(width: int = 4, num_keypoints: int = 17, plugins=None, **kwargs) -> dict:
    """Config of a small HigherHRNet estimator; ``kwargs`` go to the estimator."""
    head = dict(
        type='HigherHRNetHead',
        in_channels=width,
        num_keypoints=num_keypoints,
        deconv_out_channels=(width,),
        num_basic_blocks=1,
    )
    head.update(kwargs.pop('head', {}))
    return dict(
        type='HigherHRNetEstimator',
        data_preprocessor=dict(
            type='BottomupDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        backbone=dict(type='AttnHRNet', extra=hrnet_extra(width), plugins=plugins, init_cfg=None),
        head=head,
        **kwargs,
    )


def build(cfg: dict) -> nn.Module:
    return MODELS.build(copy.deepcopy(cfg))


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of ordinary size and statistics that are not 0 and 1, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith('running_var') or (name.endswith('weight') and tensor.ndim == 1):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.1 * noise)
    return module


# ----------------------------------------------------------------- parity
def parity_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """The weights behind tests/data/parity: a function of every tensor's name."""
    state = {}
    for key, shape in shapes.items():
        last = key.rsplit('.', 1)[-1]
        if last == 'num_batches_tracked':
            continue
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if last == 'running_var' or (last == 'weight' and len(shape) <= 1):
            value = rng.uniform(0.5, 1.5, shape)
        elif last in ('running_mean', 'bias'):
            value = rng.normal(0, 0.1, shape)
        else:
            fan = np.prod(shape[2:] if len(shape) == 5 else shape[1:])
            value = rng.normal(0, 1 / np.sqrt(fan), shape)
        state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state


def parity_sample(tensor: torch.Tensor) -> np.ndarray:
    """The elements of a tensor that the parity files hold."""
    flat = tensor.detach().double().flatten().numpy()
    return flat[:: max(1, flat.size // 4096)][:4096]


def assert_close(actual, expected, tolerance: float) -> None:
    """Equal within ``tolerance`` times the largest magnitude expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    assert np.abs(actual - expected).max() <= tolerance * scale


# ----------------------------------------------------------------- scenes
def scene(
    seed: int,
    people: int,
    joints: int = 17,
    size: tuple[int, int] = (96, 80),
    dims: int = 1,
    missing: float = 0.15,
    noise: float = 0.01,
    tag_noise: float = 0.05,
    gap: float = 3.0,
    clutter: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmaps (1, K, H, W) and tags (1, L*K, H, W) of a network that saw some people.

    Args:
        people: their tags are multiples of ``gap``.
        missing: chance of a joint without a peak.
        noise: deviation of the heatmaps' noise.
        tag_noise: deviation of the tags' noise.
        clutter: peaks a joint that belong to nobody, with random tags.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    heat = np.zeros((joints, height, width))
    tags = rng.normal(0, tag_noise, (dims, joints, height, width))
    y, x = np.mgrid[:height, :width]
    values = gap * rng.permutation(people + 1)[:, None] + rng.normal(0, 0.1, (people + 1, dims))
    for joint in range(joints):
        for person in range(people + clutter):
            if person < people and rng.random() < missing:
                continue
            cx, cy = rng.uniform(0.05, 0.95, 2) * (width, height)
            blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8)
            heat[joint] = np.maximum(heat[joint], rng.uniform(0.3, 1) * blob)
            near = blob > 0.2
            tag = values[person] if person < people else rng.uniform(0, gap * people, dims)
            tags[:, joint, near] += (tag[:, None] - tags[:, joint, near]) * 0.98
    heat += rng.normal(0, noise, heat.shape)
    maps = heat, tags.reshape(-1, height, width)
    return tuple(torch.from_numpy(m.astype(np.float32))[None] for m in maps)


# ---------------------------------------------------------------- samples
def raw_sample(
    seed: int = 0, people: int = 3, joints: int = 17, size: tuple[int, int] = (100, 80), **kwargs
) -> dict:
    """What a bottom-up dataset gives a pipeline: an image (w, h) and its people."""
    rng = np.random.default_rng(seed)
    width, height = size
    keypoints = rng.uniform((2, 2), (width - 2, height - 2), (people, joints, 2))
    sample = dict(
        id=seed,
        img_id=seed,
        img_path=f'{seed}.jpg',
        img=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        img_shape=(height, width),
        ori_shape=(height, width),
        keypoints=keypoints.astype(np.float32),
        keypoints_visible=(rng.random((people, joints)) < 0.8).astype(np.float32),
        bbox=np.tile(np.float32([0, 0, width, height]), (people, 1)),
        flip_indices=COCO_FLIP if joints == 17 else list(range(joints)),
        invalid_segs=[],
    )
    sample.update(kwargs)
    return sample


def run_pipeline(steps: Sequence[dict], sample: dict) -> dict:
    """Run transforms by config, without going through a dataset."""
    return Compose([TRANSFORMS.build(copy.deepcopy(step)) for step in steps])(sample)


def train_pipeline(codec: dict, flip: float = 0.5) -> list[dict]:
    """The configs' training pipeline from the loaded image on."""
    return [
        dict(type='BottomupUniformAffine', input_size=codec['input_size']),
        dict(type='RandomFlip', direction='horizontal', prob=flip),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='BottomupCrowdMask'),
        dict(type='PackBottomupInputs'),
    ]


def codec_cfg(input_size=(64, 64), joints: int = 17, **kwargs) -> dict:
    """A small two-resolution :class:`HigherHRNetCodec`."""
    width, height = input_size
    cfg = dict(
        type='HigherHRNetCodec',
        input_size=input_size,
        heatmap_size=[(width // 4, height // 4), (width // 2, height // 2)],
        sigma=2,
        decode_keypoint_order=COCO_ORDER if joints == 17 else list(range(joints)),
        decode_center_shift=0.5,
    )
    cfg.update(kwargs)
    return cfg


def scipy_match(cost: np.ndarray) -> np.ndarray:
    """Stands in for MMPose's ``_py_max_match``: SciPy's choice among equally good assignments.

    MMPose pads with columns of 1e10; without them both solve one and the same problem.
    """
    real = cost[:, (cost < 1e9).all(0)]
    match = dict(zip(*linear_sum_assignment(real), strict=True))
    return np.array([(row, match.get(row, cost.shape[1])) for row in range(len(cost))])
