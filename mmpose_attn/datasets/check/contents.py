"""What a config's data sets hold, as arrays, whatever their format."""

import contextlib
import copy
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmpose.registry import DATASETS

from mmpose_attn.datasets.annotations import read_annotations
from mmpose_attn.datasets.checked import CheckedAnnotations


@dataclass
class Objects:
    """N annotated objects of a data set with K keypoints.

    Args:
        image: (N,) index of each one's picture.
        ident: (N,) its id.
        category: (N,) its category id.
        points: (N, K, 2) pixels.
        visible: (N, K) 0 not labelled, 1 hidden, 2 seen, as far as the format tells.
        boxes: (N, 4) x, y, w, h in pixels.
        area: (N,) square pixels.
        crowd: (N,) whether it is a region of several.
    """

    image: np.ndarray
    ident: np.ndarray
    category: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


@dataclass
class Contents:
    """One data set: its pictures, their sizes (w, h) as annotated or ``None``, and its objects."""

    dataset: BaseDataset
    paths: list[str]
    sizes: list[tuple[int, int] | None]
    objects: Objects
    categories: dict[int, str]
    said: list[str] = field(default_factory=list)
    boxed: bool = False  # whether the boxes are annotated, rather than made of a centre and scale


def leaves(cfg: ConfigDict) -> list[ConfigDict]:
    """The data sets that read files, of one that may combine or repeat others."""
    inner = cfg.get('datasets') or ([cfg['dataset']] if 'dataset' in cfg else [])
    if not inner:
        return [copy.deepcopy(cfg)]
    found = [leaf for each in inner for leaf in leaves(each)]
    for leaf in found:  # the outer pipeline goes on where the inner one ends
        leaf['pipeline'] = [*leaf.get('pipeline', []), *cfg.get('pipeline', [])]
    return found


def loaders(cfg: Config, phases: list[str]) -> dict[str, ConfigDict]:
    """The data set config of each phase; equal ones once, as ``'val, test'``."""
    found: list[tuple[list[str], ConfigDict]] = []
    for phase in phases:
        loader = cfg.get(f'{phase}_dataloader')
        if not loader:
            raise ValueError(f'the config has no {phase}_dataloader')
        same = next((names for names, known in found if known == loader.dataset), None)
        if same is None:
            found.append(([phase], loader.dataset))
        else:
            same.append(phase)
    return {', '.join(names): dataset for names, dataset in found}


@contextmanager
def listening() -> Iterator[list[str]]:
    """The warnings that are logged within it, which are not printed."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    kept, logger.handlers = logger.handlers, [handler]
    try:
        yield said
    finally:
        logger.handlers = kept


@contextmanager
def quiet() -> Iterator[None]:
    """What libraries print, warn and log on the way is not shown; errors are."""
    with (
        listening(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter('ignore')
        yield


class DataError(ValueError):
    """A data set that cannot be used; ``problems`` are all reasons that are known."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__('; '.join(problems))
        self.problems = problems


def load(cfg: ConfigDict) -> Contents:
    """Build a data set as a training or test does, and collect what is annotated in it.

    A data set of detected boxes is built with those first, as they are checked then.

    Raises:
        DataError: it cannot be built.
    """
    cfg = copy.deepcopy(cfg)
    cfg['serialize_data'] = False
    try:
        with listening() as said:
            found = _examined(cfg)
            dataset = DATASETS.build(cfg)
            dataset.full_init()
            if cfg.get('bbox_file'):
                cfg['bbox_file'] = None
                dataset = DATASETS.build(cfg)
                dataset.full_init()
    except DataError:
        raise
    except Exception as error:  # whatever a class raises is what is wrong with its files
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise DataError(lines or [type(error).__name__]) from error
    if found is None and getattr(dataset, 'coco', None) is not None:
        found = dataset.coco.dataset
    contents = _of_samples(dataset) if found is None else _of_coco(dataset, found)
    contents.said = list(dict.fromkeys(said))
    return contents


def _examined(cfg: ConfigDict) -> dict | None:
    """The contents of a COCO-style file as our data sets read it; all its problems at once."""
    dataset = DATASETS.build(dict(cfg, lazy_init=True))
    if not isinstance(dataset, CheckedAnnotations) or not os.path.isfile(dataset.ann_file):
        return None
    contents, report = read_annotations(dataset.ann_file, dataset.meta())
    if report.problems:
        raise DataError([f'{report.file}: {problem}' for problem in report.problems])
    return contents


def _of_coco(dataset: BaseDataset, found: dict) -> Contents:
    joints = dataset.metainfo['num_keypoints']
    images = found['images']
    place = {entry['id']: i for i, entry in enumerate(images)}
    folder = dataset.data_prefix.get('img') or ''
    anns = [ann for ann in found['annotations'] if ann['image_id'] in place]
    points = np.zeros((len(anns), joints, 3))
    boxes = np.zeros((len(anns), 4))
    for i, ann in enumerate(anns):
        if ann.get('keypoints') and len(ann['keypoints']) == 3 * joints:
            points[i] = np.reshape(ann['keypoints'], (joints, 3))
        if ann.get('bbox'):
            boxes[i] = ann['bbox']
    area = [ann.get('area') or 0.53 * w * h for ann, (w, h) in zip(anns, boxes[:, 2:])]
    objects = Objects(
        np.array([place[ann['image_id']] for ann in anns], int),
        np.array([ann['id'] for ann in anns]),
        np.array([ann.get('category_id', 1) for ann in anns], int),
        points[..., :2],
        points[..., 2],
        boxes,
        np.array(area, float),
        np.array([bool(ann.get('iscrowd')) for ann in anns], bool),
    )
    return Contents(
        dataset,
        [os.path.join(folder, entry['file_name']) for entry in images],
        [_size(entry) for entry in images],
        objects,
        {entry['id']: entry.get('name', '') for entry in found.get('categories', [])},
        boxed=True,
    )


def _size(entry: dict) -> tuple[int, int] | None:
    width, height = entry.get('width'), entry.get('height')
    return (int(width), int(height)) if width and height else None


def _of_samples(dataset: BaseDataset) -> Contents:
    """Of a format without an index, such as MPII's: one object a sample."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    paths = list(dict.fromkeys(info['img_path'] for info in infos))
    place = {path: i for i, path in enumerate(paths)}
    joints = dataset.metainfo['num_keypoints']

    def gather(key: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.array([np.reshape(info[key], shape) for info in infos], float)

    corners = gather('bbox', (2, 2))
    visible = gather('keypoints_visible', (joints,))
    objects = Objects(
        np.array([place[info['img_path']] for info in infos], int),
        np.array([info['id'] for info in infos]),
        np.ones(len(infos), int),
        gather('keypoints', (joints, 2)),
        np.where(visible > 0, 2, 0),
        np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1),
        gather('area', ()),
        np.zeros(len(infos), bool),
    )
    return Contents(dataset, paths, [None] * len(paths), objects, {})
