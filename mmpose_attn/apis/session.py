"""One run of inference, from inputs to a folder of results."""

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

from mmpose_attn.media import shown

from .detection import GivenBoxes, PersonDetector
from .interrupts import Interrupts
from .outputs import TABLES, Drawings, Journal, draw_result, write_tables
from .pose import PosePredictor, check_person_score
from .results import Frame, PoseResult
from .sources import Input, find_sources, read_frames
from .summary import Summary
from .tracking import follow


class InferenceSession:
    """Finds people in inputs and writes ``DIR``: everything behind ``tools/infer.py``.

    ``DIR`` gets ``results.json`` (COCO), ``results.csv``, ``images.json``,
    ``journal.jsonl`` (to resume from) and ``drawn/``. From here to the end of
    :meth:`run` no other session can write there.

    Args:
        inputs: as for :func:`find_sources`.
        out: ``DIR``.
        config, checkpoint, device, batch, amp, flip_test, cfg_options: as for
            :class:`PosePredictor`.
        allow_missing: the opposite of ``strict`` there.
        detector, detector_checkpoint: as for :class:`PersonDetector`.
        boxes: COCO detection file instead of a detector.
        person_class, box_score, box_nms: ``classes``, ``score_thr`` and
            ``nms_thr`` of the boxes; None for the defaults of their source.
        ann_file: COCO file with the images' ids.
        track, smooth: as for :meth:`PosePredictor.__call__`.
        draw: write drawn pictures and videos.
        person_score: as for :class:`PosePredictor`.
        keypoint_score: least score of a keypoint that is drawn.
        show: also show them in a window; a key goes on after a picture, q or
            Escape ends.
        resume: go on where an earlier run into ``DIR`` ended.
        overwrite: replace the results of an earlier run.

    Raises:
        FileNotFoundError: an input, config or checkpoint does not exist.
        ValueError: one cannot be read, or the arguments do not go together.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        out: str | os.PathLike,
        config: str | os.PathLike,
        checkpoint: str | os.PathLike | None = None,
        *,
        detector: str | None = None,
        detector_checkpoint: str | os.PathLike | None = None,
        boxes: str | os.PathLike | None = None,
        person_class: Sequence[int] | None = None,
        box_score: float | None = None,
        box_nms: float | None = None,
        ann_file: str | os.PathLike | None = None,
        track: bool = False,
        smooth: bool = False,
        device: str = 'auto',
        batch: int = 8,
        amp: bool = False,
        flip_test: bool | None = None,
        cfg_options: dict | None = None,
        allow_missing: bool = False,
        draw: bool = True,
        person_score: float | None = None,
        keypoint_score: float = 0.3,
        show: bool = False,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        settings = dict(
            inputs=[shown(str(item)) for item in inputs],
            config=str(config),
            checkpoint=checkpoint and str(checkpoint),
            detector=detector,
            detector_checkpoint=detector_checkpoint and str(detector_checkpoint),
            boxes=boxes and str(boxes),
            person_class=person_class and list(person_class),
            box_score=box_score,
            box_nms=box_nms,
            ann_file=ann_file and str(ann_file),
            amp=amp,
            flip_test=flip_test,
            cfg_options=repr(cfg_options or {}),
        )
        if detector and boxes:
            raise ValueError('boxes come from a detector or from a file: give one of the two')
        if bool(detector) != bool(detector_checkpoint):
            raise ValueError('a detector needs both, its config and its checkpoint')
        if not (detector or boxes) and not person_class is box_score is box_nms is None:
            raise ValueError('class, score and NMS of boxes need a detector or a file of boxes')
        if resume and overwrite:
            raise ValueError('resume or overwrite, not both')
        check_person_score(person_score)
        displays = {'DISPLAY', 'WAYLAND_DISPLAY'}
        if show and sys.platform == 'linux' and not displays & os.environ.keys():
            raise ValueError('there is no display to show pictures on (DISPLAY is not set)')
        self.sources = find_sources(inputs, ann_file)
        for source in self.sources:
            if resume and source.kind in ('camera', 'stream'):
                raise ValueError(f'a {source.kind} cannot be resumed: what it saw is gone')
        self.out = Path(out)
        self._check_out(draw)
        journal = self.out / 'journal.jsonl'
        if journal.exists() and not (resume or overwrite):
            raise ValueError(
                f'{self.out} holds the results of an earlier run: go on with it (--resume), '
                'replace it (--overwrite), or write to another folder'
            )
        chosen = dict(classes=person_class, nms_thr=box_nms)
        if box_score is not None:
            chosen['score_thr'] = box_score
        people = None
        if boxes:
            people = GivenBoxes(boxes, **chosen)
            ids = [source.image_id for source in self.sources if source.image_id is not None]
            if ids:
                people.check(ids)
        elif detector:
            people = PersonDetector(
                detector,
                detector_checkpoint,
                device=device,
                batch=batch,
                strict=not allow_missing,
                **chosen,
            )
        self.predictor = PosePredictor(
            config,
            checkpoint,
            people,
            device=device,
            batch=batch,
            amp=amp,
            flip_test=flip_test,
            cfg_options=cfg_options,
            strict=not allow_missing,
            person_score=person_score,
        )
        self.track, self.smooth = track or smooth, smooth
        self.draw, self.show, self.keypoint_score = draw, show, keypoint_score
        # names stay when a network is trained on or a file is replaced
        network = self.predictor.model.cfg
        pipeline = network.test_dataloader.dataset.pipeline
        settings['contents of config'] = _digest(repr((network.model, pipeline)).encode())
        for name in ('checkpoint', 'detector_checkpoint', 'boxes', 'ann_file'):
            path = settings[name]
            known = path and os.path.isfile(path)  # a checkpoint may also be a URL
            settings[f'contents of {name}'] = _digest(Path(path).read_bytes()) if known else None
        self.journal = Journal(journal, settings, resume)
        if not resume:
            for name in TABLES:  # of an earlier run, should this one be killed
                (self.out / name).unlink(missing_ok=True)
        ids = {source.name: source.image_id for source in self.sources}
        for name, image_id in self.journal.finished.items():
            if name not in ids or ids[name] not in (None, image_id):
                self.journal.close()
                raise ValueError(
                    f'the inputs have changed since the run that is to be resumed: {name} is gone '
                    'or has another image id. Start anew'
                )

    def _check_out(self, draw: bool) -> None:
        """Make the folder; raises what there is to raise before networks are built."""
        try:
            str(self.out).encode()
        except UnicodeEncodeError:
            raise ValueError(f'the name of the folder {self.out!r} is not UTF-8') from None
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ValueError(f'{self.out} is to be a folder and is a file') from error
        if not os.access(self.out, os.W_OK):
            raise ValueError(f'the folder {self.out} may not be written to')
        if not draw:
            return
        drawings = Drawings(self.out / 'drawn')
        target = drawings.folder.resolve()
        taken: dict[Path, str] = {}
        for source in self.sources:
            if isinstance(source.origin, str) and target in Path(source.origin).resolve().parents:
                raise ValueError(
                    f'input {source.origin} is where pictures are drawn to: choose another out '
                    'folder, or inputs without it'
                )
            path = drawings.path(source.name, source.kind != 'image')
            if taken.setdefault(path, source.name) != source.name:
                raise ValueError(
                    f'{taken[path]} and {source.name} would both be drawn to {path}: rename one, '
                    'or do without drawing'
                )

    def run(self, progress: bool = True) -> Summary:
        """Work through the inputs. An interruption (Ctrl-C, SIGTERM) leaves complete files.

        Args:
            progress: show a bar on stderr.

        Raises:
            OSError: results cannot be written; what was done until then can be
                resumed.
        """
        start = time.perf_counter()
        drawings = Drawings(self.out / 'drawn')
        ended, self._computed = False, 0
        bar = self._progress() if progress else nullcontext()
        with Interrupts() as interrupts:
            try:
                with bar, closing(self._raw(drawings, interrupts)) as results:
                    task = bar.add_task('', total=self._total()) if progress else None
                    for result in self._follow(results):
                        if result.frame.error is None and (self.draw or self.show):
                            ended = self._picture(result, drawings)
                        if progress:
                            bar.advance(task)
                        if ended:
                            break
            except KeyboardInterrupt:
                ended = True
            finally:
                with ExitStack() as stack:  # each of these, from the last, whatever fails
                    if self.show:
                        stack.callback(cv2.destroyAllWindows)
                    stack.callback(self.journal.close)
                    stack.callback(self._write_tables)
                    drawings.end_video()
        return Summary(
            **self._counts,
            computed=self._computed,
            seconds=time.perf_counter() - start,
            interrupted=ended or interrupts.signal is not None,
            out=self.out,
            person_score=self.predictor.person_score,
            category=self.predictor.category.name,
            signal=interrupts.signal,
        )

    def _frames(self) -> Iterator[Frame]:
        """All frames that are not finished, with what is known about them."""
        journal = self.journal
        name, count = journal.unfinished
        known = journal.replay(self.predictor.joints)
        left = [source for source in self.sources if source.name not in journal.finished]
        for frame in read_frames(left, journal.count - count + 1):
            yield replace(frame, recorded=next(known, None)) if frame.source == name else frame

    def _raw(self, drawings: Drawings, interrupts: Interrupts) -> Iterator[PoseResult]:
        """What the networks say; a chunk is in the journal once all of it was taken."""
        video = None
        with closing(self.predictor.chunks(self._frames())) as chunks:
            while (chunk := interrupts.next(chunks)) is not None:
                first, ended = chunk[0].frame, None
                if video not in (None, first.source):
                    drawings.end_video()
                    ended = video
                video = first.source if first.moving else None
                yield from chunk
                fresh = [result for result in chunk if result.frame.recorded is None]
                self._computed += len(fresh)
                if fresh or ended:
                    self.journal.add(fresh, ended)
        if video is not None:
            drawings.end_video()
            self.journal.add([], video)

    def _follow(self, results: Iterator[PoseResult]) -> Iterator[PoseResult]:
        if not self.track:
            return results
        return follow(results, self.predictor.meta.get('sigmas'), self.smooth)

    def _picture(self, result: PoseResult, drawings: Drawings) -> bool:
        """Draw a result; returns whether the one who looks at it wants to end."""
        skeleton = self.predictor.meta['skeleton_links']
        picture = draw_result(result, skeleton, self.keypoint_score)
        if self.draw:
            drawings.add(result.frame, picture)
        if not self.show:
            return False
        cv2.imshow('mmpose_attn', picture)
        return cv2.waitKey(1 if result.frame.moving else 0) & 0xFF in (ord('q'), 27)

    def _write_tables(self) -> None:
        frames = people = faint = 0
        skipped = []

        def counted() -> Iterator[PoseResult]:
            nonlocal frames, people, faint
            results = self.journal.results(self.predictor.joints)
            score = self.predictor.person_score
            for result in self._follow(replace(r, person_score=score) for r in results):
                frames += 1
                people += int(result.sure.sum())
                faint += int((~result.sure).sum())
                if result.frame.error is not None:
                    skipped.append((result.frame.name, result.frame.error))
                yield result

        names = self.predictor.meta['keypoint_id2name']
        names = [names[i] for i in range(self.predictor.joints)]
        write_tables(self.out, counted(), names, self.predictor.category.id)
        self._counts = dict(frames=frames, people=people, faint=faint, skipped=tuple(skipped))

    def _total(self) -> int | None:
        """Frames that are left, as far as that is known."""
        left = [s.count for s in self.sources if s.name not in self.journal.finished]
        return None if None in left else sum(left)

    @staticmethod
    def _progress() -> Progress:
        class Speed(ProgressColumn):
            def render(self, task) -> Text:
                speed = task.finished_speed or task.speed
                return Text('' if speed is None else f'{speed:.1f} images/s')

        columns = BarColumn(), MofNCompleteColumn(), Speed(), TextColumn('{task.description}')
        return Progress(*columns, console=Console(stderr=True))


def _digest(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()[:16]
