"""Writes a data set in COCO's layout."""

import json
import os
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from .config import SyntheticConfig
from .parts import KEYPOINTS, SKELETON
from .scene import SPLITS, render

VAL_ID_OFFSET = 10_000_000  # fixed, so a validation set does not depend on the training set's size
MARKER = 'synthetic.json'  # tells our own output, which may be overwritten, from anyone else's


def make_dataset(
    out_dir: str | os.PathLike,
    num_train: int = 2000,
    num_val: int = 200,
    seed: int = 0,
    config: SyntheticConfig | None = None,
    workers: int = 0,
    overwrite: bool = False,
) -> Path:
    """Writes a data set in COCO's layout, usable as a ``data_root`` in its place.

    ``OUT/{train,val}2017/*.jpg``, ``OUT/annotations/person_keypoints_{train,val}2017.json`` and
    ``OUT/synthetic.json``, which says how it was made. Equal arguments give files that are equal
    byte for byte, whatever ``workers`` is. All is written beside ``out_dir`` and moved there at
    the end, so an interrupted run leaves nothing.

    Args:
        out_dir: must be absent or empty, unless ``overwrite``.
        num_train: pictures for training, from 0.
        num_val: pictures for validation, from 0.
        seed: from 0.
        config: what they look like; the defaults if None.
        workers: processes; 0 or 1 renders in this one.
        overwrite: replace a data set that this function wrote; nothing else is ever removed.

    Returns:
        ``out_dir`` as an absolute path.

    Raises:
        ValueError: naming the argument that is out of range.
        FileExistsError: ``out_dir`` has files and ``overwrite`` does not apply.
    """
    for name, value, top in (
        ('num_train', num_train, VAL_ID_OFFSET),
        ('num_val', num_val, VAL_ID_OFFSET),
        ('seed', seed, 2**63),
        ('workers', workers, 257),
    ):
        if not isinstance(value, int) or not 0 <= value < top:
            raise ValueError(f'{name} must be an integer from 0 to {top - 1}, got {value!r}')
    if num_train + num_val == 0:
        raise ValueError('num_train and num_val must not both be 0')
    out = Path(out_dir).resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise FileExistsError(
                f'{out} exists and is not an empty folder: choose another or overwrite it'
            )
        if not (out / MARKER).is_file():
            raise FileExistsError(
                f'{out} has no {MARKER}: it was not written by this tool, so it is not overwritten'
            )
    temp = out.with_name(f'.{out.name}.{os.getpid()}.new')
    old = out.with_name(f'.{out.name}.{os.getpid()}.old')
    temp.mkdir(parents=True)
    try:
        _fill_folder(
            temp, {'train': num_train, 'val': num_val}, seed, config or SyntheticConfig(), workers
        )
        if out.exists():
            out.rename(old)
        temp.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(temp, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return out


def _fill_folder(
    folder: Path, counts: dict[str, int], seed: int, config: SyntheticConfig, workers: int
) -> None:
    for name in ('annotations', *(f'{split}2017' for split in SPLITS)):
        (folder / name).mkdir()
    jobs = [
        (split, i, i + 1 + (VAL_ID_OFFSET if split == 'val' else 0))
        for split in SPLITS
        for i in range(counts[split])
    ]
    work = partial(_write, folder=folder, config=config, seed=seed)
    progress = partial(
        track, description='rendering', total=len(jobs), console=Console(stderr=True)
    )
    # A forked child waits forever for OpenCV's threads, which stay behind: end them before.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if workers > 1:
            with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
                try:
                    results = list(progress(pool.map(work, jobs, chunksize=8)))
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        else:
            results = [work(job) for job in progress(jobs)]
    finally:
        cv2.setNumThreads(threads)
    info = {'description': 'Synthetic people in COCO format', 'version': '1', 'seed': seed}
    category = {
        'supercategory': 'person',
        'id': 1,
        'name': 'person',
        'keypoints': KEYPOINTS,
        'skeleton': SKELETON,
    }
    for split in SPLITS:
        part = [result for job, result in zip(jobs, results) if job[0] == split]
        path = folder / 'annotations' / f'person_keypoints_{split}2017.json'
        path.write_text(
            json.dumps(
                {
                    'info': info,
                    'licenses': [{'id': 1, 'name': 'none', 'url': ''}],
                    'images': [image for image, _ in part],
                    'annotations': [a for _, several in part for a in several],
                    'categories': [category],
                },
                separators=(',', ':'),
            )
        )
    (folder / MARKER).write_text(
        json.dumps({**info, 'images': counts, 'config': asdict(config)}, indent=1) + '\n'
    )


def _write(
    job: tuple[str, int, int], folder: Path, config: SyntheticConfig, seed: int
) -> tuple[dict, list[dict]]:
    """Renders and stores one picture; returns its entries for the JSON file."""
    split, index, image_id = job
    image, annotations = render(index, config, seed, split)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    quality = int(rng.integers(*config.jpeg_quality, endpoint=True))
    name, (h, w) = f'{image_id:012d}.jpg', image.shape[:2]
    data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    (folder / f'{split}2017' / name).write_bytes(data.tobytes())
    return (
        {'id': image_id, 'file_name': name, 'width': w, 'height': h, 'license': 1},
        [{**a, 'id': image_id * 100 + i, 'image_id': image_id} for i, a in enumerate(annotations)],
    )


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(1)
