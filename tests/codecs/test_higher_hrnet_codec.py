"""HigherHRNetCodec: targets of two resolutions, and MMPose's decoding, only faster."""

import copy

import mmpose.codecs.associative_embedding as upstream
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmpose.codecs import AssociativeEmbedding
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import MultilevelPixelData

from mmpose_attn.codecs import HigherHRNetCodec, grouping
from mmpose_attn.codecs.maps import CPUMaps, DeviceMaps
from tests.helpers import (
    COCO_ORDER,
    codec_cfg,
    raw_sample,
    run_pipeline,
    scene,
    scipy_match,
    train_pipeline,
)

FILLS = ['mmpose', 'official', 'none']


def arguments(heatmap_size, joints=17, scale=2, **kwargs):
    """Of a decoder for maps of one size."""
    base = dict(
        input_size=tuple(scale * side for side in heatmap_size),
        heatmap_size=heatmap_size,
        sigma=2,
        decode_keypoint_order=COCO_ORDER if joints == 17 else list(range(joints)),
        decode_center_shift=0.5,
    )
    return base | kwargs


def decoder(*args, **kwargs):
    return HigherHRNetCodec(**arguments(*args, **kwargs))


def decoders(*args, **kwargs):
    """MMPose's and this package's."""
    return AssociativeEmbedding(**arguments(*args, **kwargs)), decoder(*args, **kwargs)


def assert_as_upstream(codecs, heat, tags, tolerance=1e-3):
    stock, codec = codecs
    expected = stock.batch_decode(heat.clone(), tags.clone())
    actual = codec.batch_decode(heat, tags)
    for keypoints, other in zip(actual[0], expected[0], strict=True):
        assert keypoints.shape == other.shape
        np.testing.assert_allclose(keypoints, other, rtol=0, atol=tolerance)
    for i in (1, 2):
        for scores, other in zip(actual[i], expected[i], strict=True):
            np.testing.assert_array_equal(scores, other)
    return actual


@pytest.fixture
def same_choice(monkeypatch):
    """Both decoders choose alike among equally good assignments."""
    monkeypatch.setattr(upstream, '_py_max_match', scipy_match)
    monkeypatch.setattr(grouping, '_TIE_BREAK', 0)


# ---------------------------------------------------- decode: as MMPose's
@pytest.mark.parametrize('dims', [1, 2])
@pytest.mark.parametrize('people', [1, 2, 4])
def test_as_mmpose_as_it_is(people, dims):
    for seed in range(3):
        # missing only in single people: with more, MMPose chooses at random among chains
        missing = 0.2 if people == 1 else 0
        maps = scene(seed, people, dims=dims, missing=missing, size=(160, 128))
        keypoints, scores, _ = assert_as_upstream(decoders((160, 128)), *maps)
        assert len(keypoints[0]) >= people and (scores[0] > 0).all()


@pytest.mark.parametrize('dims', [1, 2])
@pytest.mark.parametrize(
    'people, noise, gap, clutter',
    [
        (1, 0, 3, 0),
        (2, 0.01, 3, 0),
        (5, 0.01, 3, 1),
        (10, 0.03, 2, 2),
        (20, 0.05, 1, 3),
        (30, 0.05, 0.7, 5),
        (30, 0.2, 0.3, 10),
    ],
)
def test_as_mmpose_in_crowds(same_choice, people, noise, gap, clutter, dims):
    for seed in range(2):
        maps = scene(
            seed,
            people,
            size=(97, 70),
            dims=dims,
            noise=noise,
            gap=gap,
            clutter=clutter,
            tag_noise=0.1,
        )
        # scores equal exactly, so that groups and filled places do as well
        keypoints, _, _ = assert_as_upstream(decoders((97, 70)), *maps)
    assert len(keypoints[0]) >= min(people, 2)


def test_as_mmpose_with_other_arguments(same_choice):
    maps = scene(7, 6, joints=5, size=(64, 48), noise=0.02)
    for kwargs in (
        dict(decode_nms_kernel=3),
        dict(decode_nms_kernel=9),
        dict(decode_keypoint_thr=0.5),
        dict(decode_tag_thr=0.1),
        dict(decode_topk=3),
        dict(decode_center_shift=0.0),
        dict(scale=4),
        dict(decode_keypoint_order=[3, 1, 4, 0, 2]),
    ):
        assert_as_upstream(decoders((64, 48), 5, **kwargs), *maps)


@pytest.mark.parametrize('quantum', [0.5, 0.125])
def test_as_mmpose_on_plateaus(same_choice, quantum):
    # equal peaks: which of them are taken, and in which order, is torch's topk's
    for seed in range(3):
        heat, tags = scene(seed, 5, size=(64, 64), joints=6, noise=0.02)
        heat = (heat / quantum).round() * quantum
        assert_as_upstream(decoders((64, 64), 6, decode_topk=20), heat, tags)


