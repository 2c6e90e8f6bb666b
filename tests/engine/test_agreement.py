"""Data, network, codec and metric agree before the first step, or one error says what does not."""

import copy
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import DefaultScope

from mmpose_attn.engine import DisagreementError, find_disagreements
from mmpose_attn.engine.agreement import parts_of_config
from mmpose_attn.engine.agreement.parts import Parts
from mmpose_attn.engine.agreement.sizes import _maps
from tests.config_helpers import load
from tests.data_helpers import (
    DEMO,
    ROOT,
    TRAIN,
    VAL,
    build_runner,
    edit_json,
    make_topdown_data,
    write_config,
)

COCO = ROOT / 'configs' / 'hrnet_w32_coco_256x192.py'
BEETLES = ('head', 'tail', 'left_1', 'right_1', 'left_2', 'right_2', 'middle')


def beetles(names=BEETLES, **changes):
    """The metainfo of an own data set of seven keypoints."""
    swaps = {name: name.replace('left', 'right') for name in names if 'left' in name}
    swaps.update({other: name for name, other in swaps.items()})
    meta = dict(
        dataset_name='beetles',
        keypoint_info={
            i: dict(name=name, id=i, color=[0, 9, 255], type='', swap=swaps.get(name, ''))
            for i, name in enumerate(names)
        },
        skeleton_info={0: dict(link=('head', 'middle'), id=0, color=[0, 9, 255])},
        joint_weights=[1.0] * len(names),
        sigmas=[0.05] * len(names),
    )
    meta.update(changes)
    return meta


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    roots = make_topdown_data(folder)
    roots['SYNTHETIC_ROOT'] = roots['COCO_ROOT']
    return roots


@pytest.fixture(scope='module')
def seven(roots, tmp_path_factory):
    """The same images with the first seven keypoints."""
    folder = tmp_path_factory.mktemp('seven')
    (folder / 'annotations').mkdir()
    for split in (TRAIN, VAL):
        contents = json.loads((roots['COCO_ROOT'] / split).read_text())
        for ann in contents['annotations']:
            ann['keypoints'] = ann['keypoints'][:21]
        (folder / split).write_text(json.dumps(contents))
    for split in ('train2017', 'val2017'):
        (folder / split).symlink_to(roots['COCO_ROOT'] / split)
    return folder


@pytest.fixture
def config(roots, monkeypatch, tmp_path):
    """A small config, ``config('topdown', **options)``."""
    for name, path in roots.items():
        monkeypatch.setenv(name, str(path))

    read = {}

    def make(kind, **options):
        if kind not in read:
            base = DEMO if kind == 'bottomup' else COCO
            read[kind] = Config.fromfile(write_config(tmp_path, base=base))
        cfg = copy.deepcopy(read[kind])
        cfg.merge_from_dict(options)
        return cfg

    return make


def own(root, metainfo, kind='bottomup', phases=('train', 'val', 'test')):
    """What a config of an own data set changes."""
    options = {}
    for phase in phases:
        data = f'{phase}_dataloader.dataset'
        options[f'{data}.metainfo'] = metainfo
        options[f'{data}.data_root'] = str(root)
        if kind == 'topdown' and phase != 'train':
            options[f'{data}.bbox_file'] = None
            options[f'{phase}_evaluator.ann_file'] = str(root / VAL)
    if kind == 'bottomup':
        options.update({f'{p}_evaluator.ann_file': str(root / VAL) for p in ('val', 'test')})
    return options


def keys(found):
    return [d.key for d in found]


# ------------------------------------------------------------------- no false alarm
@pytest.mark.parametrize('kind', ['bottomup', 'topdown'])
def test_what_agrees_is_not_reported(config, seven, kind):
    assert find_disagreements(config(kind)) == []
    options = own(seven, beetles(), kind)
    if kind == 'bottomup':
        options['model.head.num_keypoints'] = 7
        options['model.head.decoder.decode_keypoint_order'] = [6, 0, 1, 2, 3, 4, 5]
    else:
        options['model.head.out_channels'] = 7
    assert find_disagreements(config(kind, **options)) == []


