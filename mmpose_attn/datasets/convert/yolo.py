"""YOLO-pose: a data.yaml, and a text file of relative numbers beside every picture.

The layout is that of Ultralytics' documentation: one object a line, ``class cx cy w h`` and ``x y``
or ``x y v`` of each keypoint, all but the class and v relative to the picture's size.
"""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

import yaml

from mmpose_attn.yaml_files import read_yaml

from .pictures import list_pictures, picture_size
from .records import Annotated, Item, Keypoints, Picture, make_item, make_keypoints

SPLITS = ('train', 'val', 'test')
_DIGITS = 6  # at least, of a relative number: what everyone writes


# ---------------------------------------------------------------------- read
def read_yolo(file: Path, keypoints: Keypoints | None = None, outside: str = 'error') -> Annotated:
    """Read a YOLO-pose data set.

    Args:
        file: its data.yaml, with ``kpt_shape``, ``names``, one or more of ``train``, ``val`` and
            ``test``, and ``flip_idx`` where left and right exist.
        keypoints: what they are, instead of what the file says.
        outside: as in :func:`~mmpose_attn.datasets.convert.records.make_item`.

    Raises:
        FileNotFoundError: a file or folder that it names is not there.
        ValueError: something in it has no meaning; file and line are named.
    """
    about = read_yaml(file, 'data set', dict)
    count, values = _kpt_shape(about, file)
    classes = _classes(about, file)
    known = keypoints or _keypoints(about, count, file)
    if len(known) != count:
        raise ValueError(f'{file}: kpt_shape says {count} keypoints, but {len(known)} are named')
    root = file.parent / str(about.get('path') or '')
    root = root if root.is_dir() else file.parent
    data = Annotated(classes, known, {})
    if keypoints is None and 'flip_idx' not in about and known.swaps != tuple(range(count)):
        data.notes.append(f'{file} has no flip_idx: left and right were taken from the names')
    elif keypoints is None and 'flip_idx' not in about:
        data.notes.append(
            f'{file} has no flip_idx: in a mirror image each keypoint stays what it is. Is it so?'
        )
    for split in SPLITS:
        if about.get(split):
            paths, whole = _split(about[split], root, file, split)
            if whole:
                _no_orphans(paths)
            data.splits[split] = [
                _read_picture(path, data, values, root, outside) for path in paths
            ]
    if not data.splits:
        raise ValueError(f'{file} names no pictures: it has none of train, val and test')
    _check_labelled(data, file)
    return data


def _check_labelled(data: Annotated, file: Path) -> None:
    """An error if no picture has a label file, a note on a split in which none has."""
    without = {
        split: pictures
        for split, pictures in data.splits.items()
        if not any(label_file(picture.path).is_file() for picture in pictures)
    }
    for split, pictures in without.items():
        place = label_file(pictures[0].path)
        words = f'none of the {len(pictures)} pictures of {split} has a label file: no {place}'
        if len(without) == len(data.splits):
            raise FileNotFoundError(f'{file}: {words}')
        data.notes.append(words)


def _kpt_shape(about: dict, file: Path) -> tuple[int, int]:
    shape = about.get('kpt_shape')
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(n, int) for n in shape)
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise ValueError(
            f'{file}: kpt_shape must be [number of keypoints, 2 or 3], got {shape!r}'
            + ('; without it this is a data set of boxes' if shape is None else '')
        )
    return shape[0], shape[1]


def _classes(about: dict, file: Path) -> list[str]:
    names = about.get('names')
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise ValueError(f'{file}: names must give every class 0, 1, ... one name, got {names!r}')
    if about.get('nc', len(names)) != len(names):
        raise ValueError(f'{file}: nc is {about["nc"]}, but it names {len(names)} classes')
    return list(map(str, names))


