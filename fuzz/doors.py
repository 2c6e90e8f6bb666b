"""The doors, with the small networks and good files that they need."""

import json
import os
import shutil
import warnings
from contextlib import closing, redirect_stdout
from io import BytesIO, StringIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from PIL import Image
from torch import nn

from mmpose_attn.apis.building import load_weights
from mmpose_attn.apis.detection import GivenBoxes
from mmpose_attn.apis.outputs import Journal
from mmpose_attn.apis.results import Frame, People, PoseResult
from mmpose_attn.apis.service import first_frame
from mmpose_attn.apis.sources import find_sources, read_frames
from mmpose_attn.datasets import CheckedCocoDataset
from mmpose_attn.datasets.convert import convert_dataset
from mmpose_attn.engine import CheckpointError
from mmpose_attn.evaluation.coco_metric import CheckedCocoMetric
from mmpose_attn.evaluation.complexity import published
from mmpose_attn.visualization.curves import read_curve

from .engine import Door
from .mutate import mutate_bytes, mutate_json, mutate_png, mutate_zip

_FRAMES = 40  # of a video that are decoded
_BAD_FILE = (ValueError, OSError)


def make_doors(folder: Path) -> dict[str, Door]:
    """All of them by name; ``folder`` is for files that they need."""
    # what libraries say about every damaged file
    warnings.simplefilter('ignore')
    MMLogger.get_instance('fuzz', log_level='CRITICAL')
    torch.set_num_threads(1), cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ['OPENCV_FFMPEG_LOGLEVEL'] = '-8'
    folder.mkdir(parents=True, exist_ok=True)
    pictures = folder / 'pictures'
    pictures.mkdir(exist_ok=True)
    for image in _coco()['images']:
        cv2.imwrite(str(pictures / image['file_name']), _noise(image['height'], image['width']))
    makers = (
        _pictures, _videos, _page, _annotations, _detections, _evaluator, _exports, _yolo, _boxes,
        _ids, _checkpoints, _onnx, _journals, _metafiles, _logs,
    )  # fmt: skip
    doors = (make(folder) for make in makers)
    return {door.name: door for door in doors}


# ------------------------------------------------------------------------- pictures and videos
def _pictures(folder: Path) -> Door:
    return Door('pictures', _picture_seeds(), _all_frames, _BAD_FILE, mutate_png)


def _videos(folder: Path) -> Door:
    return Door('videos', _video_seeds(folder), _all_frames, _BAD_FILE)


def _page(folder: Path) -> Door:
    seeds = [*_picture_seeds(), *_video_seeds(folder)]
    return Door('page', seeds, first_frame, _BAD_FILE, mutate_png)


def _all_frames(path: Path) -> None:
    with closing(read_frames(find_sources(path))) as frames:
        for _ in islice(frames, _FRAMES):
            pass


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(image, (width, height))


def _picture_seeds() -> list[tuple[str, bytes]]:
    seeds = []
    image = Image.fromarray(_noise(96, 128))
    grey = image.convert('L')
    for kind, options in (
        ('jpeg', {}),
        ('jpeg', dict(progressive=True)),
        ('png', {}),
        ('webp', {}),
        ('bmp', {}),
        ('tiff', {}),
        ('tiff', dict(compression='tiff_lzw')),
        ('gif', dict(save_all=True, append_images=[image.rotate(90)])),
    ):
        for picture in (image, grey):
            data = BytesIO()
            picture.save(data, kind, **options)
            seeds.append((f'.{kind}', data.getvalue()))
    playlist = b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n'
    return [*seeds, ('.m3u8', playlist), ('.ppm', b'P6 99999 99999 255\n' + bytes(99))]


def _video_seeds(folder: Path) -> list[tuple[str, bytes]]:
    seeds = []
    for suffix, codec in (('.mp4', 'mp4v'), ('.avi', 'MJPG'), ('.webm', 'VP80'), ('.mkv', 'mp4v')):
        path = folder / f'seed{suffix}'
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (96, 64))
        for i in range(6):
            writer.write(_noise(64, 96, i))
        writer.release()
        seeds.append((suffix, path.read_bytes()))
    return seeds


