"""``mmcv._ext`` over torchvision, through the public functions of mmcv.ops."""

import base64
import hashlib
import importlib.machinery
import importlib.metadata
import inspect
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import venv

import mmcv
import mmcv._ext as ext
import mmcv.ops as ops
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

ROOT = pathlib.Path(__file__).parents[2]
DIST = 'mmcv-ext-torchvision'

CUDA = pytest.param(
    'cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
)


@pytest.fixture(params=['cpu', CUDA])
def device(request):
    return request.param


@pytest.fixture
def data(device):
    with np.load(ROOT / 'tests' / 'data' / 'parity' / 'mmcv_ops.npz') as file:
        return {key: torch.from_numpy(file[key]).to(device) for key in file}


def close(actual, expected, tolerance=1e-5):
    """Compare relative to the largest expected value."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


def random_boxes(n, device='cpu', seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 60
    size = torch.rand(n, 2, generator=generator) * 40 + 1
    # Few distinct scores, so that ties occur.
    scores = torch.randint(1, 8, (n,), generator=generator) / 8
    return torch.cat([corner, corner + size], 1).to(device, dtype), scores.to(device, dtype)


# ------------------------------------------- parity with compiled mmcv 2.1.0


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_of_mmcv(data, offset):
    dets, keep = ops.nms(data['boxes'], data['scores'], 0.5, offset=offset)
    assert torch.equal(keep, data[f'nms_keep_offset{offset}'])
    assert torch.equal(dets, torch.cat([data['boxes'], data['scores'][:, None]], 1)[keep])


def test_nms_of_mmcv_with_limits(data):
    _, keep = ops.nms(data['boxes'], data['scores'], 0.5, score_threshold=0.3, max_num=20)
    assert torch.equal(keep, data['nms_thr_keep'])


def test_batched_nms_of_mmcv(data):
    config = {'type': 'nms', 'iou_threshold': 0.6}
    _, keep = ops.batched_nms(data['boxes'], data['scores'], data['idxs'], config)
    assert torch.equal(keep, data['batched_keep'])


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_of_mmcv(data, method):
    dets, inds = ops.soft_nms(data['boxes'], data['scores'], 0.3, 0.5, 1e-3, method)
    assert torch.equal(inds, data[f'softnms_{method}_inds'])
    close(dets, data[f'softnms_{method}_dets'], 1e-6)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [0, 1])
def test_roi_align_of_mmcv(data, sampling_ratio, aligned):
    x = data['feat'].requires_grad_()
    y = ops.roi_align(x, data['rois'], (7, 7), 0.125, sampling_ratio, 'avg', bool(aligned))
    (y**2).sum().backward()
    key = f'roi_avg_s{sampling_ratio}_a{aligned}'
    close(y, data[key])
    close(x.grad, data[f'{key}_dx'])


def test_deform_conv_of_mmcv(data):
    y = ops.deform_conv2d(data['feat'], data['dc_offset'], data['dc_weight'], 1, 1)
    close(y, data['deform_conv'])


def test_modulated_deform_conv_of_mmcv(data):
    y = ops.modulated_deform_conv2d(
        data['feat'], data['dc_offset'], data['dc_mask'], data['dc_weight'], None, 1, 1
    )
    close(y, data['modulated_deform_conv'])


# ------------------------------------------------------------- suppression


def iou_of(a, b, offset=0):
    """IoU of two boxes, in Python numbers."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_nms_is_greedy(device, offset, dtype):
    boxes, scores = random_boxes(80, device, dtype=dtype)
    order = scores.double().sort(descending=True, stable=True).indices.tolist()
    rows = boxes.double().tolist()
    expected = []
    for i in order:
        if all(iou_of(rows[i], rows[k], offset) <= 0.4 for k in expected):
            expected.append(i)
    dets, keep = ops.nms(boxes, scores, 0.4, offset=offset)
    assert 5 < len(expected) < 75
    assert sorted(keep.tolist()) == sorted(expected)
    assert scores[keep].tolist() == sorted(scores[keep].tolist(), reverse=True)
    assert dets.dtype == dtype and dets.shape == (len(keep), 5)


