"""The top-down configs: each is what it says, trains a step, predicts and is evaluated."""

import json
import re
from contextlib import contextmanager
from operator import attrgetter
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from mmengine import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmpose.apis import MMPoseInferencer, inference_topdown, init_model
from mmpose.apis.inferencers import base_mmpose_inferencer
from mmpose.registry import DATASETS, METRICS, TRANSFORMS

from tests.config_helpers import TOP_DOWN, load, metainfo, rates, small
from tests.data_helpers import (
    build_runner,
    edit_json,
    make_topdown_data,
    real_data,
    write_config,
)
from tests.helpers import ROOT, build

pytestmark = pytest.mark.usefixtures('mmpose_scope')

HRNETS = [name for name in TOP_DOWN if re.match('(de)?hrnet_', name)]
LITE = [name for name in TOP_DOWN if re.match('(dite_|lite)hrnet_', name)]
every_config = pytest.mark.parametrize('name', TOP_DOWN)
every_hrnet = pytest.mark.parametrize('name', HRNETS)
every_lite = pytest.mark.parametrize('name', LITE)
NAME = re.compile(
    r'(?P<family>de)?hrnet(?:_(?P<codec>udp|dark))?(?:_(?P<variant>[a-z]\w+?))?_w(?P<width>32|48)'
    r'_(?P<data>coco|crowdpose|mpii)_(?P<height>\d{3})x(?P<wide>\d{3})'
)
LITE_NAME = re.compile(
    r'(?P<family>dite_|lite)hrnet(?:_(?P<variant>csppan|cbam_block|cbam_context))?_(?P<depth>18|30)'
    r'_(?P<data>coco|lspet|mpii)_(?P<height>\d{2,3})x(?P<wide>\d{2,3})'
)
JOINTS = dict(coco=17, crowdpose=14, mpii=16)
# what the metric calls its first figure
FIGURES = dict(coco='coco/AP', crowdpose='crowdpose/AP', mpii='PCK', lspet='PCK')
# the branch that the heatmaps are read from
BRANCHES = dict(branch2x=1, branch4x=2)
# (stage, branch) of every CAM/SAM module, by the row of the paper's Table I
ALL = [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 3)]
CAM_SAM = dict(
    camsam_sub1=(3, [site for site in ALL if site[1] < 1]),
    camsam_sub12=(6, [site for site in ALL if site[1] < 2]),
    camsam_sub123=(8, [site for site in ALL if site[1] < 3]),
    camsam_all=(9, ALL),
    camsam_stage1=(2, [site for site in ALL if site[0] < 2]),
    camsam_stage12=(5, [site for site in ALL if site[0] < 3]),
    camsam_stage123=(9, ALL),
    camsam=(4, [(1, 0), (1, 1), (2, 0), (3, 0)]),
)


def says(name):
    found = NAME.fullmatch(name) or LITE_NAME.fullmatch(name)
    assert found, f'{name} is no MODEL[_CODEC][_PLUGIN]_WIDTH_DATA_SIZE'
    return found.groupdict()


def step(pipeline, kind):
    """The only transform of a type in a pipeline, or None."""
    steps = [each for each in pipeline if each.type == kind]
    assert len(steps) < 2
    return steps[0] if steps else None


def pipelines(cfg):
    return [loader.dataset.pipeline for loader in (cfg.train_dataloader, cfg.val_dataloader)]


