"""Pictures, decoded by OpenCV once nothing in them lies about sizes."""

import os

import cv2
import numpy as np

from .headers import checked
from .kinds import readable
from .limits import ORDINARY, Limits, MediaError


def read_picture(path: str | os.PathLike, limits: Limits = ORDINARY) -> np.ndarray:
    """A picture as ``cv2.imread`` gives it: turned as its EXIF data say, 8 bits, three channels.

    Args:
        path: of a JPEG, PNG, GIF, BMP, TIFF, WebP or AVIF file, whatever it is called.
        limits: what is larger is not decoded.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        MediaError: it is something else, damaged or too large.
        OSError: it cannot be read.
    """
    return decoded(picture_bytes(path, limits), limits)


def picture_bytes(path: str | os.PathLike, limits: Limits = ORDINARY) -> bytes:
    """What a decoder may get of a picture's file; raises as :func:`read_picture`."""
    kind = readable(path, 'image')
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.bytes:
            raise MediaError(f'has more than {limits.bytes >> 20} MB: make it smaller')
        return checked(file.read(size), kind, limits)


def decoded(data: bytes, limits: Limits) -> np.ndarray:
    """What is in :func:`picture_bytes`; raises as :func:`read_picture`."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError):
        image = None
    if image is None:
        raise MediaError('cannot be decoded: damaged, or of a rare variant')
    limits.check_size(*image.shape[1::-1])
    return image