def test_offset_matters():
    boxes = torch.tensor([[0.0, 0, 3, 3], [0, 2, 3, 5]])
    scores = torch.tensor([0.9, 0.8])
    # 3 / 15 and, with the offset, 8 / 24.
    assert len(ops.nms(boxes, scores, 0.3, offset=0)[1]) == 2
    assert len(ops.nms(boxes, scores, 0.3, offset=1)[1]) == 1


def test_threshold_is_exclusive():
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert len(ops.nms(boxes, scores, 0.5)[1]) == 2
    assert len(ops.nms(boxes, scores, 0.49)[1]) == 1


@pytest.mark.parametrize('threshold, number', [(0.0, 6), (0.5, 3), (0.95, 0)])
def test_score_threshold_and_max_num(device, threshold, number):
    boxes = torch.arange(6, device=device)[:, None] * 10.0 + torch.tensor(
        [0.0, 0, 5, 5], device=device
    )
    scores = torch.tensor([0.3, 0.9, 0.1, 0.7, 0.5, 0.6], device=device)
    _, keep = ops.nms(boxes, scores, 0.5, score_threshold=threshold)
    assert keep.tolist() == [1, 3, 5, 4, 0, 2][:number]
    _, keep = ops.nms(boxes, scores, 0.5, score_threshold=threshold, max_num=2)
    assert keep.tolist() == [1, 3, 5, 4, 0, 2][: min(number, 2)]


def test_empty_boxes(device):
    boxes, scores = torch.empty(0, 4, device=device), torch.empty(0, device=device)
    for function in (ops.nms, ops.soft_nms):
        dets, keep = function(boxes, scores, 0.5)
        assert dets.shape == (0, 5) and keep.shape == (0,) and keep.dtype == torch.int64
    assert ops.nms(boxes, scores, 0.5, offset=1)[1].numel() == 0
    assert ops.nms_match(torch.empty(0, 5, device=device), 0.5) == []
    assert ops.bbox_overlaps(boxes, boxes).shape == (0, 0)


def test_numpy_in_numpy_out():
    boxes, scores = random_boxes(20)
    dets, keep = ops.nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(dets, np.ndarray) and isinstance(keep, np.ndarray)
    assert keep.tolist() == ops.nms(boxes, scores, 0.5)[1].tolist()
    dets, _ = ops.soft_nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(dets, np.ndarray)


def test_batched_nms_keeps_classes_apart(device):
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 8, 9]], device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    classes = torch.tensor([0, 1, 0], device=device)
    config = {'type': 'nms', 'iou_threshold': 0.5}
    assert ops.batched_nms(boxes, scores, classes, config)[1].tolist() == [0, 1]
    assert ops.batched_nms(boxes, scores, classes, config, True)[1].tolist() == [0]
    assert ops.batched_nms(boxes, scores, classes, None)[1].tolist() == [0, 1, 2]
    split = {**config, 'split_thr': 2, 'max_num': 1}
    assert ops.batched_nms(boxes, scores, classes, split)[1].tolist() == [0]


def soft_nms_by_loops(boxes, scores, threshold, sigma, min_score, method, offset):
    """The algorithm, one box at a time, with mmcv's swaps."""
    rows = [[*box, score, i] for i, (box, score) in enumerate(zip(boxes, scores, strict=True))]
    i = 0
    while i < len(rows):
        best = max(range(i, len(rows)), key=lambda j: (rows[j][4], -j))
        rows[i], rows[best] = rows[best], rows[i]
        j = i + 1
        while j < len(rows):
            iou = iou_of(rows[i], rows[j], offset)
            if method == 'gaussian':
                rows[j][4] *= np.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                rows[j][4] *= 0 if method == 'naive' else 1 - iou
            if rows[j][4] < min_score:
                rows[j] = rows[-1]
                rows.pop()
            else:
                j += 1
        i += 1
    return np.array([row[:5] for row in rows]), [row[5] for row in rows]


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('min_score', [1e-3, 0.3])
def test_soft_nms_is_the_algorithm(method, offset, min_score):
    boxes, scores = random_boxes(60, seed=3, dtype=torch.float64)
    args = (0.3, 0.4, min_score, method, offset)
    expected, order = soft_nms_by_loops(boxes.tolist(), scores.tolist(), *args)
    dets, inds = ops.soft_nms(boxes, scores, *args)
    assert inds.tolist() == order
    torch.testing.assert_close(dets, torch.from_numpy(expected), rtol=0, atol=1e-9)