@pytest.mark.parametrize(
    'name',
    [
        'demo_higherhrnet_se_synthetic_256',
        'dite_hrnet_18_lspet_96x96',
        'hrnet_branch2x_w32_coco_256x192',
        'hrnet_udp_w32_coco_256x192',
        'litehrnet_18_mpii_256x256',
    ],
)
def test_configs_agree(name, roots, monkeypatch):
    for variable, path in roots.items():
        monkeypatch.setenv(variable, str(path))
    cfg = load(name)
    parts = parts_of_config(cfg)
    assert find_disagreements(parts) == []
    assert _maps(parts.model, (64, 64))  # its strides are known
    assert cfg.default_hooks.agreement.type == 'AgreementHook'


def test_looking_at_a_network_leaves_it_as_it_is(config):
    parts = parts_of_config(config('bottomup'))
    model = parts.model.train()
    model.backbone.conv1.eval()
    flags = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    find_disagreements(parts)
    assert flags == [module.training for module in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


# ------------------------------------------------------------------- numbers of keypoints
@pytest.mark.parametrize('joints', [1, 7])
def test_keypoints_of_data_and_bottomup_head(config, seven, joints):
    names = BEETLES[:1] if joints == 1 else BEETLES
    metainfo = beetles(names, **({'skeleton_info': {}} if joints == 1 else {}))
    found = find_disagreements(config('bottomup', **own(seven, metainfo)))
    assert keys(found) == ['model.head.num_keypoints', 'model.head.decoder.decode_keypoint_order']
    assert f'model.head.num_keypoints={joints}' in found[0].remedy
    assert f'17 entries for {joints} keypoints' in found[1].problem


def test_keypoints_of_data_and_topdown_head(config, seven):
    (found,) = find_disagreements(config('topdown', **own(seven, beetles(), 'topdown')))
    assert found.key == 'model.head.out_channels'
    assert 'model.head.out_channels=7' in found.remedy


def test_combined_udp_has_three_maps_a_keypoint(config, seven):
    codec = dict(
        type='UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64), heatmap_type='combined'
    )
    cfg = config('topdown', **own(seven, beetles(), 'topdown'))
    cfg.model.head.update(decoder=codec, out_channels=7)
    cfg.model.test_cfg.flip_mode = 'heatmap'
    found = find_disagreements(cfg)
    by_key = {d.key: d for d in found}
    # 7 is not divisible by 3, so nothing certain can be said of the number
    assert "flip_mode='udp_combined'" in by_key['model.test_cfg.flip_mode'].remedy
    cfg.model.head.out_channels = 51
    found = {d.key: d for d in find_disagreements(cfg)}
    assert 'model.head.out_channels=21' in found['model.head.out_channels'].remedy


def test_metainfo_forgotten_for_validation(config, seven):
    options = own(seven, beetles(), phases=('train',))
    options['model.head.num_keypoints'] = 7
    found = find_disagreements(config('bottomup', **options))
    assert found[0].key.startswith('train_dataloader.dataset.metainfo, val_dataloader')
    assert 'different numbers' in found[0].problem


@pytest.mark.parametrize(
    'order',
    [None, [6.0, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 5], [1, 2, 3, 4, 5, 6, 7], [0, 1], []],
)
def test_decode_keypoint_order(config, seven, order):
    options = own(seven, beetles())
    options['model.head.num_keypoints'] = 7
    options['model.head.decoder.decode_keypoint_order'] = order
    (found,) = find_disagreements(config('bottomup', **options))
    assert found.key == 'model.head.decoder.decode_keypoint_order'
    assert '[0, 1, 2, 3, 4, 5, 6]' in found.remedy


# ------------------------------------------------------------------- names, flips, wrappers
def test_other_names_or_order_in_validation(config, seven):
    for names in (
        ('tail', 'head', *BEETLES[2:]),
        ('head', 'tail', 'left_1', 'right_1', 'left_3', 'right_3', 'middle'),
    ):
        options = own(seven, beetles())
        options.update(own(seven, beetles(names), phases=('val', 'test')))
        options['model.head.num_keypoints'] = 7
        options['model.head.decoder.decode_keypoint_order'] = list(range(7))
        found = find_disagreements(config('bottomup', **options))
        assert keys(found) == [f'{p}_dataloader.dataset.metainfo' for p in ('val', 'test')]
        assert 'is ' in found[0].problem


def test_other_swaps_in_validation(config, seven):
    metainfo = beetles()
    for i in (2, 3):
        metainfo['keypoint_info'][i]['swap'] = ''
    options = own(seven, beetles())
    options['val_dataloader.dataset.metainfo'] = metainfo
    options['model.head.num_keypoints'] = 7
    options['model.head.decoder.decode_keypoint_order'] = list(range(7))
    (found,) = find_disagreements(config('bottomup', **options))
    assert found.key == 'val_dataloader.dataset.metainfo'
    assert '[0, 1, 2, 3, 5, 4, 6] and [0, 1, 3, 2, 5, 4, 6]' in found.problem


def test_wrong_swaps_also_of_a_data_set_of_mmpose(config, seven):
    metainfo = beetles()
    metainfo['keypoint_info'][3]['swap'] = ''
    options = own(seven, metainfo)
    for phase in ('train', 'val', 'test'):
        options[f'{phase}_dataloader.dataset.type'] = 'CocoDataset'
    options['model.head.num_keypoints'] = 7
    options['model.head.decoder.decode_keypoint_order'] = list(range(7))
    found = find_disagreements(config('bottomup', **options))
    assert keys(found) == [f'{p}_dataloader.dataset.metainfo' for p in ('train', 'val', 'test')]
    assert '[0, 1, 3, 3, 5, 4, 6]' in found[0].problem


def combined(dataset, metainfo, pipelines, more=()):
    """The data set in two copies with other first transforms."""
    rest = dataset.pop('pipeline')
    parts = [dict(copy.deepcopy(dataset), pipeline=pipeline) for pipeline in pipelines]
    return dict(type='CombinedDataset', metainfo=metainfo, datasets=parts, pipeline=[*more, *rest])


def test_wrappers_and_converters(config, seven):
    five = beetles(BEETLES[:5])
    five['keypoint_info'][4].update(swap='')
    five['skeleton_info'] = {}
    convert = dict(type='KeypointConverter', num_keypoints=5, mapping=[(i, i) for i in range(5)])
    options = own(seven, beetles(), phases=('train',))
    cfg = config('bottomup', **options)
    cfg.val_dataloader = cfg.test_dataloader = cfg.val_evaluator = cfg.test_evaluator = None
    cfg.val_cfg = cfg.test_cfg = None
    cfg.model.head.num_keypoints = 5
    cfg.model.head.decoder.decode_keypoint_order = list(range(5))
    dataset = cfg.train_dataloader.dataset.to_dict()
    whole = combined(copy.deepcopy(dataset), five, [[convert], [convert]])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=whole)
    assert find_disagreements(cfg) == []

    # one of the two is not converted
    whole = combined(copy.deepcopy(dataset), five, [[convert], []])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=whole)
    found = find_disagreements(cfg)
    assert 'train_dataloader.dataset.dataset.datasets[1].pipeline' in keys(found)
    # a converter of keypoints that are not there
    wrong = dict(convert, mapping=[(7, 0)])
    cfg.train_dataloader.dataset = combined(copy.deepcopy(dataset), five, [[wrong], [convert]])
    (found,) = find_disagreements(cfg)
    assert found.key.endswith('datasets[0].pipeline, KeypointConverter.mapping')
    wrong = dict(convert, mapping=[(0, 5)])
    cfg.train_dataloader.dataset = combined(copy.deepcopy(dataset), five, [[wrong], [convert]])
    (found,) = find_disagreements(cfg)
    assert 'it gives keypoint 5 of 5' in found.problem