def test_batch_equals_its_images(same_choice):
    batch = [torch.cat(maps) for maps in zip(*(scene(s, 1 + s) for s in range(3)), strict=True)]
    stock, codec = decoders((96, 80))
    keypoints, scores, instance_scores = assert_as_upstream((stock, codec), *batch)
    assert [len(k) for k in keypoints] == [len(s) for s in scores]
    for i in range(3):
        single = codec.batch_decode(batch[0][i : i + 1], batch[1][i : i + 1])
        for whole, alone in zip((keypoints, scores, instance_scores), single, strict=True):
            np.testing.assert_array_equal(whole[i], alone[0])


def test_types_and_shapes():
    heat, tags = scene(0, 3, joints=4, dims=2)
    codec = decoder((96, 80), 4)
    for keypoints, scores, instance_scores in (
        [part[0] for part in codec.batch_decode(h, t)]
        for h, t in (
            (heat, tags),
            (heat.half(), tags.half()),
            (heat.clone().requires_grad_(), tags.clone().requires_grad_()),
            (heat.mT.contiguous().mT, tags.mT.contiguous().mT),  # strided
        )
    ):
        assert keypoints.shape == (3, 4, 2) and scores.shape == (3, 4)
        assert instance_scores.shape == (3,)
        assert {a.dtype.name for a in (keypoints, scores, instance_scores)} == {'float32'}


def test_nothing_is_changed():
    heat, tags = scene(1, 3)
    before = heat.clone(), tags.clone()
    for kwargs in (dict(), dict(use_udp=True), dict(decode_fill='official')):
        decoder((96, 80), **kwargs).batch_decode(heat, tags)
        assert torch.equal(heat, before[0]) and torch.equal(tags, before[1])


@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('use_udp', [False, True])
def test_empty_image(fill, use_udp):
    codec = HigherHRNetCodec(
        (64, 64),
        (32, 32),
        sigma=2,
        use_udp=use_udp,
        decode_fill=fill,
        decode_keypoint_order=range(4),
        decode_max_instances=3,
    )
    heat = torch.stack((torch.zeros(4, 32, 32), torch.full((4, 32, 32), 0.1)))  # at the threshold
    keypoints, scores, instance_scores = codec.batch_decode(heat, torch.randn(2, 8, 32, 32))
    assert [k.shape for k in keypoints] == [(0, 4, 2)] * 2
    assert [s.shape for s in scores] == [(0, 4)] * 2
    assert [s.shape for s in instance_scores] == [(0,)] * 2


# -------------------------------------------------------- decode: filling
def slow_best(heat, tags, tag, weight):
    """First cell of the least ``weight * round(distance) - heat`` and the heat there."""
    distance = np.sqrt(np.square(tags - tag[:, None, None]).sum(0))
    cost = np.round(distance) * np.float32(weight) - heat
    y, x = np.unravel_index(np.argmin(cost), cost.shape)
    return x, y, heat[y, x]


def slow_fill(fill, keypoints, scores, heat, tags, shift=0.5):
    """The official ``refine`` of a decoded image, in loops, in cells; also MMPose's form."""
    (joints, height, width), keypoints, scores = heat.shape, keypoints.copy(), scores.copy()
    tags = tags.reshape(-1, joints, height, width)
    for person in range(len(keypoints)):
        read = []
        for k in range(joints):
            if scores[person, k] > 0:
                x, y = keypoints[person, k].astype(int)
                x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
                read.append(tags[:, k, y, x])
        mean = np.mean(np.stack(read), axis=0)
        for k in np.flatnonzero(scores[person] == 0):
            x, y, val = slow_best(heat[k], tags[:, k], mean, 1 if fill == 'official' else 100)
            if fill == 'mmpose':
                keypoints[person, k], scores[person, k] = (x, y), val
            elif val > 0:
                dx = dy = 0.0
                if 1 < x < width - 1 and 0 < y < height:
                    dx = 0.25 * np.sign(heat[k, y, x + 1] - heat[k, y, x - 1])
                if 1 < y < height - 1 and 0 < x < width:
                    dy = 0.25 * np.sign(heat[k, y + 1, x] - heat[k, y - 1, x])
                keypoints[person, k] = (x + dx + shift, y + dy + shift)
                scores[person, k] = val
    return keypoints, scores