def _keypoints(about: dict, count: int, file: Path) -> Keypoints:
    names = about.get('kpt_names') or [f'keypoint_{i}' for i in range(count)]
    by_class = isinstance(names, dict)
    if by_class and all(isinstance(name, str) for name in names.values()):  # no, by number
        names, by_class = [names.get(i) for i in range(max(count, len(names)))], False
    if by_class:  # there is one set of keypoints here
        if len({tuple(several) for several in names.values()}) != 1:
            raise ValueError(
                f'{file}: kpt_names differ between classes, which COCO files can hold, but '
                'networks with one set of keypoints cannot learn. Convert the classes one by one'
            )
        names = next(iter(names.values()))
    if len(names) != count:
        raise ValueError(f'{file}: kpt_shape says {count} keypoints, kpt_names {len(names)}')
    try:
        return make_keypoints(names, about.get('flip_idx'), skeleton=about.get('skeleton') or ())
    except (TypeError, ValueError) as error:
        raise ValueError(f'{file}: flip_idx, kpt_names or skeleton: {error}') from error


def _split(entry: str | list, root: Path, file: Path, split: str) -> tuple[list[Path], bool]:
    """The pictures of a split, and whether they are whole folders."""
    paths, whole = [], True
    for name in entry if isinstance(entry, list) else [entry]:
        place = root / str(name)
        if not place.exists() and str(name).startswith('../'):
            place = root / str(name)[3:]  # as Roboflow writes it, and Ultralytics reads it
        if place.is_dir():
            paths += list_pictures(place)
        elif place.is_file() and place.suffix == '.txt':
            whole = False
            lines = place.read_text(encoding='utf-8-sig').splitlines()
            for number, line in enumerate(lines, 1):
                if line.strip():
                    path = place.parent / line.strip()
                    if not path.is_file():
                        path = root / line.strip()
                    if not path.is_file():  # a list from Windows
                        path = place.parent / line.strip().replace('\\', '/')
                    if not path.is_file():
                        raise FileNotFoundError(f'{place}:{number}: picture not found: {path}')
                    paths.append(path)
        else:
            raise FileNotFoundError(f'{file}: {split} is neither a folder nor a .txt list: {place}')
    if not paths:
        raise ValueError(f'{file}: {split} has no pictures')
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise ValueError(f'{file}: {split} lists {path} twice')
        seen.add(path)
    return paths, whole


