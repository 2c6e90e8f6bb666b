import copy

import cv2
import numpy as np
import pytest
import torch
from mmpose.datasets.transforms import GenerateTarget, RandomFlip
from mmpose.registry import TRANSFORMS
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from scipy import stats

from mmpose_attn.datasets import transforms
from mmpose_attn.datasets.transforms import (
    BottomupCrowdMask,
    BottomupMultiScaleResize,
    BottomupUniformAffine,
    LoadPoseImage,
    PackBottomupInputs,
    exif_orientation,
    loading,
)
from tests.data_helpers import jpeg, record_log

FLIP_CODE = {'horizontal': 1, 'vertical': 0, 'diagonal': -1}


@pytest.fixture
def warnings_logged(monkeypatch):
    """What the transforms log."""
    return record_log(monkeypatch, loading)


# ------------------------------------------------------------------ loading
@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_load_image(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    path = tmp_path / f'a{suffix}'
    cv2.imwrite(str(path), image)
    results = LoadPoseImage()(dict(img_path=str(path), ann_shape=(80, 96)))
    assert np.array_equal(results['img'], cv2.imread(str(path)))
    assert results['img_shape'] == results['ori_shape'] == (80, 96)
    results = LoadPoseImage(to_float32=True)(dict(img_path=str(path)))
    assert results['img'].dtype == np.float32
    results = LoadPoseImage()(dict(img=image))  # as in inference on arrays
    assert results['img'] is image and results['img_shape'] == (80, 96)
    assert LoadPoseImage(to_float32=True)(dict(img=image))['img'].dtype == np.float32
    assert results['img_path'] is None


@pytest.mark.parametrize('skip', [False, True])
def test_missing_image_is_an_error_in_any_case(tmp_path, skip):
    load = LoadPoseImage(skip_corrupt=skip)
    with pytest.raises(FileNotFoundError, match=r'b\.jpg\. Check data_root.*exists\)'):
        load(dict(img_path=str(tmp_path / 'b.jpg')))
    with pytest.raises(FileNotFoundError, match=r'a/b\.jpg\. .*folder .*a does not exist\)'):
        load(dict(img_path=str(tmp_path / 'a' / 'b.jpg')))


def with_thumbnail(content):
    """A JPEG that has another, complete one in its header, as cameras write it."""
    small = jpeg(8, 8)
    segment = b'\xff\xff\xe1' + (len(small) + 2).to_bytes(2, 'big') + small
    return content[:2] + segment + content[2:]


def test_a_thumbnail_does_not_matter(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(with_thumbnail(jpeg()))
    loaded = LoadPoseImage()(dict(img_path=str(tmp_path / 'a.jpg')))
    assert loaded['img'].shape == (80, 96, 3)


BAD_FILES = {
    'empty': (b'', 'the file is empty'),
    'text': (b'<html>404 Not Found</html>', 'it cannot be decoded'),
    'half': (jpeg()[: len(jpeg()) // 2], 'truncated'),
    'no_end': (jpeg()[:-2], 'truncated'),
    'header': (jpeg()[:100], 'truncated'),
    'thumbnail': (with_thumbnail(jpeg())[:-2], 'truncated'),
    'other_size': (jpeg(60, 70), 'it is 70x60 pixels, but 96x80 according to its annotations'),
}


@pytest.mark.parametrize('kind', BAD_FILES)
def test_unusable_image_is_an_error_or_skipped_with_one_warning(tmp_path, warnings_logged, kind):
    content, reason = BAD_FILES[kind]
    path = tmp_path / f'{kind}.jpg'
    path.write_bytes(content)
    results = dict(img_path=str(path), ann_shape=(80, 96))
    with pytest.raises(ValueError, match=rf'unusable image .*{kind}\.jpg .*{reason}.*: replace'):
        LoadPoseImage()(dict(results))
    assert not warnings_logged
    load = LoadPoseImage(skip_corrupt=True)
    assert [load(dict(results)) for _ in range(3)] == [None] * 3
    (line,) = warnings_logged
    assert str(path) in line and reason in line


def test_trailing_bytes_are_no_damage(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg() + b'made by a camera')
    assert LoadPoseImage()(dict(img_path=str(path)))['img'].shape == (80, 96, 3)


def photo(path, orientation, size=(96, 80)):
    """A file with an EXIF orientation, and its pixels as stored."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[:20, :30] = 200  # at the top left
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(tmp_path, warnings_logged, orientation, suffix):
    path = tmp_path / f'a{suffix}'
    stored = photo(path, orientation)
    assert exif_orientation(path.read_bytes())[0] == orientation
    turned = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    results = dict(img_path=str(path))
    for option, expected in (('applied', turned), ('ignored', stored)):
        right, wrong = expected.shape[:2], expected.shape[1::-1]
        load = LoadPoseImage(orientation=option)
        loaded = load(dict(results, ann_shape=right))['img']
        assert np.abs(loaded.astype(int) - expected).max() < 20
        load(dict(results, ann_shape=right))
        # what the size does not tell is said, once
        untold = option == 'applied' and orientation in (2, 3, 4)
        assert len(warnings_logged) == untold
        if untold:
            assert f'EXIF orientation {orientation}' in warnings_logged.pop()
        remedy = 'width and height are exchanged there'
        if orientation > 4:
            remedy = f"EXIF orientation {orientation} .*orientation='ignored'"
        with pytest.raises(ValueError, match=f'unusable image .* according to .*{remedy}'):
            load(dict(results, ann_shape=wrong))


def test_exif_orientation_of_a_square(tmp_path, warnings_logged):
    photo(tmp_path / 'a.png', 6, (80, 80))
    results = dict(img_path=str(tmp_path / 'a.png'), ann_shape=(80, 80))
    LoadPoseImage()(dict(results))
    assert 'a.png has EXIF orientation 6' in warnings_logged.pop()
    LoadPoseImage(orientation='ignored')(dict(results))
    LoadPoseImage()(dict(img_path=results['img_path']))  # in inference nothing depends on it
    assert not warnings_logged


def test_a_tiff_is_turned_in_any_case(tmp_path):
    photo(tmp_path / 'a.tiff', 3)
    results = dict(img_path=str(tmp_path / 'a.tiff'), ann_shape=(80, 96))
    assert LoadPoseImage()(dict(results))['img'][-1, -1, 0] == 200
    with pytest.raises(ValueError, match='TIFF with EXIF orientation 3.* write it as PNG'):
        LoadPoseImage(orientation='ignored')(dict(results))


def test_orientation_is_applied_or_ignored():
    with pytest.raises(ValueError, match="must be 'applied' or 'ignored', got 'auto'"):
        LoadPoseImage(orientation='auto')
    assert LoadPoseImage(color_type='grayscale', orientation='ignored').color_type == (
        'grayscale_ignore_orientation'
    )


def test_refused_images_in_a_row_are_counted(tmp_path, warnings_logged):
    good, bad = tmp_path / 'good.jpg', tmp_path / 'bad.jpg'
    good.write_bytes(jpeg(80, 96))
    bad.write_bytes(jpeg(96, 80))
    load = LoadPoseImage(skip_corrupt=True)
    for path in [bad, bad, good] * 50:  # most cannot be used, but some can
        load(dict(img_path=str(path), ann_shape=(80, 96)))
    for _ in range(loading.MOST_REFUSED - 1):
        assert load(dict(img_path=str(bad), ann_shape=(80, 96))) is None
    with pytest.raises(
        ValueError, match=r'(?s)last 50 images .*bad\.jpg \(it is 80x96 .*exchanged'
    ):
        load(dict(img_path=str(bad), ann_shape=(80, 96)))
    assert len(warnings_logged) == 1


# ------------------------------------------------------------------- affine
def draw(size, count, **kwargs):
    """Scale, rotation in degrees, and shift in pixels of many draws, read off the matrices."""
    width, height = size
    affine = BottomupUniformAffine(input_size=(32, 32), **kwargs)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    rows = []
    for _ in range(count):
        results = affine(dict(img=image, img_shape=(height, width)))
        matrix = results['warp_mat']
        zoom = np.sqrt(np.linalg.det(matrix[:, :2]))
        centre = np.linalg.solve(matrix[:, :2], [16, 16] - matrix[:, 2])
        angle = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
        rows.append((32 / zoom, angle, *(centre - [width / 2, height / 2])))
    return np.array(rows).T


@pytest.mark.parametrize(
    ('size', 'scale_type', 'side'),
    [((1200, 900), 'short', 900), ((700, 900), 'short', 700), ((1200, 900), 'long', 1200)],
)
def test_affine_is_uniform_in_the_official_ranges(size, scale_type, side):
    np.random.seed(0)
    extent, angle, dx, dy = draw(size, 1500, scale_type=scale_type)
    scale = extent / side
    reach = 0.2 * extent
    for values, low, high in (
        (scale, 0.75, 1.5),
        (angle, -30, 30),
        (dx / reach, -1, 1),
        (dy / reach, -1, 1),
    ):
        assert low - 0.01 <= values.min() and values.max() <= high + 0.01
        # in the parent's truncated normal these p-values are below 1e-9
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert np.abs(dx - dx.round()).max() < 0.02 and np.abs(dy - dy.round()).max() < 0.02
    drawn = np.corrcoef([scale, angle, dx / reach, dy / reach])
    assert np.abs(drawn - np.eye(4)).max() < 0.1  # independent of each other


def test_affine_ranges_may_be_other_ones():
    np.random.seed(0)
    extent, angle, dx, dy = draw(
        (100, 100), 50, scale_factor=(1, 1), rotate_factor=0, shift_factor=0
    )
    assert np.allclose(extent, 100, atol=1e-2)
    assert np.allclose([angle, dx, dy], 0, atol=1e-3)
    # less than a pixel is no shift: nothing to draw from
    _, _, dx, dy = draw((100, 100), 20, shift_factor=0.005)
    assert np.allclose([dx, dy], 0, atol=1e-3)
    with pytest.raises(ValueError, match="scale_type must be 'short' or 'long', got 'both'"):
        BottomupUniformAffine((32, 32), scale_type='both')


def blob(image, x, y):
    """A Gaussian spot, drawn into a float image (h, w, 3)."""
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    image += 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 3**2))[..., None]


def find(image):
    """Centre of the one spot in an image."""
    weight = image[..., 0].astype(float)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(xs * weight).sum(), (ys * weight).sum()]) / weight.sum()


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('size', [(160, 120), (97, 151)])
def test_keypoints_follow_the_image(seed, size):
    np.random.seed(seed)
    width, height = size
    point = np.array([width * 0.45, height * 0.55])
    image = np.zeros((height, width, 3))
    blob(image, *point)
    results = dict(
        img=image,
        img_shape=(height, width),
        keypoints=np.float32([[point, [0, 0]]]),
        keypoints_visible=np.ones((1, 2), np.float32),
        flip_indices=[0, 1],
    )
    results = RandomFlip(prob=1.0)(BottomupUniformAffine((128, 128))(results))
    assert results['input_size'] == (128, 128) and results['img'].shape == (128, 128, 3)
    assert np.abs(find(results['img']) - results['keypoints'][0, 0]).max() < 0.1


# --------------------------------------------------------------------- mask
SHAPE = (60, 90)  # h, w


def rectangle(x0, y0, x1, y1):
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def polygon(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def uncompressed(mask):
    flat = mask.flatten(order='F')
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return dict(size=list(mask.shape), counts=[0, *counts] if flat[0] else counts)


def compressed(mask, kind):
    rle = coco_mask.encode(np.asfortranarray(mask))
    return dict(size=rle['size'], counts=rle['counts'].decode() if kind is str else rle['counts'])


def bilinear(image, x, y):
    """Value at (x, y) pixels; 0 outside, as in OpenCV's constant border."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for i, j in ((x0, y0), (x0 + 1, y0), (x0, y0 + 1), (x0 + 1, y0 + 1)):
        if 0 <= i < image.shape[1] and 0 <= j < image.shape[0]:
            total += image[j, i] * (1 - abs(x - i)) * (1 - abs(y - j))
    return total


def slow_mask(invalid, matrix, direction, input_size, size):
    """Share of valid image at every cell, pixel by pixel."""
    valid = 1.0 - (np.sum(invalid, axis=0) > 0 if len(invalid) else np.zeros(SHAPE))
    if matrix is not None:
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        warped = np.zeros(input_size[::-1])
        for y in range(warped.shape[0]):
            for x in range(warped.shape[1]):
                warped[y, x] = bilinear(valid, *(inverse @ [x, y, 1])[:2])
        valid = warped
    if direction in ('horizontal', 'diagonal'):
        valid = valid[:, ::-1]
    if direction in ('vertical', 'diagonal'):
        valid = valid[::-1]
    factor = np.array(valid.shape[::-1]) / size
    edge = np.array(valid.shape[::-1]) - 1
    out = np.zeros(size[::-1])
    for y in range(size[1]):
        for x in range(size[0]):
            out[y, x] = bilinear(valid, *np.clip((np.array([x, y]) + 0.5) * factor - 0.5, 0, edge))
    return out


def mask_of(segmentations, input_size=None, levels=((90, 60),), **results):
    results = dict(
        img_path='images/a.jpg',
        img_shape=SHAPE,
        input_size=input_size or SHAPE[::-1],
        heatmaps=[np.zeros((17, h, w), np.float32) for w, h in levels],
        **results,
    )
    if segmentations is not None:
        results['invalid_segs'] = segmentations
    masks = BottomupCrowdMask()(results)['heatmap_mask']
    assert [mask.shape for mask in masks] == [(1, h, w) for w, h in levels]
    assert all(mask.dtype == bool for mask in masks)
    return masks


REGIONS = [(10, 5, 40, 25), (60, 30, 85, 58), (0, 40, 12, 60)]
FORMS = {
    'polygons': lambda region: [polygon(*region)],
    'uncompressed RLE': lambda region: uncompressed(rectangle(*region)),
    'compressed RLE': lambda region: compressed(rectangle(*region), bytes),
    'compressed RLE in JSON': lambda region: compressed(rectangle(*region), str),
}


@pytest.mark.parametrize('form', FORMS)
def test_crowds_are_masked_in_every_form(form):
    (mask,) = mask_of([FORMS[form](region) for region in REGIONS])
    expected = np.sum([rectangle(*region) for region in REGIONS], axis=0) == 0
    assert np.array_equal(mask[0], expected)


def test_forms_mix_and_overlap():
    overlapping = [(10, 5, 40, 25), (20, 10, 60, 40), (30, 0, 35, 60), (20, 10, 60, 40)]
    segmentations = [form(region) for form, region in zip(FORMS.values(), overlapping)]
    segmentations.append([polygon(0, 0, 3, 3), polygon(80, 0, 90, 9)])  # one person in two parts
    (mask,) = mask_of(copy.deepcopy(segmentations))
    regions = [rectangle(*r) for r in (*overlapping, (0, 0, 3, 3), (80, 0, 90, 9))]
    assert np.array_equal(mask[0], np.sum(regions, axis=0) == 0)


@pytest.mark.parametrize(
    'segmentations', [None, [], [None], [[]], [[[]]], [[[5, 5, 9, 9]], None, [[]]]]
)
def test_nothing_to_mask(segmentations):
    (mask,) = mask_of(segmentations)
    assert mask.all()


def test_input_is_left_alone():
    segmentations = [form(REGIONS[0]) for form in FORMS.values()]
    before = copy.deepcopy(segmentations)
    mask_of(segmentations)
    assert segmentations == before


@pytest.mark.parametrize('direction', [None, *FLIP_CODE])
@pytest.mark.parametrize('seed', [0, 1])
def test_warp_and_flip_equal_a_slow_reference(direction, seed):
    np.random.seed(seed)
    affine = BottomupUniformAffine((64, 64))(dict(img=np.zeros((*SHAPE, 3)), img_shape=SHAPE))
    levels = ((16, 16), (32, 32), (64, 64))
    masks = mask_of(
        [FORMS['uncompressed RLE'](region) for region in REGIONS],
        input_size=(64, 64),
        levels=levels,
        warp_mat=affine['warp_mat'],
        flip=direction is not None,
        flip_direction=direction,
    )
    invalid = [rectangle(*region) for region in REGIONS]
    for mask, size in zip(masks, levels):
        share = slow_mask(invalid, affine['warp_mat'], direction, (64, 64), size)
        clear = np.abs(share - 0.5) > 0.04  # OpenCV samples at 1/32 pixel
        assert clear.mean() > 0.9
        assert np.array_equal(mask[0][clear], share[clear] > 0.5)
        assert 0.1 < mask.mean() < 0.9


def test_flip_without_direction_is_none():
    (flipped,) = mask_of([[polygon(0, 0, 30, 30)]], flip=True, flip_direction=None)
    assert not flipped[0, :30, :30].any() and flipped.sum() == 60 * 90 - 900


def test_outside_the_image_is_masked():
    # a square of 120 pixels around a 90x60 image: margins of 15 and 30 pixels, halved
    matrix = np.array([[0.5, 0, 7.5], [0, 0.5, 15]])
    (mask,) = mask_of([], input_size=(60, 60), levels=[(60, 60)], warp_mat=matrix)
    expected = np.zeros((60, 60), bool)
    expected[15:45, 8:53] = True
    assert np.array_equal(mask[0, :, 8:52], expected[:, 8:52])
    assert not mask[0, :, :7].any() and not mask[0, :, 53:].any()


def test_one_resolution_gives_one_mask():
    results = dict(img_shape=SHAPE, input_size=(90, 60), heatmaps=np.zeros((17, 15, 20)))
    mask = BottomupCrowdMask()(results)['heatmap_mask']
    assert isinstance(mask, np.ndarray) and mask.shape == (1, 15, 20) and mask.all()


TOO_LARGE = coco_mask.encode(np.ones((99, 99), np.uint8, order='F'))['counts']


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        (dict(size=[60, 91], counts=[5460]), r'size \(60, 91\) in an image of size \(60, 90\)'),
        (dict(size=[90, 60], counts='abc'), r'size \(90, 60\) in an image of size \(60, 90\)'),
        (dict(size=[60, 90], counts=[5, 6]), 'counts do not add up'),
        (dict(size=[60, 90], counts=TOO_LARGE), 'unreadable segmentation'),
        (dict(size=[60, 90]), "unreadable segmentation of a crowd: 'counts'"),
        ([[1, 2, 3, 4, 5, float('nan')]], 'far outside'),
        ([[1, 2, 3, 4, 5, 1e9]], 'far outside'),
        ([1, 2, 3, 4, 5, 6], 'unreadable segmentation'),
        (['abcdefgh'], 'unreadable segmentation'),
        (7, 'unreadable segmentation'),
    ],
)
def test_bad_segmentation_names_the_image(segmentation, message):
    with pytest.raises(ValueError, match=rf'images/a\.jpg: .*{message}'):
        mask_of([segmentation])


# ------------------------------------------------------------------- resize
def official_size(width, height, input_size, scale, least):
    """lib/utils/transforms.py of the official code: sides at the least scale, then scaled."""
    short = int((least * input_size + 63) // 64 * 64)
    if width < height:
        long = int((short / width * height + 63) // 64 * 64)
        return int(short * scale / least), int(long * scale / least)
    long = int((short / height * width + 63) // 64 * 64)
    return int(long * scale / least), int(short * scale / least)


SIZES = [
    (640, 480),
    (480, 640),
    (500, 333),
    (333, 500),
    (512, 512),
    (640, 427),
    (91, 301),
    (612, 1),
]


@pytest.mark.parametrize('scales', [(1,), (0.5, 1, 2), (1, 2), (2, 1, 0.5), (0.5, 0.75, 1)])
@pytest.mark.parametrize('input_size', [512, 256, 640])
def test_sizes_are_the_official_ones(scales, input_size):
    resize = BottomupMultiScaleResize((input_size, input_size), scales)
    rng = np.random.default_rng(0)
    sizes = [*SIZES[:-1], *rng.integers(80, 900, (300, 2)).tolist()]
    for width, height in sizes:
        base = official_size(width, height, input_size, 1, min(scales))
        for scale in scales:
            size = resize._size(width, height, scale)
            assert size == official_size(width, height, input_size, scale, min(scales))
            assert size == tuple(side * scale for side in base)  # maps of all scales coincide
            assert all(side % 32 == 0 for side in size)


@pytest.mark.parametrize('size', SIZES[:-1])
def test_image_and_inverse_mapping(size):
    width, height = size
    rng = np.random.default_rng(1)
    image = cv2.resize(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), size)
    results = BottomupMultiScaleResize(256)(dict(img=image.copy()))
    out = official_size(width, height, 256, 1, 1)
    assert results['input_size'] == out and results['img_shape'] == out[::-1]
    assert results['img'].shape == (*out[::-1], 3) and results['aug_scales'] == (1.0,)

    # officially: centred on a whole pixel, scaled by the short side
    zoom = 256 / min(size)
    centre = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)])
    matrix = np.array(
        [[zoom, 0, out[0] / 2 - zoom * centre[0]], [0, zoom, out[1] / 2 - zoom * centre[1]]]
    )
    difference = results['img'].astype(int) - cv2.warpAffine(image, matrix, out)
    assert np.abs(difference).max() <= 6 and np.abs(difference).mean() < 0.2  # 1/32 pixel

    # what the estimator does with its keypoints
    points = rng.uniform(0, 1, (50, 2)) * size
    there = points @ matrix[:, :2].T + matrix[:, 2]
    back = (
        there / results['input_size'] * results['input_scale']
        + results['input_center']
        - 0.5 * results['input_scale']
    )
    assert np.abs(back - points).max() < 1e-3


@pytest.mark.parametrize('size', [(160, 120), (97, 151)])
def test_round_trip_of_a_spot(size):
    image = np.zeros((size[1], size[0], 3))
    point = np.array(size) * (0.3, 0.6)
    blob(image, *point)
    results = BottomupMultiScaleResize(128, (0.5, 1, 2))(dict(img=image))
    for level, scale in zip(results['img'], results['aug_scales'], strict=True):
        found = find(level) / np.multiply(results['input_size'], scale)
        back = (found - 0.5) * results['input_scale'] + results['input_center']
        assert np.abs(back - point).max() < 0.1


def test_resize_refuses_what_has_no_meaning():
    for size in ((512, 640), (1, 2)):
        with pytest.raises(ValueError, match='one length'):
            BottomupMultiScaleResize(size)
    for scales in ((0.5, 2), (0, 1), (-1, 1)):
        with pytest.raises(ValueError, match='must be positive and hold 1'):
            BottomupMultiScaleResize(512, scales)
    with pytest.raises(ValueError, match=r'scale 1 is not a multiple of 0\.5 times .* 0\.8,'):
        BottomupMultiScaleResize(512, (0.8, 1))
    BottomupMultiScaleResize(512, (0.8, 1.2, 1), size_factor=640)


# ---------------------------------------------------------------------- pack
@pytest.fixture
def codec(mmpose_scope):
    return dict(
        type='HigherHRNetCodec',
        input_size=(64, 64),
        heatmap_size=[(16, 16), (32, 32)],
        sigma=2,
        decode_keypoint_order=list(range(17)),
    )


def test_pack_for_training(codec):
    np.random.seed(0)
    results = dict(
        img=np.zeros((*SHAPE, 3), np.uint8),
        img_shape=SHAPE,
        ori_shape=SHAPE,
        img_id=7,
        img_path='a.jpg',
        keypoints=np.float32(np.random.rand(2, 17, 2)) * (90, 60),
        keypoints_visible=np.ones((2, 17), np.float32),
        dataset_keypoint_weights=np.ones(17, np.float32),
        invalid_segs=[[polygon(*REGIONS[0])]],
        flip_indices=list(range(17)),
    )
    for transform in (
        BottomupUniformAffine((64, 64)),
        RandomFlip(prob=1.0),
        GenerateTarget(encoder=codec),
        BottomupCrowdMask(),
        PackBottomupInputs(),
    ):
        results = transform(results)
    assert set(results) == {'inputs', 'data_samples'}
    assert results['inputs'].shape == (3, 64, 64)
    sample = results['data_samples']
    assert sample.img_id == 7 and sample.img_path == 'a.jpg' and sample.input_size == (64, 64)
    levels = list(sample.gt_fields.levels())
    assert [tuple(level.heatmaps.shape) for level in levels] == [(17, 16, 16), (17, 32, 32)]
    assert [tuple(level.heatmap_mask.shape) for level in levels] == [(1, 16, 16), (1, 32, 32)]
    assert sample.gt_instance_labels.keypoint_indices.shape == (2, 17, 2)


def test_pack_pyramids():
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    resized = BottomupMultiScaleResize(64, (0.5, 1, 2), size_factor=32)(dict(img=image))
    resized.update(img_id=7, skeleton_links=[(0, 1)], ignored='x')
    packed = PackBottomupInputs()(resized)
    assert [tuple(x.shape) for x in packed['inputs']] == [(3, 32, 64), (3, 64, 128), (3, 128, 256)]
    for level, array in zip(packed['inputs'], resized['img'], strict=True):
        assert torch.equal(level, torch.from_numpy(array).permute(2, 0, 1))
    sample = packed['data_samples']
    assert sample.aug_scales == (0.5, 1, 2) and sample.skeleton_links == [(0, 1)]
    assert sample.img_shape == (64, 128) and sample.input_size == (128, 64)
    assert set(sample.metainfo_keys()) <= set(PackBottomupInputs.META_KEYS)
    assert np.allclose(sample.input_center, (45, 30))
    assert set(PackBottomupInputs(meta_keys=['img_id'])(resized)['data_samples'].metainfo) == {
        'img_id'
    }


def test_registered():
    for name in (
        'BottomupCrowdMask',
        'BottomupMultiScaleResize',
        'BottomupUniformAffine',
        'LoadPoseImage',
        'PackBottomupInputs',
    ):
        assert TRANSFORMS.get(name) is getattr(transforms, name)


@pytest.mark.parametrize(
    'given, category',
    [
        ({}, 1),
        (dict(category_id=np.array([3, 3])), 3),
        (dict(category_id=np.array([5, 2])), 2),
        (dict(category_id=np.array([], int)), 1),
        (dict(category_id=np.array([1, 2]), ann_category=7), 7),
        (dict(ann_category=0), 0),
    ],
)
@pytest.mark.parametrize('levels', [1, 2])
def test_pack_one_category(given, category, levels):
    image = np.zeros((8, 8, 3), np.uint8)
    results = dict(img=image if levels == 1 else [image] * 2, **given)
    sample = PackBottomupInputs()(results)['data_samples']
    assert sample.category_id == category and type(sample.category_id) is int