@pytest.mark.parametrize('fill', ['official', 'mmpose'])
@pytest.mark.parametrize('dims', [1, 2])
def test_filling_is_the_slow_reference(fill, dims):
    filled = 0
    for seed in range(4):
        heat, tags = scene(
            seed,
            4,
            joints=7,
            size=(57, 41),
            dims=dims,
            missing=0.4,
            gap=1.3,
            tag_noise=0.3,
            noise=0.1,
        )
        bare = [
            part[0] for part in decoder((57, 41), 7, decode_fill='none').batch_decode(heat, tags)
        ]
        full = decoder((57, 41), 7, decode_fill=fill).batch_decode(heat, tags)
        expected = slow_fill(fill, bare[0] / 2, bare[1], heat[0].numpy(), tags[0].numpy())
        np.testing.assert_allclose(full[0][0], expected[0] * 2, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(full[1][0], expected[1])
        np.testing.assert_array_equal(full[2][0], bare[2])  # scores of people are older
        missing = bare[1] == 0
        assert (bare[0][missing] == 0).all()  # 'none'
        filled += (missing & (full[1][0] > 0)).sum()
    assert filled > 20


def lone_person(joints=3, size=(40, 30), tag=2.0):
    """A person seen at all joints but the last, at cell (10, 12)."""
    heat = torch.zeros(1, joints, size[1], size[0])
    tags = torch.full((1, joints, size[1], size[0]), 9.0)
    heat[0, :-1, 12, 10] = 0.8
    tags[0, :-1, 12, 10] = tag
    return heat, tags


def test_official_fill_steps_and_shifts():
    """Trap 12: a filled keypoint gets the quarter step and the half cell like the others."""
    heat, tags = lone_person()
    heat[0, 2, 20, 5:8] = torch.tensor([0.01, 0.05, 0.03])  # below the threshold of candidates
    tags[0, 2, 20, 6] = 2.1
    heat[0, 2, 3, 3] = 0.09  # higher, but somebody else's
    keypoints, scores, _ = decoder((40, 30), 3, decode_fill='official').batch_decode(heat, tags)
    np.testing.assert_allclose(keypoints[0][0, 2], [2 * (6 + 0.25 + 0.5), 2 * (20 + 0.5)])
    assert scores[0][0, 2] == np.float32(0.05)
    # the same joint where there is a candidate, for comparison
    heat[0, 2, 20, 6] = 0.5
    found, _, _ = decoder((40, 30), 3, decode_fill='official').batch_decode(heat, tags)
    np.testing.assert_allclose(found[0], keypoints[0])

    heat[0, 2, 20, 6] = 0.05
    keypoints, scores, _ = decoder((40, 30), 3, decode_fill='mmpose').batch_decode(heat, tags)
    np.testing.assert_allclose(keypoints[0][0, 2], [2 * 6, 2 * 20])
    assert scores[0][0, 2] == np.float32(0.05)


@pytest.mark.parametrize('value', [0.0, -0.2])
def test_official_fill_needs_a_response(value):
    heat, tags = lone_person()
    heat[0, 2] = -0.5
    heat[0, 2, 20, 6] = value
    tags[0, 2, 20, 6] = 2.0
    keypoints, scores, _ = decoder((40, 30), 3, decode_fill='official').batch_decode(heat, tags)
    assert (keypoints[0][0, 2] == 0).all() and scores[0][0, 2] == 0
    keypoints, scores, _ = decoder((40, 30), 3, decode_fill='mmpose').batch_decode(heat, tags)
    assert (keypoints[0][0, 2] == (12, 40)).all() and scores[0][0, 2] == np.float32(value)


def test_official_fill_weighs_distance_against_heat():
    # 1 of distance is worth 1 of heat: a strong response one tag off beats a weak one at home
    heat, tags = lone_person()
    heat[0, 2, 20, 6], tags[0, 2, 20, 6] = 0.02, 2.0
    heat[0, 2, 5, 30], tags[0, 2, 5, 30] = 1.5, 3.0
    codec = decoder((40, 30), 3, decode_fill='official', decode_keypoint_thr=1.6)
    heat[0, :2] *= 4
    keypoints, scores, _ = codec.batch_decode(heat, tags)
    assert scores[0][0, 2] == 1.5 and keypoints[0][0, 2].tolist() == [61, 11]
    keypoints, scores, _ = decoder((40, 30), 3, decode_keypoint_thr=1.6).batch_decode(heat, tags)
    assert scores[0][0, 2] == np.float32(0.02) and keypoints[0][0, 2].tolist() == [12, 40]


# ----------------------------------------------- decode: the two sets of steps
@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('dims', [1, 2, 3])
@pytest.mark.parametrize('size', [(64, 64), (50, 37), (7, 5), (129, 3)])
def test_cpu_steps_equal_dense_steps(size, dims, fill):
    for seed, quantum in ((0, None), (1, None), (2, 0.25), (3, 1.0)):
        heat, tags = scene(
            seed,
            3 + 3 * seed,
            joints=6,
            size=size,
            dims=dims,
            missing=0.3,
            noise=0.08,
            gap=1.0,
            tag_noise=0.4,
        )
        if quantum:  # plateaus, also in the tags
            heat, tags = (heat / quantum).round() * quantum, (tags / 0.5).round() * 0.5
        codec = decoder(size, 6, decode_fill=fill, decode_max_instances=9)
        for cpu, dense in zip(
            codec._decode_one(CPUMaps(heat[0], tags[0])),
            codec._decode_one(DeviceMaps(heat[0], tags[0])),
            strict=True,
        ):
            np.testing.assert_array_equal(cpu, dense)


@pytest.mark.parametrize('searched', ['nothing', 'high cells', 'the highest first'])
@pytest.mark.parametrize('weight', [1.0, 100.0, 0.3])
def test_best_match_is_the_slow_reference(weight, searched, monkeypatch):
    if searched == 'the highest first':
        monkeypatch.setattr(CPUMaps, 'SEARCH_FIRST', 20)
    rng = np.random.default_rng(0)
    for dims in (1, 2):
        # heats far above 1 make a match leave the nearest tags
        heat = rng.normal(0, 2, (3, 23, 31)).astype(np.float32)
        heat[1] = np.round(heat[1])
        tags = rng.normal(0, 3, (dims, 3, 23, 31)).astype(np.float32)
        wanted = {j: rng.normal(0, 4, (5, dims)).astype(np.float32) for j in (0, 1, 2)}
        for maps in (CPUMaps, DeviceMaps):
            flat = torch.from_numpy(tags.reshape(-1, 23, 31))
            one = maps(torch.from_numpy(heat), flat)
            if searched != 'nothing':
                one.peaks(5, 30, 0.1)
            matches = one.best_matches(wanted, weight)
            for joint, (index, value) in matches.items():
                for i, tag in enumerate(wanted[joint]):
                    x, y, best = slow_best(heat[joint], tags[:, joint], tag, weight)
                    assert (index[i], value[i]) == (y * 31 + x, best)


@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('seed', range(12))
def test_stray_bad_cells_are_empty_cells(seed, fill):
    """Only what is read is asked whether it is finite; the answer is that of asking everything."""
    rng = np.random.default_rng(seed)
    heat, tags = scene(5, seed, joints=6, size=(40, 48), missing=0.4, noise=0.05, dims=2)
    number = np.ones(heat.shape, dtype=bool)
    for maps in (heat, tags):
        cells = rng.integers(0, maps.numel(), rng.integers(1, 60))
        maps.view(-1)[cells] = torch.from_numpy(
            rng.choice(np.float32([np.nan, np.inf, -np.inf]), len(cells))
        )
        number &= np.isfinite(maps.numpy()).reshape(-1, *heat.shape[1:]).all(0)
    clean = torch.where(torch.from_numpy(number), heat, 0), tags.nan_to_num(0, 0, 0)
    codec = decoder((40, 48), 6, decode_fill=fill)
    expected = codec._decode_one(DeviceMaps(*(maps[0] for maps in clean)))
    for part, other in zip(codec.batch_decode(heat, tags), expected, strict=True):
        np.testing.assert_array_equal(part[0], other)


def test_threads_change_nothing():
    before = torch.get_num_threads()
    results = []
    heat, tags = scene(5, 8, missing=0.4, noise=0.05)
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(decoder((96, 80), decode_fill='official').batch_decode(heat, tags))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for part, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(part[0], expected[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('fill', FILLS)
def test_cuda_equals_cpu(fill):
    heat, tags = scene(6, 8, missing=0.3, noise=0.05, dims=2)
    codec = decoder((96, 80), decode_fill=fill)
    on_cpu, on_gpu = codec.batch_decode(heat, tags), codec.batch_decode(heat.cuda(), tags.cuda())
    for part, expected in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(part[0], expected[0], atol=1e-4)


# ------------------------------------------------------ decode: robustness
@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('where', ['all', 'joint', 'rows', 'cell', 'tags', 'tags of a joint'])
def test_what_is_not_a_number_is_empty(where, bad, fill):
    heat, tags = scene(8, 3, joints=5, size=(40, 32), missing=0.3)
    place = {
        'all': (heat, ...),
        'joint': (heat, (0, 2)),
        'rows': (heat, (0, slice(None), slice(0, 9))),
        'cell': (heat, (0, 1, 5, 5)),
        'tags': (tags, ...),
        'tags of a joint': (tags, (0, 3)),
    }
    maps, index = place[where]
    maps[index] = bad
    keypoints, scores, instance_scores = decoder((40, 32), 5, decode_fill=fill).batch_decode(
        heat, tags
    )
    for part in (keypoints, scores, instance_scores):
        assert np.isfinite(part[0]).all()
    if where in ('all', 'tags'):
        assert len(keypoints[0]) == 0
    else:
        # what remains is found as if the rest were empty
        heat[~heat.isfinite() | ~tags.isfinite()] = 0
        tags[~tags.isfinite()] = 0
        clean = decoder((40, 32), 5, decode_fill=fill).batch_decode(heat, tags)
        np.testing.assert_array_equal(keypoints[0], clean[0][0])
        assert len(keypoints[0]) >= 3


def test_max_instances_keeps_the_best():
    """Trap 11: MMPose keeps the first created, whatever their scores."""
    joints, size = 4, (96, 24)
    heat, tags = torch.zeros(1, joints, 24, 96), torch.zeros(1, joints, 24, 96)
    # person i has tag 3 i and joint 0 ever lower, hence is created in this order
    totals = {}
    for person, rest in enumerate([0.2, 0.9, 0.3, 0.8, 0.25]):
        x = 6 + 18 * person
        heat[0, 0, 10, x] = 0.9 - 0.05 * person
        heat[0, 1:, 10, x] = rest
        tags[0, :, 9:12, x - 1 : x + 2] = 3.0 * person
        totals[person] = (0.9 - 0.05 * person + 3 * rest) / 4
    kept_of = {2: [1, 3], 3: [1, 2, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4], 9: [0, 1, 2, 3, 4]}
    for limit, kept in kept_of.items():
        codec = decoder(size, joints, scale=1, decode_max_instances=limit)
        keypoints, scores, instance_scores = codec.batch_decode(heat, tags)
        assert ((keypoints[0][:, 0, 0] - 6.5) / 18).tolist() == kept
        np.testing.assert_allclose(instance_scores[0], [totals[i] for i in kept], rtol=1e-6)
        assert len(scores[0]) == len(kept)


@pytest.mark.parametrize('people', [1, 3])
def test_udp_as_mmpose(same_choice, people):
    compared = 0
    for seed in range(6):
        maps = scene(seed, people, joints=5, size=(128, 96), missing=0)
        stock, codec = decoders((128, 96), 5, use_udp=True, decode_gaussian_kernel=5)
        scores = decoder((128, 96), 5, decode_fill='none').batch_decode(*maps)[1][0]
        if scores.all():  # nobody's joint is hidden by another's: nothing to fill
            assert_as_upstream((stock, codec), *maps)
            compared += 1
    assert compared >= 3


def test_udp_fills_from_the_heatmaps():
    # MMPose fills from the maps that its refinement left blurred and logarithmic
    heat, tags = scene(3, 2, joints=6, size=(48, 40), missing=0.3)
    stock, codec = decoders((48, 40), 6, use_udp=True)
    keypoints, scores, _ = codec.batch_decode(heat, tags)
    others, logs, _ = stock.batch_decode(heat.clone(), tags)
    bare = HigherHRNetCodec(
        (96, 80),
        (48, 40),
        sigma=2,
        use_udp=True,
        decode_fill='none',
        decode_center_shift=0.5,
        decode_keypoint_order=range(6),
    ).batch_decode(heat, tags)
    missing = bare[1][0] == 0
    assert missing.any() and (logs[0][missing] < 0).all()
    np.testing.assert_allclose(keypoints[0][~missing], others[0][~missing], atol=1e-3)
    assert (bare[0][0][missing] == 0).all()
    cells = np.round(keypoints[0] / codec.scale_factor).astype(int)
    for person, joint in zip(*np.nonzero(missing), strict=True):
        x, y = cells[person, joint]
        assert scores[0][person, joint] == heat[0, joint, y, x]


def test_udp_without_a_joint_anywhere():
    heat, tags = scene(4, 2, joints=3, size=(48, 40), missing=0)
    heat[0, 1] = 0
    codec = HigherHRNetCodec(
        (96, 80),
        (48, 40),
        sigma=2,
        use_udp=True,
        decode_fill='official',
        decode_keypoint_order=range(3),
    )
    with np.errstate(invalid='ignore'):
        keypoints, scores, _ = codec.batch_decode(heat, tags)
    assert (scores[0][:, 1] == 0).all() and (keypoints[0][:, 1] == 0).all()


# ------------------------------------------------------------------ encode
def slow_heatmaps(size, stride, keypoints, visible, sigma):
    """Officially: a (6 sigma + 3) wide Gaussian around every cell, the maximum of them."""
    width, height = size
    heatmaps = np.zeros((keypoints.shape[1], height, width))
    reach = 3 * sigma + 1
    for person in range(len(keypoints)):
        for k in range(keypoints.shape[1]):
            if not visible[person, k]:
                continue
            cx, cy = (int(np.floor(v / stride)) for v in keypoints[person, k])
            if cx < 0 or cy < 0 or cx >= width or cy >= height:
                continue
            for y in range(height):
                for x in range(width):
                    if max(abs(x - cx), abs(y - cy)) <= reach:
                        value = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
                        heatmaps[k, y, x] = max(heatmaps[k, y, x], value)
    return heatmaps


def points(seed, people=4, joints=3, size=(64, 48), margin=12):
    rng = np.random.default_rng(seed)
    low, high = -margin, np.array(size) + margin
    keypoints = rng.uniform(low, high, (people, joints, 2)).astype(np.float32)
    return keypoints, (rng.random((people, joints)) < 0.7).astype(np.float32)


@pytest.mark.parametrize('sigma', [1, 2])
def test_heatmaps_are_the_slow_reference(sigma):
    codec = HigherHRNetCodec((64, 48), [(16, 12), (32, 24)], sigma=sigma)
    for seed in range(3):
        keypoints, visible = points(seed)
        encoded = codec.encode(keypoints, visible)
        for heatmaps, stride in zip(encoded['heatmaps'], (4, 2), strict=True):
            size = (64 // stride, 48 // stride)
            expected = slow_heatmaps(size, stride, keypoints, visible, sigma)
            assert heatmaps.dtype == np.float32
            np.testing.assert_allclose(heatmaps, expected, atol=1e-6)


def test_kernel_is_6_sigma_plus_3_wide():
    """Trap 14: MMPose's is 6 sigma + 1."""
    codec = HigherHRNetCodec((160, 160), (40, 40), sigma=2)
    heatmap = codec.encode(np.full((1, 1, 2), 82, np.float32))['heatmaps'][0]
    assert heatmap.shape == (40, 40) and heatmap[20, 20] == 1
    for axis in (0, 1):
        assert np.flatnonzero(heatmap.any(axis)).tolist() == list(range(13, 28))
    assert heatmap[20, 13] == np.float32(np.exp(-49 / 8))


def test_centres_outside_the_map_leave_nothing():
    """Trap 14: MMPose still draws the part of the Gaussian that is inside."""
    codec = HigherHRNetCodec((64, 48), [(16, 12), (32, 24)], sigma=2)
    outside = np.float32([[-0.1, 20], [20, -0.1], [64, 20], [20, 48], [-9, -9], [900, 3]])
    encoded = codec.encode(outside[:, None])
    assert not any(heatmaps.any() for heatmaps in encoded['heatmaps'])
    assert encoded['keypoint_indices'].shape == (0, 1, 2)
    stock = AssociativeEmbedding((64, 48), (16, 12), sigma=2)
    assert stock.encode(outside[:, None])['heatmaps'].any()
    inside = np.float32([[0, 0], [63.99, 47.99], [0, 47.99]])
    encoded = codec.encode(inside[:, None])
    assert encoded['keypoint_indices'][:, 0].tolist() == [[0, 1], [191, 1], [176, 1]]
    assert encoded['heatmaps'][1][0, [0, 23, 23], [0, 31, 0]].tolist() == [1, 1, 1]


def test_indices_are_cells_of_the_first_resolution():
    codec = HigherHRNetCodec((64, 48), [(16, 12), (32, 24)], sigma=2)
    for seed in range(5):
        keypoints, visible = points(seed)
        encoded = codec.encode(keypoints, visible)
        indices, weights = encoded['keypoint_indices'], encoded['keypoint_weights']
        cells = np.floor(keypoints / 4).astype(int)
        inside = (visible > 0) & (cells >= 0).all(-1) & (cells < (16, 12)).all(-1)
        people = inside.any(1)
        assert indices.dtype == np.int64 and weights.dtype == np.float32
        np.testing.assert_array_equal(indices[..., 1], inside[people])
        np.testing.assert_array_equal(weights, inside[people])
        flat = cells[..., 1] * 16 + cells[..., 0]
        np.testing.assert_array_equal(indices[..., 0], np.where(inside, flat, 0)[people])
        # the tag is read under the heatmap's peak
        maps = encoded['heatmaps'][0].reshape(3, -1)
        for person, joint in np.argwhere(indices[..., 1]):
            assert maps[joint, indices[person, joint, 0]] == 1


def test_not_visible_and_not_a_number():
    codec = HigherHRNetCodec((64, 48), (16, 12), sigma=2)
    keypoints = np.full((4, 2, 2), 20, np.float32)
    visible = np.float32([[1, 0], [1, 0.5], [0, 0], [2, 1]])
    keypoints[1, 0] = np.nan
    keypoints[3, 1, 1] = np.inf
    encoded = codec.encode(keypoints, visible)
    # person 0 has joint 0, person 3 has joint 0; the others have nothing
    assert encoded['keypoint_indices'].tolist() == [[[85, 1], [0, 0]]] * 2
    assert encoded['heatmaps'][0].max() == 1 and not encoded['heatmaps'][1].any()
    everything = codec.encode(np.full((4, 2, 2), 20, np.float32))
    assert everything['keypoint_weights'].all() and len(everything['keypoint_weights']) == 4


def test_one_size_is_an_array_and_several_are_a_list():
    keypoints, visible = points(0)
    single = HigherHRNetCodec((64, 48), (32, 24), sigma=2)
    double = HigherHRNetCodec((64, 48), [(16, 12), (32, 24)], sigma=2)
    triple = HigherHRNetCodec((64, 48), ((16, 12), (32, 24), (64, 48)), sigma=2)
    one, two, three = (c.encode(keypoints, visible)['heatmaps'] for c in (single, double, triple))
    assert isinstance(one, np.ndarray) and one.shape == (3, 24, 32)
    assert [m.shape for m in three] == [(3, 12, 16), (3, 24, 32), (3, 48, 64)]
    np.testing.assert_array_equal(one, two[1])
    # decoding works at the last size
    assert [c.scale_factor.tolist() for c in (single, double, triple)] == [[2, 2], [2, 2], [1, 1]]


def test_at_most_max_people_get_tags():
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 64, (45, 2, 2)).astype(np.float32)
    visible = np.ones((45, 2), np.float32)
    visible[[0, 7, 20]] = 0  # people without a keypoint do not count
    codec = HigherHRNetCodec((64, 64), [(16, 16), (32, 32)], sigma=2)
    limited = codec.encode(keypoints, visible)
    chosen = np.flatnonzero(visible[:, 0])[:30]
    assert codec.max_people == 30 and len(limited['keypoint_indices']) == 30
    cells = np.floor(keypoints[chosen] / 4).astype(int)
    np.testing.assert_array_equal(
        limited['keypoint_indices'][..., 0], cells[..., 1] * 16 + cells[..., 0]
    )
    # their heatmaps stay
    unlimited = HigherHRNetCodec((64, 64), [(16, 16), (32, 32)], sigma=2, max_people=99)
    everyone = unlimited.encode(keypoints, visible)
    assert len(everyone['keypoint_indices']) == 42
    for a, b in zip(limited['heatmaps'], everyone['heatmaps'], strict=True):
        np.testing.assert_array_equal(a, b)


def test_nobody():
    codec = HigherHRNetCodec((64, 64), [(16, 16), (32, 32)], sigma=2)
    encoded = codec.encode(np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32))
    assert [m.shape for m in encoded['heatmaps']] == [(17, 16, 16), (17, 32, 32)]
    assert encoded['keypoint_indices'].shape == (0, 17, 2)
    assert not any(m.any() for m in encoded['heatmaps'])


def test_udp_encoding_is_mmposes():
    keypoints, visible = points(3, margin=-1)
    arguments = ((64, 48), (32, 24), 2, True)
    ours = HigherHRNetCodec(*arguments[:3], use_udp=True).encode(keypoints, visible)
    theirs = AssociativeEmbedding(*arguments).encode(keypoints, visible)
    np.testing.assert_allclose(ours['heatmaps'], theirs['heatmaps'], atol=1e-6)
    seen = visible > 0
    people = seen.any(1)
    np.testing.assert_array_equal(
        ours['keypoint_indices'], theirs['keypoint_indices'][people] * seen[people][..., None]
    )


# -------------------------------------------------------------- round trip
@pytest.mark.parametrize('level, stride', [(0, 4), (1, 2)])
def test_round_trip_has_no_bias(level, stride):
    """Trap 6: MMPose rounds a keypoint to its cell, which the decoder's half cell does not fit."""
    size = (128, 128)
    rng = np.random.default_rng(level)
    # clear of the border; joints are samples, several images keep the maps small
    keypoints = rng.uniform(20, 108, (12, 1, 32, 2)).astype(np.float32)
    sizes = [(32, 32), (64, 64)]
    ours = HigherHRNetCodec(size, sizes, sigma=2)
    stock = AssociativeEmbedding(size, sizes[level], sigma=2)
    decode = HigherHRNetCodec(
        size, size, sigma=2, decode_center_shift=0.5, decode_keypoint_order=range(32)
    )

    def error(heatmaps):
        maps = F.interpolate(
            torch.from_numpy(np.stack(heatmaps)), size=size, mode='bilinear', align_corners=False
        )
        # the four pixels around a cell's centre are equal: let chance choose among them
        maps += 1e-4 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
        found, _, _ = decode.batch_decode(maps, torch.zeros_like(maps))
        assert all(len(people) == 1 for people in found)
        return (np.stack(found) - keypoints).reshape(-1, 2)

    ours = error([ours.encode(k)['heatmaps'][level] for k in keypoints])
    assert np.abs(ours.mean(0)).max() < 0.07 * stride
    assert np.abs(ours).max() <= 0.7 * stride
    biased = error([stock.encode(k)['heatmaps'] for k in keypoints])
    np.testing.assert_allclose(biased.mean(0) - ours.mean(0), stride / 2, atol=0.08 * stride)


def test_round_trip_of_people():
    rng = np.random.default_rng(1)
    codec = HigherHRNetCodec(
        (256, 256),
        [(64, 64), (128, 128)],
        sigma=2,
        decode_center_shift=0.5,
        decode_keypoint_order=range(5),
    )
    keypoints = rng.uniform(8, 248, (6, 5, 2)).astype(np.float32)
    encoded = codec.encode(keypoints)
    tags = np.zeros((5, 64 * 64), np.float32)
    for person, indices in enumerate(encoded['keypoint_indices']):
        tags[np.arange(5), indices[:, 0]] = 3 * person
    tags = F.max_pool2d(torch.from_numpy(tags.reshape(1, 5, 64, 64)), 3, 1, 1)
    tags = F.interpolate(tags, scale_factor=2, mode='nearest')
    found, scores, _ = codec.batch_decode(torch.from_numpy(encoded['heatmaps'][1])[None], tags)
    assert len(found[0]) == 6 and (scores[0] == 1).all()
    for person in keypoints:
        nearest = np.abs(found[0] - person).max((1, 2)).min()
        assert nearest <= 1.5  # within a cell of 2 pixels: half of it and the quarter step


# ---------------------------------------------------------------- pipeline
@pytest.mark.parametrize('two', [True, False])
def test_targets_reach_the_head(two):
    """Trap 1: without label_mapping_table PackPoseInputs drops the indices."""
    cfg = codec_cfg((64, 64))
    if not two:
        cfg['heatmap_size'] = (16, 16)
    steps = train_pipeline(cfg)
    np.random.seed(0)
    sample = run_pipeline(steps, raw_sample(people=3))['data_samples']
    labels = sample.gt_instance_labels
    assert labels.keypoint_indices.dtype == torch.int64
    assert labels.keypoint_indices.shape[1:] == (17, 2) and len(labels.keypoint_indices) > 0
    assert torch.equal(labels.keypoint_weights, labels.keypoint_indices[..., 1].float())
    # the tables must not cost the mask
    fields = sample.gt_fields
    assert isinstance(fields, MultilevelPixelData if two else PixelData)
    levels = list(fields.levels()) if two else [fields]
    assert [tuple(f.heatmaps.shape) for f in levels] == [(17, 16, 16), (17, 32, 32)][: len(levels)]
    assert all(f.heatmap_mask.shape == (1, *f.heatmaps.shape[1:]) for f in levels)
    # what is tagged is where the heatmap peaks
    maps = levels[0].heatmaps.flatten(1)
    for person in labels.keypoint_indices:
        for joint, (index, visible) in enumerate(person.tolist()):
            assert not visible or maps[joint, index] == 1


def test_pipeline_without_labelled_keypoints():
    raw = raw_sample(people=2, keypoints_visible=np.zeros((2, 17), np.float32))
    sample = run_pipeline(train_pipeline(codec_cfg()), raw)['data_samples']
    assert sample.gt_instance_labels.keypoint_indices.shape == (0, 17, 2)


# --------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(decode_fill='refine'), "decode_fill must be .* got 'refine'"),
        (dict(decode_fill=None), 'decode_fill must be'),
        (dict(decode_keypoint_thr=-0.1), 'decode_keypoint_thr must not be negative, got -0.1'),
        (dict(decode_nms_kernel=4), 'decode_nms_kernel must be odd, got 4'),
        (dict(decode_nms_kernel=-1), 'decode_nms_kernel must be odd, got -1'),
        (dict(max_people=0), 'max_people must be positive, got 0'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HigherHRNetCodec((64, 64), [(16, 16), (32, 32)], **kwargs)


@pytest.mark.parametrize('order', [None, [0, 1], [0, 1, 2, 2]])
def test_order_is_checked(order):
    """Trap 13: MMPose's default, an empty order, is a bare assertion in the first image."""
    kwargs = {} if order is None else dict(decode_keypoint_order=order)
    codec = HigherHRNetCodec((64, 64), (32, 32), **kwargs)
    with pytest.raises(ValueError, match='decode_keypoint_order must name each of the 3'):
        codec.batch_decode(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize('shape', [(2, 3, 32, 32), (1, 3, 32, 16), (1, 4, 32, 32)])
def test_shapes_are_checked(shape):
    codec = HigherHRNetCodec((64, 64), (32, 32), decode_keypoint_order=range(3))
    with pytest.raises(ValueError, match='do not fit heatmaps'):
        codec.batch_decode(torch.zeros(1, 3, 32, 32), torch.zeros(shape))


def test_default_sigma_and_registry():
    codec = KEYPOINT_CODECS.build(
        dict(type='HigherHRNetCodec', input_size=(512, 512), heatmap_size=[(128, 128), (256, 256)])
    )
    assert codec.sigma == 4 and codec.support_batch_decoding
    assert AssociativeEmbedding((512, 512), (256, 256)).sigma == codec.sigma


def test_arguments_are_not_changed_or_shared():
    order = [2, 1, 0]
    kwargs = dict(input_size=[64, 64], heatmap_size=[[16, 16]], decode_keypoint_order=order)
    before = copy.deepcopy(kwargs)
    codec = HigherHRNetCodec(**kwargs)
    codec.decode_keypoint_order.append(9)
    assert kwargs == before
    assert HigherHRNetCodec((64, 64), (16, 16)).decode_keypoint_order == []