def label_file(picture: Path) -> Path:
    """Where Ultralytics looks for the labels of a picture."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == 'images':
            parts[i] = 'labels'
            break
    return Path(*parts).with_suffix('.txt')


def _no_orphans(paths: list[Path]) -> None:
    """An error for labels of which the picture is missing."""
    known = {label_file(path) for path in paths}
    for folder in sorted({path.parent for path in known}):
        if folder.is_dir() and folder not in {path.parent for path in paths}:
            for file in sorted(folder.glob('*.txt')):
                if file not in known and file.name != 'classes.txt':
                    raise FileNotFoundError(f'{file}: its picture is not there')


def _read_picture(path: Path, data: Annotated, values: int, root: Path, outside: str) -> Picture:
    file = label_file(path)
    size = picture_size(path, str(file))
    name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    picture = Picture(path, name.as_posix(), size, [])
    if not file.is_file():
        return picture  # a background, as in training with YOLO
    try:
        lines = file.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{file} is not a text file ({error})') from error
    seen: dict[tuple, int] = {}
    for number, line in enumerate(lines, 1):
        words = tuple(line.split())
        if not words:
            continue
        if words in seen:
            raise ValueError(f'{file}:{number}: the same object as in line {seen[words]}')
        seen[words] = number
        picture.items.append(_read_line(words, data, values, size, f'{file}:{number}', outside))
    return picture


def _read_line(
    words: tuple[str, ...],
    data: Annotated,
    values: int,
    size: tuple[int, int],
    where: str,
    outside: str,
) -> Item:
    count = len(data.keypoints)
    need = 5 + count * values
    if len(words) != need:
        hint = ''
        if len(words) == 5:
            hint = '; a box without keypoints has zeros for them'
        elif len(words) == 5 + count * (5 - values):
            hint = f'; has each keypoint {5 - values} values, so that kpt_shape is wrong?'
        raise ValueError(
            f'{where}: {len(words)} numbers, but a class, a box and {count} keypoints of {values} '
            f'values are {need}{hint}'
        )
    try:
        numbers = [Decimal(word) for word in words]
    except InvalidOperation:
        numbers = [Decimal('nan')]
    if not all(number.is_finite() for number in numbers):
        raise ValueError(f'{where}: not all of it is numbers: {" ".join(words)}')
    kind, box, rest = numbers[0], numbers[1:5], numbers[5:]
    if kind != int(kind) or not 0 <= kind < len(data.classes):
        raise ValueError(f'{where}: class {words[0]}, but there are 0 to {len(data.classes) - 1}')
    if max(map(abs, box)) > 2:
        raise ValueError(
            f'{where}: the box is in pixels; YOLO has numbers relative to the picture, 0 to 1'
        )
    points = []
    for i in range(0, len(rest), values):
        x, y = rest[i : i + 2]
        v = rest[i + 2] if values == 3 else Decimal(2)
        if values == 2 and (min(x, y) < 0 or x == y == 0):
            x = y = v = Decimal(0)  # how a missing one is written without v
        # make_item says what is wrong with a fraction
        seen = int(v) if v == int(v) else float(v)
        # a decimal times a whole number is exact, so all that the text says is kept
        points.append((float(x * size[0]), float(y * size[1]), seen))
    bbox = _pixels(box[0], box[2], size[0]) + _pixels(box[1], box[3], size[1])
    return make_item(int(kind), points, (bbox[0], bbox[2], bbox[1], bbox[3]), size, where, outside)


def _pixels(center: Decimal, extent: Decimal, side: int) -> tuple[float, float]:
    """Start and length in pixels."""
    return float((center - extent / 2) * side), float(extent * side)


# --------------------------------------------------------------------- write
def write_yolo(data: Annotated, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Write a YOLO-pose data set into a folder, three values a keypoint.

    The numbers have as many digits as bring back the same pixels when they are read.

    Yields:
        For every picture where it is, and where it belongs in ``folder``.
    """
    for split, pictures in data.splits.items():
        for picture in pictures:
            name = Path(picture.name)
            file = (folder / 'labels' / split / name).with_suffix('.txt')
            if file.exists():
                raise ValueError(
                    f'{picture.path}: two pictures of {split} differ only in their suffix; YOLO '
                    'has one label file for both'
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = [_line(item, picture.size) for item in picture.items]
            file.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
            yield picture.path, folder / 'images' / split / name
    known = data.keypoints
    about: dict = {split: f'images/{split}' for split in data.splits}
    about.setdefault('val', next(iter(about.values())))  # which Ultralytics requires
    about |= dict(
        kpt_shape=[len(known), 3],
        flip_idx=list(known.swaps),
        names=dict(enumerate(data.classes)),
        kpt_names={i: list(known.names) for i in range(len(data.classes))},
    )
    if known.skeleton:
        about['skeleton'] = [list(pair) for pair in known.skeleton]
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (folder / 'data.yaml').write_text(text, encoding='utf-8')


def _line(item: Item, size: tuple[int, int]) -> str:
    (x, y, w, h), (width, height) = item.bbox, size
    (cx, rw), (cy, rh) = _relative_span(x, w, width), _relative_span(y, h, height)
    words = [str(item.category), cx, cy, rw, rh]
    for px, py, v in item.points:
        words += [_relative(px, width), _relative(py, height), str(v)]
    return ' '.join(words)


def _relative(value: float, side: int) -> str:
    """Enough digits of ``value / side`` that its product with ``side`` is ``value``."""
    exact = Decimal(repr(float(value)))
    for digits in range(_DIGITS, 28):
        text = f'{exact / side:.{digits}f}'
        if float(Decimal(text) * side) == value:
            return text
    raise ValueError(f'{value} of {side} pixels has no decimal form')


def _relative_span(start: float, length: float, side: int) -> tuple[str, str]:
    first, extent = (Decimal(repr(float(v))) for v in (start, length))
    for digits in range(_DIGITS, 28):
        center, share = (f'{v / side:.{digits}f}' for v in (first + extent / 2, extent))
        if _pixels(Decimal(center), Decimal(share), side) == (start, length):
            return center, share
    raise ValueError(f'{start} and {length} of {side} pixels have no decimal form')
