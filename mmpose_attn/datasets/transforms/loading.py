"""Images from files, which are looked at before they are trusted."""

import io
import logging
import os

import numpy as np
from mmcv import imfrombytes
from mmengine.fileio import get
from mmengine.logging import print_log
from mmpose.datasets.transforms import LoadImage
from mmpose.registry import TRANSFORMS
from PIL import Image

from mmpose_attn.files import printable

Size = tuple[int, int]
MOST_REFUSED = 50  # images one after the other without one that can be used
_ORIENTATION = 274  # EXIF's number of it; 1 is upright
_SHOWN = 8  # reasons in the error that ends a training


@TRANSFORMS.register_module()
class LoadPoseImage(LoadImage):
    """MMPose's ``LoadImage`` with errors that name the file and say what to do.

    An image is refused if it cannot be decoded, if it is a JPEG without an
    end (some OpenCV versions fill the missing part with grey and go on), or if
    its size is not the one in the annotation file (``ann_shape``), which would
    put all its keypoints at wrong places.

    Cameras turn pictures by a number in the file, the EXIF orientation.
    Annotations are taken to be in the picture as viewers and labelling tools
    show it, that is after turning. Where turning exchanges width and height,
    the annotation file tells whether that holds; where it does not (2, 3, 4:
    mirrored or upside down, and square pictures) nothing can tell, and one
    line in the log says so. Tools that show the pixels as they are stored
    need ``orientation='ignored'``, in the pipelines of training, validation and test.

    Args:
        skip_corrupt: leave a refused image out with one warning, so that one
            bad file does not end a training. A missing file is always an
            error: it means a wrong path, not a bad file. So are 50 refused
            images, one after the other, without a good one.
        orientation: whether the EXIF orientation is ``'applied'`` or ``'ignored'``.
        **kwargs: as for :class:`mmpose.datasets.transforms.LoadImage`.

    Required keys: ``img_path`` or ``img``; optional ``ann_shape`` (h, w).

    Raises:
        FileNotFoundError: if the image is not there.
        ValueError: if it is refused.
    """

    def __init__(self, skip_corrupt: bool = False, orientation: str = 'applied', **kwargs) -> None:
        if orientation not in ('applied', 'ignored'):
            raise ValueError(f"orientation must be 'applied' or 'ignored', got {orientation!r}")
        super().__init__(**kwargs)
        if orientation == 'ignored' and self.color_type in ('color', 'grayscale'):
            self.color_type += '_ignore_orientation'
        self.orientation = orientation
        self.skip_corrupt = skip_corrupt
        self._warned: set[str] = set()
        self._refused: list[str] = []

    def transform(self, results: dict) -> dict | None:
        path = results.get('img_path')
        if 'img' in results or path is None or '://' in str(path):
            return self._finish(results)
        if not os.path.isfile(path):
            folder = os.path.dirname(path) or '.'
            raise FileNotFoundError(
                f'image not found: {path}. Check data_root and data_prefix in the config '
                f'(the folder {folder} {"exists" if os.path.isdir(folder) else "does not exist"})'
            )
        try:
            results['img'] = self._load(path, results.get('ann_shape'))
        except Exception as error:
            if not self.skip_corrupt:
                raise ValueError(
                    f'unusable image {path} ({error}): replace the file or take it out of the '
                    'annotations'
                ) from error
            self._refuse(path, error)
            return None
        self._refused.clear()
        return self._finish(results)

    def _refuse(self, path: str, error: Exception) -> None:
        if path not in self._warned:
            self._warned.add(path)
            message = printable(f'skipped unusable image {path} ({error})')
            print_log(message, 'current', level=logging.WARNING)
        self._refused.append(f'{path} ({error})')
        if len(self._refused) >= MOST_REFUSED:
            different = list(dict.fromkeys(self._refused))
            raise ValueError(
                f'none of the last {MOST_REFUSED} images that were loaded can be used. Correct the '
                'files or their annotations:\n' + '\n'.join(different[:_SHOWN])
            )

    def _finish(self, results: dict) -> dict:
        results = super().transform(results)
        if self.to_float32:  # the parent forgets it for images that are loaded already
            results['img'] = results['img'].astype(np.float32)
        return results

    def _load(self, path: str, shape: Size | None) -> np.ndarray:
        data = get(path, backend_args=self.backend_args)
        if not data:
            raise ValueError('the file is empty')
        if data.startswith(b'\xff\xd8') and data.find(b'\xff\xd9', _scan(data)) < 0:
            raise ValueError('the JPEG is truncated')
        image = imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise ValueError('it cannot be decoded')
        if shape is None:
            return image
        turned, kind = exif_orientation(data)
        if tuple(shape) != image.shape[:2]:
            raise ValueError(self._other_size(image.shape, shape, turned))
        if turned != 1 and self.orientation == 'ignored' and kind == 'TIFF':
            raise ValueError(
                f'it is a TIFF with EXIF orientation {turned}, which OpenCV does not ignore; '
                'write it as PNG'
            )
        if turned in (2, 3, 4) or (turned != 1 and image.shape[0] == image.shape[1]):
            self._say(path, turned)
        return image

    def _say(self, path: str, turned: int) -> None:
        """Once: what the size of an image cannot tell."""
        if self.orientation == 'applied' and 'EXIF' not in self._warned:
            self._warned.add('EXIF')
            print_log(
                f'{path} has EXIF orientation {turned}, which does not change its size: its '
                'annotations are taken to be in the picture as viewers show it, turned. If they '
                "are in the pixels as stored, set orientation='ignored' of LoadPoseImage in all "
                'pipelines',
                'current',
                level=logging.WARNING,
            )

    def _other_size(self, found: tuple, said: Size, turned: int) -> str:
        text = (
            f'it is {found[1]}x{found[0]} pixels, but {said[1]}x{said[0]} according to its '
            'annotations'
        )
        if (found[1], found[0]) != tuple(said):
            return text
        if turned < 5:
            return f'{text}: width and height are exchanged there'
        if self.orientation == 'applied':
            return (
                f'{text}: EXIF orientation {turned} of the file turns it, and they are in the '
                "pixels as stored. Set orientation='ignored' of LoadPoseImage in all pipelines"
            )
        return (
            f'{text}: they are in the picture as EXIF orientation {turned} turns it. Leave out '
            "orientation='ignored' of LoadPoseImage"
        )


def exif_orientation(data: bytes) -> tuple[int, str]:
    """EXIF orientation of an image file, 1 to 8 (1: none, upright), and its format.

    It turns the picture by 180 degrees at 3, by 90 at 6 and 8; 2, 4, 5 and 7 are
    mirrored. 5 to 8 exchange width and height.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(_ORIENTATION, 1)
            return turned if turned in range(1, 9) else 1, image.format
    except Exception:  # what OpenCV reads and Pillow does not, or damaged EXIF
        return 1, ''


def _scan(jpeg: bytes) -> int:
    """Where the compressed data of a JPEG begin, after segments that may hold a whole thumbnail."""
    start = 2
    while jpeg[start : start + 1] == b'\xff' and jpeg[start + 1 : start + 2] != b'\xda':
        filled = jpeg[start + 1 : start + 2] == b'\xff'
        start += 1 if filled else 2 + int.from_bytes(jpeg[start + 2 : start + 4], 'big')
    return start
