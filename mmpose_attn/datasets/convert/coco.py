"""COCO's keypoint files."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmpose_attn.files import path_inside, read_json

from .pictures import check_size, picture_size
from .records import Annotated, Item, Keypoints, Picture, make_item, make_keypoints

GROWTH = 0.1  # of the hull of keypoints, each way, where an object has no box


def hull(
    points: Sequence[tuple[float, float, int]], size: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """A box for an object that has none: round its labelled keypoints, somewhat larger.

    Raises:
        ValueError: they have no extent.
    """
    labelled = [(x, y) for x, y, v in points if v]
    spans = []
    for side, values in zip(size, zip(*labelled)):
        low, high = min(values), max(values)
        grown = GROWTH * (high - low)
        low, high = max(low - grown, 0.0), min(high + grown, float(side))
        spans.append((low, high - low))
    if not spans or min(length for _, length in spans) <= 0:
        raise ValueError(
            f'{where}: it has no box, and its {len(labelled)} labelled keypoints do not say how '
            'large it is. Draw a box round it'
        )
    (x, w), (y, h) = spans
    return x, y, w, h


# ---------------------------------------------------------------------- read
def read_coco(
    files: dict[str, Path],
    images: Path,
    keypoints: Keypoints | None = None,
    outside: str = 'error',
) -> Annotated:
    """Read COCO keypoint files, one a split, of pictures in the folder ``images``.

    Crowd regions are left out, as other formats have none.

    Raises:
        FileNotFoundError: a file or picture is not there.
        ValueError: something has no meaning, or the splits differ; file and id are named.
    """
    data = None
    crowds = boxless = polygons = 0
    for split, file in files.items():
        contents = read_json(file, 'annotation file', dict)
        try:
            categories = sorted(contents['categories'], key=lambda entry: entry['id'])
            pictures = {entry['id']: entry for entry in contents['images']}
            annotations = contents['annotations']
        except (KeyError, TypeError) as error:
            raise ValueError(f'{file} is not a COCO keypoint file: it has no {error}') from error
        classes, known = _about(categories, file, keypoints)
        data = data or Annotated(classes, known, {})
        if (data.classes, data.keypoints) != (classes, known):
            raise ValueError(f'{file}: its categories or keypoints are not those of other splits')
        if len(pictures) != len(contents['images']):
            raise ValueError(f'{file}: an image id is used twice')
        place = {entry['id']: i for i, entry in enumerate(categories)}
        made = {}
        for ident, entry in pictures.items():
            where = f'{file}: image {ident}'
            path = path_inside(images, str(entry.get('file_name')), f'{where}: its file name')
            if entry.get('width') and entry.get('height'):
                size = check_size(path, (entry['width'], entry['height']), where)
            else:
                size = picture_size(path, where)
            made[ident] = Picture(path, Path(entry['file_name']).as_posix(), size, [])
        for ann in annotations:
            where = f'{file}: annotation {ann.get("id")} of image {ann.get("image_id")}'
            if ann.get('iscrowd'):
                crowds += 1
                continue
            try:
                picture, category = made[ann['image_id']], place[ann['category_id']]
            except KeyError as error:
                raise ValueError(f'{where}: its {error} is not in the file') from error
            item = _item(ann, category, len(known), picture.size, where, outside)
            boxless += not ann.get('bbox')
            polygons += bool(ann.get('segmentation'))
            picture.items.append(item)
        data.splits[split] = list(made.values())
    for number, what in (
        (crowds, 'crowd regions are left out'),
        (boxless, 'objects had no box; it is drawn round their keypoints'),
        (polygons, 'objects have outlines, which are left out, and so is their area'),
    ):
        if number:
            data.notes.append(f'{number} {what}')
    return data


def _about(
    categories: list[dict], file: Path, keypoints: Keypoints | None
) -> tuple[list[str], Keypoints]:
    names = {tuple(entry.get('keypoints') or ()) for entry in categories}
    if keypoints is not None:
        if names - {(), keypoints.names}:
            raise ValueError(f'{file}: its keypoints are not those of the metainfo, in its order')
    elif len(names) != 1 or names == {()}:
        raise ValueError(
            f'{file}: its {len(categories)} categories must have one list of keypoints; name them '
            'by --metainfo'
        )
    else:
        skeleton = categories[0].get('skeleton') or ()
        keypoints = make_keypoints(*names, skeleton=[(a - 1, b - 1) for a, b in skeleton])
    return [str(entry['name']) for entry in categories], keypoints


def _item(
    ann: dict, category: int, count: int, size: tuple[int, int], where: str, outside: str
) -> Item:
    flat = ann.get('keypoints') or [0] * 3 * count
    try:
        if len(flat) != 3 * count:
            raise ValueError(f'{len(flat)} keypoint numbers, {count} keypoints need {3 * count}')
        points = [
            (float(x), float(y), int(v)) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3])
        ]
        bbox = tuple(map(float, ann.get('bbox') or hull(points, size, where)))
        return make_item(category, points, bbox, size, where, outside)
    except (TypeError, ValueError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(where) else f'{where}: {text}') from error


# --------------------------------------------------------------------- write
def write_coco(data: Annotated, folder: Path) -> None:
    """Write ``annotations/SPLIT.json`` into a folder; ids count from 1 over all splits."""
    known = data.keypoints
    categories = [
        dict(
            id=i + 1,
            name=name,
            supercategory=name,
            keypoints=list(known.names),
            skeleton=[[a + 1, b + 1] for a, b in known.skeleton],
        )
        for i, name in enumerate(data.classes)
    ]
    (folder / 'annotations').mkdir(parents=True)
    image_id = ann_id = 0
    for split, pictures in data.splits.items():
        images, annotations = [], []
        for picture in pictures:
            image_id += 1
            width, height = picture.size
            images.append(dict(id=image_id, file_name=picture.name, width=width, height=height))
            for item in picture.items:
                ann_id += 1
                annotations.append(
                    dict(
                        id=ann_id,
                        image_id=image_id,
                        category_id=item.category + 1,
                        keypoints=[value for point in item.points for value in point],
                        num_keypoints=sum(v > 0 for _, _, v in item.points),
                        bbox=list(item.bbox),
                        area=item.area,
                        iscrowd=0,
                        segmentation=item.segmentation,
                    )
                )
        contents = dict(
            info=dict(description='written by tools/convert_dataset.py'),
            images=images,
            annotations=annotations,
            categories=categories,
        )
        file = folder / 'annotations' / f'{split}.json'
        file.write_text(json.dumps(contents, ensure_ascii=False) + '\n', encoding='utf-8')
