"""Whether the files that a config names are there."""

import os

REMEDY = (
    'The configs take the data folder, which holds annotations/ and the images, from an '
    'environment variable (COCO_ROOT=/path/to/coco, CROWDPOSE_ROOT, MPII_ROOT, LSPET_ROOT, '
    'SYNTHETIC_ROOT: see data_root in the config) or from a link (ln -s /path/to/coco data/coco)'
)
NO_BOXES = (
    'Download the detections, or test with ground-truth boxes: --cfg-options '
    'test_dataloader.dataset.bbox_file=None (and val_dataloader... in training)'
)


def check_files(dataset, kind: str, path: str | None, remedy: str = REMEDY) -> None:
    """An error that says what to do if annotations, another file or the images are not there."""
    for name, file, hint in (
        ('annotation', dataset.ann_file, REMEDY),
        (kind, path, remedy),
    ):
        if file and '://' not in file and not os.path.isfile(file):
            raise FileNotFoundError(f'{name} file not found: {file}. {hint}')
    folder = dataset.data_prefix.get('img') or ''
    if folder and '://' not in folder and not os.path.isdir(folder):
        raise FileNotFoundError(f'image folder not found: {folder}. {REMEDY}')
