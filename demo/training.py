"""From nothing to an AP table: the whole path on data that the project makes."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmpose.apis import inference_bottomup, init_model

from mmpose_attn.datasets.synthetic import MARKER, SyntheticConfig, make_dataset
from mmpose_attn.visualization import contact_sheet, draw_people

CONFIG = Path(__file__).parents[1] / 'configs' / 'demo_higherhrnet_se_synthetic_256.py'
# One whole person, facing the camera or sideways: minutes of training on a CPU find keypoints,
# but telling people apart by tags learned from nothing takes longer than that.
SCENES = SyntheticConfig(
    image_size=(256, 256),
    people=(1, 1),
    size=(0.75, 0.95),
    occluder_prob=0.0,
    truncation_prob=0.0,
    crowd_prob=0.0,
    back_prob=0.0,
)
SHEET_COLUMNS = 6
CPU_TRAINING = dict(
    # threads that wait without spinning are late; those that spin for long starve other processes
    GOMP_SPINCOUNT='3000',
    # glibc otherwise gives every large activation back to the system and takes the page faults
    # of a fresh one, which costs more than the convolutions (docs/performance.md)
    MALLOC_MMAP_MAX_='0',
    MALLOC_TRIM_THRESHOLD_='100000000000',
)


def run_demo(
    out_dir: str | Path,
    num_train: int,
    num_val: int,
    pictures: int,
    cfg_options: Sequence[str] = (),
) -> dict[str, float]:
    """Make data, train and test HigherHRNet-SE on it through mim, draw what it finds.

    Args:
        out_dir: gets ``data/``, ``train/``, ``metrics.json`` and
            ``predictions.png``. Data of the same make are used again.
        num_train: training images.
        num_val: held-out images.
        pictures: held-out images on the contact sheet.
        cfg_options: changes to the config while it trains, ``KEY=VALUE`` each.

    Returns:
        The metrics that MMPose's evaluator reports.

    Raises:
        ValueError: if a number is not positive.
        FileNotFoundError: if this is not a checkout, which has the config.
        RuntimeError: if mim is not installed or a step fails.
    """
    if min(num_train, num_val, pictures) < 1:
        raise ValueError(
            f'num_train={num_train}, num_val={num_val} and pictures={pictures} must be positive'
        )
    if not CONFIG.is_file():
        raise FileNotFoundError(f'{CONFIG} not found: the demo runs in a checkout of mmpose_attn')
    start = time.perf_counter()
    out = Path(out_dir)
    data, work = out / 'data', out / 'train'
    out.mkdir(parents=True, exist_ok=True)

    print(f'1/4  {num_train} + {num_val} synthetic images in {data}', flush=True)
    make_dataset(
        data,
        num_train,
        num_val,
        seed=0,
        config=SCENES,
        workers=os.cpu_count() or 1,
        overwrite=(data / MARKER).exists(),
    )
    made = time.perf_counter()

    environment = {**CPU_TRAINING, **os.environ, 'SYNTHETIC_ROOT': str(data)}
    print(f'2/4  mim train mmpose {CONFIG.name}', flush=True)
    shutil.rmtree(work, ignore_errors=True)
    changes = ['--cfg-options', *cfg_options] if cfg_options else []
    _mim(['train', 'mmpose', CONFIG, '--work-dir', work, *changes], environment)
    trained = time.perf_counter()

    checkpoint = Path((work / 'last_checkpoint').read_text().strip())
    metrics_file = out / 'metrics.json'
    print(f'3/4  mim test mmpose {CONFIG.name} --checkpoint {checkpoint}', flush=True)
    _mim(
        [
            'test',
            'mmpose',
            CONFIG,
            '--checkpoint',
            checkpoint,
            '--work-dir',
            out / 'test',
            '--out',
            metrics_file,
        ],
        environment,
    )
    metrics = json.loads(metrics_file.read_text())

    sheet = out / 'predictions.png'
    print(f'4/4  {sheet}', flush=True)
    cv2.imwrite(str(sheet), _predictions(data, checkpoint, pictures))
    end = time.perf_counter()

    print(f'\nHigherHRNet-SE on {num_val} held-out synthetic images')
    for name, value in metrics.items():
        print(f'  {name.removeprefix("coco/"):8} {value:.3f}')
    print(
        f'data {made - start:.0f} s, training {trained - made:.0f} s, test and pictures '
        f'{end - trained:.0f} s; checkpoint {checkpoint}, pictures {sheet}'
    )
    return metrics


def _mim(arguments: list, environment: dict[str, str]) -> None:
    beside = Path(sys.executable).with_name('mim')
    mim = str(beside) if beside.exists() else shutil.which('mim')
    if mim is None:
        raise RuntimeError('mim is not installed; run make setup, or pip install openmim')
    arguments = [str(argument) for argument in arguments]
    status = subprocess.run([mim, *arguments], env=environment, check=False).returncode
    if status:
        raise RuntimeError(f'mim {" ".join(arguments)} ended with status {status}, see above')


def _predictions(data: Path, checkpoint: Path, count: int) -> np.ndarray:
    os.environ['SYNTHETIC_ROOT'] = str(data)
    model = init_model(str(CONFIG), str(checkpoint), device='cpu')
    skeleton = model.dataset_meta['skeleton_links']
    drawn = []
    for path in sorted((data / 'val2017').glob('*.jpg'))[:count]:
        people = inference_bottomup(model, str(path))[0].pred_instances
        # the sure ones; what this little training leaves are weak doubles
        keep = people.bbox_scores > 0.5 * max(people.bbox_scores, default=0)
        image = cv2.imread(str(path))
        drawn.append(
            draw_people(image, people.keypoints[keep], people.keypoint_scores[keep], skeleton)
        )
    return contact_sheet(drawn, SHEET_COLUMNS, (256, 256))
