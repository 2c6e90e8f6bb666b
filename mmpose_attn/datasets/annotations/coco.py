"""COCO keypoint files: ids, categories and images, and how they refer to each other."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.fileio import get_local_path

from mmpose_attn.files import read_json

from .objects import MetaInfo, examine_objects
from .report import Report

OTHER_TASK = 'Is it the file of another task? COCO keeps keypoints in person_keypoints_*.json'
NO_KEYPOINTS = 'annotations have no keypoints, like all of their category; they are left out'
OTHER_KEYPOINTS = 'annotations are of a category with other keypoints; they are left out'
STRANGERS = 'annotations belong to images that it does not list; they are left out'


def read_annotations(
    path: str | os.PathLike, meta: MetaInfo, what: str = ''
) -> tuple[dict, Report]:
    """Read a COCO keypoint file and put right what has one meaning only.

    Args:
        path: of the file.
        meta: what it is read for.
        what: to call the file, in messages.

    Returns:
        The contents, corrected, and what was found in them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON of this kind.
    """
    with get_local_path(str(path)) as local_path:
        contents = read_json(local_path, 'annotation file', nan=True)
    name = what or f'annotation file {path}'
    if not isinstance(contents, dict):
        kind = 'list' if isinstance(contents, list) else type(contents).__name__
        raise ValueError(f'{name} holds a {kind}, but annotations are a dict')
    return contents, examine(contents, name, meta)


def examine(contents: dict, file: str, meta: MetaInfo) -> Report:
    """As :func:`read_annotations`, contents in memory, which are changed in place."""
    report = Report(file)
    report.unannotated = 'annotations' not in contents
    images, annotations, categories = (
        _entries(contents, key, report) for key in ('images', 'annotations', 'categories')
    )
    if report.problems:  # not COCO's layout at all
        return report
    images, annotations = _one_kind_of_ids(
        report, 'image', (images, 'id', 'image'), (annotations, 'image_id', 'annotation')
    )
    (annotations,) = _one_kind_of_ids(report, 'annotation', (annotations, 'id', 'annotation'))
    for what, entries in (('image', images), ('annotation', annotations)):
        _unique(report, what, entries)

    if not images and not meta.training:
        report.problem(
            '', 'images', 'it lists no images', 'COCO has id, file_name and size of each'
        )
        return report
    by_id = {image['id']: image for image in images}
    listed = [ann for ann in annotations if ann['image_id'] in by_id]
    if annotations and images and not listed:
        first = annotations[0]
        report.problem(
            f'annotation {first["id"]}',
            'image_id',
            f'its image_id is {first["image_id"]!r}, and neither this nor that of any other '
            f'annotation is the id of an image, such as {images[0]["id"]!r}',
            'Give the image_id of annotations and the id of images the same values',
        )
    if len(listed) < len(annotations):
        report.notes[STRANGERS] += len(annotations) - len(listed)
    annotations = _of_categories(contents, listed, categories, meta, report)
    sizes = _sizes(images, {ann['image_id'] for ann in annotations}, report)
    annotations = [ann for ann in annotations if ann['image_id'] in sizes]
    contents['annotations'] = examine_objects(annotations, sizes, meta, report)
    return report


def _entries(contents: dict, key: str, report: Report) -> list[dict]:
    entries = contents.setdefault(key, [])
    if not isinstance(entries, list):
        report.problem('', key, f'its {key!r} are not a list', 'COCO has a list of objects there')
        return []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            report.problem(
                f'entry {number} of {key!r}',
                key,
                f'it is {str(entry)[:40]!r}, not an object',
                'Each entry is an object with an id',
            )
    return entries


# ---------------------------------------------------------------------- ids


def _one_kind_of_ids(report: Report, what: str, *columns: tuple[list, str, str]) -> list[list]:
    """Ids and what refers to them: numbers if all can be read as such, else text.

    Args:
        what: the ids are of.
        columns: entries, the key of their id, and what such an entry is.

    Returns:
        Of every column, the entries that have one.
    """
    if all(type(entry.get(key)) is int for entries, key, _ in columns for entry in entries):
        return [entries for entries, _, _ in columns]
    fine: list[list[dict]] = [[] for _ in columns]
    numbers, texts = True, 0
    for kept, (entries, key, noun) in zip(fine, columns):
        for place, entry in enumerate(entries):
            value = entry.get(key)
            if isinstance(value, float) and value.is_integer():
                value = entry[key] = int(value)
            if isinstance(value, str) and value.strip():
                texts += 1
                numbers &= re.fullmatch(r'\s*-?[0-9]{1,18}\s*', value) is not None
            elif type(value) is not int:
                said = f'it has no {key!r}' if value is None else f'its {key!r} is {value!r}'
                report.problem(name_of(entry, place, noun), key, said, 'An id is a whole number')
                continue
            kept.append(entry)
    for kept, (_, key, _) in zip(fine, columns):
        for entry in kept:
            entry[key] = int(entry[key]) if numbers else str(entry[key])
    if texts:
        read = 'the numbers that they hold' if numbers else 'names'
        report.notes[f'{what} ids are text; they are read as {read}'] += texts
    return fine


def name_of(entry: dict, number: int, what: str = 'annotation') -> str:
    """``annotation 3 of image 7``, or which in the file."""
    place = f'{what} {entry["id"]}' if entry.get('id') is not None else f'{what} number {number}'
    if 'file_name' in entry and entry.get('id') is None:
        place += f' ({entry["file_name"]})'
    return f'{place} of image {entry["image_id"]}' if 'image_id' in entry else place


def _unique(report: Report, what: str, entries: list[dict]) -> None:
    if len({entry['id'] for entry in entries}) == len(entries):
        return
    for value, count in Counter(entry['id'] for entry in entries).items():
        if count > 1:
            times = 'twice' if count == 2 else f'{count} times'
            report.problem(
                '',
                'id',
                f'{what} id {value} is used {times}, ids must be unique',
                'Number them anew: joined files often have equal ids',
            )


# --------------------------------------------------------------- categories


def _of_categories(
    contents: dict, annotations: list[dict], categories: list[dict], meta: MetaInfo, report: Report
) -> list[dict]:
    """The annotations of the categories that the network learns; names these in the report."""
    _complete_categories(contents, annotations, categories, meta, report)
    categories = contents['categories']
    categories, annotations = _one_kind_of_ids(
        report,
        'category',
        (categories, 'id', 'category'),
        (annotations, 'category_id', 'annotation'),
    )
    _number_categories(categories, annotations, report)
    _unique(report, 'category', categories)
    listed = {category['id']: category for category in categories}
    for number, annotation in enumerate(annotations):
        if annotation['category_id'] not in listed:
            report.problem(
                name_of(annotation, number),
                'category_id',
                f'its category_id {annotation["category_id"]!r} is none of the categories '
                f'{ {id: category.get("name") for id, category in listed.items()} }',
                'It would not be evaluated: correct it, or add the category to categories',
            )

    with_points = {ann['category_id'] for ann in annotations if 'keypoints' in ann}
    if annotations and not with_points:
        report.problem(
            '', 'keypoints', f'none of its {len(annotations)} annotations has keypoints', OTHER_TASK
        )
    number = {
        id: len(category['keypoints'])
        for id, category in listed.items()
        if isinstance(category.get('keypoints'), list)
    }
    # if the file says of one category that it is the metainfo's, the others are other things
    fits = {id for id, joints in number.items() if joints == meta.joints}
    others = number.keys() - fits if fits else set()
    kept = []
    for annotation in annotations:
        if annotation['category_id'] in others:
            report.notes[OTHER_KEYPOINTS] += 1
        elif annotation['category_id'] in with_points or not with_points:
            kept.append(annotation)
        else:
            report.notes[NO_KEYPOINTS] += 1
    ours = (with_points - others) & listed.keys()
    if not annotations:
        ours = fits or (listed.keys() if len(listed) == 1 else set())
    report.categories = [listed[id] for id in sorted(ours)]
    for category in report.categories:
        _compare_names(category, meta.names, report)
    return kept


def _number_categories(categories: list[dict], annotations: list[dict], report: Report) -> None:
    """Names as ids become numbers, which is what the evaluation can count."""
    names = [category['id'] for category in categories]
    if not any(isinstance(name, str) for name in names):
        return
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    report.notes[f'categories have names as ids; they are numbered: {numbers}'] += len(numbers)
    for category in categories:
        category.setdefault('name', category['id'])
        category['id'] = numbers[category['id']]
    for annotation in annotations:
        annotation['category_id'] = numbers.get(
            annotation['category_id'], annotation['category_id']
        )


def _complete_categories(
    contents: dict, annotations: list[dict], categories: list[dict], meta: MetaInfo, report: Report
) -> None:
    """Where a file names no category, or its annotations none, there is one kind of object."""
    absent = [ann for ann in annotations if ann.get('category_id') is None]
    if annotations and len(absent) == len(annotations) and len(categories) <= 1:
        number = categories[0].get('id', 1) if categories else 1
        for annotation in annotations:
            annotation['category_id'] = number
        report.notes[f'annotations have no category_id; they are taken as {number}'] += len(absent)
    if not categories:
        used = [ann.get('category_id') for ann in annotations]
        used = list(dict.fromkeys(id for id in used if isinstance(id, (int, str)))) or [1]
        contents['categories'] = [
            dict(id=id, name=meta.object + (f' {id}' if len(used) > 1 else '')) for id in used
        ]
        if annotations:
            report.notes['categories are not listed; those of the annotations are taken'] += len(
                used
            )


def _compare_names(category: dict, names: Sequence[str], report: Report) -> None:
    """The same names in another order would train one joint as another, without a word."""
    said = category.get('keypoints')
    if not isinstance(said, list) or not names:
        return
    said, ours = [_plain(name) for name in said], [_plain(name) for name in names]
    if said != ours and sorted(said) == sorted(ours):
        first = next(i for i, (a, b) in enumerate(zip(said, ours)) if a != b)
        report.problem(
            f'category {category["id"]}',
            'keypoints',
            f"its keypoints are the metainfo's in another order: number {first} is "
            f'{category["keypoints"][first]!r} here and {names[first]!r} there',
            'Give keypoint_info of the metainfo the order of the file',
        )


def _plain(name: Any) -> str:
    return re.sub(r'[\W_]+', '_', str(name)).strip('_').lower()


# ------------------------------------------------------------------- images


def _sizes(images: list[dict], used: set, report: Report) -> dict[Any, tuple[int, int]]:
    """(w, h) of the images, which those with annotations must have."""
    sizes = {}
    for number, image in enumerate(images):
        place = name_of(image, number, 'image')
        name = image.get('file_name')
        if not isinstance(name, str) or not name.strip():
            report.problem(
                place,
                'file_name',
                f'it has no {"file_name"!r}' if name is None else f"its 'file_name' is {name!r}",
                'It is the path of the image below data_prefix',
            )
        size = []
        for key in ('width', 'height'):
            value = image.get(key)
            if type(value) is not int:
                value = image[key] = _whole(value)
                if value is None:
                    del image[key]
            if value is not None and value > 0:
                size.append(value)
            elif image['id'] in used:
                report.problem(
                    place,
                    key,
                    f'it has no {key!r} in pixels',
                    'Write the size of the image file, as viewers show it, into the annotations',
                )
        if len(size) == 2:
            sizes[image['id']] = size[0], size[1]
    return sizes


def _whole(value: Any) -> int | None:
    """640.0 and '640' are 640."""
    try:
        number = float(value)
        return int(number) if number.is_integer() and not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None
