"""Every config loads; the bottom-up ones build, train a step, predict, and are what they say."""

import copy
import json
import os
import re
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmpose.registry import DATASETS, HOOKS, METRICS, TRANSFORMS

from mmpose_attn.datasets.synthetic import SyntheticConfig, make_dataset
from mmpose_attn.engine import FinetuneCheckHook
from tests.config_helpers import BOTTOM_UP, NAMES, load, metainfo, rates
from tests.data_helpers import build_runner, log_of, make_crowdpose, make_mpii, write_config
from tests.helpers import ROOT, build, raw_sample, run_pipeline, train_pipeline

pytestmark = pytest.mark.usefixtures('mmpose_scope')

NAME = re.compile(
    r'higherhrnet(?:_(?P<plugin>se|se_all|se_high|se_cbam|cbam))?_w(?P<width>32|48)'
    r'_(?P<data>coco|crowdpose|mpii)_(?P<size>512|640)(?:_(?P<variant>scratch|multiscale|finetune))?'
)
PAPER = [name for name in NAMES if name.startswith('higherhrnet')]
FINETUNED = ['higherhrnet_w32_coco_512_finetune']
FINETUNED += [n for n in PAPER if re.fullmatch(r'higherhrnet_\w*(se|cbam)\w*_w32_coco_512', n)]
every_config = pytest.mark.parametrize('name', NAMES)
every_bottom_up = pytest.mark.parametrize('name', BOTTOM_UP)
every_paper = pytest.mark.parametrize('name', PAPER)

SE = dict(type='SEAttention', ratio=16)
CBAM = dict(type='CBAMAttention', ratio=16)
PLUGINS = {
    None: [],
    'se': [dict(cfg=SE, position='stem')],
    'se_all': [dict(cfg=SE, position='stem'), dict(cfg=SE, position='fuse')],
    'se_high': [dict(cfg=SE, position='fuse', branches=(0,))],
    'se_cbam': [dict(cfg=SE, position='stem'), dict(cfg=CBAM, position='stem')],
    'cbam': [dict(cfg=CBAM, position='fuse')],
}
DATASETS_OF = dict(
    coco='CheckedCocoDataset', crowdpose='CheckedCrowdPoseDataset', mpii='BottomupMpiiDataset'
)


# ---------------------------------------------------------------- the files
def test_names_are_unique():
    # mim and the model index know a config by its file name alone
    names = [path.name for path in (ROOT / 'configs').rglob('*.py')]
    assert len(names) == len(set(names)) and len(NAMES) >= 12
    assert not [p for p in (ROOT / 'configs').iterdir() if p.is_dir() and p.name != '_base_']


@every_config
def test_bases_exist_and_everything_is_imported(name, no_roots):
    cfg = load(name)
    assert cfg.custom_imports.imports == ['mmpose_attn'] and cfg.default_scope == 'mmpose'
    assert cfg.load_from is None and cfg.resume is False
    # what an environment variable left behind would be a folder of that name
    assert '{{' not in json.dumps(cfg.to_dict(), default=str)


@every_paper
def test_name_says_what_it_is(name, no_roots):
    cfg, says = load(name), NAME.fullmatch(name)
    assert says, f'{name} is no MODEL[_PLUGIN]_WIDTH_DATA_SIZE[_VARIANT]'
    width, size = int(says['width']), int(says['size'])
    backbone, head = cfg.model.backbone, cfg.model.head
    for stage in (2, 3, 4):
        channels = backbone.extra[f'stage{stage}'].num_channels
        assert tuple(channels) == tuple(width * 2**i for i in range(stage))
    assert head.in_channels == width and tuple(head.deconv_out_channels) == (width,)
    assert (backbone.get('plugins') or []) == PLUGINS[says['plugin']]
    assert tuple(cfg.codec.input_size) == (size, size)
    dataset = DATASETS_OF[says['data']]
    assert cfg.train_dataloader.dataset.type == cfg.val_dataloader.dataset.type == dataset
    assert (cfg.train_cfg.max_epochs == 40) is (name in FINETUNED)
    assert cfg.model.test_cfg.multiscale_test is (says['variant'] == 'multiscale')


