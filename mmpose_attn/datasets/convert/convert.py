"""From one format of annotations to another, all of it or nothing."""

import os
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mmpose_attn.files import read_json

from . import label_studio, labelme
from .coco import read_coco, write_coco
from .metainfo import metainfo_text, read_metainfo
from .records import Annotated, Keypoints, Picture, make_keypoints
from .yolo import read_yolo, write_yolo

FORMATS = ('yolo', 'labelme', 'label-studio', 'coco')
PLACING = ('keep', 'link', 'copy')


def convert_dataset(
    sources: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    source_format: str | None = None,
    target_format: str | None = None,
    *,
    images: str | os.PathLike | None = None,
    metainfo: str | os.PathLike | None = None,
    keypoints: Sequence[str] | None = None,
    sigma: float | None = None,
    val: float = 0.0,
    pictures: str | None = None,
    outside: str = 'error',
) -> str:
    """Convert a data set of keypoints; returns what was done, as text.

    To COCO: ``OUT/annotations/SPLIT.json`` and ``OUT/metainfo.py``. To YOLO-pose:
    ``OUT/data.yaml``, ``OUT/labels`` and ``OUT/images``. All is written beside ``out`` and moved
    there at the end.

    Args:
        sources: YOLO's data.yaml; a folder of labelme's JSON files; an export of Label Studio; or
            COCO files. Several are several splits, each named by its file or as ``SPLIT=PATH``.
        out: must be absent or empty.
        source_format: one of ``FORMATS``; told from the source if None.
        target_format: ``'coco'`` or ``'yolo'``; by default COCO, and YOLO from COCO.
        images: folder of the pictures; needed for Label Studio and COCO.
        metainfo: MMPose's file with names, swaps and sigmas, instead of what the source says.
        keypoints: names in their order, for labelme and Label Studio without ``metainfo``.
        sigma: of every keypoint, instead of what the source or ``metainfo`` says.
        val: share of pictures, from 0, that become the split ``val``, drawn by their names.
        pictures: ``'keep'`` leaves them where they are (not for YOLO), ``'link'`` and ``'copy'``
            bring them into ``out``.
        outside: keypoints beyond their picture are an ``'error'`` or become unlabelled
            (``'unlabel'``).

    Raises:
        FileNotFoundError, FileExistsError: a file is not there, or ``out`` is.
        ValueError: an argument or something in the source has no meaning; it is named.
    """
    if outside not in ('error', 'unlabel'):
        raise ValueError(f"outside is 'error' or 'unlabel', got {outside!r}")
    if not 0 <= val < 1:
        raise ValueError(f'val is a share from 0 to below 1, got {val}')
    if metainfo and keypoints:
        raise ValueError('metainfo has the names of the keypoints already; leave one of them out')
    folder = Path(out).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'{folder} exists and is not an empty folder: choose another')
    named = _name_splits(sources)
    kind = source_format or _detect(next(iter(named.values())))
    target = target_format or ('yolo' if kind == 'coco' else 'coco')
    placing = pictures or ('link' if target == 'yolo' else 'keep')
    for name, value, choices in (
        ('source format', kind, FORMATS),
        ('target format', target, ('coco', 'yolo')),
        ('pictures', placing, PLACING[target == 'yolo' :]),
    ):
        if value not in choices:
            raise ValueError(f'{name} is one of {", ".join(choices)}, got {value!r}')
    known = read_metainfo(Path(metainfo)) if metainfo else None
    try:
        data = _read(kind, named, known, keypoints, Path(images) if images else None, outside)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # a list where an object is expected, and whatever else a program would not write
        raise ValueError(
            f'{", ".join(map(str, named.values()))}: something in it is not what {kind} writes '
            f'({error!r:.300})'
        ) from error
    if sigma is not None:
        k = data.keypoints
        data.keypoints = Keypoints(k.names, k.swaps, (float(sigma),) * len(k), k.skeleton)
    if val:
        _hold_out(data, val)
    _check_splits(data)
    root = _name_pictures(data, by_split=target == 'yolo')
    moved = _write(data, folder, target, placing)
    return _summary(data, folder, target, root if placing == 'keep' else folder / 'images', moved)


