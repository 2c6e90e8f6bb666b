"""A config's data sets, checked whole."""

import copy
import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmpose_attn.engine import find_disagreements
from mmpose_attn.files import replacing

from .contact_sheet import sheet
from .contents import Contents, DataError, leaves, load, loaders, quiet
from .oracles import LOST, Oracle, evaluate, imperfect
from .page import page
from .pictures import default_processes, in_processes, read_pictures
from .report import Report, Section, Table
from .tables import describe, find_problems

PHASES = ('train', 'val', 'test')


def check_dataset(
    config: str | os.PathLike | Config,
    phases: Sequence[str] | None = None,
    out: str | os.PathLike | None = None,
    jobs: int | None = None,
    cfg_options: dict | None = None,
) -> Report:
    """Check the data sets of a config: every annotation and every picture.

    Args:
        config: a config file, or a config.
        phases: of ``'train'``, ``'val'`` and ``'test'``; all that the config has by default.
        out: folder that gets ``report.html`` and a PNG contact sheet for each data set, if given.
        jobs: processes; as many as there are cores, up to 8, by default.
        cfg_options: changes to the config, ``{'a.b': value}``.

    Returns:
        What was found; :attr:`Report.exit_status` is 1 if anything is wrong.

    Raises:
        FileNotFoundError: no such config.
        ValueError: an argument has no meaning, or the config lacks a data set; it is named.
    """
    cfg = config if isinstance(config, Config) else _read(config)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    phases = list(phases or [phase for phase in PHASES if cfg.get(f'{phase}_dataloader')])
    if not phases or not set(phases) <= set(PHASES):
        raise ValueError(f'phases are of {", ".join(PHASES)}, got {phases}')
    if jobs is not None and (not isinstance(jobs, Integral) or isinstance(jobs, bool) or jobs < 1):
        raise ValueError(f'jobs must be positive, a whole number, got {jobs!r}')
    if out is not None:
        _make_folder(Path(out))
    jobs = jobs or default_processes()
    report, sheets = Report(str(getattr(cfg, 'filename', '') or 'a config')), {}
    with DefaultScope.overwrite_default_scope('mmpose'), quiet():
        parts = Section('config')
        _agreement(cfg, phases, parts)
        if not parts.problems:
            parts.notes.append('data sets, network, codec and metric agree')
        report.sections.append(parts)
        digests: dict[str, set[str]] = {}
        for name, dataset in loaders(cfg, phases).items():
            for number, leaf in enumerate(several := leaves(dataset)):
                label = f'{name} {number + 1}' if len(several) > 1 else name
                section = Section(f'{label}: {leaf.get("ann_file", leaf.get("type"))}')
                report.sections.append(section)
                picture = _check(cfg, name.split(', '), leaf, section, jobs, digests)
                if picture is not None:
                    sheets[section.name] = picture
        _shared(digests, report)
    if out is not None:
        _write(report, sheets, Path(out))
    return report


def _read(config: str | os.PathLike) -> Config:
    if not os.path.isfile(config):
        raise FileNotFoundError(f'config not found: {config}')
    try:
        return Config.fromfile(config)
    except Exception as error:  # a config is a program
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'config {config} cannot be read: {type(error).__name__}: {reason}'
        ) from error


def _agreement(cfg: Config, phases: list[str], section: Section) -> None:
    """Of the phases that are checked: the others' files may be anywhere."""
    cfg = copy.deepcopy(cfg)
    for phase in set(PHASES) - set(phases):
        for part in ('dataloader', 'evaluator'):
            cfg.pop(f'{phase}_{part}', None)
    section.problems += [str(found) for found in find_disagreements(cfg)]


def _check(
    cfg: Config,
    phases: list[str],
    leaf: ConfigDict,
    section: Section,
    jobs: int,
    digests: dict[str, set[str]],
) -> np.ndarray | None:
    """One data set; returns its contact sheet."""
    try:
        contents = load(leaf)
    except DataError as error:
        section.several(error.problems, 'problems')
        return None
    section.notes += contents.said
    describe(contents, section)
    found = read_pictures(
        contents.paths, contents.sizes, _loading(leaf), jobs, f'{section.name}: pictures'
    )
    sizes = [size or picture.size for size, picture in zip(contents.sizes, found)]
    contents.sizes = sizes
    find_problems(contents, found, section)
    digests[section.name] = {picture.digest for picture in found if picture.digest}
    codec = None
    if phases != ['train']:
        codec = _oracles(cfg, phases[-1], contents, section, jobs)
    unclear = {path for path, picture in zip(contents.paths, found) if picture.ambiguous}
    return sheet(contents, codec, unclear)


def _loading(leaf: ConfigDict) -> dict:
    """The pipeline's step that loads pictures."""
    for step in leaf.get('pipeline') or ():
        if 'Load' in str(step.get('type')):
            return step
    return dict(type='LoadPoseImage')