# ---------------------------------------------------------------------------------------- JSON
def _coco() -> dict:
    """Two pictures, three people, one of them a crowd."""
    images = [dict(id=i, file_name=f'{i:012}.jpg', width=96, height=80) for i in (1, 2)]
    points = np.tile([[30, 40, 2]], (17, 1)) + np.arange(17)[:, None] * [1, 1, 0]
    person = dict(
        id=1,
        image_id=1,
        category_id=1,
        bbox=[20.0, 30.0, 40.0, 45.0],
        area=900.0,
        iscrowd=0,
        num_keypoints=17,
        keypoints=points.ravel().tolist(),
        segmentation=[[20, 30, 60, 30, 60, 75, 20, 75]],
    )
    crowd = dict(
        person,
        id=3,
        image_id=2,
        iscrowd=1,
        num_keypoints=0,
        keypoints=[0] * 51,
        segmentation=dict(size=[80, 96], counts=[1000, 500, 6180]),
    )
    names = [f'k{i}' for i in range(17)]
    category = dict(id=1, name='person', keypoints=names, skeleton=[[1, 2], [2, 3]])
    people = [person, dict(person, id=2, image_id=2), crowd]
    return dict(info={}, images=images, annotations=people, categories=[category])


def _json(value: object) -> list[tuple[str, bytes]]:
    return [('.json', json.dumps(value).encode())]


def _annotations(folder: Path) -> Door:
    def enter(path: Path) -> None:
        # the file decides, so that it repeats
        mode, test = ('bottomup', 'topdown')[path.stat().st_size % 2], path.stat().st_size % 3 == 0
        _use_dataset(folder, path, data_mode=mode, test_mode=test)

    return Door('annotations', _json(_coco()), enter, _BAD_FILE, mutate_json)


def _use_dataset(folder: Path, path: Path, **kwargs) -> None:
    with redirect_stdout(StringIO()), DefaultScope.overwrite_default_scope('mmpose'):
        dataset = CheckedCocoDataset(
            ann_file=str(path),
            data_prefix=dict(img=str(folder / 'pictures')),
            pipeline=[dict(type='LoadPoseImage')],
            serialize_data=False,  # for which MMEngine collects garbage, which takes longer
            **kwargs,
        )
        for i in range(min(len(dataset), 3)):
            dataset[i]


def _detections(folder: Path) -> Door:
    good = folder / 'annotations.json'
    good.write_bytes(_json(_coco())[0][1])

    def enter(path: Path) -> None:
        _use_dataset(folder, good, data_mode='topdown', test_mode=True, bbox_file=str(path))

    return Door('detections', _json(_found()), enter, _BAD_FILE, mutate_json)


def _evaluator(folder: Path) -> Door:
    meta = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))

    def enter(path: Path) -> None:
        with redirect_stdout(StringIO()):
            CheckedCocoMetric(str(path)).dataset_meta = meta

    return Door('evaluator', _json(_coco()), enter, _BAD_FILE, mutate_json)


def _found() -> list[dict]:
    return [
        dict(image_id=1 + i % 2, category_id=1, bbox=[i, 2.5, 30, 40], score=0.9) for i in range(6)
    ]


def _boxes(folder: Path) -> Door:
    def enter(path: Path) -> None:
        frame = Frame('a', 'a', 0, 1, (96, 80), np.zeros((80, 96, 3), np.uint8))
        GivenBoxes(path, nms_thr=0.5)([frame])

    return Door('boxes', _json(_found()), enter, _BAD_FILE, mutate_json)


def _ids(folder: Path) -> Door:
    def enter(path: Path) -> None:
        find_sources(folder / 'pictures', path)

    return Door('ids', _json(_coco()), enter, _BAD_FILE, mutate_json)


def _exports(folder: Path) -> Door:
    """Exports of programs for annotation, each with its ending."""
    pictures, size = folder / 'pictures', dict(imageWidth=96, imageHeight=80)
    box = dict(label='person', shape_type='rectangle', points=[[5, 5], [60, 70]], group_id=1)
    point = dict(label='k0', shape_type='point', points=[[20.5, 30]], group_id=1)
    labelme = dict(size, imagePath='000000000001.jpg', shapes=[box, point], flags={})
    geometry = dict(original_width=96, original_height=80, from_name='a', to_name='b')
    regions = [
        dict(geometry, id='r', type='rectanglelabels', value=dict(
            x=5, y=5, width=60, height=70, rotation=0, rectanglelabels=['person'])),
        dict(geometry, id='p', type='keypointlabels', parentID='r', value=dict(
            x=20, y=30, width=1, keypointlabels=['k0'])),
    ]  # fmt: skip
    task = dict(id=1, data=dict(image='/x/000000000001.jpg'), annotations=[dict(result=regions)])
    seeds = [
        *(('.coco', data) for _, data in _json(_coco())),
        *(('.labelme', data) for _, data in _json(labelme)),
        *(('.studio', data) for _, data in _json([task])),
    ]

    def enter(path: Path) -> None:
        kind = dict(coco='coco', labelme='labelme', studio='label-studio')[path.suffix[1:]]
        with TemporaryDirectory(dir=folder) as work:
            source = Path(work, 'source')
            source.mkdir()
            source /= 'a.json'
            shutil.copy(path, source)
            convert_dataset(
                [source.parent if kind == 'labelme' else source],
                Path(work, 'out'),
                kind,
                images=pictures,
                keypoints=None if kind == 'coco' else ['k0', 'k1'],
                outside='unlabel',
            )

    return Door('exports', seeds, enter, _BAD_FILE, mutate_json)


