"""Results as files: COCO JSON and CSV."""

import csv
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mmpose_attn.files import replacing

from .drawings import Drawings, draw_result
from .journal import Journal
from .results import Frame, People, PoseResult

__all__ = ['TABLES', 'Drawings', 'Journal', 'draw_result', 'write_tables']

PERSON = 1  # COCO's category
_TIME_DECIMALS = 6
_FORMULA = tuple('=+-@\t\r\n\uff1d\uff0b\uff0d\uff20')  # how spreadsheets' begin, of full width too
TABLES = ('results.json', 'results.csv', 'images.json')


def write_tables(
    folder: Path, results: Iterable[PoseResult], names: Sequence[str], category_id: int = PERSON
) -> None:
    """Write ``results.json``, ``results.csv`` and ``images.json``, complete or not at all.

    Args:
        folder: where.
        results: frame by frame; none is kept.
        names: of the K keypoints.
        category_id: of what was found.

    ``results.json`` is COCO's list of keypoint results: ``keypoints`` are x, y
    and score, ``bbox`` is x, y, width, height; ``track_id`` is there after
    tracking, for everybody who was tracked. ``images.json`` says which image
    every ``image_id`` is, and of a frame of a video its ``time`` in seconds.
    In the CSV, names that a spreadsheet would compute begin with ``./``.
    """
    head = ['image_id', 'frame', 'time', 'person', 'track_id', 'score', 'box_score']
    head += ['x1', 'y1', 'x2', 'y2']
    head += [_cell(f'{name}_{part}') for name in names for part in ('x', 'y', 'score')]
    with ExitStack() as stack:
        files = [stack.enter_context(replacing(folder / name)) for name in TABLES]
        people_file, csv_file, image_file = files
        table = csv.writer(csv_file, lineterminator='\n')
        quoted = csv.writer(csv_file, lineterminator='\n', quoting=csv.QUOTE_ALL)
        table.writerow(head)
        people_file.write('[')
        image_file.write('{"images": [')
        person_comma = image_comma = ''
        for result in results:
            frame, people = result.frame, result.people
            image = dict(
                id=frame.image_id, file_name=frame.name, width=frame.size[0], height=frame.size[1]
            )
            time = '' if frame.time is None else round(frame.time, _TIME_DECIMALS)
            if time != '':
                image['time'] = time
            image_file.write(f'{image_comma}\n{json.dumps(image)}')
            image_comma = ','
            for i in range(len(people)):
                person = _coco_person(frame, people, i, category_id)
                people_file.write(f'{person_comma}\n{json.dumps(person)}')
                person_comma = ','
                ids = frame.image_id, _cell(frame.name), time, i, person.get('track_id', '')
                box = people.box_scores[i], *people.boxes[i]
                # which the writer does not see as a line's end
                writer = quoted if '\r' in frame.name else table
                writer.writerow([*ids, person['score'], *box, *person['keypoints']])
        people_file.write('\n]\n')
        image_file.write('\n]}\n')


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula; of a file the same path."""
    return f'./{text}' if text.startswith(_FORMULA) else text


def _coco_person(frame: Frame, people: People, i: int, category_id: int) -> dict:
    x1, y1, x2, y2 = people.boxes[i].tolist()
    poses = np.concatenate((people.keypoints[i], people.keypoint_scores[i][:, None]), 1)
    person = dict(
        image_id=frame.image_id,
        category_id=category_id,
        keypoints=poses.ravel().tolist(),
        score=float(people.scores[i]),
        bbox=[x1, y1, round(x2 - x1, 4), round(y2 - y1, 4)],
    )
    if people.track_ids is not None and people.track_ids[i]:
        person['track_id'] = int(people.track_ids[i])
    return person
