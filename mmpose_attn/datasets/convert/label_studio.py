"""Label Studio's JSON export: tasks with regions in percent of the picture.

Regions are stored for the picture as it is, however it was turned on the screen
(``image_rotation``); a rectangle's own ``rotation`` is about its first corner.
"""

import math
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from mmpose_attn.files import read_json

from .objects import Point, Region, assemble, visibility
from .pictures import PictureFolder, check_size, picture_size
from .records import Annotated, Picture

_TIE = 'parent region or relation'
_LABELS = ('keypointlabels', 'rectanglelabels', 'polygonlabels', 'labels')


def read_label_studio(
    file: Path, data: Annotated, images: Path, outside: str = 'error'
) -> list[Picture]:
    """The pictures of an export, in order.

    Args:
        data: its keypoints are known; classes and notes are added.
        images: the folder of the pictures, which the export names by their addresses.

    Raises:
        FileNotFoundError: a picture is not there.
        ValueError: something has no meaning; file, task and region are named.
    """
    folder = PictureFolder(images)
    pictures, seen, skipped, several = [], {}, 0, 0
    for task in _tasks(file):
        where = f'{file}: task {task.get("id")}'
        annotation, others = _choose(task, where)
        if annotation is None:
            skipped += 1
            continue
        several += others
        picture = _read_task(task, annotation, data, folder, where, outside)
        if picture.path in seen:
            raise ValueError(
                f'{where}: its picture {picture.path} has {seen[picture.path]} already'
            )
        seen[picture.path] = f'task {task.get("id")}'
        pictures.append(picture)
    if skipped:
        data.notes.append(f'{file}: {skipped} tasks without an annotation are left out')
    if several:
        data.notes.append(
            f'{file}: {several} tasks have several annotations; the ground truth was taken, or '
            'else the latest'
        )
    return pictures


def point_labels(file: Path) -> list[str]:
    """The label of every keypoint in an export."""
    return [
        str(label)
        for task in _tasks(file)
        for region in (_choose(task, f'{file}: task {task.get("id")}')[0] or {}).get('result', [])
        for label in (region.get('value') or {}).get('keypointlabels', [])
    ]


def _tasks(file: Path) -> list[dict]:
    contents = read_json(file, 'export')
    tasks = [contents] if isinstance(contents, dict) else contents
    if (
        not isinstance(tasks, list)
        or not tasks
        or not all(
            isinstance(task, dict) and ('annotations' in task or 'completions' in task)
            for task in tasks
        )
    ):
        raise ValueError(
            f'{file} is not an export of Label Studio as JSON (of JSON-MIN and others it cannot '
            'be told what belongs together)'
        )
    return tasks


def _choose(task: dict, where: str) -> tuple[dict | None, bool]:
    """The annotation that counts, and whether there were others."""
    every = task.get('annotations') or task.get('completions') or []
    if not all(isinstance(a, dict) and isinstance(a.get('result', []), list) for a in every):
        raise ValueError(f'{where}: its annotations have no list of results')
    valid = [a for a in every if not a.get('was_cancelled') and not a.get('skipped')]
    if not valid:
        return None, False
    truth = [a for a in valid if a.get('ground_truth') or a.get('honeypot')]
    return max(truth or valid, key=_age), len(valid) > 1


def _age(annotation: dict) -> tuple[str, int]:
    when = annotation.get('updated_at') or annotation.get('created_at') or ''
    return str(when), int(annotation.get('id') or 0)


def _find(task: dict, folder: PictureFolder, where: str) -> Path:
    """The picture of a task, by its upload's or address's name."""
    sources = [task.get('file_upload')]
    sources += [v for v in (task.get('data') or {}).values() if isinstance(v, str)]
    names = []
    for source in filter(None, sources):
        parts = urlsplit(str(source))
        path = parse_qs(parts.query).get('d', [parts.path])[0]  # local files: ?d=folder/name
        for name in (path, unquote(path)):
            name = name.strip('/')
            prefix, _, rest = Path(name).name.partition('-')
            names.append(name)
            if len(prefix) == 8 and rest:  # an upload: 8 hexadecimal digits before the name
                names.append(rest)
    if not names:
        raise ValueError(f'{where}: its data name no picture')
    return folder.find(list(dict.fromkeys(names)), where)