def test_soft_nms_of_boxes_without_area():
    boxes, scores = torch.ones(3, 4), torch.tensor([0.5, 0.9, 0.7])
    for method in ('naive', 'linear', 'gaussian'):
        dets, inds = ops.soft_nms(boxes, scores, 0.3, method=method)
        assert inds.tolist() == [1, 2, 0]
        torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.7, 0.5]))


def test_soft_nms_leaves_its_input_alone():
    boxes, scores = random_boxes(30)
    before = boxes.clone(), scores.clone()
    ops.soft_nms(boxes, scores, 0.3)
    assert torch.equal(boxes, before[0]) and torch.equal(scores, before[1])


def test_nms_match_groups(device):
    boxes, scores = random_boxes(40, device, seed=5)
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.4)
    _, keep = ops.nms(boxes, scores, 0.4)
    assert [int(group[0]) for group in groups] == keep.tolist()
    assert sorted(int(i) for group in groups for i in group) == list(range(40))
    assert any(len(group) > 1 for group in groups)
    for first, *others in (group.tolist() for group in groups):
        for i in others:
            assert iou_of(boxes[first].tolist(), boxes[i].tolist()) >= 0.4
            assert scores[i] <= scores[first]


@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps(device, offset):
    a, b = random_boxes(7, device)[0], random_boxes(7, device, seed=1)[0]
    expected = torch.tensor(
        [[iou_of(x, y, offset) for y in b.tolist()] for x in a.tolist()], device=device
    )
    torch.testing.assert_close(ops.bbox_overlaps(a, b, offset=offset), expected)
    aligned = ops.bbox_overlaps(a, b, aligned=True, offset=offset)
    torch.testing.assert_close(aligned, expected.diagonal())
    size = a[:, 2:] - a[:, :2] + offset
    both = (b[:, 2:] - b[:, :2] + offset).prod(1) + size.prod(1)[:, None]
    foreground = expected / (1 + expected) * both / size.prod(1)[:, None]
    torch.testing.assert_close(ops.bbox_overlaps(a, b, 'iof', offset=offset), foreground)


# --------------------------------------------------------------- RoI align


def double(*shape, device, seed=0, scale=1.0, requires_grad=True):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    return x.to(device).requires_grad_(requires_grad)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_gradient(device, sampling_ratio, aligned):
    x = double(2, 2, 6, 7, device=device)
    rois = torch.tensor(
        [[0, 1.3, 2.1, 9.7, 8.2], [1, 0.0, 0.0, 13.0, 11.0]], dtype=torch.float64, device=device
    )
    assert gradcheck(
        lambda t: ops.roi_align(t, rois, (3, 2), 0.5, sampling_ratio, 'avg', aligned),
        x,
        nondet_tol=1e-9,
    )


def test_roi_align_of_a_constant_is_constant(device):
    x = torch.full((1, 3, 16, 16), 2.5, device=device)
    y = ops.RoIAlign(4, spatial_scale=0.5)(x, torch.tensor([[0.0, 4, 4, 20, 20]], device=device))
    torch.testing.assert_close(y, torch.full((1, 3, 4, 4), 2.5, device=device))


def test_roi_align_without_boxes(device):
    x = torch.randn(1, 3, 8, 8, device=device, requires_grad=True)
    y = ops.roi_align(x, torch.empty(0, 5, device=device), 7)
    assert y.shape == (0, 3, 7, 7)
    y.sum().backward()
    assert not x.grad.any()


def test_roi_align_in_half_precision(data):
    x, rois = data['feat'].half(), data['rois']
    y = ops.roi_align(x, rois, (7, 7), 0.125)
    assert y.dtype == torch.float16
    close(y.float(), ops.roi_align(x.float(), rois, (7, 7), 0.125), 1e-3)