# ------------------------------------------------------------------- sizes, codecs, test_cfg
def test_sizes_of_topdown(config):
    cfg = config('topdown')
    cfg.val_dataloader.dataset.pipeline[2].input_size = (288, 384)
    cfg.test_dataloader = cfg.val_dataloader
    found = find_disagreements(cfg)
    assert set(keys(found)) == {'model.head.decoder.input_size'}

    cfg = config('topdown', **{'model.head.decoder.heatmap_size': (96, 128)})
    found = find_disagreements(cfg)
    assert set(keys(found)) == {'model.head.decoder.heatmap_size'}
    assert 'heatmap_size=(48, 64)' in found[-1].remedy

    cfg = config('topdown')
    cfg.train_dataloader.dataset.pipeline[-2].encoder.input_size = (256, 256)
    assert 'train_dataloader.dataset.pipeline, GenerateTarget.encoder.input_size' in keys(
        find_disagreements(cfg)
    )
    cfg = config('topdown')
    affine = next(s for s in cfg.train_dataloader.dataset.pipeline if s.type == 'TopdownAffine')
    affine.use_udp = True
    (found,) = find_disagreements(cfg)
    assert found.key == 'train_dataloader.dataset.pipeline, TopdownAffine.use_udp'


def test_sizes_that_the_network_cannot_take(config):
    cfg = config('topdown')
    size = (100, 130)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'TopdownAffine':
                step.input_size = size
            if 'encoder' in step:
                step.encoder.input_size = size
    cfg.model.head.decoder.input_size = size
    found = find_disagreements(cfg)
    assert any('cannot take images of (100, 130)' in d.problem for d in found)