# ------------------------------------------------------------------ what they say
@every_hrnet
def test_name_says_what_it_is(name, no_roots):
    cfg, what = load(name), says(name)
    backbone, head = cfg.model.backbone, cfg.model.head
    width, branch = int(what['width']), BRANCHES.get(what['variant'], 0)
    assert backbone.type == ('DEHRNet' if what['family'] else 'AttnHRNet')
    for stage in (2, 3, 4):
        channels = backbone.extra[f'stage{stage}'].num_channels
        assert tuple(channels) == tuple(width * 2**i for i in range(stage))
    assert backbone.get('out_branch') == (branch or None)
    assert head.in_channels == width * 2**branch
    scratch = what['variant'] == 'scratch' or 'fusion' in name
    start = backbone.init_cfg
    assert start.type == ('Normal' if scratch else 'Pretrained')
    assert scratch or f'hrnet_w{width}-' in start.checkpoint

    codec = cfg.codec
    kind, size = what['codec'], (int(what['wide']), int(what['height']))
    assert codec.type == ('UDPHeatmap' if kind == 'udp' else 'MSRAHeatmap')
    assert bool(codec.get('unbiased')) is (kind == 'dark')
    assert tuple(codec.input_size) == size
    assert tuple(codec.heatmap_size) == tuple(side // 2 ** (2 + branch) for side in size)
    assert codec.sigma == (3 if size[1] == 384 else 2)
    assert head.out_channels == JOINTS[what['data']] == metainfo(cfg)['num_keypoints']


@every_lite
def test_lite_name_says_what_it_is(name, no_roots):
    cfg, what = load(name), says(name)
    backbone, head, spec = cfg.model.backbone, cfg.model.head, cfg.model.backbone.extra.stages_spec
    assert backbone.type == dict(dite_='DiteHRNet', lite='LiteHRNet')[what['family']]
    assert tuple(spec.num_modules) == {'18': (2, 4, 2), '30': (3, 8, 3)}[what['depth']]
    assert [tuple(widths) for widths in spec.num_channels] == [
        (40, 80),
        (40, 80, 160),
        (40, 80, 160, 320),
    ]
    assert not backbone.get('init_cfg') and backbone.get('pooling', 'released') == 'released'
    variant = what['variant'] or ''
    places = [plugin.position for plugin in backbone.get('plugins', ())]
    assert places == dict(cbam_block=['block'], cbam_context=['after_context']).get(variant, [])
    assert all(plugin.cfg.type == 'CBAMAttention' for plugin in backbone.get('plugins', ()))
    neck = variant == 'csppan'
    assert bool(cfg.model.get('neck')) is neck and backbone.extra.with_head is not neck
    assert head.in_channels == (160 if neck else 40)

    codec, size = cfg.codec, (int(what['wide']), int(what['height']))
    assert codec.type == 'MSRAHeatmap' and not codec.get('unbiased')
    assert tuple(codec.input_size) == size and not any(side % 32 for side in size)
    assert tuple(codec.heatmap_size) == tuple(side // 4 for side in size)
    assert codec.sigma == (3 if size[1] == 384 else 2)


@every_config
def test_parts_agree(name, no_roots):
    cfg = load(name)
    codec, head = cfg.codec, cfg.model.head
    assert head.decoder == codec and head.out_channels == metainfo(cfg)['num_keypoints']
    train, val = pipelines(cfg)
    assert step(train, 'GenerateTarget').encoder == codec
    udp = codec.type == 'UDPHeatmap'
    for pipeline in (train, val):
        affine = step(pipeline, 'TopdownAffine')
        assert tuple(affine.input_size) == tuple(codec.input_size)
        assert bool(affine.get('use_udp')) is udp
        assert pipeline[0].type == 'LoadPoseImage'
    # an unreadable image may not end a training, and may not change a result
    assert train[0].skip_corrupt and not val[0].get('skip_corrupt')
    # flipped maps are moved by the cell that plain pixel arithmetic loses
    test_cfg = cfg.model.test_cfg
    assert test_cfg.flip_test and test_cfg.flip_mode == 'heatmap'
    assert test_cfg.shift_heatmap is not udp

    dataset = cfg.val_dataloader.dataset
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.data_mode == cfg.data_mode == 'topdown'
        assert loader.dataset.type == dataset.type and loader.dataset.type.startswith('Checked')
        assert loader.dataset.data_root == cfg.data_root
    assert dataset.type == f'Checked{cfg.dataset_type}'
    assert cfg.train_dataloader.dataset.ann_file != dataset.ann_file and dataset.test_mode
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
    assert cfg.train_dataloader.sampler == dict(type='DefaultSampler', shuffle=True)
    assert cfg.val_dataloader.sampler == dict(type='DefaultSampler', shuffle=False, round_up=False)
    assert not cfg.val_dataloader.drop_last
    # every step of a training would wait for the GPU
    assert cfg.model.train_cfg.compute_acc is False


@every_config
def test_evaluation(name, no_roots):
    cfg = load(name)
    dataset, metric = cfg.val_dataloader.dataset, cfg.val_evaluator
    if 'lspet' in name:
        assert metric == dict(type='PCKAccuracy', thr=0.2) and dataset.bbox_file is None
        assert cfg.default_hooks.checkpoint.save_best == 'PCK'
        return
    if 'mpii' in name:
        assert metric == dict(type='MpiiPCKAccuracy') and not dataset.bbox_file
        assert dataset.headbox_file == 'data/mpii/annotations/mpii_gt_val.mat'
        # the first of the metric's figures is that of heads
        assert cfg.default_hooks.checkpoint.save_best == 'PCK'
        return
    assert metric.ann_file == f'{dataset.data_root}/{dataset.ann_file}'
    assert cfg.default_hooks.checkpoint.save_best == 'auto'
    built = METRICS.get(metric.type)(**{k: v for k, v in metric.items() if k == 'use_area'})
    assert (built.nms_mode, built.nms_thr, built.keypoint_score_thr) == ('oks_nms', 0.9, 0.2)
    assert built.score_mode == 'bbox_keypoint'
    crowd = 'crowdpose' in name
    assert metric.get('iou_type', 'keypoints') == ('keypoints_crowd' if crowd else 'keypoints')
    assert built.use_area is not crowd and metric.get('prefix') == ('crowdpose' if crowd else None)
    assert dataset.bbox_file == (
        'data/crowdpose/annotations/det_for_crowd_test_0.1_0.5.json'
        if crowd
        else 'data/coco/person_detection_results/COCO_val2017_detections_AP_H_56_person.json'
    )


def test_ground_truth_boxes_by_the_command_line(no_roots):
    values = DictAction._parse_iterable('None')
    cfg = load('hrnet_w32_coco_256x192')
    cfg.merge_from_dict({'test_dataloader.dataset.bbox_file': values})
    assert cfg.test_dataloader.dataset.bbox_file is None


# ------------------------------------------------------------------ the recipes
@every_hrnet
def test_recipe(name, no_roots):
    cfg, what = load(name), says(name)
    optimizer, rate = rates(cfg, cfg.train_cfg.max_epochs)
    assert type(optimizer) is torch.optim.Adam and optimizer.defaults['weight_decay'] == 0
    np.testing.assert_allclose(rate, [1e-3] * 170 + [1e-4] * 30 + [1e-5] * 10, rtol=1e-6)

    cam_sam = 'camsam' in name
    large = what['width'] == '48' and what['height'] == '384'
    mpii = what['data'] == 'mpii'
    if cam_sam:
        scale, rotation, half, batch, base = 0.3, 40, False, 4, 4
    elif what['family']:
        scale, rotation, half, batch, base = 0.32, 45, True, 32, 128
    elif mpii:
        scale, rotation, half, batch, base = 0.25, 30, False, 32, 128
    else:
        scale, rotation, half = 0.35, 45, True
        batch, base = (24, 96) if large else (32, 128)
    train, _ = pipelines(cfg)
    jitter = TRANSFORMS.build(step(train, 'RandomBBoxTransform'))
    assert jitter.rotate_factor == rotation and jitter.shift_prob == 0
    np.testing.assert_allclose(jitter.scale_factor, (1 - scale, 1 + scale))
    assert (jitter.scale_prob, jitter.rotate_prob) == (1, 0.6)
    assert bool(step(train, 'RandomHalfBody')) is half
    assert TRANSFORMS.build(step(train, 'RandomFlip')).prob == 0.5
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == base


@every_lite
def test_lite_recipe(name, no_roots):
    cfg, what = load(name), says(name)
    warm_up, _ = cfg.param_scheduler
    kind = dict(type='LinearLR', begin=0, start_factor=0.001, by_epoch=False)
    assert {key: warm_up[key] for key in kind} == kind
    epochs = cfg.train_cfg.max_epochs
    small = what['data'] == 'lspet'
    if small:
        assert (warm_up.end, epochs) == (50, 8)
    else:
        dite = 260 if what['data'] == 'mpii' else 270
        assert (warm_up.end, epochs) == (500, dite if what['family'] == 'dite_' else 210)
    del cfg.param_scheduler[0]
    optimizer, rate = rates(cfg, epochs)
    assert type(optimizer) is torch.optim.Adam and optimizer.defaults['weight_decay'] == 0
    steps = (5, 7) if small else (170, 200)
    expected = [2e-3 * 0.1 ** sum(epoch >= step for step in steps) for epoch in range(epochs)]
    np.testing.assert_allclose(rate, expected, rtol=1e-6)

    train, _ = pipelines(cfg)
    jitter = TRANSFORMS.build(step(train, 'RandomBBoxTransform'))
    assert (tuple(jitter.scale_factor), jitter.rotate_factor) == ((0.75, 1.25), 30)
    assert (jitter.shift_prob, jitter.scale_prob, jitter.rotate_prob) == (0, 1, 0.6)
    half = step(train, 'RandomHalfBody')
    assert bool(half) is (what['data'] != 'mpii')
    if half:
        built = TRANSFORMS.build(half)
        # the authors': of people with more than 8 joints
        assert (built.prob, built.min_total_keypoints) == (0.3, 9)
    assert TRANSFORMS.build(step(train, 'RandomFlip')).prob == 0.5
    assert cfg.train_dataloader.batch_size == (16 if small else 32)
    assert cfg.auto_scale_lr.base_batch_size == 256


# ------------------------------------------------------------------ the networks
def places(model):
    return [(plugin.stage, plugin.branch) for plugin in model.backbone.named_plugins()]


def on_meta(name):
    with torch.device('meta'):
        return build(load(name).model.to_dict())


def millions(model):
    return sum(p.numel() for p in model.parameters()) / 1e6


@pytest.mark.parametrize('variant', CAM_SAM)
def test_cam_sam_sites_are_those_of_table_1(variant):
    count, sites = CAM_SAM[variant]
    model = on_meta(f'hrnet_{variant}_w32_coco_256x192')
    assert len(sites) == count and sorted(places(model)) == sites
    assert {p.position for p in model.backbone.named_plugins()} == {'transition'}
    for other in ('w32_coco_384x288', 'w48_coco_256x192', 'w48_coco_384x288', 'w32_mpii_256x256'):
        if variant == 'camsam':
            assert sorted(places(on_meta(f'hrnet_camsam_{other}'))) == sites


def test_published_parameters(no_roots):
    assert round(millions(on_meta('hrnet_w32_coco_256x192')), 1) == 28.5
    w48 = millions(on_meta('hrnet_w48_coco_256x192'))
    assert round(w48, 1) == 63.6
    # 63.8 of which are published as UDP's own W48, 0.2 more than the network has
    psa = on_meta('hrnet_udp_psa_w48_coco_256x192')
    assert abs(millions(psa) - w48 - (70.1 - 63.8)) < 0.06
    assert abs(millions(psa) - 70.1) < 0.2
    # one in every BasicBlock
    assert len(places(psa)) == 8 + 4 * 12 + 3 * 16
    assert {p.position for p in psa.backbone.named_plugins()} == {'after_conv1'}


@pytest.mark.parametrize('kind', ['SE', 'ECA', 'CBAM'])
def test_attention_is_the_last_before_every_addition(kind):
    model = on_meta(f'hrnet_{kind.lower()}_w32_coco_256x192')
    found = [p.position for p in model.backbone.named_plugins()]
    assert found.count('after_conv3') == 4 and found.count('after_conv2') == 104
    assert len(found) == 108
    kinds = {type(p.module).__name__ for p in model.backbone.named_plugins()}
    assert kinds == {f'{kind}Attention'}


@pytest.mark.parametrize('name', [name for name in HRNETS if name.startswith('dehrnet')])
def test_de_hrnet_has_both_parts(name):
    placed = [*on_meta(name).backbone.named_plugins()]
    assert {type(p.module).__name__ for p in placed} == {'DySample', 'DetailEnhancement'}
    # at the end of every stage, as docs/results/de_hrnet_start.md decides, by the paper's formula
    details = [p for p in placed if p.position == 'detail']
    assert [(p.stage, p.branch) for p in details] == [
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (3, 2),
        (4, 0),
    ]
    assert not any(p.module.identity_init for p in details)


def test_fusion_ablations():
    def fusions(name):
        modules = on_meta(name).backbone.modules()
        return sum(bool(m.outputs) for m in modules if type(m).__name__ == 'AttnHRModule')

    assert fusions('hrnet_scratch_w32_coco_256x192') == 8
    assert fusions('hrnet_fusion_stages_w32_coco_256x192') == 3
    assert fusions('hrnet_fusion_final_w32_coco_256x192') == 1


def without_gradient(model):
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]


def every_distinct(*parts, more=()):
    """One config for each different content of these parts; those of the others were tested."""
    seen = {}
    for name in TOP_DOWN:
        contents = [attrgetter(part)(load(name)) for part in parts]
        key = json.dumps([dict(part, init_cfg=None) for part in contents], sort_keys=True)
        seen.setdefault(key, name)
    return pytest.mark.parametrize('name', [*seen.values(), *more])


every_network = every_distinct('model.backbone')
every_training_data = every_distinct(
    'train_dataloader.dataset', 'codec', more=[name for name in LITE if says(name)['variant']]
)
every_test_data = every_distinct('val_dataloader.dataset', 'codec')


@every_network
def test_full_network_has_a_gradient_everywhere(name, no_roots):
    model_cfg = load(name).model.to_dict()
    model_cfg['backbone']['init_cfg'] = None
    model_cfg['head']['decoder'] = None
    torch.manual_seed(0)
    model = build(model_cfg).train()
    maps = model.head(model.extract_feat(torch.randn(2, 3, 64, 64)))
    stride = 4 * 2 ** (model_cfg['backbone'].get('out_branch') or 0)
    assert tuple(maps.shape) == (2, model.head.out_channels, 64 // stride, 64 // stride)
    maps.square().mean().backward()
    assert not without_gradient(model)


def config_in_the_docs(folder, what):
    """The config on the page in which this text occurs."""
    page = (ROOT / 'docs' / 'topdown.md').read_text()
    texts = re.findall(r"```python\n(_base_ = \['configs/.*?)```", page, re.DOTALL)
    (text,) = (text for text in texts if what in text)
    (folder / 'mine.py').write_text(text.replace("'configs/", f"'{ROOT}/configs/"))
    return Config.fromfile(folder / 'mine.py')


def test_de_hrnet_by_hrnets_recipe_for_mpii(tmp_path, no_roots):
    cfg = config_in_the_docs(tmp_path, '_base_.de_hrnet')
    assert cfg.model == load('dehrnet_w32_mpii_256x256').model
    assert cfg.train_dataloader == load('hrnet_w32_mpii_256x256').train_dataloader


def test_another_input_size_is_the_config_in_the_docs(tmp_path, no_roots):
    cfg = config_in_the_docs(tmp_path, 'input_size=(96, 128)')
    base = load('hrnet_w32_coco_256x192')
    assert tuple(cfg.model.head.decoder.input_size) == (96, 128)
    assert (
        cfg.model.head.decoder
        == step(cfg.train_dataloader.dataset.pipeline, 'GenerateTarget')['encoder']
    )
    for part, other in zip(pipelines(cfg), pipelines(base), strict=True):
        assert [each.type for each in part] == [each.type for each in other]
        assert tuple(step(part, 'TopdownAffine').input_size) == (96, 128)
    assert cfg.test_dataloader == cfg.val_dataloader
    model = small(cfg)
    maps = model.head(model.extract_feat(torch.randn(1, 3, 128, 96)))
    assert tuple(maps.shape[:1:-1]) == tuple(cfg.model.head.decoder.heatmap_size)


# ------------------------------------------------------------------ with data
@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_topdown_data(tmp_path_factory.mktemp('data'))


@pytest.fixture
def roots(data, monkeypatch):
    for variable, root in data.items():
        monkeypatch.setenv(variable, str(root))


def dataset_of(cfg):
    # MMEngine collects garbage while it serialises, which takes longer than the tests
    return DATASETS.build(dict(cfg, serialize_data=False))


def evaluate(cfg, dataset, results):
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [result.to_dict() for result in results])
    return metric.evaluate(len(results))


@every_training_data
def test_trains_predicts_and_is_evaluated(name, roots):
    cfg = load(name)
    model, joints = small(cfg), cfg.model.head.out_channels
    width, height = cfg.codec.input_size
    np.random.seed(0)
    train = dataset_of(cfg.train_dataloader.dataset)
    batch = pseudo_collate([train[0], train[1]])
    assert tuple(batch['inputs'][0].shape) == (3, height, width)
    maps = [tuple(sample.gt_fields.heatmaps.shape) for sample in batch['data_samples']]
    assert maps == [(joints, *cfg.codec.heatmap_size[::-1])] * 2
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert set(losses) == {'loss_kpt'} and losses['loss_kpt'] > 0
    losses['loss_kpt'].backward()
    assert not without_gradient(model)

    model.eval()
    val = dataset_of(cfg.val_dataloader.dataset)
    with torch.no_grad():
        results = model.test_step(pseudo_collate([val[i] for i in range(len(val))]))
    for result in results:
        assert result.pred_instances.keypoints.shape == (1, joints, 2)
        assert np.isfinite(result.pred_instances.keypoints).all()
    figures = evaluate(cfg, val, results)
    assert 0 <= figures[FIGURES[says(name)['data']]] <= 100


@contextmanager
def answers(model, maps):
    """A network that gives these heatmaps for the images in order."""
    maps = list(maps)
    model.backbone.forward = lambda inputs: (inputs,)
    model.head.forward = lambda feats: torch.stack([maps.pop(0) for _ in feats[0]])
    yield model
    assert not maps


@every_test_data
def test_targets_decode_to_the_annotation(name, roots):
    """Training targets, as predictions, are found to be right by the metric: pixels are counted
    alike by data sets, transforms, codec and metric."""
    cfg = load(name)
    dataset = cfg.val_dataloader.dataset
    dataset.bbox_file = None
    val = dataset_of(dataset)
    encode = [dict(type='GenerateTarget', encoder=cfg.codec), dict(type='PackPoseInputs')]
    learn = dict(dataset, pipeline=[*dataset.pipeline[:-1], *encode], test_mode=False)
    learn.pop('headbox_file', None)
    train = dataset_of(learn)
    assert len(train) == len(val) > 1
    maps = [train[i]['data_samples'].gt_fields.heatmaps for i in range(len(train))]

    cfg.model.test_cfg.flip_test = False
    with answers(small(cfg), maps) as model, torch.no_grad():
        results = model.test_step(pseudo_collate([val[i] for i in range(len(val))]))
    figures = evaluate(cfg, val, results)
    width = max(result.gt_instances.bbox_scales[0, 0] for result in results)
    cell = width / cfg.codec.heatmap_size[0]
    for result in results:
        # what the metric compares: MPII's annotations start at 1
        predicted = result.pred_instances.keypoints + ('mpii' in name)
        seen = result.gt_instances.keypoints_visible > 0
        error = np.linalg.norm(predicted - result.gt_instances.keypoints, axis=-1)[seen]
        fine = cfg.codec.get('unbiased') or cfg.codec.type == 'UDPHeatmap'
        assert error.max() < (0.1 if fine else 0.75) * cell
        bias = (predicted - result.gt_instances.keypoints)[seen].mean(0)
        assert (np.abs(bias) < 0.3 * cell).all()
    # MPII's metric gives percent
    least = dict(mpii=95, lspet=0.95).get(says(name)['data'], 0.5 if 'branch' in name else 0.9)
    assert figures[FIGURES[says(name)['data']]] > least


@pytest.mark.parametrize(
    'name, best',
    [
        ('hrnet_camsam_w32_coco_256x192', 'coco_AP'),
        ('hrnet_dark_w32_coco_256x192', 'coco_AP'),
        ('dehrnet_w32_crowdpose_256x192', 'crowdpose_AP'),
        ('hrnet_w32_mpii_256x256', 'PCK'),
        ('dite_hrnet_18_coco_256x192', 'coco_AP'),
        ('litehrnet_18_mpii_256x256', 'PCK'),
    ],
)
def test_runner_trains_and_keeps_the_best(name, best, roots, tmp_path):
    config = write_config(tmp_path, base=ROOT / 'configs' / f'{name}.py')
    runner = build_runner(config, tmp_path / 'work')
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith('head.'))
    assert (tmp_path / f'work/best_{best}_epoch_1.pth').is_file()


