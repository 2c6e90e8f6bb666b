"""How DE-HRNet should start: its gain over HRNet, and short trainings of every way, on one core.

    python docs/results/de_hrnet_start.py gain
    LSPET_ROOT=data/lspet python docs/results/de_hrnet_start.py train runs.jsonl
    python docs/results/de_hrnet_start.py table runs.jsonl --plot runs.png

``train`` adds a line to the file after every run and leaves out those that are in it: it may be
stopped at any time. What the runs are is on the page de_hrnet_start.md.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmpose.registry import DATASETS, METRICS, MODELS

import mmpose_attn  # noqa: F401

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
IDENTITY = dict(type='DetailEnhancement', identity_init=True)
PAPER = dict(type='DetailEnhancement', identity_init=False)
ARMS = {
    'after_fuse': dict(type='DEHRNet', dem=PAPER, dem_position='after_fuse'),
    'after_fuse identity': dict(type='DEHRNet', dem=IDENTITY, dem_position='after_fuse'),
    'stage_end': dict(type='DEHRNet', dem=PAPER, dem_position='stage_end'),
    'HRNet': dict(type='AttnHRNet'),
    'stage_end identity': dict(type='DEHRNet', dem=IDENTITY, dem_position='stage_end'),
    'before_fuse': dict(type='DEHRNet', dem=PAPER, dem_position='before_fuse'),
}
SEEDS = (0, 1, 2)
SIZE, BATCH = 64, 16
STEPS, PRETRAINING, DECAYS = 150, 300, (121, 143)  # HRNet's 170 and 200 of 210
IMAGES = dict(pretraining=range(0, 2560), training=range(2560, 5120))


# ------------------------------------------------------------------------------------ the gain
def gain() -> None:
    """The output's deviation of untrained networks with the same HRNet weights, on noise."""
    extra = Config.fromfile(CONFIGS / 'hrnet_w32_coco_256x192.py').model.backbone.extra
    plugins = Config.fromfile(CONFIGS / 'hrnet_camsam_w32_coco_256x192.py').model.backbone.plugins
    images = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    weights = MODELS.build(dict(ARMS['HRNet'], extra=extra, init_cfg=None)).state_dict()
    for name, cfg in (ARMS | {'CAM/SAM': dict(type='AttnHRNet', plugins=plugins)}).items():
        deviations = []
        for seed in SEEDS:
            torch.manual_seed(1 + seed)
            network = MODELS.build(dict(cfg, extra=extra, init_cfg=None)).train()
            network.load_state_dict(weights, strict=False)
            with torch.no_grad():
                deviations.append(float(network(images)[0].std()))
        print(f'{name:20}', spread(deviations, '.2f'))


# ------------------------------------------------------------------------------- the trainings
def build(arm: str) -> torch.nn.Module:
    """The config's estimator with an arm's backbone, one block a branch and module."""
    cfg = Config.fromfile(CONFIGS / 'dehrnet_w32_coco_256x192.py').model
    extra = cfg.backbone.extra
    for stage in range(1, 5):
        extra[f'stage{stage}'].num_blocks = (1,) * extra[f'stage{stage}'].num_branches
    start = Config.fromfile(CONFIGS / 'hrnet_scratch_w32_coco_256x192.py').model.backbone.init_cfg
    cfg.backbone = dict(ARMS[arm], extra=extra, init_cfg=start)
    cfg.head.decoder = codec()
    cfg.test_cfg.flip_test = False
    model = MODELS.build(cfg.to_dict())
    model.init_weights()
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def codec() -> dict:
    side = SIZE // 4
    return dict(type='MSRAHeatmap', input_size=(SIZE, SIZE), heatmap_size=(side, side), sigma=1.5)


def dataset(part: str) -> torch.utils.data.Dataset:
    """People of LSPET by the config's pipelines; ``part`` is validation or a key of IMAGES."""
    lspet = Config.fromfile(CONFIGS / 'dite_hrnet_18_lspet_96x96.py')
    paper = Config.fromfile(CONFIGS / 'dehrnet_w32_coco_256x192.py')
    train = part in IMAGES
    cfg = (lspet.train_dataloader if train else lspet.val_dataloader).dataset
    affine = dict(lspet.affine, input_size=(SIZE, SIZE))
    target = dict(type='GenerateTarget', encoder=codec())
    if train:
        cfg.indices = list(IMAGES[part])
        cfg.pipeline = [*paper.before, *paper.de_hrnet_augment, affine, target, paper.pack]
    else:
        cfg.pipeline = [*paper.load, affine, paper.pack]
    return DATASETS.build(dict(cfg, serialize_data=False))


def train(model: torch.nn.Module, part: str, steps: int, seed: int, evaluated: tuple) -> dict:
    """Losses of every step, and PCK after some; the same images in the same order for a seed."""
    people, val = dataset(part), dataset('validation')
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, DECAYS if steps == STEPS else ())
    np.random.seed(seed)
    torch.manual_seed(seed)
    order = np.concatenate([np.random.permutation(len(people)) for _ in range(9)])
    losses, pck = [], {}
    for step in range(1, steps + 1):
        model.train()
        batch = pseudo_collate([people[i] for i in order[(step - 1) * BATCH : step * BATCH]])
        loss = model(**model.data_preprocessor(batch, True), mode='loss')['loss_kpt']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step in evaluated:
            pck[step] = evaluate(model, val, 500 if step == steps else 250)
    return dict(losses=[float(f'{loss:.5g}') for loss in losses], pck=pck)


