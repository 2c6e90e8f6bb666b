"""An own data set, drawn: flies with seven keypoints, as COCO files or as labelme's."""

import json
import math
from pathlib import Path

import cv2
import numpy as np

NAMES = ('head', 'abdomen', 'left_wing', 'right_wing', 'left_foot', 'right_foot', 'waist')
SWAPS = (0, 1, 3, 2, 5, 4, 6)
LINKS = ((0, 6), (6, 1), (6, 2), (6, 3), (1, 4), (1, 5))
# along and across the body, in body lengths
_BODY = np.array(
    [(0.5, 0), (-0.5, 0), (0.1, -0.45), (0.1, 0.45), (-0.6, -0.3), (-0.6, 0.3), (0.15, 0)]
)
# left and right look alike, as they do in animals
_INK = ((40, 40, 220), (220, 60, 40), (40, 200, 40), (40, 200, 40), (200, 40, 220), (200, 40, 220))
_INK += ((20, 20, 20),)

# what a config of an own data set says, on top of a base: bottom-up, and top-down
CONFIG = """
data_root = {root!r}
own = dict(
    data_root=data_root, data_prefix=dict(img='images/'), metainfo=dict(from_file={metainfo!r})
)
train_dataloader = dict(dataset=dict(ann_file='annotations/train.json', **own))
val_dataloader = dict(dataset=dict(ann_file='annotations/val.json', **own))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
"""
BOTTOM_UP = CONFIG + 'model = dict(head=dict(num_keypoints=7, decoder=dict('
BOTTOM_UP += 'decode_keypoint_order=[6, 0, 1, 2, 3, 4, 5])))\n'
TOP_DOWN = (
    CONFIG + 'val_dataloader.update(dataset=dict(val_dataloader["dataset"], bbox_file=None))\n'
)
TOP_DOWN += 'model = dict(head=dict(out_channels=7))\n'


def draw_flies(folder: Path, counts: dict[str, int], seed: int = 0, most: int = 2) -> Path:
    """``images/*.png`` and ``annotations/SPLIT.json`` with one to ``most`` flies a picture."""
    rng = np.random.default_rng(seed)
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    category = dict(
        id=1, name='fly', keypoints=list(NAMES), skeleton=[[a + 1, b + 1] for a, b in LINKS]
    )
    image_id = ann_id = 0
    for split, count in counts.items():
        images, annotations = [], []
        for number in range(count):
            image_id += 1
            width, height = (int(side) for side in rng.integers(120, 240, 2))
            picture = rng.normal(190, 8, (height, width, 3)).clip(0, 255).astype(np.uint8)
            name = f'{split}_{number:03d}.png'
            for points in _places(rng, width, height, int(rng.integers(1, most + 1))):
                _draw(picture, points)
                ann_id += 1
                annotations.append(_annotation(points, ann_id, image_id, (width, height)))
            cv2.imwrite(str(folder / 'images' / name), picture)
            images.append(dict(id=image_id, file_name=name, width=width, height=height))
        contents = dict(images=images, annotations=annotations, categories=[category])
        (folder / 'annotations' / f'{split}.json').write_text(json.dumps(contents))
    return folder


def _places(rng, width: int, height: int, count: int) -> list[np.ndarray]:
    """Keypoints (7, 2) of flies that neither overlap nor leave the picture."""
    found: list[np.ndarray] = []
    for _ in range(200):
        length, angle = rng.uniform(40, 60), rng.uniform(0, 2 * math.pi)
        turn = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
        points = (length * _BODY @ turn.T + rng.uniform((0, 0), (width, height))).round(2)
        apart = all(np.linalg.norm(points[6] - other[6]) > 70 for other in found)
        if apart and (points > 3).all() and (points < (width - 3, height - 3)).all():
            found.append(points)
        if len(found) == count:
            break
    return found


def _draw(picture: np.ndarray, points: np.ndarray) -> None:
    places = [tuple(int(v) for v in point) for point in points.round()]
    for a, b in LINKS:
        cv2.line(picture, places[a], places[b], (60, 60, 60), 3, cv2.LINE_AA)
    for place, ink in zip(places, _INK):
        cv2.circle(picture, place, 4, ink, -1, cv2.LINE_AA)


def _annotation(points: np.ndarray, ident: int, image_id: int, size: tuple[int, int]) -> dict:
    low, high = np.maximum(points.min(0) - 5, 0), np.minimum(points.max(0) + 5, size)
    width, height = (high - low).round(2).tolist()
    return dict(
        id=ident,
        image_id=image_id,
        category_id=1,
        iscrowd=0,
        keypoints=[v for x, y in points.tolist() for v in (x, y, 2)],
        num_keypoints=len(NAMES),
        bbox=[*low.round(2).tolist(), width, height],
        area=round(0.53 * width * height, 2),
        segmentation=[],
    )


def write_labelme(folder: Path, split: str, target: Path) -> Path:
    """The pictures of a split with the files that labelme would leave beside them."""
    contents = json.loads((folder / 'annotations' / f'{split}.json').read_text())
    target.mkdir(parents=True)
    for image in contents['images']:
        name = image['file_name']
        (target / name).write_bytes((folder / 'images' / name).read_bytes())
        shapes = []
        for ann in contents['annotations']:
            if ann['image_id'] != image['id']:
                continue
            x, y, w, h = ann['bbox']
            shape = dict(group_id=ann['id'], description='', flags={}, mask=None)
            corners = [[x, y], [x + w, y + h]]
            shapes.append(dict(shape, label='fly', shape_type='rectangle', points=corners))
            for i, label in enumerate(NAMES):
                place = [ann['keypoints'][3 * i : 3 * i + 2]]
                shapes.append(dict(shape, label=label, shape_type='point', points=place))
        about = dict(version='5.5.0', flags={}, shapes=shapes, imagePath=name, imageData=None)
        about |= dict(imageHeight=image['height'], imageWidth=image['width'])
        (target / name).with_suffix('.json').write_text(json.dumps(about))
    return target


def write_metainfo(file: Path) -> Path:
    """The metainfo file of the flies, as one writes it by hand."""
    info = dict(
        dataset_name='flies',
        paper_info={},
        keypoint_info={
            i: dict(name=name, id=i, color=[255, 128, 0], type='', swap='' if j == i else NAMES[j])
            for i, (name, j) in enumerate(zip(NAMES, SWAPS))
        },
        skeleton_info={
            i: dict(link=(NAMES[a], NAMES[b]), id=i, color=[0, 128, 255])
            for i, (a, b) in enumerate(LINKS)
        },
        joint_weights=[1.0] * len(NAMES),
        sigmas=[0.05] * len(NAMES),
    )
    file.write_text(f'dataset_info = {info!r}\n')
    return file