@pytest.mark.parametrize('images', JOINTS)
def test_inferencer_detects_people_first(images, roots, tmp_path, monkeypatch):
    """Without a detector MMPoseInferencer would take the whole image for one person."""
    size = '256x256' if images == 'mpii' else '256x192'
    config = write_config(tmp_path, base=ROOT / 'configs' / f'hrnet_w32_{images}_{size}.py')
    torch.save(build(Config.fromfile(config).model.to_dict()).state_dict(), tmp_path / 'w.pth')
    boxes = InstanceData(
        bboxes=torch.tensor([[5.0, 5, 40, 90], [50, 5, 90, 90], [0, 0, 9, 9]]),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 0, 7]),
    )
    detector = MagicMock(return_value=dict(predictions=[SimpleNamespace(pred_instances=boxes)]))
    monkeypatch.setattr(base_mmpose_inferencer, 'DetInferencer', lambda **kwargs: detector)
    # the second scope is that of the metafile's names
    for scope in ('mmpose', 'mmpose_attn') if images == 'coco' else ('mmpose',):
        with DefaultScope.overwrite_default_scope(scope):
            inferencer = MMPoseInferencer(
                str(config), str(tmp_path / 'w.pth'), device='cpu', scope=scope
            )
            result = next(inferencer(np.zeros((100, 100, 3), np.uint8)))
        found = [len(person['keypoints']) for person in result['predictions'][0]]
        assert found == [JOINTS[images]] * 2