def test_roi_align_maximum_is_an_error(device):
    x, rois = torch.randn(1, 3, 8, 8, device=device), torch.zeros(1, 5, device=device)
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        ops.roi_align(x, rois, 7, 1.0, 0, 'max')


# -------------------------------------------------- deformable convolutions

CONVS = [
    pytest.param({}, id='plain'),
    pytest.param({'stride': 2, 'padding': 1, 'dilation': 2}, id='strided'),
    pytest.param({'padding': 1, 'groups': 2, 'deform_groups': 2}, id='grouped'),
    pytest.param({'stride': (2, 1), 'padding': (1, 0), 'dilation': (1, 2)}, id='oblong'),
]


def conv_inputs(device, stride=1, padding=0, dilation=1, groups=1, deform_groups=1):
    """Input, offset, mask, weight, bias of a 3 x 2 kernel, in float64."""
    x = double(2, 4, 7, 8, device=device)
    weight = double(6, 4 // groups, 3, 2, device=device, seed=1)
    height, width = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = double(2, 2 * deform_groups * 6, height, width, device=device, seed=2, scale=0.7)
    mask = double(2, deform_groups * 6, height, width, device=device, seed=3)
    return x, offset, mask, weight, double(6, device=device, seed=4)


def arguments(stride=1, padding=0, dilation=1, groups=1, deform_groups=1):
    return stride, padding, dilation, groups, deform_groups


@pytest.mark.parametrize('config', CONVS)
def test_without_offsets_it_is_a_convolution(device, config):
    x, offset, mask, weight, bias = conv_inputs(device, **config)
    args = arguments(**config)
    expected = F.conv2d(x, weight, None, *args[:4])
    y = ops.deform_conv2d(x, torch.zeros_like(offset), weight, *args)
    torch.testing.assert_close(y, expected)
    y = ops.modulated_deform_conv2d(
        x, torch.zeros_like(offset), torch.full_like(mask, 0.5), weight, bias, *args
    )
    torch.testing.assert_close(y, expected / 2 + bias[:, None, None])


def test_offsets_are_y_then_x(device):
    x = torch.arange(30.0, device=device).view(1, 1, 5, 6)
    weight = torch.ones(1, 1, 1, 1, device=device)
    offset = torch.zeros(1, 2, 5, 6, device=device)
    offset[:, 0] = 1
    y = ops.deform_conv2d(x, offset, weight)
    torch.testing.assert_close(y[0, 0, :4], x[0, 0, 1:])
    assert not y[0, 0, 4].any()


@pytest.mark.parametrize('config', CONVS)
def test_deform_conv_gradient(device, config):
    x, offset, _, weight, _ = conv_inputs(device, **config)
    assert gradcheck(
        lambda *t: ops.deform_conv2d(*t, *arguments(**config)),
        (x, offset, weight),
        nondet_tol=1e-9,
        fast_mode=True,
    )


@pytest.mark.parametrize('config', CONVS)
@pytest.mark.parametrize('with_bias', [False, True])
def test_modulated_deform_conv_gradient(device, config, with_bias):
    *tensors, bias = conv_inputs(device, **config)
    bias = bias if with_bias else None
    assert gradcheck(
        lambda *t: ops.modulated_deform_conv2d(*t, *arguments(**config)),
        (*tensors, bias),
        nondet_tol=1e-9,
        fast_mode=True,
    )


def test_full_gradient_of_one_small_case(device):
    x, offset = double(1, 1, 3, 3, device=device), double(1, 8, 2, 2, device=device, seed=1)
    mask, weight = double(1, 4, 2, 2, device=device), double(1, 1, 2, 2, device=device, seed=2)
    assert gradcheck(ops.deform_conv2d, (x, offset, weight), nondet_tol=1e-9)
    assert gradcheck(ops.modulated_deform_conv2d, (x, offset, mask, weight), nondet_tol=1e-9)


def test_only_the_weight_needs_a_gradient(device):
    x, offset, _, weight, _ = conv_inputs(device)
    ops.deform_conv2d(x.detach(), offset.detach(), weight).sum().backward()
    alone = weight.grad
    weight.grad = None
    ops.deform_conv2d(x, offset, weight).sum().backward()
    torch.testing.assert_close(alone, weight.grad)
    assert alone.abs().sum() > 0


def test_deform_conv_modules_train(device):
    x = torch.randn(2, 4, 9, 9, device=device)
    for cls in (ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack):
        module = cls(4, 8, 3, padding=1, deform_groups=2).to(device)
        y = module(x)
        assert y.shape == (2, 8, 9, 9)
        y.sum().backward()
        assert all(p.grad is not None for p in module.parameters())
        assert module.weight.grad.abs().sum() > 0


def test_deform_conv_in_half_precision(data):
    tensors = [data[key].half() for key in ('feat', 'dc_offset', 'dc_mask', 'dc_weight')]
    y = ops.modulated_deform_conv2d(*tensors, None, 1, 1)
    assert y.dtype == torch.float16
    close(y.float(), ops.modulated_deform_conv2d(*[t.float() for t in tensors], None, 1, 1), 1e-3)


def test_groups_must_fit(device):
    x, offset, _, weight, _ = conv_inputs(device)
    with pytest.raises(ValueError, match=r'12 channels.*needs 24'):
        ops.deform_conv2d(x, offset, weight, 1, 0, 1, 1, 2)
    with pytest.raises(ValueError, match='4 channels of the input'):
        ops.deform_conv2d(x, offset, weight, 1, 0, 1, 2)


# ------------------------------------------------------------ focal losses


def focal_by_autograd(logits, target, gamma, alpha, weight):
    hot = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits)
    p = logits.sigmoid()
    pt = torch.where(hot == 1, p, 1 - p)
    factor = torch.where(hot == 1, alpha, 1 - alpha)
    loss = -factor * (1 - pt) ** gamma * pt.log()
    return loss if weight is None else loss * weight[target.clamp(max=len(weight) - 1)][:, None]


