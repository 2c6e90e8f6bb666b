"""Who is who from frame to frame of a video."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from mmpose.evaluation.functional.nms import oks_iou
from mmpose.structures.bbox import bbox_overlaps
from scipy.optimize import linear_sum_assignment

from .results import People, PoseResult
from .smoothing import OneEuroFilter

_MEMORY = 0.5  # share of the old velocity in the new one
_LEAST_SECONDS = 1e-3  # between frames: live ones may come at once


@dataclass(eq=False)
class _Track:
    id: int
    keypoints: np.ndarray  # (K, 2)
    keypoint_scores: np.ndarray
    box: np.ndarray  # (4,)
    frame: int
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels a frame
    filter: OneEuroFilter = field(default_factory=OneEuroFilter)
    seconds: float = -np.inf  # when it was filtered


class PoseTracker:
    """Gives people ids that they keep, by where they are expected.

    A track goes on at its velocity, also while nobody is found for it. People
    are assigned first by the similarity of poses (OKS, MMPose's ``oks_iou``),
    which tells people apart whose boxes cross, and who is left by the overlap
    of boxes. Both are optimal assignments: MMPose's own ``_track_by_oks`` and
    ``_track_by_iou`` take the best for one person after another, and know the
    last frame alone.

    Args:
        sigmas: (K,) of OKS; COCO's by default.
        oks_thr: least similarity of poses.
        iou_thr: least overlap of boxes.
        patience: frames without its person after which a track ends.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        sigmas: Sequence[float] | None = None,
        oks_thr: float = 0.3,
        iou_thr: float = 0.3,
        patience: int = 30,
    ) -> None:
        if not (0 < oks_thr <= 1 and 0 < iou_thr <= 1 and patience >= 0):
            raise ValueError(
                'oks_thr and iou_thr must be above 0 and at most 1, patience not negative; got '
                f'{oks_thr}, {iou_thr}, {patience}'
            )
        self.sigmas = None if sigmas is None else np.asarray(sigmas, float)
        self.oks_thr, self.iou_thr, self.patience = oks_thr, iou_thr, patience
        self._tracks: list[_Track] = []
        self._count = 0

    def update(self, people: People, frame: int) -> People:
        """The same people with ``track_ids``; ``frame`` numbers grow from call to call."""
        self._assign(people, frame)
        return replace(people, track_ids=np.array([t.id for t in self._now], int))

    def smooth(self, people: People, seconds: float) -> People:
        """The people of the last :meth:`update` with filtered keypoints; it is once a frame.

        Args:
            seconds: when the frame is, from any moment on.
        """
        keypoints = people.keypoints.copy()
        for i, track in enumerate(self._now):
            size = max(np.linalg.norm(people.boxes[i, 2:] - people.boxes[i, :2]), 1.0)
            elapsed = max(seconds - track.seconds, _LEAST_SECONDS)
            track.seconds = seconds
            keypoints[i] = track.filter(people.keypoints[i], elapsed, size)
        return replace(people, keypoints=keypoints)

    def _assign(self, people: People, frame: int) -> None:
        self._tracks = [t for t in self._tracks if frame - t.frame <= self.patience + 1]
        shifts = [(frame - track.frame) * track.velocity for track in self._tracks]
        mine: dict[int, _Track] = {}
        for thr, similarity in ((self.oks_thr, self._oks), (self.iou_thr, self._iou)):
            free = [i for i in range(len(people)) if i not in mine]
            taken = {id(track) for track in mine.values()}
            left = [pair for pair in zip(self._tracks, shifts) if id(pair[0]) not in taken]
            if not free or not left:
                break
            table = np.array([similarity(track, shift, people.take(free)) for track, shift in left])
            # pairs below the threshold must not decide about the others
            table = np.where(table >= thr, table, 0)
            for row, column in zip(*linear_sum_assignment(-table)):
                if table[row, column] > 0:
                    mine[free[column]] = left[row][0]
        self._now = []
        for i in range(len(people)):
            track = mine.get(i)
            values = dict(
                keypoints=people.keypoints[i],
                keypoint_scores=people.keypoint_scores[i],
                box=people.boxes[i],
                frame=frame,
            )
            if track is None:
                self._count += 1
                track = _Track(self._count, **values)
                self._tracks.append(track)
            else:
                moved = (people.boxes[i] - track.box).reshape(2, 2).mean(0)
                moved = moved / (frame - track.frame)
                track.velocity = _MEMORY * track.velocity + (1 - _MEMORY) * moved
                vars(track).update(values)
            self._now.append(track)

    def _oks(self, track: _Track, shift: np.ndarray, people: People) -> np.ndarray:
        expected = np.concatenate((track.keypoints + shift, track.keypoint_scores[:, None]), 1)
        poses = np.concatenate((people.keypoints, people.keypoint_scores[..., None]), 2)
        areas = np.prod(people.boxes[:, 2:] - people.boxes[:, :2], 1)
        area = np.prod(track.box[2:] - track.box[:2])
        return oks_iou(expected.ravel(), poses.reshape(len(people), -1), area, areas, self.sigmas)

    @staticmethod
    def _iou(track: _Track, shift: np.ndarray, people: People) -> np.ndarray:
        expected = torch.from_numpy(track.box + np.tile(shift, 2))[None]
        return bbox_overlaps(expected, torch.from_numpy(people.boxes))[0].numpy()


def follow(
    results: Iterable[PoseResult],
    sigmas: Sequence[float] | None = None,
    smooth: bool = False,
) -> Iterator[PoseResult]:
    """Track people through the frames of every video, camera or stream; pictures pass as they are.

    Whose score is below the result's ``person_score`` is not tracked: the id is 0.

    Args:
        results: in order, one source after the other.
        sigmas: as for :class:`PoseTracker`.
        smooth: also filter keypoints (:class:`~mmpose_attn.apis.OneEuroFilter`).
    """
    source = tracker = None
    for result in results:
        frame = result.frame
        if not frame.moving or frame.error is not None:
            yield result
            continue
        if frame.source != source:
            source, tracker = frame.source, PoseTracker(sigmas)
        people = tracker.update(result.counted, frame.index)
        if smooth:
            people = tracker.smooth(people, frame.seconds)
        ids, keypoints = np.zeros(len(result.people), int), result.people.keypoints.copy()
        ids[result.sure], keypoints[result.sure] = people.track_ids, people.keypoints
        people = replace(result.people, track_ids=ids, keypoints=keypoints)
        yield replace(result, people=people.rounded())
