"""The tables of a data set, and what its numbers say is wrong."""

from collections import Counter, defaultdict

import numpy as np

from .contents import Contents
from .pictures import Picture
from .report import Section, Table

_SLACK = 1.0  # pixels by which keypoints and boxes may stick out: tools round them
_SMALL, _LARGE = 32**2, 96**2  # COCO's limits


def describe(contents: Contents, section: Section) -> None:
    """Add the tables of a data set: pictures, objects, keypoints."""
    objects = contents.objects
    labelled = objects.visible > 0
    used = labelled.any(1)
    known = np.array([size for size in contents.sizes if size] or [(0, 0)])
    rows = [
        ('pictures', len(contents.paths)),
        ('  without objects', len(set(range(len(contents.paths))) - set(objects.image.tolist()))),
        ('  width, least / median / most', _spread(known[:, 0])),
        ('  height, least / median / most', _spread(known[:, 1])),
        ('objects', len(objects.ident)),
        ('  without a labelled keypoint', int((~used & ~objects.crowd).sum())),
        ('  crowd regions', int(objects.crowd.sum())),
        ('  most in a picture', max(Counter(objects.image[used].tolist()).values(), default=0)),
    ]
    for category, count in sorted(Counter(objects.category.tolist()).items()):
        name = contents.categories.get(category, 'not in the file')
        rows.append((f'  of category {category} ({name})', count))
    side = np.sqrt(objects.area[used])
    kinds = np.digitize(objects.area[used], (_SMALL, _LARGE))
    rows += [
        ('  square root of the area, least / median / most, px', _spread(side)),
        *(
            (f'  {name} ({limit}), as COCO counts', int((kinds == i).sum()))
            for i, (name, limit) in enumerate(
                (('small', 'below 32 px'), ('medium', '32 to 96 px'), ('large', 'above 96 px'))
            )
        ),
        ('boxes beyond the picture', int(_boxes_outside(contents).sum())),
        ('labelled keypoints outside their box', int(_outside_box(contents).sum())),
    ]
    section.tables.append(
        Table('pictures and objects', ['', 'number'], [[name, str(v)] for name, v in rows])
    )
    names = contents.dataset.metainfo['keypoint_id2name']
    flips = contents.dataset.metainfo['flip_indices']
    total = max(int(used.sum()), 1)
    joints = []
    for i in range(labelled.shape[1]):
        partner = '' if flips[i] == i else names[flips[i]]
        count, seen = int(labelled[:, i].sum()), int((objects.visible[:, i] == 2).sum())
        joints.append([names[i], str(count), f'{count / total:.0%}', str(count - seen), partner])
    head = ['keypoint', 'labelled', 'of objects', 'hidden', 'in a mirror']
    section.tables.append(Table('keypoints', head, joints))