def _name_splits(sources: Sequence[str | os.PathLike]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for source in map(os.fspath, sources):
        split, equals, path = source.partition('=')
        if not equals or os.path.exists(source) or not split.isidentifier():
            path = source
            split = 'train' if len(sources) == 1 else Path(source).stem
        if split in named:
            raise ValueError(f'two sources for {split}; name them: SPLIT=PATH')
        named[split] = Path(path).absolute()
        if not named[split].exists():
            raise FileNotFoundError(f'{path} does not exist')
    if not named:
        raise ValueError('there is no source')
    return named


def _detect(source: Path) -> str:
    if source.suffix in ('.yaml', '.yml'):
        return 'yolo'
    if source.is_dir():
        if (source / 'data.yaml').is_file():
            raise ValueError(f'{source} is a YOLO data set: give its data.yaml')
        return 'labelme'
    contents = read_json(source)
    if isinstance(contents, dict) and 'images' in contents:
        return 'coco'
    if isinstance(contents, dict) and 'shapes' in contents:
        raise ValueError(f'{source} is one file of labelme: give its folder')
    return 'label-studio'


def _read(
    kind: str,
    named: dict[str, Path],
    known: Keypoints | None,
    names: Sequence[str] | None,
    images: Path | None,
    outside: str,
) -> Annotated:
    if kind in ('yolo', 'coco') and names:
        raise ValueError(f'{kind} numbers its keypoints; name them in a metainfo file')
    if kind in ('label-studio', 'coco') and images is None:
        raise ValueError(f'of {kind}, the folder of the pictures is needed: --images')
    if kind == 'yolo':
        if len(named) != 1 or images:
            raise ValueError('of YOLO, one data.yaml names all splits and pictures')
        return read_yolo(*named.values(), known, outside)
    if kind == 'coco':
        return read_coco(named, images.absolute(), known, outside)
    module, read = (
        (labelme, labelme.read_labelme)
        if kind == 'labelme'
        else (label_studio, label_studio.read_label_studio)
    )
    if known is None:
        known = _named_keypoints(names, module.point_labels, named)
    data = Annotated([], known, {})
    for split, source in named.items():
        data.splits[split] = read(source, data, images and images.absolute(), outside)
    return data


def _named_keypoints(
    names: Sequence[str] | None, labels: Callable, named: dict[str, Path]
) -> Keypoints:
    if names:
        return make_keypoints(names)
    found = Counter(label for source in named.values() for label in labels(source))
    listed = ', '.join(f'{label} ({count})' for label, count in found.most_common())
    raise ValueError(
        'the order of the keypoints is not in these files: give their names in order by '
        f'--keypoints, or a file by --metainfo. The labels of their points are {listed or "none"}'
    )


def _hold_out(data: Annotated, share: float) -> None:
    """A split ``val`` of pictures drawn by their names: the same folder gives the same split."""
    if len(data.splits) != 1:
        raise ValueError(f'val is for one source, and here are {", ".join(data.splits)}')
    (every,) = data.splits.values()
    order = sorted(every, key=lambda picture: (zlib.crc32(picture.name.encode()), picture.name))
    held = {id(picture) for picture in order[: round(share * len(order))]}
    parts = [[p for p in every if (id(p) in held) == second] for second in (False, True)]
    if not all(parts):
        raise ValueError(f'val={share} of {len(every)} pictures leaves one split empty')
    data.splits = dict(train=parts[0], val=parts[1])


def _check_splits(data: Annotated) -> None:
    owner: dict[Path, str] = {}
    for split, pictures in data.splits.items():
        if not pictures:
            raise ValueError(' '.join([f'{split} has no annotated pictures.', *data.notes]))
        shared = [p for p in pictures if owner.setdefault(p.path, split) != split]
        if shared:
            data.notes.append(
                f'{len(shared)} pictures of {split} are in another split as well, such as '
                f'{shared[0].path}: what is trained on must not be tested on'
            )
        if not any(v for p in pictures for item in p.items for _, _, v in item.points):
            data.notes.append(f'{split} has no labelled keypoint')


def _name_pictures(data: Annotated, by_split: bool) -> Path:
    """Name every picture by its path below the folder that all have in common; returns that."""
    groups = [p for p in data.splits.values() if p]
    if not by_split:
        groups = [[picture for group in groups for picture in group]]
    root = Path()
    for group in filter(None, groups):
        root = Path(os.path.commonpath([picture.path.parent for picture in group]))
        for picture in group:
            picture.name = picture.path.relative_to(root).as_posix()
    return root


def _write(data: Annotated, folder: Path, target: str, placing: str) -> int:
    """Write everything beside ``folder`` and move it there; returns the number of pictures."""
    temp = folder.with_name(f'.{folder.name}.{os.getpid()}.new')
    temp.mkdir(parents=True)
    moved = 0
    try:
        if target == 'yolo':
            places = list(write_yolo(data, temp))
        else:
            write_coco(data, temp)
            text = metainfo_text(data.keypoints, folder.name)
            (temp / 'metainfo.py').write_text(text, encoding='utf-8')
            places = dict.fromkeys(
                (picture.path, temp / 'images' / picture.name)
                for pictures in data.splits.values()
                for picture in pictures
                if placing != 'keep'
            )
        for source, place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            if placing == 'copy':
                shutil.copyfile(source, place)
            else:
                place.symlink_to(source.resolve())
            moved += 1
        if folder.exists():
            folder.rmdir()  # it is empty
        temp.rename(folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return moved


def _summary(data: Annotated, folder: Path, target: str, images: Path, moved: int) -> str:
    known = data.keypoints
    pairs = [f'{known.names[i]} / {known.names[j]}' for i, j in enumerate(known.swaps) if i < j]
    lines = [
        *(_count(split, pictures) for split, pictures in data.splits.items()),
        f'classes: {", ".join(data.classes) or "none"}',
        f'{len(known)} keypoints: {", ".join(known.names)}',
        f'change places in a mirror image: {", ".join(pairs) or "none"}',
        *(f'note: {note}' for note in data.notes),
        f'written: {folder}' + (f', {moved} pictures in images/' if moved else ''),
    ]
    if target == 'coco':
        first = next(iter(data.splits))
        lines += [
            "in a config, for each data loader's dataset and each evaluator:",
            f'  data_root={str(folder)!r}, ann_file={f"annotations/{first}.json"!r},',
            f'  data_prefix=dict(img={str(images)!r}),',
            f'  metainfo=dict(from_file={str(folder / "metainfo.py")!r})',
        ]
    return '\n'.join(lines)


def _count(split: str, pictures: list[Picture]) -> str:
    items = [item for picture in pictures for item in picture.items]
    labelled = sum(v > 0 for item in items for _, _, v in item.points)
    empty = sum(not picture.items for picture in pictures)
    return (
        f'{split}: {len(pictures)} pictures ({empty} without objects), {len(items)} objects, '
        f'{labelled} labelled keypoints'
    )