def test_sizes_of_bottomup(config):
    cfg = config('bottomup')
    target = next(s for s in cfg.train_dataloader.dataset.pipeline if s.type == 'GenerateTarget')
    target.encoder.heatmap_size = [(32, 32), (64, 64)]
    cfg.model.head.decoder.heatmap_size = (32, 32)
    found = {d.key: d for d in find_disagreements(cfg)}
    encoder = 'train_dataloader.dataset.pipeline, GenerateTarget.encoder.heatmap_size'
    assert '[(16, 16), (32, 32)]' in found[encoder].remedy
    assert '(64, 64)' in found['model.head.decoder.heatmap_size'].remedy
    target.encoder.heatmap_size = [(16, 16)]  # the head has two stages
    assert encoder in keys(find_disagreements(cfg))


def test_kinds_of_codec_model_and_pipeline(config):
    cfg = config('topdown', **{'model.head.decoder.type': 'UDPHeatmap'})
    assert 'model.head.decoder.type' in keys(find_disagreements(cfg))
    cfg = config('topdown', **{'train_dataloader.dataset.data_mode': 'bottomup'})
    assert keys(find_disagreements(cfg)) == ['train_dataloader.dataset.data_mode']
    cfg = config('bottomup', **{'val_dataloader.dataset.data_mode': 'topdown'})
    assert 'val_dataloader.dataset.data_mode' in keys(find_disagreements(cfg))
    cfg = config('bottomup')
    cfg.train_dataloader.dataset.pipeline = [
        s for s in cfg.train_dataloader.dataset.pipeline if s.type != 'BottomupCrowdMask'
    ]
    assert keys(find_disagreements(cfg)) == ['train_dataloader.dataset.pipeline']
    cfg = config('bottomup')
    cfg.val_dataloader.dataset.pipeline[1].scales = (1, 2)
    cfg.val_dataloader.dataset.pipeline[2].type = 'PackPoseInputs'
    assert set(keys(find_disagreements(cfg))) == {
        'model.test_cfg.multiscale_test',
        'val_dataloader.dataset.pipeline, PackPoseInputs',
    }
    cfg = config('topdown', **{'model.test_cfg.flip_mode': 'mirror', 'model.head.decoder': None})
    assert keys(find_disagreements(cfg)) == ['model.head.decoder']
    cfg = config('topdown', **{'model.test_cfg.flip_mode': 'mirror'})
    assert keys(find_disagreements(cfg)) == ['model.test_cfg.flip_mode']


# ------------------------------------------------------------------- metrics
@pytest.mark.parametrize('metric', ['PCKAccuracy', 'EPE', 'AUC', 'MpiiPCKAccuracy'])
def test_metrics_of_topdown_with_bottomup(config, metric):
    cfg = config('bottomup')
    cfg.val_evaluator = cfg.test_evaluator = dict(type=metric)
    found = find_disagreements(cfg)
    assert keys(found)[:2] == ['val_evaluator', 'test_evaluator']
    assert 'CocoMetric' in found[0].remedy and metric in found[0].problem


def test_metrics_of_other_keypoints(config, seven):
    cfg = config('topdown')
    cfg.val_evaluator = cfg.test_evaluator = dict(type='MpiiPCKAccuracy')
    assert keys(find_disagreements(cfg)) == ['val_evaluator', 'test_evaluator']
    for changes, what in ((dict(sigmas=[]), '0 for 7'), (dict(sigmas=[-0.1] * 7), '-0.1')):
        options = own(seven, beetles(**changes), 'topdown')
        options.update(
            {f'{p}_dataloader.dataset.type': 'CocoDataset' for p in ('train', 'val', 'test')}
        )
        options['model.head.out_channels'] = 7
        found = find_disagreements(config('topdown', **options))
        assert 'val_dataloader.dataset.metainfo, sigmas' in keys(found)
        assert what in found[0].problem