@pytest.mark.parametrize(
    'change, message',
    [
        (
            {
                'codec.input_size': (150, 200),
                'codec.heatmap_size': (37, 50),
                'train_dataloader.dataset.pipeline.5.input_size': (150, 200),
                'train_dataloader.dataset.pipeline.6.encoder.input_size': (150, 200),
                'train_dataloader.dataset.pipeline.6.encoder.heatmap_size': (37, 50),
            },
            r'multiples of 32; got \(2, 3, 200, 150\)',
        ),
        (
            {'model.backbone.extra.stages_spec.num_modules': (2, 4)},
            "'num_modules'.*num_stages=3 entries",
        ),
        (
            {
                'model.backbone.extra.stages_spec.num_branches': (2, 3, 5),
                'model.backbone.extra.stages_spec.num_channels': [
                    (8, 16),
                    (8, 16, 32),
                    (8, 16, 32, 64, 128),
                ],
            },
            'stage 2 has 5 branches, but num_groups only 4 entries',
        ),
        ({'model.backbone.extra.with_head': True}, r'but the inputs have .8, 8, 16, 32.'),
    ],
    ids=['size', 'lengths', 'branches', 'head'],
)
def test_dite_hrnet_refuses_what_does_not_fit(change, message, roots, tmp_path):
    neck = 'model.backbone.extra.with_head' in change
    name = f'dite_hrnet_{"csppan_" if neck else ""}18_coco_256x192'
    config = write_config(tmp_path, base=ROOT / 'configs' / f'{name}.py')
    if neck:
        change = {'model.neck.in_channels': [8, 16, 32, 64], **change}
    with pytest.raises(ValueError, match=message):
        build_runner(config, tmp_path / 'work', **change).train()


