"""Where the pictures of annotations are, and how large they are."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
from PIL import Image

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
_ORIENTATION = 0x0112


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder and below, in order."""
    return sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()
    )


def picture_size(path: Path, where: str) -> tuple[int, int]:
    """(width, height) of a picture as MMPose loads it: turned as its EXIF orientation says.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{where}: its picture is not there: {path}')
    try:
        with Image.open(path) as image:
            size, turned = image.size, image.getexif().get(_ORIENTATION, 1) != 1
    except Exception as error:  # Pillow raises what its plugins raise
        raise ValueError(f'{where}: its picture {path} cannot be read ({error})') from error
    if turned:  # which orientations count depends on the format: ask who loads it
        loaded = cv2.imread(str(path))
        if loaded is None:
            raise ValueError(f'{where}: its picture {path} cannot be read by OpenCV')
        size = loaded.shape[1::-1]
    return int(size[0]), int(size[1])


def check_size(path: Path, stated: Sequence, where: str) -> tuple[int, int]:
    """The size of a picture, which must be the (width, height) that its annotations state.

    Raises:
        ValueError: it is not.
    """
    size = picture_size(path, where)
    if tuple(stated) != size:
        reason = 'Is it another picture, or was it resized after it had been annotated?'
        if tuple(stated) == size[::-1]:
            reason = (
                'Width and height are exchanged: the picture has an EXIF orientation that the '
                'annotations do not follow, or was turned after it had been annotated. '
                'Annotate it as it is seen'
            )
        raise ValueError(
            f'{where}: a picture of {stated[0]}x{stated[1]} according to the annotations, but '
            f'{path} is {size[0]}x{size[1]}. {reason}'
        )
    return size


class PictureFolder:
    """Finds pictures by a path of which only the end may be right, as after an upload or a move."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f'folder of pictures not found: {folder}')
        self.folder = folder
        self.paths = list_pictures(folder)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_name[path.name].append(path)
        for path in self.paths:  # as web servers store an upload of that name
            stored = re.sub(r'[^-\w.]', '', path.name.replace(' ', '_'))
            if stored != path.name:
                self._by_name[stored].append(path)

    def find(self, names: Sequence[str], where: str) -> Path:
        """The picture with the first of these paths that there is.

        Raises:
            FileNotFoundError: there is none.
            ValueError: several pictures have that name, and the folders do not tell which it is.
        """
        for name in names:
            parts = Path(name).parts
            found = self._by_name.get(parts[-1], []) if parts else []
            for depth in range(2, len(parts) + 1):
                if len(found) < 2:
                    break
                found = [path for path in found if path.parts[-depth:] == parts[-depth:]] or found
            if len(found) > 1:
                raise ValueError(
                    f'{where}: its picture {name} can be {found[0]} or {found[1]}; give pictures '
                    'names that differ'
                )
            if found:
                return found[0]
        raise FileNotFoundError(f'{where}: its picture {names[0]} is not in {self.folder}')
