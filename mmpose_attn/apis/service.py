"""What the page in the browser does, without the page: models that stay loaded, a job at a time."""

import os
import secrets
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import mmdet
import mmpose
import numpy as np

from mmpose_attn.engine import CheckpointError
from mmpose_attn.files import printable
from mmpose_attn.media import Limits, MediaError
from mmpose_attn.media.worker import IsolatedMedia
from mmpose_attn.media.worker import prepare as prepare_decoder
from mmpose_attn.visualization.attention_drawing import draw_html
from mmpose_attn.visualization.attention_maps import attention_sites, collect, prepare

from .building import check_device, find_config
from .detection import PersonDetector, whole_image
from .outputs import Drawings, draw_result, write_tables
from .pose import PosePredictor
from .results import PoseResult
from .sources import Source, read_frames, with_ids
from .summary import plural

WHOLE_IMAGE = 'none: the picture is one person'
# Of what strangers drop. Decoded and drawn a pixel takes six bytes.
LIMITS = Limits(pixels=50_000_000, seconds=20 * 60, frames=20 * 60 * 120)
_PREVIEW = threading.Lock()  # one at a time, so that memory has a bound
_SHOWN_SIDE = 1600  # pixels of what a browser gets to see
_MOST_SITES = 60  # attention modules that are drawn
_KNOWN = (ValueError, OSError, CheckpointError)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a job has to show.

    Attributes:
        message: for the one who waits, in a sentence or two.
        failed: whether there is nothing else.
        picture: (H, W, 3) uint8, BGR, of a picture.
        video: a file that browsers play, of a video.
        attention: an HTML page that needs nothing else, with the attention maps
            of the picture or of the first frame with somebody; of the person
            with the best score, if the network is a top-down one. None of a
            network without attention.
        files: ``results.json``, ``results.csv``, what was drawn, and ``attention``.
    """

    message: str
    failed: bool = False
    picture: np.ndarray | None = None
    video: Path | None = None
    attention: Path | None = None
    files: tuple[Path, ...] = ()


class PoseService:
    """Finds people in one file after the other, for many who ask.

    Networks are loaded when they are first asked for and stay, ``keep`` of
    either kind. Jobs wait for each other. Nothing that is wrong with a file
    raises: the outcome says it.

    Args:
        models: config and checkpoint of every pose network, as for
            :class:`PosePredictor`; the first is loaded at once.
        detectors: the same of detectors, as for :class:`PersonDetector`.
        folder: for files, where the oldest ones are removed.
        device, batch: as for :class:`PosePredictor`.
        keep: networks of a kind that stay loaded.
        most_bytes: of ``folder`` when a job begins.

    Attributes:
        models, detectors: their names.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: there is no model, or the first one or the device is no good.
    """

    def __init__(
        self,
        models: Sequence[tuple[str, str]],
        detectors: Sequence[tuple[str, str]] = (),
        *,
        folder: str | os.PathLike,
        device: str = 'auto',
        batch: int = 4,
        keep: int = 2,
        most_bytes: float = 2e9,
    ) -> None:
        if not models:
            raise ValueError('the page needs a pose network: a config and its checkpoint')
        self.device, self.batch = check_device(device), batch
        self.folder, self.most_bytes = Path(folder), most_bytes
        self._models = _named(models, Path(mmpose.__path__[0], '.mim/configs'))
        self._detectors = _named(detectors, Path(mmdet.__path__[0], '.mim/configs'))
        self.models = list(self._models)
        self.detectors = [*self._detectors, WHOLE_IMAGE]
        self._predictor = lru_cache(keep)(self._build_predictor)
        self._detector = lru_cache(keep)(self._build_detector)
        self._one = threading.Lock()
        self._kept: set[Path] = set()  # files of the job at work
        self._predictor(self.models[0])

    def run(
        self,
        path: str | os.PathLike,
        model: str,
        detector: str = WHOLE_IMAGE,
        *,
        box_score: float = 0.3,
        keypoint_score: float = 0.3,
        track: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> Outcome:
        """Find the people in a picture or video.

        Args:
            path: of the file.
            model: one of ``models``.
            detector: one of ``detectors``; a bottom-up network does without.
            box_score: least score of a detector's box.
            keypoint_score: least score of a keypoint that is drawn.
            track: give the people of a video ids that they keep.
            stop: ends the job at the next frame, with what there is by then.
            progress: gets the number of frames that are done, and that of all
                if it is known.
        """
        job = None
        stop = stop or threading.Event()
        try:
            with self._one:
                if stop.is_set():
                    return Outcome('Stopped before it began.')
                with opened(path) as source:
                    self._kept = {Path(path)}
                    self.make_room()
                    # nobody can guess the name, and so not take another's results
                    job = self.folder / f'job_{secrets.token_hex(16)}'
                    job.mkdir(mode=0o700)
                    self._kept = {Path(path), job}
                    predictor = self._predictor(model)
                    if predictor.topdown:
                        predictor.boxes = self._boxes(detector, box_score)
                    return self._work(source, predictor, job, keypoint_score, track, stop, progress)
        except Exception as error:
            if job is not None:
                shutil.rmtree(job, ignore_errors=True)
            if not isinstance(error, _KNOWN):
                sys.stderr.write(printable(traceback.format_exc()))
            return failure(error, path)

    def make_room(self) -> None:
        """Remove the oldest files until there are at most ``most_bytes``, but none of the job."""
        _trim(self.folder, self.most_bytes, keep=self._kept)

    def _work(
        self,
        source: Source,
        predictor: PosePredictor,
        job: Path,
        keypoint_score: float,
        track: bool,
        stop: threading.Event,
        progress: Callable[[int, int | None], None],
    ) -> Outcome:
        start = time.perf_counter()
        skeleton, names = predictor.meta['skeleton_links'], predictor.meta['keypoint_id2name']
        # results of a video without its images
        done: list[PoseResult] = []
        shown: PoseResult | None = None
        drawings, picture = Drawings(job / 'drawn', '.webm'), None
        progress(0, source.count)
        stopped = False
        with closing(predictor(source, track=track)) as results:
            for result in results:
                if result.frame.error is None:
                    picture = draw_result(result, skeleton, keypoint_score)
                    drawn = picture if source.kind == 'image' else shrunk(picture)
                    drawings.add(result.frame, drawn)
                    if shown is None or len(result.counted) > len(shown.counted) == 0:
                        shown = result
                done.append(replace(result, frame=replace(result.frame, image=None)))
                progress(len(done), source.count)
                if stop.is_set():
                    stopped = len(done) != source.count
                    break
        drawings.end_video()
        names = [names[i] for i in range(predictor.joints)]
        write_tables(job, done, names, predictor.category.id)
        seconds, category = time.perf_counter() - start, predictor.category.name
        message = _summary(source, done, seconds, stopped, category)
        if shown is None:
            raise ValueError(message)
        (drawn,) = (job / 'drawn').iterdir()
        attention = _draw_attention(predictor, shown, job / 'attention.html')
        files = [job / 'results.json', job / 'results.csv', drawn]
        files += [attention] if attention else []
        found = dict(attention=attention, files=tuple(files))
        if source.kind == 'video':
            return Outcome(message, video=drawn, **found)
        return Outcome(message, picture=shrunk(picture), **found)

    def _build_predictor(self, name: str) -> PosePredictor:
        config, checkpoint = self._models[name]
        return PosePredictor(config, checkpoint, device=self.device, batch=self.batch)

    def _build_detector(self, name: str) -> PersonDetector:
        config, checkpoint = self._detectors[name]
        return PersonDetector(config, checkpoint, device=self.device, batch=self.batch)

    def _boxes(self, name: str, score: float) -> Callable:
        if name == WHOLE_IMAGE:
            return whole_image
        detector = self._detector(name)
        detector.score_thr = score
        return detector


def failure(error: Exception, path: str | os.PathLike) -> Outcome:
    """What went wrong with a file, without the place where it lies."""
    message = str(error).replace(f'{Path(path).parent}{os.sep}', '')
    if not isinstance(error, _KNOWN):
        message = f'Unexpected {type(error).__name__}, see the terminal: {message}'
    return Outcome(message, failed=True)


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Source]:
    """A picture or video of a stranger, which a process of its own decodes, within limits.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is something else, damaged or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path.name} is not here any more: drop it again')
    try:
        media = IsolatedMedia(path, LIMITS)
    except MediaError as error:
        raise ValueError(f'{path.name} {error}') from error
    try:
        source = Source(path.name, media.medium, media, count=media.count, fps=media.fps)
        yield from with_ids([source])
    finally:
        media.close()
        prepare_decoder()  # not earlier: it would take time from the networks