def _yolo(folder: Path) -> Door:
    """A line of YOLO-pose's labels, or the data.yaml of a data set."""
    text = 'path: .\ntrain: images\nnames: {0: person}\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n'
    lines = ''.join(f'0 0.5 0.5 0.4 0.{i} 0.5 0.5 2 0.55 0.5 1\n' for i in (3, 4, 5))
    seeds = [('.yaml', text.encode()), ('.txt', lines.encode())]
    good = dict(seeds)
    picture = (folder / 'pictures' / '000000000001.jpg').read_bytes()

    def enter(path: Path) -> None:
        with TemporaryDirectory(dir=folder) as work:
            for name, data in (
                ('images/a.jpg', picture),
                ('labels/a.txt', good['.txt']),
                ('data.yaml', good['.yaml']),
            ):
                place = Path(work, name)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(path.read_bytes() if place.suffix == path.suffix else data)
            convert_dataset([Path(work, 'data.yaml')], Path(work, 'out'), 'yolo', 'coco')

    return Door('yolo', seeds, enter, _BAD_FILE)


def _journals(folder: Path) -> Door:
    people = People(*(np.ones(s) for s in ((2, 17, 2), (2, 17), (2, 4), (2,), (2,))))
    path = folder / 'journal.jsonl'
    journal = Journal(path, dict(a=1), resume=False)
    for number in range(3):
        journal.add([PoseResult(Frame(f'{number}.jpg', f'{number}.jpg', 0, number), people)])
    video = [Frame(f'v#{i}', 'v', i, i + 3, fps=25.0) for i in range(2)]
    journal.add([PoseResult(frame, people) for frame in video])
    journal.close()

    def enter(path: Path) -> None:
        journal = Journal(path, dict(a=1), resume=True)
        with closing(journal):
            list(journal.replay(17)), list(journal.results(17))

    return Door('journals', [('.jsonl', path.read_bytes())], enter, _BAD_FILE, mutate_json)


def _logs(folder: Path) -> Door:
    lines = [json.dumps(dict(step=i + 1, loss=1.0 / (i + 1))) for i in range(20)]
    epochs = dict(train=[dict(epoch=i + 1, loss=2.0) for i in range(3)])
    seeds = [('.json', '\n'.join(lines).encode()), *_json(epochs)]
    return Door('logs', seeds, read_curve, _BAD_FILE, mutate_json)


def _metafiles(folder: Path) -> Door:
    text = (
        'Collections:\n- Name: &n A\n  Paper: {URL: x, Title: y}\nModels:\n- Name: m\n'
        '  In Collection: *n\n  Metadata: {Epochs: 1.5, Data: [COCO]}\n  Results: []\n'
    )
    seeds = [('.yml', text.encode())]
    return Door('metafiles', seeds, lambda path: published([path]), _BAD_FILE)


# ------------------------------------------------------------------------------------ networks
def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))


def _checkpoints(folder: Path) -> Door:
    weights = _network().state_dict()
    contents = dict(
        meta=dict(epoch=1, dataset_meta=dict(classes=['person'])),
        state_dict=weights,
        optimizer=dict(state={0: dict(step=torch.ones(1))}, param_groups=[dict(lr=0.1)]),
        message_hub=dict(log_scalars={}, runtime_info=dict(iter=3)),
    )
    seeds = []
    for value, new in ((contents, True), (contents, False), (weights, True)):
        data = BytesIO()
        torch.save(value, data, _use_new_zipfile_serialization=new)
        seeds.append(('.pth', data.getvalue()))

    def enter(path: Path) -> None:
        with redirect_stdout(StringIO()):
            load_weights(_network(), path)

    return Door('checkpoints', seeds, enter, (*_BAD_FILE, CheckpointError), mutate_zip)


def _onnx(folder: Path) -> Door:
    from mmpose_attn.deploy import export_onnx, onnx_session

    path = folder / 'network.onnx'
    export_onnx(_network().eval(), path, (16, 8))

    def enter(path: Path) -> None:
        onnx_session(path, threads=1)

    return Door('onnx', [('.onnx', path.read_bytes())], enter, _BAD_FILE, mutate_bytes)