def test_evaluator_of_other_images(config, roots, tmp_path):
    root = roots['COCO_ROOT']
    (found,) = find_disagreements(
        config('bottomup', **{'val_evaluator.ann_file': str(root / TRAIN)})
    )
    assert found.key == 'val_evaluator.ann_file' and str(root / VAL) in found.remedy

    def other(edit):
        path = tmp_path / 'other.json'
        path.write_text((root / VAL).read_text())
        edit_json(path, edit)
        return find_disagreements(config('bottomup', **{'val_evaluator.ann_file': str(path)}))

    def rename(contents):
        contents['images'][0]['file_name'] = 'another.jpg'

    def move(contents):
        for ann in contents['annotations']:
            ann['keypoints'] = [x + 1 for x in ann['keypoints']]

    assert other(lambda contents: None) == []  # another path, the same contents
    assert 'another.jpg' in other(rename)[0].problem
    assert 'no keypoints' in other(move)[0].problem
    (found,) = other(lambda contents: contents['images'].pop())
    assert 'results on 1 images' in found.problem


@pytest.mark.parametrize('change', [dict(indices=1), dict(sample_interval=2)])
def test_evaluator_of_more_images_than_are_tested(config, change):
    ((name, value),) = change.items()
    for phase, count in (('train', 0), ('val', 1)):
        options = {f'{phase}_dataloader.dataset.{name}': value}
        found = find_disagreements(config('bottomup', **options))
        assert keys(found) == [f'val_dataloader.dataset.{name}'] * count


def test_metrics_of_parts_of_the_body(config):
    def found(kind, **inner):
        cfg = config(kind)
        parts = dict(face=[0, 1, 2, 3, 4], rest=list(range(5, 17)))
        metric = dict(type='KeypointPartitionMetric', metric=inner, partitions=parts)
        cfg.val_evaluator = cfg.test_evaluator = metric
        return find_disagreements(cfg)

    assert found('topdown', type='PCKAccuracy') == []
    assert keys(found('bottomup', type='EPE'))[:2] == ['val_evaluator', 'test_evaluator']


def test_the_metric_of_mpii_bottomup(config):
    cfg = config('bottomup')
    cfg.val_evaluator = dict(type='MpiiMultiPersonAP')
    found = find_disagreements(cfg)
    assert keys(found) == ['val_evaluator', 'val_dataloader.dataset.headbox_file']
    cfg = config('topdown')
    cfg.val_evaluator = dict(type='MpiiMultiPersonAP')
    assert 'is for bottom-up models' in find_disagreements(cfg)[-1].problem


def test_metric_of_mmpose_and_other_categories(config, roots, tmp_path):
    """It takes results for category 1 where their samples say no other."""
    path = tmp_path / 'other.json'

    def found(kind, ids, **options):
        path.write_text((roots['COCO_ROOT'] / VAL).read_text())

        def number(contents):
            contents['categories'] = [dict(contents['categories'][0], id=i) for i in ids]
            for i, ann in enumerate(contents['annotations']):
                ann['category_id'] = ids[i % len(ids)]

        edit_json(path, number)
        for phase in ('val', 'test'):
            options[f'{phase}_evaluator.ann_file'] = str(path)
            options[f'{phase}_dataloader.dataset.ann_file'] = str(path)
        options = {'val_evaluator.type': 'CocoMetric', **options}
        return find_disagreements(config(kind, **options))

    assert found('bottomup', [1]) == found('bottomup', [3]) == []  # as PackBottomupInputs says
    (several,) = found('bottomup', [1, 2])
    assert several.key == 'val_evaluator.type' and 'category_id 1, 2' in several.problem
    assert several.remedy == "Write type='CheckedCocoMetric'"
    assert found('bottomup', [1, 2], **{'val_evaluator.type': 'CheckedCocoMetric'}) == []
    stock = {'val_dataloader.dataset.type': 'CocoDataset'}
    pack = config('bottomup').val_dataloader.dataset.pipeline
    keys_of_mmpose = ('id', 'img_id', 'img_path', 'input_size', 'input_center', 'input_scale')
    pack[-1] = dict(type='PackPoseInputs', meta_keys=keys_of_mmpose)
    stock['val_dataloader.dataset.pipeline'] = pack
    assert keys(found('bottomup', [3], **stock)) == ['val_evaluator.type']
    assert found('bottomup', [1], **stock) == []
    assert found('topdown', [1, 2]) == []
    boxes = {'val_dataloader.dataset.type': 'CocoDataset'}
    (given,) = found('topdown', [3], **boxes)
    assert given.key == 'val_evaluator.type'
    assert found('topdown', [3], **boxes, **{'val_dataloader.dataset.bbox_file': None}) == []