def find_problems(
    contents: Contents,
    found: list[Picture],
    section: Section,
) -> None:
    """Add what is wrong with the numbers; ``found`` is of :func:`.pictures.read_pictures`."""
    objects, paths = contents.objects, contents.paths
    section.several([picture.problem for picture in found if picture.problem], 'pictures')
    unclear = [path for path, picture in zip(paths, found) if picture.ambiguous]
    if unclear:
        section.notes.append(
            f'{len(unclear)} pictures have an EXIF orientation that does not change their size, '
            f'such as {unclear[0]}: look in the contact sheet, which shows them first, whether '
            "keypoints are in their places; if not, set orientation='ignored' of LoadPoseImage"
        )
    same = defaultdict(list)
    for path, picture in zip(paths, found):
        if picture.digest:
            same[picture.digest].append(path)
    twins = [several for several in same.values() if len(several) > 1]
    section.several(
        [f'the same picture {len(several)} times: {", ".join(several)}' for several in twins],
        'pictures that are there several times',
    )
    # the same object twice
    labelled = objects.visible > 0
    keys = defaultdict(list)
    for i in np.flatnonzero(labelled.any(1)):
        exact = np.where(labelled[i, :, None], objects.points[i], np.nan).tobytes()
        keys[objects.image[i], objects.category[i], exact].append(i)
    section.several(
        [
            f'the same object {len(several)} times in {paths[objects.image[several[0]]]}: '
            f'annotations {", ".join(str(objects.ident[i]) for i in several)}'
            for several in keys.values()
            if len(several) > 1
        ],
        'objects that are there several times',
    )
    sizes = _sizes(contents)
    low, high = (
        objects.points.min(-1) < -_SLACK,
        (objects.points > sizes[objects.image][:, None] + _SLACK).any(-1),
    )
    beyond = np.argwhere(labelled & (low | high))
    names = contents.dataset.metainfo['keypoint_id2name']
    section.several(
        [
            f'annotation {objects.ident[i]}: {names[j]} lies at '
            f'({objects.points[i, j, 0]:g}, {objects.points[i, j, 1]:g}), outside '
            f'{paths[objects.image[i]]}'
            for i, j in beyond
        ],
        'keypoints outside their pictures',
    )
    if not labelled.any():
        return
    for j in np.flatnonzero(~labelled.any(0)):
        section.notes.append(
            f'{names[j]} is labelled nowhere: a network learns nothing of it, nor is it tested'
        )
    outside = _outside_box(contents)
    section.several(
        [
            f'annotation {objects.ident[i]}: all its keypoints lie outside its box '
            f'({", ".join(f"{v:g}" for v in objects.boxes[i])}): is it the box of another object?'
            # one or two are outside the boxes of objects that are cut off, also in COCO
            for i in np.flatnonzero((labelled.sum(1) > 2) & (outside | ~labelled).all(1))
        ],
        'objects that are not in their boxes',
    )
    section.several(
        [
            f'annotation {objects.ident[i]}: its area of {objects.area[i]:,.0f} is larger than its '
            f'box of {np.prod(objects.boxes[i, 2:]):,.0f} square pixels: OKS, and with it AP, '
            'is then too high'
            for i in np.flatnonzero(_too_large(contents))
        ],
        'objects larger than their boxes',
    )
    share = outside.sum() / max(labelled[~objects.crowd].sum(), 1)
    if share > 0.2:
        section.problems.append(
            f'{share:.0%} of the labelled keypoints lie outside the box of their own object: are '
            'boxes x, y, w, h, or keypoints and boxes in different pixels?'
        )
    elif _boxes_outside(contents).any():
        section.notes.append(
            f'{int(_boxes_outside(contents).sum())} boxes reach beyond their pictures by more than '
            'a pixel; MMPose cuts them at the border'
        )
    if max(Counter(objects.image[labelled.any(1)].tolist()).values()) > 20:
        section.notes.append(
            "pictures with more than 20 objects: COCO's evaluation takes the best 20 predictions "
            'of a picture, so AP cannot reach 1'
        )


def _spread(values: np.ndarray) -> str:
    if not len(values) or not values.any():
        return 'not known'
    return ' / '.join(f'{v:.0f}' for v in (values.min(), np.median(values), values.max()))


def _sizes(contents: Contents) -> np.ndarray:
    """(M, 2); a picture of unknown size has no end."""
    rows = [size or (np.inf, np.inf) for size in contents.sizes]
    return np.array(rows, float).reshape(-1, 2)


def _boxes_outside(contents: Contents) -> np.ndarray:
    boxes, sizes = contents.objects.boxes, _sizes(contents)[contents.objects.image]
    ends = boxes[:, :2] + boxes[:, 2:]
    if not contents.boxed:
        return np.zeros(len(boxes), bool)  # made of a centre and a scale, larger than the object
    return ((boxes[:, :2] < -_SLACK) | (ends > sizes + _SLACK)).any(1)


def _outside_box(contents: Contents) -> np.ndarray:
    objects = contents.objects
    low = objects.boxes[:, None, :2] - _SLACK
    high = objects.boxes[:, None, :2] + objects.boxes[:, None, 2:] + _SLACK
    outside = ((objects.points < low) | (objects.points > high)).any(-1)
    boxed = (objects.boxes[:, 2:] > 0).all(1) & ~objects.crowd
    return outside & (objects.visible > 0) & boxed[:, None]


def _too_large(contents: Contents) -> np.ndarray:
    """Of the objects with a box of their own, whose area is larger than it."""
    sides = contents.objects.boxes[:, 2:]
    most = (sides + 2 * _SLACK).prod(1)  # outlines may reach over the box by parts of a pixel
    return contents.boxed & (sides > 0).all(1) & (contents.objects.area > most)
