"""Bottom-up transforms after the official HigherHRNet pipeline (arXiv 1908.10357)."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmpose.datasets.transforms import BottomupRandomAffine, PackPoseInputs
from mmpose.datasets.transforms.formatting import image_to_tensor
from mmpose.registry import TRANSFORMS
from mmpose.structures.bbox import get_warp_matrix
from pycocotools import mask as coco_mask

Size = tuple[int, int]
FAR = 1e5  # pixels
STRIDE = 32  # of the networks' lowest resolution


@TRANSFORMS.register_module()
class BottomupUniformAffine(BottomupRandomAffine):
    """The official random affine: uniform, and relative to the augmented short side.

    MMPose's own :class:`BottomupRandomAffine` draws from truncated normals by
    default and shifts by fractions of each image side.

    Args:
        input_size: output (w, h).
        rotate_factor: rotation is U(-r, r) degrees; 30 officially.
        scale_factor: the visible square's side is U(a, b) times the short
            (or long, ``scale_type``) side; (0.75, 1.5) officially.
        shift_factor: the centre moves by U(-s, s) times that side, in whole
            pixels, each way; 0.2 (40 of 200) officially.
        scale_type: ``'short'`` or ``'long'``.
    """

    def __init__(
        self,
        input_size: Size,
        rotate_factor: float = 30.0,
        scale_factor: tuple[float, float] = (0.75, 1.5),
        shift_factor: float = 0.2,
        scale_type: str = 'short',
    ) -> None:
        if scale_type not in ('short', 'long'):
            raise ValueError(f"scale_type must be 'short' or 'long', got {scale_type!r}")
        super().__init__(
            input_size=tuple(input_size),
            rotate_factor=rotate_factor,
            scale_factor=tuple(scale_factor),
            shift_factor=shift_factor,
            scale_type=scale_type,
            distribution='uniform',
        )
        self._image_size = None

    def transform(self, results: dict) -> dict | None:
        height, width = results['img_shape'][:2]
        self._image_size = np.array([width, height], dtype=np.float32)
        return super().transform(results)

    @cache_randomness
    def _get_transform_params(self) -> tuple:
        scale = np.random.uniform(*self.scale_factor, size=1).astype(np.float32)
        rotate = np.random.uniform(-self.rotate_factor, self.rotate_factor)
        side = self._image_size.min() if self.scale_type == 'short' else self._image_size.max()
        reach = int(self.shift_factor * side * scale[0])
        shift = np.random.randint(-reach, max(reach, 1), size=2) if reach else np.zeros(2)
        # the parent multiplies by the image's width and height
        offset = (shift / self._image_size).astype(np.float32)
        return offset, scale, rotate, np.zeros(2, dtype=np.float32)


@TRANSFORMS.register_module()
class BottomupCrowdMask(BaseTransform):
    """Where the heatmap loss counts: inside the image, outside unlabelled people.

    Regions of crowds and of people without keypoints are left out, whether
    their segmentation is polygons, compressed or uncompressed RLE (MMPose
    1.3.2 passes RLE over in silence, so COCO's crowds count as background).

    Required keys: ``img_shape`` of the original image, ``input_size``,
    ``heatmaps`` (an array or a list, one a resolution); optional
    ``invalid_segs``, ``warp_mat``, ``flip``, ``flip_direction``.
    Added key: ``heatmap_mask``, (1, h, w) bool for every resolution.

    Raises:
        ValueError: if a segmentation has no readable form or another size
            than its image; the image is named.
    """

    def transform(self, results: dict) -> dict:
        shape = tuple(results['img_shape'][:2])
        valid = np.ones(shape, dtype=np.float32)
        for segmentation in results.get('invalid_segs', ()):
            valid[self._decode(segmentation, shape, results.get('img_path')) > 0] = 0

        size = tuple(int(side) for side in results['input_size'])
        if 'warp_mat' in results:
            valid = cv2.warpAffine(valid, results['warp_mat'], size, flags=cv2.INTER_LINEAR)
        direction = results.get('flip_direction') if results.get('flip', False) else None
        if direction is not None:
            code = {'horizontal': 1, 'vertical': 0, 'diagonal': -1}[direction]
            valid = cv2.flip(valid, code)

        heatmaps = results['heatmaps']
        levels = heatmaps if isinstance(heatmaps, list) else [heatmaps]
        masks = [
            cv2.resize(valid, maps.shape[:0:-1], interpolation=cv2.INTER_LINEAR)[None] > 0.5
            for maps in levels
        ]
        results['heatmap_mask'] = masks if isinstance(heatmaps, list) else masks[0]
        return results

    @staticmethod
    def _decode(segmentation, shape: tuple[int, int], path: str | None) -> np.ndarray:
        """A COCO segmentation -> (h, w) mask."""
        size = segmentation.get('size', shape) if isinstance(segmentation, dict) else shape
        if tuple(size) != shape:
            raise ValueError(
                f'{path}: a crowd segmentation of size {tuple(size)} in an image of size {shape}; '
                'image and annotation do not belong together'
            )
        try:
            if isinstance(segmentation, dict):
                counts = segmentation['counts']
                rle = dict(segmentation, size=shape)
                if isinstance(counts, (list, tuple)):
                    if sum(counts) != shape[0] * shape[1]:
                        raise ValueError('its counts do not add up to the size of the image')
                    rle = coco_mask.frPyObjects(rle, *shape)
                elif isinstance(counts, str):
                    rle['counts'] = counts.encode()
                return coco_mask.decode(rle)
            polygons = [np.array(p, dtype=float) for p in segmentation or () if len(p) >= 6]
            if not polygons:
                return np.zeros(shape, dtype=np.uint8)
            # pycocotools walks along the edges: these (and NaN) would take all memory
            if not np.abs(np.concatenate(polygons)).max() < FAR:
                raise ValueError('a polygon has coordinates far outside of the image')
            rles = coco_mask.frPyObjects([p.tolist() for p in polygons], *shape)
            return coco_mask.decode(coco_mask.merge(rles))
        except Exception as error:  # pycocotools also raises the base class
            raise ValueError(f'{path}: unreadable segmentation of a crowd: {error}') from error


@TRANSFORMS.register_module()
class BottomupMultiScaleResize(BaseTransform):
    """The official test-time resize, to one or several scales.

    At the *smallest* scale, the short side becomes that share of
    ``input_size`` and the long side its proportional length, each rounded up
    to a multiple of 64 (a fraction of a pixel beyond it is cut off); larger
    scales are exact multiples of that size, so that maps of all scales
    coincide. The image is centred, to whole pixels, and the rest black.

    Args:
        input_size: length of the short side, or (w, h) of equal lengths.
        scales: test scales; must hold 1, where tags are read and to which
            the results refer.
        size_factor: 64 officially.

    Raises:
        ValueError: if ``input_size`` has two lengths, or the scales give
            sizes that a network of stride 32 cannot take; with 64, they must
            be multiples of half the smallest one.

    Required keys: ``img``. Modified keys: ``img`` (a list if there is more
    than one scale), ``img_shape``. Added keys: ``input_size``,
    ``input_center``, ``input_scale``, ``aug_scales``.
    """

    def __init__(
        self,
        input_size: int | Size,
        scales: Sequence[float] = (1.0,),
        size_factor: int = 64,
    ) -> None:
        super().__init__()
        sides = {input_size} if isinstance(input_size, int) else set(input_size)
        if len(sides) != 1:
            raise ValueError(f'input_size is the short side, one length; got {input_size}')
        if 1 not in scales or min(scales) <= 0:
            raise ValueError(f'scales must be positive and hold 1, got {tuple(scales)}')
        unit = math.gcd(size_factor, STRIDE)
        for scale in scales:
            steps = size_factor * scale / min(scales) / unit
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(
                    f'scale {scale} is not a multiple of {unit / size_factor:g} times the smallest '
                    f'one, {min(scales)}, so that its sizes would not be multiples of {unit}'
                )
        self.short_side = sides.pop()
        self.scales = tuple(scales)
        self.size_factor = size_factor

    def _size(self, width: int, height: int, scale: float) -> Size:
        factor, least = self.size_factor, min(self.scales)
        short = _ceil_to(least * self.short_side, factor)
        long = _ceil_to(short * max(width, height) / min(width, height), factor)
        short, long = round(short * scale / least), round(long * scale / least)
        return (short, long) if width < height else (long, short)

    def transform(self, results: dict) -> dict:
        image = results['img']
        height, width = image.shape[:2]
        center = np.array([(width + 1) // 2, (height + 1) // 2], dtype=np.float32)
        images = []
        for scale in self.scales:
            size = self._size(width, height, scale)
            ratio = size[1] / size[0]
            # the region of the image that fills the input, in pixels
            if width < height:
                extent = np.array([width, width * ratio], dtype=np.float32)
            else:
                extent = np.array([height / ratio, height], dtype=np.float32)
            warp = get_warp_matrix(center=center, scale=extent, rot=0, output_size=size)
            images.append(cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR))
            if scale == 1:
                results.update(
                    img_shape=size[::-1],
                    input_size=size,
                    input_center=center,
                    input_scale=extent,
                )
        results['img'] = images if len(images) > 1 else images[0]
        results['aug_scales'] = self.scales
        return results


@TRANSFORMS.register_module()
class PackBottomupInputs(PackPoseInputs):
    """MMPose's ``PackPoseInputs`` that also packs image pyramids.

    ``inputs`` is then a list of tensors (C, h, w), one a scale. The meta keys
    have ``aug_scales`` and ``skeleton_links`` besides MMPose's. ``category_id``
    is one for the whole image, as the metric wants it: what the network finds
    is of no object of the annotations. It is the data set's ``ann_category``,
    else the least ``category_id`` of the image's annotations, else 1.
    """

    META_KEYS = (
        'id',
        'img_id',
        'img_path',
        'category_id',
        'crowd_index',
        'ori_shape',
        'img_shape',
        'input_size',
        'input_center',
        'input_scale',
        'aug_scales',
        'flip',
        'flip_direction',
        'flip_indices',
        'raw_ann_info',
        'skeleton_links',
        'dataset_name',
    )

    def __init__(self, meta_keys: Sequence[str] = META_KEYS, **kwargs) -> None:
        super().__init__(meta_keys=tuple(meta_keys), **kwargs)

    def transform(self, results: dict) -> dict:
        image = results['img']
        category = results.get('ann_category')
        if category is None:
            ids = np.ravel(results.get('category_id', 1))
            category = int(ids.min()) if ids.size else 1
        results = dict(results, category_id=category)
        if not isinstance(image, list):
            return super().transform(results)
        packed = super().transform(dict(results, img=image[0]))
        packed['inputs'] = [image_to_tensor(level) for level in image]
        return packed


def _ceil_to(length: float, factor: int) -> int:
    """Round up as the official code does, where 64.9 gives 64 and 65 gives 128."""
    return int((length + factor - 1) // factor * factor)
