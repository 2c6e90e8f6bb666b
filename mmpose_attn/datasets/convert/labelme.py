"""labelme: a JSON file beside every picture, with points, boxes and outlines.

A keypoint is a point whose label is the keypoint's name, an object a rectangle or polygon whose
label is its class, and ``group_id`` ties them together.
"""

import math
from pathlib import Path, PureWindowsPath

from mmpose_attn.files import read_json

from .objects import Point, Region, assemble, visibility
from .pictures import PictureFolder, check_size, list_pictures, picture_size
from .records import Annotated, Picture

_TIE = 'group_id'
_CORNERS = dict(point=1, rectangle=2, polygon=3)  # at least, and of the first two exactly


def read_labelme(
    folder: Path, data: Annotated, images: Path | None = None, outside: str = 'error'
) -> list[Picture]:
    """The pictures of a folder of labelme's JSON files, in order of their names.

    Args:
        data: its keypoints are known; classes and notes are added.
        images: the folder of the pictures, if they are not where the files say.

    Raises:
        FileNotFoundError: a picture is not there.
        ValueError: something has no meaning; file and shape are named.
    """
    files = sorted(path for path in folder.rglob('*.json') if not path.name.startswith('.'))
    if not files:
        raise ValueError(f'{folder} has no JSON files of labelme')
    elsewhere = PictureFolder(images) if images else None
    root = images or folder
    pictures, seen = [], {}
    for file in files:
        picture = _read_file(file, data, elsewhere, root, outside)
        if picture.path in seen:
            raise ValueError(f'{file}: the picture {picture.path} has {seen[picture.path]} already')
        seen[picture.path] = file
        pictures.append(picture)
    forgotten = len(set(list_pictures(root)) - set(seen))
    if forgotten:
        data.notes.append(f'{forgotten} pictures in {root} have no JSON file and are left out')
    return pictures


def point_labels(folder: Path) -> list[str]:
    """The label of every point in a folder's files."""
    return [
        str(shape.get('label'))
        for file in sorted(folder.rglob('*.json'))
        for shape in _shapes(read_json(file), file)
        if shape.get('shape_type') == 'point'
    ]


def _shapes(contents: object, file: Path) -> list[dict]:
    shapes = contents.get('shapes') if isinstance(contents, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError(f'{file} is not a file of labelme: it has no list of shapes')
    return shapes


def _read_file(
    file: Path, data: Annotated, elsewhere: PictureFolder | None, root: Path, outside: str
) -> Picture:
    contents = read_json(file)
    shapes = _shapes(contents, file)
    stated = str(contents.get('imagePath') or '')
    if not stated:
        raise ValueError(f'{file}: it has no imagePath')
    parts = PureWindowsPath(stated).parts  # which understands both kinds of slashes
    if PureWindowsPath(stated).anchor and not elsewhere:
        raise ValueError(
            f'{file}: imagePath {stated!r} is of another computer, perhaps: give the folder of the '
            'pictures by --images'
        )
    if elsewhere:
        path = elsewhere.find([Path(*parts).as_posix()], str(file))
    else:
        path = (file.parent / Path(*parts)).resolve()
        # pictures in a folder beside that of the files are usual
        if not path.is_relative_to(root.resolve().parent):
            raise ValueError(
                f'{file}: imagePath {stated!r} leads far out of {root}: give the folder of the '
                'pictures by --images'
            )
    size = contents.get('imageWidth'), contents.get('imageHeight')
    if size == (None, None):  # as labelme wrote it until 2018, and many converters do
        size = picture_size(path, str(file))
    elif not all(isinstance(side, int) for side in size):
        raise ValueError(f'{file}: it has no imageWidth and imageHeight')
    else:
        size = check_size(path, size, str(file))
    points: list[Point] = []
    regions: list[Region] = []
    for number, shape in enumerate(shapes):
        where = f'{file}: shape {number} ({shape.get("label")!r})'
        label, group = str(shape.get('label') or '').strip(), shape.get('group_id')
        kind = shape.get('shape_type')
        if kind not in _CORNERS:
            raise ValueError(
                f'{where}: a {kind}; keypoints are points, objects rectangles or polygons'
            )
        corners = _corners(shape, where)
        if kind == 'point':
            v = _visibility(shape, where)
            points.append(Point(label, *corners[0], v, group, where))
        else:
            xs, ys = zip(*corners)
            bbox = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
            flat = [value for corner in corners for value in corner] if kind == 'polygon' else None
            regions.append(Region(label, bbox, flat, group, where))
    name = path.relative_to(root.resolve()) if path.is_relative_to(root.resolve()) else path.name
    items = assemble(points, regions, data, size, str(file), outside, _TIE)
    return Picture(path, Path(name).as_posix(), size, items)


def _corners(shape: dict, where: str) -> list[tuple[float, float]]:
    need = _CORNERS[shape['shape_type']]
    try:
        corners = [(float(x), float(y)) for x, y in shape['points']]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{where}: its points are not pairs of numbers') from error
    if not all(math.isfinite(value) for corner in corners for value in corner):
        raise ValueError(f'{where}: a coordinate is not a number')
    # a rectangle of AnyLabeling, which writes the same files, has all four corners
    if shape['shape_type'] == 'rectangle' and len(corners) == 4:
        return corners
    if len(corners) < need or (need < 3 and len(corners) != need):
        raise ValueError(f'{where}: it has {len(corners)} points')
    return corners


def _visibility(shape: dict, where: str) -> int:
    """2, unless the description or a flag says otherwise."""
    flags = shape.get('flags') or {}
    said = [shape.get('description') or '', *(name for name, on in flags.items() if on is True)]
    # a flag such as `visible` that is not set says something as well
    said += ['hidden' for name, on in flags.items() if on is False and visibility(name) == 2]
    found = {v for text in said if (v := visibility(text)) is not None}
    if len(found) > 1:
        raise ValueError(f'{where}: description and flags disagree whether it is visible')
    return found.pop() if found else 2
