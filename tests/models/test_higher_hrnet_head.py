"""HigherHRNet as a whole: the official numbers, the loss, and every way to predict."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from torch import nn

from mmpose_attn.models import HigherHRNetHead
from tests.helpers import (
    COCO_FLIP,
    PARITY,
    ROOT,
    assert_close,
    build,
    codec_cfg,
    higherhrnet_cfg,
    parity_sample,
    parity_state,
    randomize,
    raw_sample,
    run_pipeline,
    scene,
    train_pipeline,
)

pytestmark = pytest.mark.usefixtures('mmpose_scope')


# ----------------------------------------------------- the official network
def published_model(width, meta=False):
    from mmengine import Config

    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / f'higherhrnet_w{width}.py').model
    cfg.backbone.init_cfg = None
    with torch.device('meta' if meta else 'cpu'):
        return build(cfg)


@pytest.fixture(scope='module')
def w32(mmpose_scope):
    return published_model(32)


@pytest.fixture(scope='module')
def official_keys():
    return json.loads((PARITY / 'higherhrnet_w32_128x128.keys.json').read_text())


@pytest.fixture(scope='module')
def official_state(official_keys):
    state = parity_state(official_keys)
    counters = {k: torch.tensor(0) for k in official_keys if k.endswith('num_batches_tracked')}
    return state | counters


@pytest.fixture(scope='module')
def parity():
    with np.load(PARITY / 'higherhrnet_w32_128x128.npz') as file:
        return {key: file[key] for key in file.files}


def parity_input(parity):
    shape = tuple(parity['input_shape'])
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_parity_in_evaluation(w32, official_state, parity):
    w32.load_state_dict(official_state)
    w32.eval()
    with torch.no_grad():
        outs = w32(parity_input(parity))
    assert len(outs) == parity['n_out']
    for i, out in enumerate(outs):
        assert tuple(out.shape) == tuple(parity[f'eval_{i}_shape'])
        assert out.abs().max() == pytest.approx(float(parity[f'eval_{i}_absmax']), rel=1e-5)
        assert_close(parity_sample(out), parity[f'eval_{i}'], 1e-5)


@pytest.mark.parametrize('threads', [1, 2])
def test_parity_in_training(w32, official_state, parity, threads):
    w32.load_state_dict(official_state)
    w32.train()
    x = parity_input(parity).requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        outs = w32(x)
        loss, same_bits = 0, True
        for i, out in enumerate(outs):
            sample = parity_sample(out)
            same_bits = same_bits and np.array_equal(sample, parity[f'train_{i}'])
            assert_close(sample, parity[f'train_{i}'], 1e-4)
            rng = np.random.default_rng(100 + i)
            weight = torch.from_numpy(rng.normal(size=tuple(out.shape)).astype(np.float32))
            loss = loss + (out * weight).mean()
        loss.backward()
    finally:
        torch.set_num_threads(before)
    assert loss.item() == pytest.approx(float(parity['train_loss']), rel=1e-4)
    # The gradient jumps where one of millions of activations near 0 has another sign, by 1 % of
    # its largest value for another order of summation alone. Two threads on the machine that
    # made the file give its bits.
    gradient, expected = parity_sample(x.grad), parity['train_dx']
    assert_close(gradient, expected, 1e-4 if same_bits else 0.05)
    assert np.linalg.norm(gradient - expected) < 0.02 * np.linalg.norm(expected)


def in_0x(state):
    return {
        ('keypoint_head.' if key.startswith(('final_layers', 'deconv_layers')) else 'backbone.')
        + key: value
        for key, value in state.items()
    }


VARIANTS = {
    'official': lambda s: s,
    'official, distributed': lambda s: {f'module.{k}': v for k, v in s.items()},
    'official, fp16': lambda s: {f'1.{k}': v.half() for k, v in s.items()},
    'official, fp16, distributed': lambda s: {f'module.1.{k}': v.half() for k, v in s.items()},
    '0.x': in_0x,
    '0.x, distributed': lambda s: {f'module.{k}': v for k, v in in_0x(s).items()},
    'own': lambda s: {k.replace('keypoint_head.', 'head.'): v for k, v in in_0x(s).items()},
}


@pytest.mark.parametrize(
    'variant, through_file',
    [*((name, False) for name in VARIANTS), ('official, fp16', True), ('0.x', True)],
)
def test_published_checkpoints_load_as_they_are(
    w32, official_state, official_keys, variant, through_file, tmp_path
):
    state = VARIANTS[variant](official_state)
    for parameter in w32.parameters():
        nn.init.constant_(parameter, 7.0)
    if through_file:
        torch.save(dict(state_dict=state, meta={}), tmp_path / 'x.pth')
        load_checkpoint(w32, str(tmp_path / 'x.pth'), map_location='cpu', strict=True)
    else:
        keys = list(state)
        result = w32.load_state_dict(state, strict=True)
        assert not result.missing_keys and not result.unexpected_keys
        assert list(state) == keys  # the caller's dict is his
    own = w32.state_dict()
    assert len(own) == len(official_keys) == 1810
    for key, value in official_state.items():
        prefix = 'head.' if key.startswith(('final_layers', 'deconv_layers')) else 'backbone.'
        expected = value.half().float() if 'fp16' in variant else value
        assert own[prefix + key].dtype == value.dtype
        assert torch.equal(own[prefix + key], expected.to(value.dtype)), key


def test_imagenet_checkpoint_fills_the_backbone(w32, official_state):
    state = {k: v for k, v in official_state.items() if 'final' not in k and 'deconv' not in k}
    state['classifier.weight'] = torch.zeros(1000, 2048)
    result = w32.load_state_dict(state, strict=False)
    assert all(key.startswith('head.') for key in result.missing_keys) and result.missing_keys
    assert result.unexpected_keys == ['classifier.weight']


@pytest.mark.parametrize('width, count, head', [(32, 28645331, 109779), (48, 63827139, 232227)])
def test_parameter_counts(width, count, head):
    model = published_model(width, meta=True)
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(p.numel() for p in model.head.parameters()) == head


def test_checkpoint_of_another_width_is_an_error(official_state):
    model = build(higherhrnet_cfg())
    with pytest.raises(ValueError, match='does not fit HigherHRNetEstimator'):
        model.load_state_dict(official_state, strict=False)


# ------------------------------------------------------------- partial_load
def test_partial_load_starts_other_keypoints(tmp_path):
    coco = randomize(build(higherhrnet_cfg(num_keypoints=17)))
    torch.save(dict(state_dict=coco.state_dict()), tmp_path / 'coco.pth')
    parts = ('head.final_layers', 'head.deconv_layers.0.0.0')
    crowd = build(higherhrnet_cfg(num_keypoints=14, partial_load=parts))
    own = copy.deepcopy(crowd.state_dict())
    load_checkpoint(crowd, str(tmp_path / 'coco.pth'))
    for key, value in crowd.state_dict().items():
        assert torch.equal(value, (own if key.startswith(parts) else coco.state_dict())[key])
    # and nothing else may differ
    with pytest.raises(ValueError, match=r'head\.deconv_layers\.0\.0\.0\.weight'):
        load_checkpoint(
            build(higherhrnet_cfg(num_keypoints=14, partial_load=parts[:1])),
            str(tmp_path / 'coco.pth'),
        )
    with pytest.raises(TypeError, match="sequence of prefixes, got 'head'"):
        build(higherhrnet_cfg(partial_load='head'))


# ------------------------------------------------------------------- forward
def test_published_names_and_shapes():
    head = HigherHRNetHead(32, 17)
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert shapes['final_layers.0.weight'] == (34, 32, 1, 1)
    assert shapes['final_layers.1.weight'] == (17, 32, 1, 1)
    assert shapes['deconv_layers.0.0.0.weight'] == (66, 32, 4, 4)
    assert shapes['deconv_layers.0.4.0.conv2.weight'] == (32, 32, 3, 3)
    assert isinstance(head.deconv_layers, nn.ModuleList)


def test_reads_the_highest_resolution():
    """Trap 15: the last of several backbone outputs has stride 32."""
    cfg = higherhrnet_cfg()
    cfg['backbone']['extra']['stage4']['multiscale_output'] = True
    model = randomize(build(cfg)).eval()
    feats = model.extract_feat(torch.randn(1, 3, 64, 96))
    assert [f.shape[1] for f in feats] == [4, 8, 16, 32]
    outs = model.head(feats)
    assert [tuple(o.shape) for o in outs] == [(1, 34, 16, 24), (1, 17, 32, 48)]
    assert all(torch.equal(a, b) for a, b in zip(outs, model.head(feats[0]), strict=True))


@pytest.mark.parametrize('kernel', [2, 3, 4])
@pytest.mark.parametrize('cat', [True, False])
@pytest.mark.parametrize('tag_dim', [1, 2])
def test_further_stages(kernel, cat, tag_dim):
    head = HigherHRNetHead(
        4,
        5,
        tag_dim=tag_dim,
        deconv_out_channels=(6, 8),
        deconv_kernel_sizes=(kernel, 4),
        num_basic_blocks=2,
        cat_output=(cat, True),
        with_tags=(True, False, False),
        heatmap_weights=(1, 1, 1),
    )
    outs = head(torch.randn(2, 4, 7, 9))
    assert [tuple(o.shape) for o in outs] == [
        (2, 5 * (1 + tag_dim), 7, 9), (2, 5, 14, 18), (2, 5, 28, 36),
    ]  # fmt: skip
    first = head.deconv_layers[0][0][0]
    assert first.in_channels == 4 + cat * 5 * (1 + tag_dim)
    assert head.deconv_layers[1][0][0].in_channels == 6 + 5
    assert len(head.deconv_layers[0]) == 3


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(deconv_kernel_sizes=(4, 4)), 'deconv_kernel_sizes needs 1 entries for 1 .* got 2'),
        (dict(cat_output=()), 'cat_output needs 1 entries'),
        (dict(with_tags=(True,)), 'with_tags needs 2 entries for 1 .* got 1'),
        (dict(heatmap_weights=(1, 1, 1)), 'heatmap_weights needs 2 entries .* got 3'),
        (dict(deconv_out_channels=(8, 8)), 'deconv_kernel_sizes needs 2 entries'),
        (dict(with_tags=(False, True)), r'with_tags\[0\] must be True'),
        (dict(deconv_kernel_sizes=(5,)), 'may be 4, 3 or 2, got 5'),
    ],
)
def test_bad_stage_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f'HigherHRNetHead: .*{message}'):
        HigherHRNetHead(4, 5, **kwargs)


def test_init_weights():
    head = HigherHRNetHead(16, 17, deconv_out_channels=(16,))
    head.init_weights()
    for module in head.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert 0.0005 < module.weight.std() < 0.0015
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
    assert (head.final_layers[0].bias == 0).all()


# ----------------------------------------------------------------------- loss
def targets(counts=(2, 0, 3), seed=0, codec=None, size=(64, 64)):
    """Samples of the real pipeline, with people as counted, and their images."""
    np.random.seed(seed)
    packed = []
    for i, count in enumerate(counts):
        raw = raw_sample(10 * seed + i, people=max(count, 1))
        raw['keypoints_visible'] *= count > 0
        raw['invalid_segs'] = [[[10, 10, 70, 10, 70, 60, 10, 60]]] if i == 0 else []
        packed.append(run_pipeline(train_pipeline(codec or codec_cfg(size)), raw))
    return packed, [p['data_samples'] for p in packed]


def slow_loss(outs, samples, joints=17, factor=1e-3):
    """The official definition in loops: every image by itself, then the mean over images."""
    totals = dict(loss_heatmap_0=0.0, loss_heatmap_1=0.0, loss_pull=0.0, loss_push=0.0)
    for i, sample in enumerate(samples):
        for stage, level in enumerate(sample.gt_fields.levels()):
            error = (outs[stage][i, :joints] - level.heatmaps) ** 2
            totals[f'loss_heatmap_{stage}'] += (error * level.heatmap_mask).mean()
        tags = outs[0][i, joints:].flatten(1)
        means, pull = [], 0.0
        for person in sample.gt_instance_labels.keypoint_indices:
            read = [tags[k, index] for k, (index, seen) in enumerate(person.tolist()) if seen]
            read = torch.stack(read)
            means.append(read.mean())
            pull = pull + ((read - read.mean()) ** 2).mean()
        people = len(means)
        push = sum(torch.exp(-((a - b) ** 2)) for a in means for b in means) - people
        if people:
            totals['loss_pull'] += factor * pull / people
        if people > 1:
            totals['loss_push'] += factor * 0.5 * push / (people * (people - 1))
    return {name: float(value) / len(samples) for name, value in totals.items()}


def test_loss_is_the_slow_reference():
    """Traps 2, 3 and 4, on targets that went through the pipeline (trap 1)."""
    model = randomize(build(higherhrnet_cfg())).train()
    for seed in range(2):
        packed, samples = targets((3, 0, 1, 4), seed)
        # the number of people is not the batch size: MMPose asserts that it were
        assert sum(len(s.gt_instance_labels.keypoint_indices) for s in samples) != len(samples)
        assert not samples[0].gt_fields.to_tensor().heatmap_mask[0].all()
        data = model.data_preprocessor(pseudo_collate(packed), training=True)
        losses = model(**data, mode='loss')
        with torch.no_grad():
            outs = model.head(model.extract_feat(data['inputs']))
        expected = slow_loss(outs, samples)
        assert losses.keys() == expected.keys()
        for name, value in losses.items():
            assert value.ndim == 0 and value.item() == pytest.approx(
                float(expected[name]), rel=1e-4
            ), name


def test_loss_does_not_depend_on_the_batch_size():
    """Trap 3: MMPose sums the grouping loss over images."""
    head = randomize(HigherHRNetHead(4, 17, deconv_out_channels=(4,), num_basic_blocks=1)).eval()
    _, samples = targets((2, 3))
    feats = torch.randn(2, 4, 16, 16)
    once = head.loss((feats,), samples)
    thrice = head.loss((feats.repeat(3, 1, 1, 1),), samples * 3)
    for name, value in once.items():
        torch.testing.assert_close(thrice[name], value)
    assert once['loss_push'] > 0 and once['loss_pull'] > 0


def test_loss_weights():
    kwargs = dict(deconv_out_channels=(4,), num_basic_blocks=1)
    plain = randomize(HigherHRNetHead(4, 17, **kwargs)).eval()
    heavy = HigherHRNetHead(
        4,
        17,
        heatmap_weights=(2.0, 3.0),
        heatmap_loss=dict(type='KeypointMSELoss', loss_weight=0.5),
        tag_loss=dict(type='BatchedAssociativeEmbeddingLoss', pull_weight=1.0, push_weight=0.1),
        **kwargs,
    ).eval()
    heavy.load_state_dict(plain.state_dict())
    _, samples = targets((2, 3))
    feats = (torch.randn(2, 4, 16, 16),)
    one, other = plain.loss(feats, samples), heavy.loss(feats, samples)
    for name, factor in dict(
        loss_heatmap_0=1.0, loss_heatmap_1=1.5, loss_pull=1e3, loss_push=1e2
    ).items():
        torch.testing.assert_close(other[name], one[name] * factor)


def test_every_parameter_gets_a_gradient():
    model = randomize(build(higherhrnet_cfg())).train()
    for counts in ((2, 1), (0, 0)):  # also with nobody: distributed training hangs otherwise
        model.zero_grad()
        packed, _ = targets(counts)
        data = model.data_preprocessor(pseudo_collate(packed), training=True)
        sum(model(**data, mode='loss').values()).backward()
        bad = [n for n, p in model.named_parameters() if p.grad is None]
        bad += [n for n, p in model.named_parameters() if not p.grad.isfinite().all()]
        assert not bad


def test_tag_dim_2_trains():
    cfg = higherhrnet_cfg(head=dict(tag_dim=2))
    model = randomize(build(cfg)).train()
    packed, _ = targets((2, 1))
    data = model.data_preprocessor(pseudo_collate(packed), training=True)
    losses = model(**data, mode='loss')
    assert losses['loss_pull'] > 0 and losses['loss_push'] > 0
    losses['loss_pull'].backward()
    gradient = model.head.final_layers[0].weight.grad.abs().sum((1, 2, 3))
    assert (gradient[:17] == 0).all() and (gradient[17:] > 0).all()


def test_amp():
    model = randomize(build(higherhrnet_cfg())).train()
    packed, _ = targets((2, 3))
    data = model.data_preprocessor(pseudo_collate(packed), training=True)
    exact = model(**data, mode='loss')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = model(**data, mode='loss')
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.1), name
    sum(half.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_targets_must_fit_the_stages():
    head = HigherHRNetHead(4, 17, deconv_out_channels=(4,), num_basic_blocks=1)
    _, single = targets((1,), codec=codec_cfg(heatmap_size=(16, 16)))
    with pytest.raises(ValueError, match=r'2 stages but the targets have 1 resolution'):
        head.loss((torch.randn(1, 4, 16, 16),), single)
    _, samples = targets((1,))
    both = HigherHRNetHead(4, 17, deconv_out_channels=(4,), with_tags=(True, True))
    with pytest.raises(ValueError, match=r'\(True, True\) cannot be trained'):
        both.loss((torch.randn(1, 4, 16, 16),), samples)


# -------------------------------------------------------------------- predict
def decoder_cfg(size=(64, 64), joints=17, restored=True, **kwargs):
    """Decodes at input size (``restored``) or at the last stage's."""
    sizes = dict(heatmap_size=size if restored else (size[0] // 2, size[1] // 2))
    return codec_cfg(size, joints, **(sizes | kwargs))


def sample_of(size=(64, 64), joints=17, **metainfo):
    """A sample whose image is the network's input, at its own size."""
    width, height = size
    sample = PoseDataSample(
        metainfo=dict(
            img_shape=(height, width),
            input_size=(width, height),
            input_center=np.float32([width / 2, height / 2]),
            input_scale=np.float32([width, height]),
            flip_indices=COCO_FLIP if joints == 17 else list(range(joints)),
            **metainfo,
        )
    )
    sample.gt_instances = InstanceData()
    return sample


def stage_maps(seed=0, size=(64, 64), joints=17, tag_dim=1, batch=1, people=3, scale=1.0):
    """Both stages' outputs for pictures of some people (whom no network saw)."""
    width, height = int(size[0] * scale), int(size[1] * scale)
    stages = []
    for divisor, tagged in ((4, True), (2, False)):
        maps = [
            scene(
                100 * seed + i,
                people,
                joints,
                (width // divisor, height // divisor),
                tag_dim,
                noise=0.02,
            )
            for i in range(batch)
        ]
        heat, tags = (torch.cat(parts) for parts in zip(*maps, strict=True))
        stages.append(torch.cat((heat, tags), 1) if tagged else heat)
    return stages


def bilinear(maps, size):
    """Half-pixel bilinear resize as two matrices; the borders replicate."""

    def matrix(n_in, n_out):
        m = np.zeros((n_out, n_in))
        for i in range(n_out):
            at = min(max((i + 0.5) * n_in / n_out - 0.5, 0), n_in - 1)
            low = int(at)
            high = min(low + 1, n_in - 1)
            m[i, low] += 1 - (at - low)
            m[i, high] += at - low
        return m

    maps = np.asarray(maps, dtype=np.float64)
    return matrix(maps.shape[-2], size[0]) @ maps @ matrix(maps.shape[-1], size[1]).T


def mirrored(maps, indices):
    return np.asarray(maps)[..., ::-1][:, indices]


def head_of_maps(joints=17, decoder=None, **kwargs):
    """A head whose "features" are its outputs, so that a test can choose them."""
    head = HigherHRNetHead(4, joints, decoder=decoder, num_basic_blocks=1, **kwargs)
    head.forward = lambda feats: list(feats)
    return head


def slow_aggregate(stages, mirror, size, how, joints=17, indices=COCO_FLIP, tag_dim=1):
    """Heatmaps and tags of one scale, the official way or MMPose 0.x's."""
    last = stages[-1].shape[-2:]
    size = size or last

    def heat_of(maps):
        maps = [m[:, :joints] for m in maps]
        if how == 'official':
            return bilinear(sum(bilinear(m, last) for m in maps) / 2, size)
        return sum(bilinear(m, size) for m in maps) / 2

    def tags_of(maps):
        meeting = last if how == 'official' else size
        return bilinear(bilinear(maps[0][:, joints:], meeting), size)

    heat, tags = heat_of(stages), [tags_of(stages)]
    if mirror is not None:
        heat = (heat + mirrored(heat_of(mirror), indices)) / 2
        swap = [d * joints + i for d in range(tag_dim) for i in indices]
        tags.append(mirrored(tags_of(mirror), swap))
    return heat, np.concatenate(tags, 1)


@pytest.mark.parametrize('restore', [True, False])
@pytest.mark.parametrize('flip', [True, False])
@pytest.mark.parametrize('how', ['official', 'direct'])
@pytest.mark.parametrize('tag_dim', [1, 2])
def test_aggregation_is_the_slow_reference(how, flip, restore, tag_dim):
    """Also trap 7: without flip test maps must be brought to the decoder's size as well."""
    head = head_of_maps(tag_dim=tag_dim)
    size = (64, 48)
    straight = stage_maps(1, size, tag_dim=tag_dim, batch=2)
    mirror = stage_maps(2, size, tag_dim=tag_dim, batch=2) if flip else None
    feats = [torch.cat(p) for p in zip(straight, mirror, strict=True)] if flip else straight
    heat, tags = head.aggregate(
        feats,
        [sample_of(size)] * 2,
        dict(flip_test=flip, stage_resize=how, restore_heatmap_size=restore),
    )
    expected = slow_aggregate(straight, mirror, (48, 64) if restore else None, how, tag_dim=tag_dim)
    assert heat.shape == (2, 17, *((48, 64) if restore else (24, 32)))
    assert tags.shape[1] == 17 * tag_dim * (1 + flip)
    assert_close(heat, expected[0], 1e-5)
    assert_close(tags, expected[1], 1e-5)


def test_the_two_ways_to_resize_differ():
    head, feats = head_of_maps(), stage_maps(0)
    official, direct = (
        head.aggregate(feats, [sample_of()], dict(stage_resize=how, restore_heatmap_size=True))[0]
        for how in ('official', 'direct')
    )
    assert (official - direct).abs().max() > 0.01
    default = head.aggregate(feats, [sample_of()], dict(restore_heatmap_size=True))[0]
    assert torch.equal(default, official)
    with pytest.raises(ValueError, match="stage_resize must be one of .*'direct'.* got 'nearest'"):
        head.aggregate(feats, [sample_of()], dict(stage_resize='nearest'))


def test_align_corners():
    # a ramp stays a ramp from edge to edge if corners are aligned
    head = head_of_maps()
    feats = [
        torch.linspace(0, 1, width).expand(1, channels, width, width)
        for channels, width in ((34, 16), (17, 32))
    ]
    for how in ('official', 'direct'):
        for align in (False, True):
            heat, tags = head.aggregate(
                feats,
                [sample_of()],
                dict(align_corners=align, restore_heatmap_size=True, stage_resize=how),
            )
            for maps in (heat, tags):
                error = (maps[0, 3, 7] - torch.linspace(0, 1, 64)).abs().max()
                assert error < 1e-5 if align else error > 0.01


def test_flip_test_undoes_a_mirror():
    """A mirrored network's maps are the maps again, and left and right are not confused."""
    head = head_of_maps()
    stages = stage_maps(3)
    swap = {34: COCO_FLIP + [17 + i for i in COCO_FLIP], 17: COCO_FLIP}
    mirror = [m.flip(-1)[:, swap[m.shape[1]]] for m in stages]
    feats = [torch.cat(pair) for pair in zip(stages, mirror, strict=True)]
    for resized in (True, False):
        cfg = dict(restore_heatmap_size=resized)
        heat, tags = head.aggregate(stages, [sample_of()], cfg)
        both, pair = head.aggregate(feats, [sample_of()], cfg | dict(flip_test=True))
        torch.testing.assert_close(both, heat, rtol=0, atol=1e-6)
        torch.testing.assert_close(pair, tags.repeat(1, 2, 1, 1), rtol=0, atol=1e-5)


def test_shift_heatmap():
    head = head_of_maps()
    zero = [torch.zeros(1, 34, 16, 16), torch.zeros(1, 17, 32, 32)]
    mirror = stage_maps(3)
    feats = [torch.cat(pair) for pair in zip(zero, mirror, strict=True)]
    cfg = dict(flip_test=True)
    heat, tags = head.aggregate(feats, [sample_of()], cfg)
    moved, moved_tags = head.aggregate(feats, [sample_of()], cfg | dict(shift_heatmap=True))
    for plain, shifted in ((heat, moved), (tags[:, 17:], moved_tags[:, 17:])):
        assert torch.equal(shifted[..., 1:], plain[..., :-1])
        assert torch.equal(shifted[..., 0], plain[..., 0]) and not torch.equal(shifted, plain)
    assert torch.equal(tags[:, :17], moved_tags[:, :17])


@pytest.mark.parametrize('how', ['official', 'direct'])
@pytest.mark.parametrize('restore', [True, False])
@pytest.mark.parametrize('flip', [True, False])
def test_multiscale_is_the_slow_reference(flip, restore, how):
    """Trap 8: heatmaps of all scales are averaged at the size of scale 1, tags are scale 1's."""
    head, size, scales = head_of_maps(), (64, 48), (0.5, 1, 2)
    sample = sample_of(size, aug_scales=scales)
    straight = [stage_maps(1, size, scale=scale) for scale in scales]
    mirror = [stage_maps(2, size, scale=scale) for scale in scales]
    feats = straight
    if flip:
        feats = [
            [torch.cat(pair) for pair in zip(s, m, strict=True)]
            for s, m in zip(straight, mirror, strict=True)
        ]
    cfg = dict(multiscale_test=True, flip_test=flip, restore_heatmap_size=restore, stage_resize=how)
    heat, tags = head.aggregate(feats, [sample], cfg)
    target = (48, 64) if restore else (24, 32)
    total = 0
    for s, m in zip(straight, mirror, strict=True):
        one, tag = slow_aggregate(s, m if flip else None, target, how)
        total = total + one / 3
        if s[0].shape[-1] == 16:
            expected_tags = tag
    assert_close(heat, total, 1e-5)
    assert_close(tags, expected_tags, 1e-5)


def test_bad_pyramids():
    head = head_of_maps()
    cfg = dict(multiscale_test=True)
    with pytest.raises(ValueError, match=r'1 inputs for the scales \[0.5, 1\]'):
        head.aggregate([stage_maps()], [sample_of(aug_scales=(0.5, 1))], cfg)
    with pytest.raises(ValueError, match=r'scales \[0.5, 2\] must hold 1'):
        head.aggregate([stage_maps()] * 2, [sample_of(aug_scales=(0.5, 2))], cfg)


def test_output_heatmaps():
    head = head_of_maps(decoder=decoder_cfg())
    feats, samples = stage_maps(batch=2), [sample_of()] * 2
    cfg = dict(restore_heatmap_size=True)
    preds, fields = head.predict(feats, samples, cfg | dict(output_heatmaps=True))
    heat, tags = head.aggregate(feats, samples, cfg)
    for i in range(2):
        assert torch.equal(fields[i].heatmaps, heat[i]) and torch.equal(fields[i].tags, tags[i])
        assert not fields[i].heatmaps.requires_grad
    alone = head.predict(feats, samples, cfg)
    assert isinstance(alone, list) and len(preds) == 2
    for a, b in zip(alone, preds, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_predictions_are_in_input_pixels():
    head = head_of_maps(decoder=decoder_cfg(size=(128, 128), decode_keypoint_thr=0.3))
    feats = [torch.zeros(1, 34, 32, 32), torch.zeros(1, 17, 64, 64)]
    feats[0][0, :17, 20, 8] = 1.0  # cell (8, 20) of 4 pixels: its centre is (34, 82)
    feats[1][0, :17, 40:42, 16:18] = 1.0
    for restored in (True, False):
        head.decoder = build_codec(decoder_cfg((128, 128), restored=restored))
        (pred,) = head.predict(feats, [sample_of((128, 128))], dict(restore_heatmap_size=restored))
        assert pred.keypoints.shape == (1, 17, 2) and pred.keypoint_scores.shape == (1, 17)
        assert np.abs(pred.keypoints - (34, 82)).max() <= 1.5
        assert pred.bbox_scores == pytest.approx(pred.keypoint_scores.mean())


def build_codec(cfg):
    from mmpose.registry import KEYPOINT_CODECS

    return KEYPOINT_CODECS.build(cfg)


def test_decoding_without_restoring_finds_the_same_within_a_cell():
    size = (256, 192)
    results = []
    for seed in range(3):
        # both stages see the same people
        heat, tags = scene(seed, 3, size=(128, 96), missing=0.1)
        quarter = torch.nn.functional.interpolate(
            torch.cat((heat, tags), 1), scale_factor=0.5, mode='area'
        )
        feats = [quarter, heat]
        for restored in (True, False):
            decoder = decoder_cfg(size, restored=restored, decode_fill='none')
            head = head_of_maps(decoder=decoder)
            (pred,) = head.predict(feats, [sample_of(size)], dict(restore_heatmap_size=restored))
            results.append(pred)
        whole, half = results[-2:]
        assert len(whole.keypoints) == len(half.keypoints) == 3
        both = (whole.keypoint_scores > 0) & (half.keypoint_scores > 0)
        assert both.mean() > 0.8
        # a cell of the half resolution is 2 pixels
        assert np.abs(whole.keypoints - half.keypoints)[both].max() <= 2
        np.testing.assert_allclose(
            whole.keypoint_scores[both], half.keypoint_scores[both], atol=0.1
        )


def test_without_a_decoder():
    with pytest.raises(RuntimeError, match='predict needs a decoder'):
        head_of_maps().predict(stage_maps(), [sample_of()], {})


# ------------------------------------------------------------ whole estimator
def estimator(size=(64, 64), joints=17, seed=0, test_cfg=None, tag_dim=1, **decoder):
    """A small network that finds something in noise."""
    cfg = higherhrnet_cfg(
        num_keypoints=joints,
        head=dict(tag_dim=tag_dim, decoder=decoder_cfg(size, joints, **decoder)),
        test_cfg=dict(flip_test=True, restore_heatmap_size=True) | (test_cfg or {}),
    )
    return randomize(build(cfg), seed).eval()


def val_pipeline(size=64, scales=(1,)):
    return [
        dict(type='BottomupMultiScaleResize', input_size=size, scales=scales, size_factor=32),
        dict(type='PackBottomupInputs'),
    ]


def packed(sizes, pipeline, joints=17):
    return [
        run_pipeline(pipeline, raw_sample(i, size=size, joints=joints))
        for i, size in enumerate(sizes)
    ]


def assert_same_predictions(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        for key in ('keypoints', 'keypoint_scores', 'bbox_scores', 'keypoints_visible'):
            np.testing.assert_array_equal(a.pred_instances[key], b.pred_instances[key])


def test_flip_test_is_one_forward_pass_with_the_numbers_of_two():
    model = estimator()
    (data,) = packed([(90, 64)], val_pipeline())
    calls = []
    extract, predict = model.extract_feat, model.head.predict
    model.extract_feat = lambda x: calls.append(x) or extract(x)
    seen = {}
    model.head.predict = lambda feats, *a, **k: seen.update(feats=feats) or predict(feats, *a, **k)
    batch = pseudo_collate([data])
    with torch.no_grad():
        together = model.test_step(copy.deepcopy(batch))
        assert len(calls) == 1 and calls[0].shape == (2, 3, 64, 96)
        assert torch.equal(calls[0][1], calls[0][0].flip(-1))

        # MMPose's BottomupPoseEstimator gives a pair of backbone outputs
        x = calls[0][:1]
        pair = [extract(x), extract(x.flip(-1))]
        cfg = model.test_cfg
        samples = [data['data_samples']]
        expected = model.head.aggregate(pair, samples, cfg)
        actual = model.head.aggregate(seen['feats'], samples, cfg)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
    assert len(together[0].pred_instances.keypoints) > 0


def test_predicts_through_mmposes_own_estimator():
    cfg = higherhrnet_cfg(
        head=dict(decoder=decoder_cfg()),
        test_cfg=dict(flip_test=True, restore_heatmap_size=True, output_heatmaps=True),
    )
    stock = randomize(build(cfg | dict(type='BottomupPoseEstimator'))).eval()
    ours = randomize(build(cfg)).eval()
    data = packed([(64, 64)], val_pipeline())
    with torch.no_grad():
        (a,), (b,) = (m.test_step(pseudo_collate(copy.deepcopy(data))) for m in (stock, ours))
    assert_close(b.pred_fields.heatmaps, a.pred_fields.heatmaps, 1e-4)
    assert_close(b.pred_fields.tags, a.pred_fields.tags, 1e-4)
    assert len(a.pred_instances) > 0


@pytest.mark.parametrize('restore', [True, False])
def test_without_flip_test(restore):
    """Trap 7: MMPose's head fails on a tuple of features, and would decode at the wrong size."""
    cfg = dict(flip_test=False, restore_heatmap_size=restore, output_heatmaps=True)
    model = estimator(test_cfg=cfg, restored=restore)
    data = packed([(96, 64)], val_pipeline())
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate(data))
        feats = model.extract_feat(model.data_preprocessor(pseudo_collate(data))['inputs'])
        outs = model.head(feats)
    assert isinstance(feats, tuple)
    heat, tags = slow_aggregate(outs, None, (64, 96) if restore else None, 'official')
    fields = result.pred_fields
    assert_close(fields.heatmaps, heat[0], 1e-5)
    assert_close(fields.tags, tags[0], 1e-5)
    (found,), (scores,), _ = model.head.decoder.batch_decode(
        fields.heatmaps[None], fields.tags[None]
    )
    # the image is the input, pixel for pixel
    assert len(found) > 0
    np.testing.assert_allclose(result.pred_instances.keypoints, found, atol=1e-4)
    np.testing.assert_array_equal(result.pred_instances.keypoint_scores, scores)


@pytest.mark.parametrize('sizes', [[(90, 64), (64, 120), (64, 64)], [(50, 70), (150, 45)]])
@pytest.mark.parametrize('flip', [True, False])
def test_batch_of_sizes_equals_its_images(sizes, flip):
    """Trap 13: MMPose validates with one image a batch."""
    model = estimator(test_cfg=dict(flip_test=flip))
    data = packed(sizes, val_pipeline())
    with torch.no_grad():
        together = model.test_step(pseudo_collate(copy.deepcopy(data)))
        alone = [model.test_step(pseudo_collate([copy.deepcopy(d)]))[0] for d in data]
    assert len({tuple(d['inputs'].shape) for d in data}) == len(sizes)
    assert [s.img_id for s in together] == list(range(len(sizes)))
    assert_same_predictions(together, alone)
    assert all(len(s.pred_instances) > 0 for s in together)


def test_images_of_one_size_go_together():
    model = estimator(test_cfg=dict(output_heatmaps=True))
    data = packed([(90, 64), (64, 64), (90, 64), (64, 64)], val_pipeline())
    shapes = []
    extract = model.extract_feat
    model.extract_feat = lambda x: shapes.append(tuple(x.shape)) or extract(x)
    with torch.no_grad():
        together = model.test_step(pseudo_collate(copy.deepcopy(data)))
        assert shapes == [(4, 3, 64, 96), (4, 3, 64, 64)]  # 2 images, 2 mirror images
        for sample, each in zip(together, data, strict=True):
            (alone,) = model.test_step(pseudo_collate([each]))
            for name in ('heatmaps', 'tags'):
                a, b = (getattr(s.pred_fields, name) for s in (sample, alone))
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
    assert [s.img_id for s in together] == [0, 1, 2, 3]


def test_one_size_batches_are_tensors_as_always():
    model = estimator()
    data = packed([(64, 64)] * 2, val_pipeline())
    listed = pseudo_collate(copy.deepcopy(data))
    stacked = dict(listed, inputs=torch.stack(listed['inputs']))
    for batch in (listed, stacked):
        out = model.data_preprocessor(batch)
        assert isinstance(out['inputs'], torch.Tensor) and out['inputs'].shape == (2, 3, 64, 64)
    pixel = data[0]['inputs'][:, 3, 5].float()
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    torch.testing.assert_close(out['inputs'][0][:, 3, 5], (pixel.flip(0) - mean) / std)


def test_preprocessor_pads_nothing_in_evaluation():
    model = estimator()
    data = packed([(90, 64), (64, 64)], val_pipeline())
    out = model.data_preprocessor(pseudo_collate(copy.deepcopy(data)))
    single = [model.data_preprocessor(pseudo_collate([d]))['inputs'][0] for d in data]
    assert [len(p) for p in out['inputs']] == [1, 1]
    for pyramid, image, sample in zip(out['inputs'], single, out['data_samples'], strict=True):
        assert torch.equal(pyramid[0], image)
        assert sample.batch_input_shape == sample.pad_shape == sample.img_shape


@pytest.mark.parametrize('flip', [True, False])
@pytest.mark.parametrize('sizes', [[(100, 70)], [(100, 70), (64, 90)], [(90, 64), (90, 64)]])
def test_multiscale_end_to_end(flip, sizes):
    """Trap 8: pyramid, aug_scales, collation, preprocessing, network, maps and image pixels."""
    scales = (0.5, 1, 2)
    model = estimator(test_cfg=dict(flip_test=flip, multiscale_test=True, output_heatmaps=True))
    data = packed(sizes, val_pipeline(64, scales))
    assert [len(d['inputs']) for d in data] == [3] * len(sizes)
    with torch.no_grad():
        results = model.test_step(pseudo_collate(copy.deepcopy(data)))
    for result, each in zip(results, data, strict=True):
        assert result.aug_scales == scales
        height, width = result.img_shape
        total, tags = 0, {}
        for scale, image in zip(scales, each['inputs'], strict=True):
            assert tuple(image.shape) == (3, height * scale, width * scale)
            x = model.data_preprocessor._normalize(image)[None]
            with torch.no_grad():
                straight, mirror = (model.head(model.extract_feat(v)) for v in (x, x.flip(-1)))
            heat, tags[scale] = slow_aggregate(
                straight, mirror if flip else None, (height, width), 'official'
            )
            total = total + heat / 3
        assert_close(result.pred_fields.heatmaps, total[0], 1e-4)
        assert_close(result.pred_fields.tags, tags[1][0], 1e-4)
        (found,), (scores,), _ = model.head.decoder.batch_decode(
            result.pred_fields.heatmaps[None], result.pred_fields.tags[None]
        )
        assert len(found) > 0
        # from input pixels to the image's
        scale, centre = each['data_samples'].input_scale, each['data_samples'].input_center
        in_image = found / (width, height) * scale + centre - scale / 2
        np.testing.assert_allclose(result.pred_instances.keypoints, in_image, atol=1e-3)
        np.testing.assert_array_equal(result.pred_instances.keypoint_scores, scores)


def test_pyramid_without_multiscale_test():
    model = estimator()
    data = packed([(90, 64)], val_pipeline(64, (0.5, 1)))
    with pytest.raises(ValueError, match='set model.test_cfg.multiscale_test=True'):
        model.test_step(pseudo_collate(data))


def test_multiscale_test_of_one_scale():
    data = packed([(90, 64), (64, 64)], val_pipeline())
    with torch.no_grad():
        plain, multi = (
            estimator(test_cfg=dict(multiscale_test=m)).test_step(
                pseudo_collate(copy.deepcopy(data))
            )
            for m in (False, True)
        )
    assert_same_predictions(plain, multi)


def test_zero_people():
    model = estimator()
    nn.init.zeros_(model.head.final_layers[0].weight)
    nn.init.zeros_(model.head.final_layers[0].bias)
    nn.init.zeros_(model.head.final_layers[1].weight)
    nn.init.zeros_(model.head.final_layers[1].bias)
    for sizes in ([(64, 64)], [(90, 64), (64, 64)]):
        with torch.no_grad():
            results = model.test_step(pseudo_collate(packed(sizes, val_pipeline())))
        for result in results:
            pred = result.pred_instances
            assert len(pred) == 0 and pred.keypoints.shape == (0, 17, 2)
            assert pred.keypoint_scores.shape == pred.keypoints_visible.shape == (0, 17)
            assert pred.bbox_scores.shape == (0,)


def test_diverged_network_does_not_stop_validation():
    model = estimator()
    nn.init.constant_(model.head.final_layers[1].bias, float('nan'))
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate(packed([(64, 64)], val_pipeline())))
    assert len(result.pred_instances) == 0


@pytest.mark.parametrize('tag_dim', [1, 2])
def test_tag_dim_in_prediction(tag_dim):
    model = estimator(joints=5, tag_dim=tag_dim, test_cfg=dict(output_heatmaps=True))
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate(packed([(64, 64)], val_pipeline(), joints=5)))
    assert result.pred_fields.tags.shape[0] == 2 * tag_dim * 5
    assert result.pred_instances.keypoints.shape[1:] == (5, 2) and len(result.pred_instances) > 0


def test_autocast_in_prediction():
    model = estimator(test_cfg=dict(output_heatmaps=True))
    data = packed([(64, 64)], val_pipeline())
    with torch.no_grad():
        (exact,) = model.test_step(pseudo_collate(copy.deepcopy(data)))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            (half,) = model.test_step(pseudo_collate(data))
    # maps are aggregated in float32, whatever the network ran in
    assert half.pred_fields.heatmaps.dtype == half.pred_fields.tags.dtype == torch.float32
    assert_close(half.pred_fields.heatmaps, exact.pred_fields.heatmaps, 0.1)
    assert np.isfinite(half.pred_instances.keypoints).all()


def test_custom_metainfo_overrides_the_samples():
    model = estimator()
    model.metainfo = dict(flip_indices=list(range(17)))
    data = packed([(90, 64), (64, 64)], val_pipeline())
    with torch.no_grad():
        results = model.test_step(pseudo_collate(data))
    assert all(r.flip_indices == list(range(17)) for r in results)


def test_tensor_mode():
    model = estimator()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outs = model(x, mode='tensor')
        listed = model([x[0]], mode='tensor')
    assert [o.shape[1] for o in outs] == [34, 17]
    assert all(torch.equal(a, b) for a, b in zip(outs, listed, strict=True))
