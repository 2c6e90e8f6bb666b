"""The pictures of the README and the docs, drawn by the tools that they show."""

from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from mmpose_attn.apis import InferenceSession
from mmpose_attn.datasets.synthetic import make_dataset
from mmpose_attn.visualization import contact_sheet

from .training import CONFIG, SCENES

SEED = 5  # not the one of the demo's data
# file -> scenes, columns, pixels of a scene
SHEETS = {'inference.png': (range(8), 4, 200), 'demo.png': (range(8, 14), 6, 150)}
# the demo has learned to find keypoints, not to tell people apart
ONE_PERSON = {'model.head.decoder.decode_max_instances': 1}
_COLORS = 128


def make_pictures(checkpoint: str | Path, folder: str | Path) -> list[Path]:
    """Draw what the demo's network finds in synthetic scenes that it was not trained on.

    The first scenes of a seed are taken, good or bad.

    Args:
        checkpoint: of ``make demo``.
        folder: gets the PNG files named in ``SHEETS``.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    count = max(max(scenes) for scenes, _, _ in SHEETS.values()) + 1
    with TemporaryDirectory() as work:
        images = make_dataset(Path(work, 'data'), 0, count, SEED, SCENES) / 'val2017'
        session = InferenceSession(
            [images], Path(work, 'out'), CONFIG, checkpoint, cfg_options=ONE_PERSON, person_score=0
        )
        session.run(progress=False)
        drawn = [cv2.imread(str(path)) for path in sorted(Path(work, 'out/drawn').iterdir())]
    files = []
    for name, (scenes, columns, side) in SHEETS.items():
        sheet = contact_sheet([drawn[i] for i in scenes], columns, (side, side))
        files.append(folder / name)
        _save(sheet, files[-1])
    return files


def _save(image: np.ndarray, path: Path) -> None:
    """A PNG with a palette, a quarter as large as one without."""
    picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    palette = picture.quantize(_COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)