@torch.no_grad()
def evaluate(model: torch.nn.Module, people: torch.utils.data.Dataset, count: int) -> float:
    model.eval()
    metric = METRICS.build(dict(type='PCKAccuracy', thr=0.2))
    metric.dataset_meta = people.metainfo
    for first in range(0, count, 50):
        batch = pseudo_collate([people[i] for i in range(first, min(first + 50, count))])
        metric.process({}, [result.to_dict() for result in model.test_step(batch)])
    return round(float(metric.evaluate(count)['PCK']), 4)


def train_all(file: Path) -> None:
    """Every arm and seed from one HRNet's weights, random or trained on other people before."""
    torch.set_num_threads(1)
    done = map(json.loads, file.read_text().splitlines() if file.exists() else ())
    done = {(run['start'], run['arm'], run['seed']) for run in done}
    # what decides comes first
    core, rest = [*ARMS][:3], [*ARMS][3:]
    runs = [('pretrained', arm, seed) for seed in SEEDS for arm in core]
    runs += [('pretrained', arm, seed) for seed in SEEDS for arm in rest]
    runs += [('random', arm, seed) for seed in SEEDS for arm in core]
    for start, arm, seed in runs:
        if (start, arm, seed) in done:
            continue
        hrnet = file.with_name(f'{file.stem}_{start}.pth')
        if not hrnet.exists():
            torch.manual_seed(0)
            plain = build('HRNet')
            if start == 'pretrained':
                record = train(plain, 'pretraining', PRETRAINING, 0, (PRETRAINING,))
                print(f'pretraining: PCK {record["pck"]}', flush=True)
            torch.save(plain.backbone.state_dict(), hrnet)
        torch.manual_seed(100 + seed)
        model = build(arm)
        model.backbone.load_state_dict(torch.load(hrnet), strict=False)
        clock = time.process_time()
        record = train(model, 'training', STEPS, seed, (50, 100, STEPS))
        record = dict(start=start, arm=arm, seed=seed, **record)
        record['cpu_s'] = round(time.process_time() - clock)
        with file.open('a') as lines:
            lines.write(json.dumps(record) + '\n')
        print(start, arm, seed, record['losses'][0], record['pck'], record['cpu_s'], flush=True)


# --------------------------------------------------------------------------------- the results
def spread(numbers: list[float], form: str) -> str:
    mean, low, high = (format(f(numbers), form) for f in (np.mean, min, max))
    return f'{mean} ({low} to {high})'


def table(file: Path, plot: Path | None) -> None:
    """Mean and spread (least to greatest) over the seeds, as a Markdown table."""
    groups: dict = {}
    for line in file.read_text().splitlines():
        run = json.loads(line)
        groups.setdefault((run['start'], run['arm']), []).append(run)
    print('| start | way | seeds | loss, step 1 | loss, last 20 | PCK@0.2 at 100 | at the end |')
    print('|---|---|---:|---:|---:|---:|---:|')

    for (start, arm), runs in groups.items():
        first = spread([run['losses'][0] for run in runs], '.4f')
        last = spread([np.mean(run['losses'][-20:]) for run in runs], '.4f')
        middle, end = (spread([run['pck'][k] for run in runs], '.3f') for k in ('100', str(STEPS)))
        print(f'| {start} | {arm} | {len(runs)} | {first} | {last} | {middle} | {end} |')
    if plot:
        draw(groups, plot)


def draw(groups: dict, plot: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    starts = list(dict.fromkeys(start for start, _ in groups))
    figure, axes = pyplot.subplots(
        1, 2 * len(starts), figsize=(6 * len(starts) + 4, 4.2), squeeze=False
    )
    for column, start in enumerate(starts):
        loss, pck = axes[0, 2 * column : 2 * column + 2]
        for (group, arm), runs in groups.items():
            if group != start:
                continue
            color = f'C{[*ARMS].index(arm)}'
            smooth = np.array([np.reshape(run['losses'], (-1, 10)).mean(1) for run in runs])
            steps = np.arange(5, smooth.shape[1] * 10, 10)
            loss.plot(steps, smooth.mean(0), color=color, label=f'{arm} ({len(runs)})')
            loss.fill_between(steps, smooth.min(0), smooth.max(0), color=color, alpha=0.15, lw=0)
            at = [int(step) for step in runs[0]['pck']]
            values = np.array([[*run['pck'].values()] for run in runs])
            pck.plot(at, values.mean(0), 'o-', color=color, label=arm)
            pck.fill_between(at, values.min(0), values.max(0), color=color, alpha=0.15, lw=0)
        loss.set(title=f'{start} HRNet: loss', xlabel='step', yscale='log')
        pck.set(title=f'{start} HRNet: PCK@0.2, validation', xlabel='step')
        loss.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(plot, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('gain', 'train', 'table'))
    parser.add_argument('file', nargs='?', type=Path, help='the runs, a JSON object a line')
    parser.add_argument('--plot', type=Path, help='with table: also draw the curves here')
    args = parser.parse_args()
    with DefaultScope.overwrite_default_scope('mmpose'):
        if args.what == 'gain':
            gain()
        elif args.file is None:
            parser.error(f'{args.what} needs a file')
        elif args.what == 'train':
            train_all(args.file)
        else:
            table(args.file, args.plot)


if __name__ == '__main__':
    main()
