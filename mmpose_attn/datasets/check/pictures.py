"""Every picture of a data set, read as the network's pipeline reads it, by several processes."""

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import torch
from mmpose.registry import TRANSFORMS
from rich.console import Console
from rich.progress import track

from mmpose_attn.datasets.transforms import exif_orientation

_work: Callable | None = None


class Picture(NamedTuple):
    """One picture as it is loaded: size (w, h), digest of its pixels, fault, EXIF orientation."""

    size: tuple[int, int] | None
    digest: str
    problem: str
    turned: int = 1

    @property
    def ambiguous(self) -> bool:
        """Whether its size does not tell if the annotations follow its EXIF orientation."""
        square = self.size is not None and self.size[0] == self.size[1]
        return self.turned in (2, 3, 4) or (self.turned != 1 and square)


def in_processes(work: Callable, jobs: Sequence, processes: int, title: str) -> Iterator:
    """``map(work, jobs)`` with a progress bar, in several processes if there are more than one."""
    global _work
    show = dict(description=title, total=len(jobs), console=Console(stderr=True), transient=True)
    if processes < 2 or len(jobs) < 2 or 'fork' not in multiprocessing.get_all_start_methods():
        yield from track(map(work, jobs), **show)
        return
    # A forked child waits forever for OpenCV's threads, which stay behind: end them before.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    _work = work  # a closure cannot be sent, but is inherited
    try:
        context = multiprocessing.get_context('fork')
        with ProcessPoolExecutor(processes, context, _start) as pool:
            try:
                chunk = max(1, min(16, len(jobs) // (4 * processes)))
                yield from track(pool.map(_do, jobs, chunksize=chunk), **show)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        _work = None
        cv2.setNumThreads(threads)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _do(job: Any) -> Any:
    return _work(job)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Decoders do not print what they think of broken files."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def read_pictures(
    paths: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    load: dict,
    processes: int,
    title: str,
) -> list['Picture']:
    """Read every picture.

    Args:
        paths: of the pictures.
        sizes: (w, h) that their annotations state.
        load: the pipeline's first step, which loads pictures.
        processes: that do it.
        title: of the progress bar.

    Returns:
        What was found, for each.
    """
    step = TRANSFORMS.build({k: v for k, v in load.items() if k != 'skip_corrupt'})

    def read(job: tuple[str, tuple[int, int] | None]) -> Picture:
        path, size = job
        try:
            info = dict(img_path=path)
            if size:
                info['ann_shape'] = size[::-1]
            image = step(info)['img']
        except Exception as error:  # a decoder may raise anything
            return Picture(None, '', ' '.join(str(error).split()))
        digest = hashlib.blake2b(image.tobytes(), digest_size=16)
        digest.update(repr(image.shape).encode())
        found = image.shape[1], image.shape[0]
        problem = ''
        if size and found != tuple(size):
            problem = f'{path} is {found[0]}x{found[1]}, but {size[0]}x{size[1]} as annotated'
        with open(path, 'rb') as file:
            turned, _ = exif_orientation(file.read())
        return Picture(found, digest.hexdigest(), problem, turned)

    with quiet_decoders():
        return list(in_processes(read, list(zip(paths, sizes)), processes, title))


def default_processes() -> int:
    """As many as this process may use, at most 8."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1)