def _oracles(cfg: Config, phase: str, contents: Contents, section: Section, jobs: int):
    """Add what perfect and best possible predictions reach; returns the oracle's codec."""
    evaluator = cfg.get(f'{phase}_evaluator')
    if any(size is None for size in contents.sizes):
        section.notes.append('the oracles did not run: not all pictures could be read')
        return None
    try:
        oracle = Oracle(cfg, contents, contents.sizes)
        answers = list(
            in_processes(
                oracle, range(len(contents.dataset)), jobs, f'{section.name}: best predictions'
            )
        )
        figures = evaluate(evaluator, contents.dataset, [true for true, _, _ in answers])
    except Exception as error:
        text = ' '.join(str(error).split())
        section.problems.append(
            f'the annotations cannot be evaluated as predictions: {type(error).__name__}: {text}'
        )
        return None
    wrong = imperfect(figures)
    if wrong:
        reason = _reason(evaluator, contents, [true for true, _, _ in answers])
        section.problems.append(
            f'the annotations themselves as predictions give {", ".join(wrong)}, which must be '
            f'perfect. {reason}'
        )
    rows = [[name, f'{value:.4g}'] for name, value in figures.items()]
    if oracle.why_not:
        section.notes.append(f'the best that the codec can reach is not known: {oracle.why_not}')
    else:
        best = evaluate(evaluator, contents.dataset, [best for _, best, _ in answers])
        rows = [[name, f'{v:.4g}', f'{best.get(name, np.nan):.4g}'] for name, v in figures.items()]
        _joints(contents, [row for _, _, errors in answers for row in errors], section)
    head = ['figure', 'annotations as predictions', 'best of this input size and codec'][
        : len(rows[0])
    ]
    boxes = ' (boxes as annotated)' if contents.boxed else ''
    section.tables.append(Table(f'what the evaluator says{boxes}', head, rows))
    return oracle.codec


def _joints(contents: Contents, rows: list[tuple[int, float, float]], section: Section) -> None:
    """The errors of the codec's best predictions, by keypoint."""
    if not rows:
        return
    joint, error, side = (np.array(column) for column in zip(*rows))
    meta = contents.dataset.metainfo
    sigmas = np.asarray(meta['sigmas'], float)
    # pycocotools: exp(-d^2 / (2 (2 sigma)^2 area))
    oks = np.exp(-(error**2) / (8 * sigmas[joint.astype(int)] ** 2 * np.maximum(side, 1e-6) ** 2))
    lost = error > LOST * side
    table = []
    for name, mine in [
        *((meta['keypoint_id2name'][j], joint == j) for j in range(len(sigmas))),
        ('all', joint >= 0),
    ]:
        near = error[mine & ~lost]
        table.append(
            [
                name,
                str(int(mine.sum())),
                f'{near.mean():.2f}' if len(near) else '-',
                f'{np.percentile(near, 95):.2f}' if len(near) else '-',
                f'{lost[mine].mean():.1%}' if mine.any() else '-',
                f'{oks[mine].mean():.4f}' if mine.any() else '-',
            ]
        )
    head = ['keypoint', 'labelled', 'mean error, px', '95 % below, px', 'lost', 'OKS']
    section.tables.append(Table('the best of this input size and codec, by keypoint', head, table))


def _reason(evaluator: dict | list, contents: Contents, answers: list[dict]) -> str:
    """What usually is behind it, as far as it can be seen."""
    objects = contents.objects
    used = (objects.visible > 0).any(1) & ~objects.crowd
    said = {int(answer.get('category_id', 1) or 1) for answer in answers}
    there = set(objects.category[used].tolist())
    reasons = []
    if there - said:
        reasons.append(f'predictions are of category {sorted(said)}, objects of {sorted(there)}')
    if len(objects.image[used]) and np.bincount(objects.image[used]).max() > 20:
        reasons.append('pictures have more than 20 objects, of which the evaluation takes 20')
    if (objects.area[used] <= 0).any():
        reasons.append('objects have an area of 0')
    reasons.append(
        'otherwise the evaluator reads another file, other ids or sigmas, or its NMS takes objects '
        'of equal pose for one'
    )
    return f'Why: {"; ".join(reasons)}'


def _shared(digests: dict[str, set[str]], report: Report) -> None:
    """Pictures that are trained on and tested on."""
    names = list(digests)
    training = [name for name in names if name.startswith('train')]
    for one in training:
        for other in (name for name in names if name not in training):
            both = len(digests[one] & digests[other])
            if both:
                report.sections[0].problems.append(
                    f'{both} pictures are the same in {one} and in {other}: a network would be '
                    'tested on what it was trained on'
                )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = 'it is a file' if folder.is_file() else error.strerror
        raise ValueError(f'{folder} cannot be the folder of the report: {reason}') from error


def _write(report: Report, sheets: dict[str, np.ndarray], folder: Path) -> None:
    for name, picture in sheets.items():
        phase = name.partition(':')[0].replace(', ', '_').replace(' ', '_')
        with replacing(folder / f'contact_sheet_{phase}.png', 'wb') as file:
            file.write(cv2.imencode('.png', picture)[1].tobytes())
    with replacing(folder / 'report.html') as file:
        file.write(page(report, sheets))