def test_lite_hrnet_by_init_model(roots, tmp_path):
    """MMPose's LiteHRNet.train() and .eval() return None, which nobody may use."""
    config = write_config(tmp_path, base=ROOT / 'configs' / 'litehrnet_18_coco_256x192.py')
    model = init_model(str(config), device='cpu')
    assert type(model.backbone).__name__ == 'LiteHRNet'
    assert not any(module.training for module in model.modules())
    (result,) = inference_topdown(model, np.zeros((100, 80, 3), np.uint8))
    assert result.pred_instances.keypoints.shape == (1, 17, 2)


REAL = dict(
    dite_hrnet_18_coco_256x192=('coco', 'test_coco.json', 'test_coco_det_AP_H_56.json'),
    litehrnet_18_mpii_256x256=('mpii', 'test_mpii.json', None),
    hrnet_camsam_w32_coco_256x192=('coco', 'test_coco.json', 'test_coco_det_AP_H_56.json'),
    dehrnet_w32_crowdpose_256x192=(
        'crowdpose',
        'test_crowdpose.json',
        'test_crowdpose_det_AP_40.json',
    ),
    dehrnet_w48_mpii_256x256=('mpii', 'test_mpii.json', None),
)


@pytest.mark.parametrize('name', REAL)
def test_real_images(name, tmp_path):
    folder, annotations, boxes = REAL[name]
    root = real_data('tiny', folder)
    cfg = load(name)
    here = dict(data_root=str(root), ann_file=annotations, data_prefix=dict(img=''))
    train = dataset_of(dict(cfg.train_dataloader.dataset, **here))
    samples = [train[i] for i in range(len(train))]
    assert all(s['data_samples'].gt_fields.heatmaps.max() > 0.9 for s in samples)
    model = small(cfg)
    losses = model(**model.data_preprocessor(pseudo_collate(samples), True), mode='loss')
    assert losses['loss_kpt'].isfinite()

    if boxes:
        here['bbox_file'] = str(root / boxes)
        cfg.val_evaluator.ann_file = str(root / annotations)
    else:
        here['headbox_file'] = None
        cfg.val_evaluator.update(norm_item='bbox', type='PCKAccuracy')
    val = dataset_of(dict(cfg.val_dataloader.dataset, **here))
    model.eval()
    with torch.no_grad():
        results = model.test_step(pseudo_collate([val[i] for i in range(min(len(val), 8))]))
    figures = evaluate(cfg, val, results)
    assert all(np.isfinite(value) for value in figures.values())


def test_detections_of_other_images_are_refused(data, tmp_path, roots):
    cfg = load('hrnet_w32_coco_256x192')
    dataset = cfg.val_dataloader.dataset
    boxes = tmp_path / 'boxes.json'
    boxes.write_text((data['COCO_ROOT'] / dataset.bbox_file).read_text())
    edit_json(boxes, lambda found: found[0].update(image_id=7))
    with pytest.raises(ValueError, match='detection file .*boxes.json'):
        dataset_of(dict(dataset, bbox_file=str(boxes)))