@every_bottom_up
def test_parts_agree(name, no_roots):
    cfg = load(name)
    codec, head = cfg.codec, cfg.model.head
    meta = metainfo(cfg)
    joints = meta['num_keypoints']
    assert head.num_keypoints == joints
    # trap 13: every joint is visited once
    assert sorted(codec.decode_keypoint_order) == list(range(joints))
    # the decoder is the encoder but for the size at which it works
    assert dict(head.decoder, heatmap_size=codec.heatmap_size) == dict(codec)
    assert tuple(head.decoder.heatmap_size) == tuple(codec.input_size)
    assert cfg.model.test_cfg.restore_heatmap_size
    width, height = codec.input_size
    assert [tuple(s) for s in codec.heatmap_size] == [
        (width // 4, height // 4),
        (width // 2, height // 2),
    ]
    train = cfg.train_dataloader.dataset.pipeline
    encoder = next(t for t in train if t.type == 'GenerateTarget').encoder
    assert dict(encoder) == dict(codec)
    affine = next(t for t in train if t.type == 'BottomupUniformAffine')
    assert tuple(affine.input_size) == (width, height)
    val = cfg.val_dataloader.dataset.pipeline
    resize = next(t for t in val if t.type == 'BottomupMultiScaleResize')
    assert tuple(resize.input_size) == (width, height)
    assert (len(resize.scales) > 1) is bool(cfg.model.test_cfg.multiscale_test)
    # an unreadable image may not end a training, and may not change a result
    load_train, load_val = train[0], val[0]
    assert load_train.type == load_val.type == 'LoadPoseImage'
    assert not load_val.get('skip_corrupt', False)
    # what is evaluated is what was loaded
    dataset = cfg.val_dataloader.dataset
    if 'mpii' in name:
        # it reads what the data set gives
        assert cfg.val_evaluator == dict(type='MpiiMultiPersonAP')
        assert dataset.headbox_file == 'data/mpii/annotations/mpii_gt_val.mat'
        assert cfg.default_hooks.checkpoint.save_best == 'mpii/AP'
    else:
        assert cfg.val_evaluator.type == 'CheckedCocoMetric'
        assert cfg.val_evaluator.ann_file == os.path.join(dataset.data_root, dataset.ann_file)
    assert cfg.train_dataloader.dataset.data_root == dataset.data_root
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
    assert dataset.test_mode
    assert cfg.train_dataloader.dataset.ann_file != dataset.ann_file


@every_paper
def test_joint_order_is_the_official_one(name, no_roots):
    cfg = load(name)
    names = metainfo(cfg)['keypoint_id2name']
    order = [names[i] for i in cfg.codec.decode_keypoint_order]
    parts = [re.sub('left_|right_', '', part) for part in order]
    torso = ['shoulder', 'hip', 'elbow', 'wrist', 'knee', 'ankle']
    first = dict(
        coco=['nose', 'eye', 'ear'],
        crowdpose=['neck', 'top_head'],
        mpii=['head_top', 'upper_neck', 'thorax', 'pelvis'],
    )[NAME.fullmatch(name)['data']]
    assert list(dict.fromkeys(parts)) == first + torso


# -------------------------------------------------------------- the recipes
@every_paper
def test_official_codec_and_augmentation(name, no_roots):
    cfg = load(name)
    codec = cfg.codec
    assert (codec.sigma, codec.max_people, codec.decode_topk) == (2, 30, 30)
    assert (codec.decode_keypoint_thr, codec.decode_tag_thr) == (0.1, 1.0)
    assert (codec.decode_nms_kernel, codec.decode_center_shift) == (5, 0.5)
    assert codec.decode_fill == 'official'
    # trap 10: uniform, and the official ranges
    affine = TRANSFORMS.build(cfg.train_pipeline[1])
    assert affine.distribution == 'uniform' and affine.scale_type == 'short'
    assert (affine.rotate_factor, affine.scale_factor, affine.shift_factor) == (
        30,
        (0.75, 1.5),
        0.2,
    )
    flip = TRANSFORMS.build(cfg.train_pipeline[2])
    assert flip.prob == 0.5 and flip.direction == 'horizontal'
    assert cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    loss = cfg.model.head.tag_loss
    assert (loss.pull_weight, loss.push_weight) == (1e-3, 1e-3)
    test_cfg = cfg.model.test_cfg
    assert test_cfg.flip_test and not test_cfg.shift_heatmap and not test_cfg.align_corners
    assert test_cfg.stage_resize == 'official'


@every_paper
def test_schedule(name, no_roots):
    cfg = load(name)
    epochs, first, second = (40, 20, 30) if name in FINETUNED else (300, 200, 260)
    assert cfg.train_cfg.max_epochs == epochs and cfg.train_cfg.by_epoch
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=1e-3)
    assert [dict(s) for s in cfg.param_scheduler] == [
        dict(
            type='MultiStepLR', begin=0, end=epochs, milestones=[first, second], gamma=0.1,
            by_epoch=True,
        )
    ]  # fmt: skip
    optimizer, rate = rates(cfg, epochs)
    assert type(optimizer) is torch.optim.Adam and optimizer.defaults['weight_decay'] == 0
    expected = [1e-3] * first + [1e-4] * (second - first) + [1e-5] * (epochs - second)
    np.testing.assert_allclose(rate, expected, rtol=1e-6)
    # images a GPU, and a step
    batch = 32 if name in FINETUNED else 10 if 'w48' in name else 12
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == (32 if name in FINETUNED else 48)
    assert cfg.train_dataloader.sampler == dict(type='DefaultSampler', shuffle=True)


@every_bottom_up
def test_evaluation_sees_every_image_once_in_order(name, no_roots):
    cfg = load(name)
    assert cfg.val_dataloader.sampler == dict(type='DefaultSampler', shuffle=False, round_up=False)
    assert not cfg.val_dataloader.drop_last
    evaluator = cfg.val_evaluator
    if 'mpii' in name:
        return
    assert (evaluator.nms_mode, evaluator.score_mode) == ('none', 'bbox')
    crowd = 'crowdpose' in name
    assert (evaluator.get('iou_type') == 'keypoints_crowd') is crowd
    assert evaluator.get('use_area', True) is not crowd


def test_finetuning_recipes():
    assert len(FINETUNED) == 6
    for name in PAPER:
        cfg = load(name)
        hooks = [hook.type for hook in cfg.custom_hooks]
        assert 'SyncBuffersHook' in hooks
        assert ('FinetuneCheckHook' in hooks) is (name in FINETUNED)
        # a whole checkpoint comes by load_from: an ImageNet download would be for nothing
        assert (cfg.model.backbone.init_cfg.type == 'Pretrained') is (name not in FINETUNED)


@pytest.mark.parametrize(
    'load_from, iteration, warns',
    [(None, 0, True), ('x.pth', 0, False), (None, 400, False), ('x.pth', 9, False)],
)
def test_finetune_check_hook(load_from, iteration, warns):
    hook = HOOKS.build(dict(type='FinetuneCheckHook'))
    assert isinstance(hook, FinetuneCheckHook)
    runner = SimpleNamespace(
        cfg=Config(dict(load_from=load_from)), iter=iteration, logger=MagicMock()
    )
    hook.before_train(runner)
    assert runner.logger.warning.called is warns
    if warns:
        assert 'random weights' in runner.logger.warning.call_args[0][0]
        assert 'load_from' in runner.logger.warning.call_args[0][0]


def test_multiscale_is_the_official_one(no_roots):
    cfg = load('higherhrnet_w32_coco_512_multiscale')
    plain = load('higherhrnet_w32_coco_512')
    assert tuple(cfg.val_dataloader.dataset.pipeline[1].scales) == (0.5, 1, 2)
    # nothing else differs, so that the same checkpoints serve
    cfg.model.test_cfg.multiscale_test = False
    assert cfg.model == plain.model
    assert cfg.train_dataloader == plain.train_dataloader


# --------------------------------------------------------------------- data
def root_of(name):
    for data in ('crowdpose', 'lspet', 'mpii'):
        if data in name:
            return f'{data.upper()}_ROOT', f'data/{data}'
    return ('SYNTHETIC_ROOT', 'data/synthetic') if 'demo' in name else ('COCO_ROOT', 'data/coco')


@every_config
def test_data_root_comes_from_the_environment(name, monkeypatch, no_roots):
    variable, default = root_of(name)
    for value in (None, '/somewhere/else'):
        if value:
            monkeypatch.setenv(variable, value)
        cfg = load(name)
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            dataset = loader.dataset
            assert dataset.data_root == (value or default)
            for file in (dataset.get('bbox_file'), dataset.get('headbox_file')):
                assert not file or file.startswith(f'{value or default}/')
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            if evaluator.type == 'CheckedCocoMetric':
                assert evaluator.ann_file.startswith(f'{value or default}/annotations/')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A synthetic COCO with crowds, and the same with CrowdPose's and MPII's joints and names."""
    folder = tmp_path_factory.mktemp('data')
    look = SyntheticConfig(image_size=(160, 120), people=(1, 3), crowd_prob=1.0)
    coco = make_dataset(folder / 'coco', 2, 1, seed=2, config=look)
    crowd = make_crowdpose(coco, folder / 'crowdpose')
    mpii = make_mpii(coco, folder / 'mpii')
    return dict(COCO_ROOT=coco, CROWDPOSE_ROOT=crowd, MPII_ROOT=mpii, SYNTHETIC_ROOT=coco)


@every_bottom_up
def test_pipelines_run(name, data, monkeypatch):
    for variable, root in data.items():
        monkeypatch.setenv(variable, str(root))
    cfg = load(name)
    joints, (width, height) = cfg.model.head.num_keypoints, cfg.codec.input_size

    train = DATASETS.build(cfg.train_dataloader.dataset)
    infos = map(train.get_data_info, range(len(train)))
    if 'mpii' in name:  # which has no crowds: the left half of an image
        info, crowd = next(infos), dict(size=[120, 160], counts=[0, 120 * 80, 120 * 80])
    else:
        info, crowd = next((i, s) for i in infos for s in i['invalid_segs'] if isinstance(s, dict))
    assert isinstance(crowd['counts'], list)
    masks = []
    for segmentations in ([crowd], []):
        np.random.seed(3)
        packed = train.pipeline(copy.deepcopy(info) | dict(invalid_segs=segmentations))
        masks.append([level.heatmap_mask for level in packed['data_samples'].gt_fields.levels()])
    assert tuple(packed['inputs'].shape) == (3, height, width)
    levels = list(packed['data_samples'].gt_fields.levels())
    for level, (w, h) in zip(levels, cfg.codec.heatmap_size, strict=True):
        assert tuple(level.heatmaps.shape) == (joints, h, w)
        assert tuple(level.heatmap_mask.shape) == (1, h, w)
        assert level.heatmaps.max() == 1
    indices = packed['data_samples'].gt_instance_labels.keypoint_indices
    assert indices.shape[1:] == (joints, 2) and indices[..., 1].any()
    # trap 9: crowds are uncompressed RLE, and masked out
    for masked, whole in zip(*masks, strict=True):
        assert whole.sum() > masked.sum() > 0 and not (masked & ~whole).any()

    val = DATASETS.build(cfg.val_dataloader.dataset)
    packed = val[0]
    sample = packed['data_samples']
    inputs = packed['inputs']
    if cfg.model.test_cfg.multiscale_test:
        assert [max(x.shape) / max(inputs[1].shape) for x in inputs] == [0.5, 1, 2]
        inputs = inputs[1]
    assert tuple(inputs.shape[1:]) == sample.img_shape and min(sample.img_shape) == width
    assert max(sample.img_shape) % 64 == 0
    assert len(sample.flip_indices) == joints and sample.input_size == sample.img_shape[::-1]
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    assert 'mpii' in name or metric.coco is not None


def test_mpii_is_everybody_of_an_image_counted_from_0(data, monkeypatch):
    monkeypatch.setenv('MPII_ROOT', str(data['MPII_ROOT']))
    cfg = load('higherhrnet_w32_mpii_512')
    metric, crowded = METRICS.build(cfg.val_evaluator), 0
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(loader.dataset)
        file = data['MPII_ROOT'] / loader.dataset.ann_file
        people = json.loads(file.read_text())
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        assert len(infos) == len({person['image'] for person in people})
        crowded += len(people) - len(infos)
        for info in infos:
            mine = [p for p in people if int(p['image'].split('.')[0]) == info['img_id']]
            joints = np.array([person['joints'] for person in mine])
            np.testing.assert_allclose(info['keypoints'], joints - 1, atol=1e-3)
            assert info['invalid_segs'] == [] and len(info['id']) == len(mine)
    assert crowded
    # the annotations are perfect predictions
    for sample in map(dataset.__getitem__, range(len(dataset))):
        sample = sample['data_samples'].to_dict()
        truth = sample['gt_instances']
        scores = np.ones(truth['keypoints'].shape[:2])
        sample['pred_instances'] = dict(keypoints=truth['keypoints'], keypoint_scores=scores)
        metric.process({}, [sample])
    assert metric.evaluate(len(dataset))['mpii/AP'] == 100


def test_mpii_trains_bottom_up_and_keeps_the_best(data, monkeypatch, tmp_path):
    monkeypatch.setenv('MPII_ROOT', str(data['MPII_ROOT']))
    config = write_config(tmp_path, base=ROOT / 'configs' / 'higherhrnet_se_w32_mpii_512.py')
    runner = build_runner(config, tmp_path / 'work', **{'model.backbone.init_cfg': None})
    runner.train()
    assert (tmp_path / 'work/best_mpii_AP_epoch_1.pth').is_file()
    assert 'mpii/Ankle AP' in log_of(tmp_path / 'work')


# ------------------------------------------------------------------ networks
def network(name, size=64):
    """A config's network, which decodes images of that size."""
    cfg, whole = load(name), (size, size)
    model = cfg.model
    model.backbone.init_cfg = None
    model.head.decoder = dict(model.head.decoder, input_size=whole, heatmap_size=whole)
    codec = dict(
        cfg.codec, input_size=whole, heatmap_size=[(size // 4, size // 4), (size // 2, size // 2)]
    )
    torch.manual_seed(0)
    return build(model.to_dict()), codec, cfg


@every_bottom_up
def test_network_trains_and_predicts(name, no_roots):
    model, codec, cfg = network(name)
    assert type(model).__name__ == 'HigherHRNetEstimator'
    joints = cfg.model.head.num_keypoints
    np.random.seed(0)
    packed = [
        run_pipeline(train_pipeline(codec), raw_sample(i, people=2, joints=joints))
        for i in range(2)
    ]
    model.train()
    losses = model(**model.data_preprocessor(pseudo_collate(packed), True), mode='loss')
    assert set(losses) == {'loss_heatmap_0', 'loss_heatmap_1', 'loss_pull', 'loss_push'}
    assert all(value > 0 for value in losses.values())
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    odd = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing and not odd
    plugins = [p for n, p in model.named_parameters() if 'plugins' in n]
    assert bool(plugins) is bool(cfg.model.backbone.get('plugins'))
    assert not plugins or any(p.grad.abs().max() > 0 for p in plugins)

    model.eval()
    model.test_cfg['output_heatmaps'] = True
    resize = dict(cfg.val_dataloader.dataset.pipeline[1], input_size=64)
    steps = [resize, dict(type='PackBottomupInputs')]
    sample = run_pipeline(steps, raw_sample(9, joints=joints, size=(64, 64)))
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([sample]))
    pred = result.pred_instances
    assert pred.keypoints.shape[1:] == (joints, 2) and pred.keypoints.shape[0] <= 30
    assert np.isfinite(pred.keypoints).all() and np.isfinite(pred.keypoint_scores).all()
    assert tuple(result.pred_fields.heatmaps.shape) == (joints, *result.img_shape)
    assert result.pred_fields.tags.shape[0] == 2 * joints  # flip test


def test_optimizer_gets_every_parameter(no_roots):
    from mmengine.optim import build_optim_wrapper

    model, _, cfg = network('demo_higherhrnet_se_synthetic_256')
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='OptimWrapper'))
    parameters = sum(len(group['params']) for group in wrapper.optimizer.param_groups)
    assert parameters == len(list(model.parameters()))