def first_frame(path: str | os.PathLike) -> np.ndarray:
    """The picture, or the first good frame of the video: (H, W, 3) BGR, as a browser shows it.

    Raises:
        FileNotFoundError, ValueError: as for :func:`opened`, or it cannot be decoded.
    """
    with _PREVIEW, opened(path) as source, closing(read_frames([source])) as frames:
        frame = next((frame for frame in frames if frame.error is None), None)
    if frame is None:
        raise ValueError(f'{Path(path).name} cannot be decoded: damaged, cut off, or no picture')
    return shrunk(frame.image)


def shrunk(image: np.ndarray, side: int = _SHOWN_SIDE) -> np.ndarray:
    """An image whose longer side is at most ``side``."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = [max(1, round(factor * length)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _summary(
    source: Source, results: Sequence[PoseResult], seconds: float, stopped: bool, category: str
) -> str:
    skipped = [result.frame for result in results if result.frame.error is not None]
    if skipped and len(skipped) == len(results):
        return f'{source.name}: {skipped[0].error}'
    counts = [len(result.counted) for result in results]
    faint = sum(len(result.people) for result in results) - sum(counts)
    if not any(counts):
        nobody = 'Nobody' if category == 'person' else f'No {category}'
        message = f'{nobody} was found in {source.name}. A lower box score or another network may.'
    elif source.kind == 'image':
        message = f'{_number(counts[0], category)} in {source.name}.'
    else:
        message = (
            f'At most {_number(max(counts), category)} at a time in {source.name}; '
            f'{"somebody" if category == "person" else "one"} is in '
            f'{sum(map(bool, counts))} of {len(counts)} frames.'
        )
    if faint:
        score = results[0].person_score
        message += f' {faint} more with a score below {score:g} are in JSON and CSV alone.'
    if stopped:
        message = f'Stopped after {len(counts)} of {source.count or "more"} frames. {message}'
    if skipped:
        message += f' {len(skipped)} frames were skipped: {skipped[0].name}, {skipped[0].error}.'
    return f'{message} {seconds:.1f} s.'


def _draw_attention(predictor: PosePredictor, result: PoseResult, path: Path) -> Path | None:
    model, people = predictor.model, result.people
    if not attention_sites(model):
        return None
    boxes, notes = None, []
    if predictor.topdown and len(people):
        best = int(people.scores.argmax())
        boxes = people.boxes[[best]]
        name = predictor.category.name
        notes.append(f'The {name} with the best score, {people.scores[best]:.2f}.')
    seen = prepare(model, result.frame.image, boxes)
    draw_html(
        collect(model, seen),
        seen.pictures[0],
        path,
        title=result.frame.name,
        notes=notes,
        limit=_MOST_SITES,
    )
    return path


def _number(count: int, category: str) -> str:
    return f'{count} {category if count == 1 else plural(category)}'


def _named(pairs: Sequence[tuple[str, str]], folder: Path) -> dict[str, tuple[Path, str]]:
    named = {}
    for config, checkpoint in pairs:
        found = find_config(config, folder)
        if not os.path.isfile(checkpoint):
            raise FileNotFoundError(f'checkpoint not found: {checkpoint}')
        name = found.stem
        if name in named:
            name = f'{name} ({Path(checkpoint).name})'
        named[name] = found, checkpoint
    return named


def _trim(folder: Path, most_bytes: float, keep: Collection[Path]) -> None:
    """Remove what is oldest in a folder until all is below ``most_bytes``, but not ``keep``."""
    entries = []
    for entry in folder.iterdir():
        with suppress(OSError):  # whatever vanishes meanwhile
            size = sum(path.stat().st_size for path in [entry, *entry.rglob('*')])
            entries.append((entry.stat().st_mtime, size, entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if total <= most_bytes:
            break
        if entry not in keep and not any(entry in path.parents for path in keep):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
            total -= size