@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(device, weighted):
    logits = double(9, 4, device=device)
    # The last index is background.
    target = torch.tensor([0, 1, 2, 3, 4, 4, 1, 0, 3], device=device)
    weight = double(4, device=device, seed=1, requires_grad=False).abs() if weighted else None
    loss = ops.sigmoid_focal_loss(logits, target, 1.7, 0.3, weight, 'none')
    expected = focal_by_autograd(logits, target, 1.7, 0.3, weight)
    torch.testing.assert_close(loss, expected)
    assert gradcheck(lambda t: ops.sigmoid_focal_loss(t, target, 1.7, 0.3, weight, 'mean'), logits)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('gamma', [0.5, 2.0])
def test_softmax_focal_loss(device, weighted, gamma):
    logits = double(8, 4, device=device)
    target = torch.tensor([0, 1, 2, 3, -1, 1, 0, 3], device=device)
    weight = double(4, device=device, seed=1, requires_grad=False).abs() if weighted else None
    loss = ops.softmax_focal_loss(logits, target, gamma, 0.3, weight, 'none')
    p = logits.softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    expected = -0.3 * (1 - p) ** gamma * p.log() * (target >= 0)
    if weighted:
        expected = expected * weight[target.clamp(min=0)]
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(expected.mean(), logits, retain_graph=True)
    ops.softmax_focal_loss(logits, target, gamma, 0.3, weight, 'mean').backward()
    torch.testing.assert_close(logits.grad, gradient)


def test_focal_losses_of_certain_logits_are_finite(device):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], device=device, requires_grad=True)
    target = torch.tensor([1, 1], device=device)
    for function in (ops.sigmoid_focal_loss, ops.softmax_focal_loss):
        loss = function(logits, target, 0.5)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


# --------------------------------------------------- multi-scale attention


def test_ms_deform_attn(device):
    shapes = torch.tensor([[4, 5], [2, 3]], device=device)
    value = double(2, 26, 2, 3, device=device)
    locations = torch.rand(2, 4, 2, 2, 3, 2, dtype=torch.float64).to(device).requires_grad_()
    weights = double(2, 4, 2, 2, 3, device=device, seed=1)
    tensors = (value, shapes, shapes.new_tensor([0, 20]), locations, weights, 64)
    function = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply
    expected = ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(
        value, shapes, locations, weights
    )
    output = function(*tensors)
    torch.testing.assert_close(output, expected)
    inputs = (value, locations, weights)
    actual = torch.autograd.grad((output**2).sum(), inputs)
    wanted = torch.autograd.grad((expected**2).sum(), inputs)
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other)