# ------------------------------------------------------------------- the best checkpoint
@pytest.fixture(scope='module')
def runtime():
    return Config.fromfile(ROOT / 'configs' / '_base_' / 'default_runtime.py')


def best(runtime, hook, *metrics):
    """What is found of a config without model and data."""
    cfg = copy.deepcopy(runtime)
    cfg.train_cfg = dict(max_epochs=1)
    cfg.val_evaluator = list(metrics) if len(metrics) > 1 else metrics[0]
    cfg.default_hooks.checkpoint.update(hook)
    return find_disagreements(cfg)


def test_the_rule_follows_the_metric(runtime):
    epe, nme = dict(type='EPE'), dict(type='NME', norm_mode='use_norm_item', norm_item='x')
    pck = dict(type='PCKAccuracy')
    for metric, right, wrong in (
        (epe, 'less', 'greater'),
        (nme, 'less', 'greater'),
        (pck, 'greater', 'less'),
    ):
        assert best(runtime, {}, metric) == []
        assert best(runtime, dict(rule=right), metric) == []
        (found,) = best(runtime, dict(rule=wrong), metric)
        assert found.key == 'default_hooks.checkpoint.rule' and f"rule='{right}'" in found.remedy
    (found,) = best(runtime, dict(save_best='EPE', rule='greater'), pck, epe)
    assert 'worst' in found.problem
    assert best(runtime, dict(save_best='EPE'), pck, epe) == []
    (found,) = best(runtime, dict(save_best='coco/AP'), epe)
    assert found.key == 'default_hooks.checkpoint.save_best' and "'EPE'" in found.remedy
    assert best(runtime, dict(save_best=None), epe) == []
    assert best(runtime, {}, dict(type='MpiiMultiPersonAP')) == []
    coco = dict(type='CheckedCocoMetric')
    for name, count in (('coco/AP .5', 0), ('coco/AR (L)', 0), ('coco/AP50', 1), ('coco/APs', 1)):
        assert len(best(runtime, dict(save_best=name, rule='greater'), coco)) == count


def test_unknown_metrics_need_a_rule(runtime):
    handedness = dict(type='InterHandMetric', modes=['MPJPE'])
    (found,) = best(runtime, {}, handedness)
    assert found.key == 'default_hooks.checkpoint.rule' and 'save_best' in found.remedy
    assert best(runtime, dict(save_best='MPJPE_all', rule='less'), handedness) == []


def test_default_keys_know_the_figures():
    cfg = load('hrnet_w32_coco_256x192').default_hooks.checkpoint.to_dict()
    cfg.pop('type')
    for name, rule in (
        ('coco/AP', 'greater'),
        ('crowdpose/AP', 'greater'),
        ('coco/AR (M)', 'greater'),
        ('PCK', 'greater'),
        ('AUC', 'greater'),
        ('EPE', 'less'),
        ('NME', 'less'),
    ):
        assert CheckpointHook(**dict(cfg, save_best=name)).rules == [rule]


# ------------------------------------------------------------------- the hook
def test_everything_at_once_before_the_first_step(config, seven, tmp_path):
    options = own(seven, beetles())
    options['model.test_cfg.multiscale_test'] = True
    options['train_dataloader.dataset.data_mode'] = 'bottomup'
    cfg = config('bottomup', **options)
    cfg.model.head.decoder.heatmap_size = (32, 32)
    path = tmp_path / 'own.py'
    cfg.dump(path)
    for run in ('train', 'test'):
        runner = build_runner(path, tmp_path / 'work')
        scope = DefaultScope.overwrite_default_scope('mmpose')
        with scope, pytest.raises(DisagreementError) as error:
            getattr(runner, run)()
        text = str(error.value)
        for part in (
            'model.head.num_keypoints: it is 17, but',
            'model.head.decoder.decode_keypoint_order: it has 17 entries for 7',
            'model.head.decoder.heatmap_size',
        ):
            assert part in text
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_other_models_are_left_alone():
    assert find_disagreements(Parts(torch.nn.Linear(1, 1))) == []
    assert find_disagreements(Config(dict(default_scope='mmpose'))) == []


def test_what_cannot_be_built_is_among_it(config):
    cfg = config('topdown', **{'val_evaluator.ann_file': '/nowhere.json'})
    cfg.train_dataloader.dataset.pipeline[0].type = 'LoadNothing'
    found = keys(find_disagreements(cfg))
    assert found == ['train_dataloader.dataset', 'val_evaluator']
