"""COCO annotation files, with the interface of xtcocotools 1.14.3."""

import copy
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import faster_coco_eval
import numpy as np

from . import mask


def get_field(item: dict, name: str, source: str) -> Any:
    """``item[name]`` of an annotation, result or image.

    Args:
        item: The annotation.
        name: The field that it must have.
        source: Where it comes from, for the message.

    Raises:
        KeyError: If the field is missing; says where.
    """
    try:
        return item[name]
    except KeyError:
        which = f'the entry with id {item["id"]!r}' if 'id' in item else 'an entry'
        raise KeyError(f'{source}: {which} has no {name!r}') from None


def _as_list(ids: Any) -> list:
    """``ids`` as a list; a single id, text included, is a list of one."""
    return list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str) else [ids]


def _load_json(path: str | os.PathLike, kind: type) -> Any:
    """Read a JSON file that must hold a dict or a list.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or of another kind; names the file.
    """
    with open(path, encoding='utf-8') as file:
        try:
            data = json.load(file)
        except ValueError as error:
            raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(data, kind):
        content = 'annotations' if kind is dict else 'results'
        raise ValueError(
            f'{path} holds a {type(data).__name__}, but {content} are a {kind.__name__}'
        )
    return data


class COCO(faster_coco_eval.COCO):
    """Annotations of images, indexed by image, category and id.

    Args:
        annotation_file: Path of a COCO annotation file.
        test_index: Indices of the keypoints to keep in every annotation.
        ann_data: Contents of the file, if they are in memory already; they
            are used, and changed, in place.

    Attributes:
        anno_file: ``[annotation_file]``, and after :meth:`loadRes` the result
            file as second element.
        dataset: The contents of the file.
        anns, cats, imgs: Annotation, category and image by id.
        imgToAnns: Annotations by image id.
        catToImgs: Image ids by category id, one for each annotation.
        source: The file, or what else to call it in messages.
    """

    def __init__(
        self,
        annotation_file: str | os.PathLike | None = None,
        test_index: Sequence[int] | None = None,
        ann_data: dict | None = None,
    ) -> None:
        super().__init__(print_function=print)
        self.anno_file = [annotation_file]
        self.test_index = test_index
        self.source = 'annotations in memory' if annotation_file is None else str(annotation_file)
        if annotation_file is None and ann_data is None:
            return
        print('loading annotations into memory...')
        tic = time.time()
        if ann_data is None:
            ann_data = _load_json(annotation_file, dict)
        elif not isinstance(ann_data, dict):
            raise TypeError(f'ann_data must be a dict, not a {type(ann_data).__name__}')
        print(f'Done (t={time.time() - tic:0.2f}s)')
        self.dataset = ann_data
        self.createIndex()
        for ann in ann_data.get('annotations', []):
            if test_index is not None:
                keypoints = np.array(get_field(ann, 'keypoints', self.source)).reshape(-1, 3)
                ann['keypoints'] = keypoints[test_index].flatten().tolist()
            ann.setdefault('iscrowd', 0)

    def createIndex(self) -> None:
        """Index :attr:`dataset` anew, after changes to it."""
        # Not the parent's: it turns ids into integers, in place.
        print('creating index...')
        self.imgToAnns, self.catToImgs = defaultdict(list), defaultdict(list)
        self.imgs = {img['id']: img for img in self.dataset.get('images', [])}
        self.cats = {cat['id']: cat for cat in self.dataset.get('categories', [])}
        self.anns = {}
        for ann in self.dataset.get('annotations', []):
            self.anns[get_field(ann, 'id', self.source)] = ann
            self.imgToAnns[get_field(ann, 'image_id', self.source)].append(ann)
            if self.cats:
                category = get_field(ann, 'category_id', self.source)
                self.catToImgs[category].append(ann['image_id'])
        print('index created!')

    def getAnnIds(
        self,
        imgIds: Any = (),
        catIds: Any = (),
        areaRng: Sequence[float] = (),
        iscrowd: bool | None = None,
    ) -> list:
        """Ids of the annotations that pass all filters given.

        Args:
            imgIds: Image id or ids; the result follows their order.
            catIds: Category id or ids.
            areaRng: Smallest and largest area in square pixels, exclusive.
            iscrowd: Only crowds, or no crowds.
        """
        imgIds, catIds = _as_list(imgIds), set(_as_list(catIds))
        if imgIds:
            anns = [ann for i in imgIds if i in self.imgToAnns for ann in self.imgToAnns[i]]
        else:
            anns = self.dataset.get('annotations', [])
        if catIds:
            anns = [ann for ann in anns if ann['category_id'] in catIds]
        if len(areaRng):
            low, high = areaRng
            anns = [ann for ann in anns if low < get_field(ann, 'area', self.source) < high]
        if iscrowd is not None:
            anns = [ann for ann in anns if ann['iscrowd'] == iscrowd]
        return [ann['id'] for ann in anns]

    def loadAnns(self, ids: Any = ()) -> list[dict]:
        """The annotations of an id or of ids."""
        return [self.anns[i] for i in _as_list(ids)]

    def loadCats(self, ids: Any = ()) -> list[dict]:
        """The categories of an id or of ids."""
        return [self.cats[i] for i in _as_list(ids)]

    def loadImgs(self, ids: Any = ()) -> list[dict]:
        """The images of an id or of ids."""
        return [self.imgs[i] for i in _as_list(ids)]

    def loadRes(
        self,
        resFile: str | os.PathLike | np.ndarray | list[dict],
        resData: list[dict] | None = None,
    ) -> 'COCO':
        """Load results on these images.

        Args:
            resFile: Path of a JSON list of results, that list, or an array
                (N, 7) of image id, x, y, width, height, score, category id.
            resData: Contents of the file, if they are in memory already.

        Returns:
            The results as annotations, with ids from 1 and the ``area`` and
            ``bbox`` that follow from box, mask or keypoints, whichever the
            first result has.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds something else, or results on images
                that are not in this dataset; names the file.
        """
        print('Loading and preparing results...')
        tic = time.time()
        results = COCO()
        results.source = 'results in memory'
        if isinstance(resFile, np.ndarray):
            anns = self.loadNumpyAnnotations(resFile)
        elif isinstance(resFile, (str, os.PathLike)):
            results.source = str(resFile)
            anns = _load_json(resFile, list) if resData is None else resData
        else:
            anns = resFile
        if not isinstance(anns, list):
            raise TypeError(
                f'{results.source}: results must be a list, not a {type(anns).__name__}'
            )
        strangers = {get_field(ann, 'image_id', results.source) for ann in anns} - self.imgs.keys()
        if strangers:
            raise ValueError(
                f'{results.source}: results on {len(strangers)} images, such as '
                f'{next(iter(strangers))!r}, that are not in {self.source}'
            )

        # Copies, so that the caller's results stay as they are.
        anns = [dict(ann, id=i) for i, ann in enumerate(anns, 1)]
        first = anns[0] if anns else {}
        if len(first.get('bbox', ())):
            for ann in anns:
                x, y, w, h = get_field(ann, 'bbox', results.source)
                ann.setdefault('segmentation', [[x, y, x, y + h, x + w, y + h, x + w, y]])
                ann.update(area=w * h, iscrowd=0)
        elif 'segmentation' in first:
            for ann in anns:
                rle = get_field(ann, 'segmentation', results.source)
                ann.update(area=mask.area(rle), iscrowd=0)
                ann.setdefault('bbox', mask.toBbox(rle))
        elif 'keypoints' in first:
            for ann in anns:
                keypoints = get_field(ann, 'keypoints', results.source)
                x, y = keypoints[0::3], keypoints[1::3]
                w, h = max(x) - min(x), max(y) - min(y)
                ann.update(area=w * h, bbox=[min(x), min(y), w, h])
        print(f'DONE (t={time.time() - tic:0.2f}s)')

        results.dataset = {
            'images': list(self.dataset.get('images', [])),
            'categories': copy.deepcopy(self.dataset.get('categories', [])),
            'annotations': anns,
        }
        results.createIndex()
        # xtcocotools notes the first result file only.
        if len(self.anno_file) == 1:
            self.anno_file.append(resFile)
        return results