# ----------------------------------------------------------- what is absent


@pytest.mark.parametrize(
    'name, call',
    [
        ('nms_rotated', lambda: ops.nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)),
        ('roi_pool_forward', lambda: ops.roi_pool(torch.rand(1, 1, 4, 4), torch.zeros(1, 5), 2)),
        ('box_iou_rotated', lambda: ops.box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))),
        ('an_operator_of_tomorrow', lambda: ext.an_operator_of_tomorrow(1, x=2)),
    ],
)
def test_missing_operators_name_themselves(name, call):
    with pytest.raises(NotImplementedError, match=f"'{name}'.*compiled mmcv"):
        call()


@pytest.mark.parametrize('name', ['__path__', '__wrapped__', '__all__', '__getstate__x'])
def test_dunder_names_are_absent(name):
    assert not hasattr(ext, name)
    with pytest.raises(AttributeError, match=name):
        getattr(ext, name)


def test_introspection_works():
    assert inspect.getmodule(ext.nms) is ext
    assert inspect.unwrap(ext.nms) is ext.nms
    assert pickle.loads(pickle.dumps(ext.nms)) is ext.nms


def test_versions_are_reported():
    assert 'torchvision' in ops.get_compiler_version()
    assert isinstance(ops.get_compiling_cuda_version(), str)


# ------------------------------------------------------------- installation


@pytest.mark.parametrize('suffix', importlib.machinery.EXTENSION_SUFFIXES)
def test_a_compiled_module_wins(tmp_path, suffix):
    """In one directory, Python takes ``_ext<suffix>`` before ``_ext.py``."""
    package = tmp_path / 'mmcv_like'
    package.mkdir()
    (package / '_ext.py').write_text('')
    compiled = package / f'_ext{suffix}'
    compiled.write_bytes(b'')
    find = importlib.machinery.PathFinder.find_spec
    spec = find('mmcv_like._ext', [str(package)])
    assert isinstance(spec.loader, importlib.machinery.ExtensionFileLoader)
    assert spec.origin == str(compiled)
    # Without it, and only then, the source file is found.
    compiled.unlink()
    importlib.machinery.PathFinder.invalidate_caches()
    spec = find('mmcv_like._ext', [str(package)])
    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)


def test_it_is_the_one_in_use():
    assert pathlib.Path(ext.__file__) == pathlib.Path(mmcv.__file__).parent / '_ext.py'
    assert ops.nms.__module__ == 'mmcv.ops.nms'


def owned_files(name):
    return {
        str(file)
        for file in importlib.metadata.files(name)
        if file.parts[0] == 'mmcv' and file.suffix != '.pyc'
    }


def test_it_owns_one_file_and_none_of_mmcv_lite():
    assert owned_files(DIST) == {'mmcv/_ext.py'}
    assert len(owned_files('mmcv-lite')) > 50
    assert not owned_files(DIST) & owned_files('mmcv-lite')


def test_the_files_of_mmcv_lite_are_untouched():
    checked = 0
    for file in importlib.metadata.files('mmcv-lite'):
        if file.hash is not None and file.suffix == '.py':
            digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
            encoded = base64.urlsafe_b64encode(digest).rstrip(b'=').decode()
            assert encoded == file.hash.value, file
            checked += 1
    assert checked > 50


def test_metadata():
    metadata = importlib.metadata.metadata(DIST)
    assert 'compiled mmcv/_ext' in metadata['Summary'] and 'never' in metadata['Summary']
    requirements = importlib.metadata.requires(DIST)
    assert {line.split('>')[0] for line in requirements} == {'torch', 'torchvision'}