def _read_task(
    task: dict,
    annotation: dict,
    data: Annotated,
    folder: PictureFolder,
    where: str,
    outside: str,
) -> Picture:
    path = _find(task, folder, where)
    parts: dict[str, list[dict]] = {}
    parents: dict[str, str] = {}
    stated = None
    for number, part in enumerate(annotation.get('result', [])):
        if not isinstance(part, dict):
            raise ValueError(f'{where}: its result {number} is no region')
        if part.get('type') == 'relation':
            parents[str(part.get('from_id'))] = str(part.get('to_id'))
            continue
        parts.setdefault(str(part.get('id', number)), []).append(part)
        if part.get('original_width'):
            stated = stated or (part['original_width'], part.get('original_height'))
    size = check_size(path, stated, where) if stated else picture_size(path, where)
    shapes = {}
    for ident, several in parts.items():
        shape = _shape(several, size, f'{where}, region {ident}')
        if shape:
            shapes[ident] = shape
    _tie(shapes, parts, parents)
    points = [shape for shape in shapes.values() if isinstance(shape, Point)]
    regions = [shape for shape in shapes.values() if isinstance(shape, Region)]
    items = assemble(points, regions, data, size, where, outside, _TIE)
    return Picture(path, path.relative_to(folder.folder).as_posix(), size, items)


def _tie(shapes: dict, parts: dict[str, list[dict]], relations: dict[str, str]) -> None:
    """Give regions and their points one group: by parent, by relation, or by an equal meta text."""
    for one, other in list(relations.items()):  # arrows go either way
        if isinstance(shapes.get(one), Region) and isinstance(shapes.get(other), Point):
            relations.pop(one)
            relations[other] = one
    for ident, several in parts.items():
        shape = shapes.get(ident)
        if shape is None:
            continue
        parent = next((p['parentID'] for p in several if p.get('parentID')), None)
        parent = parent or relations.get(ident)
        words = [text for p in several for text in _meta(p) if visibility(text) is None]
        if parent is not None and str(parent) in shapes:
            shape.group = str(parent)
            shapes[str(parent)].group = str(parent)
        elif words and shape.group is None:
            shape.group = ('meta', words[0])


def _meta(part: dict) -> list[str]:
    text = (part.get('meta') or {}).get('text') or []
    return [str(word).strip() for word in (text if isinstance(text, list) else [text])]


def _shape(several: list[dict], size: tuple[int, int], where: str) -> Point | Region | None:
    """What the parts of a region, its geometry, labels and choices, say together."""
    value: dict = {}
    for part in several:
        if not isinstance(part.get('value'), dict):
            raise ValueError(f'{where}: it has no value')
        value |= part['value']
    labels = [str(label) for key in _LABELS for label in value.get(key) or []]
    if not value.keys() & {'x', 'y', 'points', 'rle', 'radiusX', 'vertices'}:
        return None  # about the whole picture: a choice, a text, a rating
    if value.keys() & {'radiusX', 'rle', 'vertices'}:
        raise ValueError(f'{where}: neither a keypoint, a rectangle nor a polygon')
    if len(labels) != 1:
        raise ValueError(f'{where}: it has {len(labels)} labels and needs one')
    try:
        if 'points' in value:
            corners = [(_px(x, size[0]), _px(y, size[1])) for x, y in value['points']]
            return _region(labels[0], corners, [v for c in corners for v in c], where)
        x, y = _px(value['x'], size[0]), _px(value['y'], size[1])
        if 'keypointlabels' in value or 'height' not in value:
            said = [text for part in several for text in _meta(part)]
            said += [str(choice) for choice in value.get('choices') or []]
            found = {v for text in said if (v := visibility(text)) is not None}
            if len(found) > 1:
                raise ValueError('it is said to be visible and not to be')
            return Point(labels[0], x, y, found.pop() if found else 2, None, where)
        w, h = _px(value['width'], size[0]), _px(value['height'], size[1])
    except (KeyError, TypeError, ArithmeticError, ValueError) as error:
        reason = f'it has no {error}' if isinstance(error, KeyError) else error
        raise ValueError(f'{where}: {reason}') from error
    angle = math.radians(float(value.get('rotation') or 0))
    if not angle:
        return Region(labels[0], (x, y, w, h), None, None, where)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = [(x + a * cos - b * sin, y + a * sin + b * cos) for a in (0, w) for b in (0, h)]
    return _region(labels[0], corners, None, where)


def _region(
    label: str, corners: list[tuple[float, float]], polygon: list[float] | None, where: str
) -> Region:
    xs, ys = zip(*corners)
    bbox = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    return Region(label, bbox, polygon, None, where)


def _px(percent: float, side: int) -> float:
    """Pixels, exactly: the decimal in the file times a whole number."""
    if not isinstance(percent, (int, float)) or not math.isfinite(percent):
        raise ValueError(f'a coordinate is {percent!r:.40}, which is not a number')
    return float(Decimal(repr(percent)) * side / 100)