@pytest.mark.slow
def test_installing_and_uninstalling_leave_mmcv_lite_alone(tmp_path):
    """With pip, in an environment of its own, without a network."""
    source = tmp_path / 'source'
    shutil.copytree(
        ROOT / 'compat' / 'mmcv_ext', source, ignore=shutil.ignore_patterns('build', '*.egg-info')
    )
    environment = tmp_path / 'environment'
    venv.create(environment, symlinks=True)
    python = environment / 'bin' / 'python'

    def pip(*args):
        command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *args]
        subprocess.run(command, check=True, capture_output=True)

    pip(
        'wheel', '--no-deps', '--no-index', '--no-build-isolation', '-w', str(tmp_path), str(source)
    )
    (wheel,) = tmp_path.glob('*.whl')
    site = next(environment.rglob('site-packages'))
    lite = {site / 'mmcv' / '__init__.py': '# lite', site / 'mmcv' / 'ops' / 'nms.py': '# nms'}
    for file, text in lite.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    target = ('--python', str(python))
    pip(*target, 'install', '--no-deps', '--no-index', '--no-compile', str(wheel))
    assert (site / 'mmcv' / '_ext.py').exists()
    assert {file: file.read_text() for file in lite} == lite
    pip(*target, 'uninstall', '-y', DIST)
    assert not (site / 'mmcv' / '_ext.py').exists()
    assert {file: file.read_text() for file in lite} == lite


# ---------------------------------------------------------------- detectors

DETECTORS = {
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'yolox': 'yolox/yolox_tiny_8xb8-300e_coco.py',
    'faster_rcnn': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}


def detector_config(name):
    """The config of a detector of mmdet, without its pretrained weights."""
    import mmdet
    from mmengine.config import Config

    configs = pathlib.Path(mmdet.__file__).parent / '.mim' / 'configs'
    config = Config.fromfile(configs / DETECTORS[name])
    config.model.backbone.init_cfg = None
    return config


@torch.no_grad()
def settle(model):
    """Make random weights predict finite boxes that overlap."""
    from mmdet.testing import demo_mm_inputs

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        elif isinstance(module, torch.nn.Conv2d) and re.search(
            r'\.(multi_level_conv|rtm)_reg', name
        ):
            # The boxes of one-stage detectors: some strides wide, all alike.
            module.weight *= 0.05
            module.bias.fill_(2.5)
    model.train()
    images = model.data_preprocessor(demo_mm_inputs(2, [[3, 192, 256]] * 2))['inputs']
    features = model.extract_feat(images)
    if hasattr(model, 'bbox_head'):
        model.bbox_head(features)
    model.eval()


@pytest.mark.slow
@pytest.mark.parametrize('name', DETECTORS)
def test_detectors_run(name, device):
    from mmdet.apis import inference_detector, init_detector

    config = detector_config(name)
    for step in config.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (256, 192)
    limits = config.model.test_cfg.get('rcnn', config.model.test_cfg)
    limits.score_thr = 0.0
    torch.manual_seed(0)
    model = init_detector(config, None, palette='coco', device=device)
    settle(model)
    image = np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    instances = inference_detector(model, image).pred_instances
    assert len(instances) > 0
    assert instances.bboxes.isfinite().all() and instances.scores.isfinite().all()
    # Suppression has run: no two boxes of a class overlap more than allowed.
    overlaps = ops.bbox_overlaps(instances.bboxes, instances.bboxes)
    same = instances.labels[:, None] == instances.labels
    overlaps = overlaps.where(same, overlaps.new_zeros(())).fill_diagonal_(0)
    assert 0.1 < overlaps.max() <= limits.nms.iou_threshold + 1e-4


@pytest.mark.slow
def test_a_detector_trains(device):
    """Faster R-CNN's loss reaches the backbone through RoI align."""
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules

    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(detector_config('faster_rcnn').model).to(device).train()
    packed = demo_mm_inputs(1, [[3, 96, 128]], num_items=[3], num_classes=80)
    inputs = model.data_preprocessor(packed, True)
    losses = model(**inputs, mode='loss')
    loss = losses['loss_cls'] + losses['loss_bbox']
    loss.backward()
    weight = model.backbone.layer4[0].conv1.weight
    assert loss.isfinite() and weight.grad.isfinite().all() and weight.grad.abs().sum() > 0
