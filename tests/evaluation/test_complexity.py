"""What a config costs, against arithmetic; and the page of all configs against the configs."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from torch import nn

from mmpose_attn.evaluation import complexity
from mmpose_attn.evaluation.complexity import Cost, SiteCost, measure
from tests.helpers import ROOT, hrnet_extra

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
PAGE = ROOT / 'docs' / 'complexity.md'
TINY = """
codec = dict(type='MSRAHeatmap', input_size=(64, 96), heatmap_size=(16, 24), sigma=2)
model = dict(
    type='mmpose.TopdownPoseEstimator',
    backbone=dict(
        type='mmpose.AttnHRNet',
        extra={extra},
        plugins=[
            dict(cfg=dict(type='SEAttention', ratio=4), position='transition', branches=(0,)),
            dict(cfg=dict(type='PolarizedAttention'), position='fuse', stages=(2,)),
        ],
        init_cfg=dict(type='Pretrained', checkpoint='no such file'),
    ),
    head=dict(type='mmpose.HeatmapHead', in_channels=8, out_channels=17, deconv_out_channels=None),
)
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(TINY.format(extra=hrnet_extra(8)))
    return path


def convolutions(config):
    """MACs of the network's convolutions and linear layers, from hooks on a real forward pass."""
    init_default_scope('mmpose')
    cfg = Config.fromfile(str(config)).model
    cfg.backbone.init_cfg = None
    model = MODELS.build(cfg)
    model.eval()
    total = 0

    def count(module, inputs, out):
        nonlocal total
        total += module.weight[0].numel() * out.numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model(torch.rand(1, 3, 96, 64), data_samples=None, mode='tensor')
    return total, sum(p.numel() for p in model.parameters())


def test_counts(config):
    cost = measure(config)
    macs, parameters = convolutions(config)
    assert (cost.name, cost.input_size, cost.parameters) == ('tiny', (64, 96), parameters)
    # the products of attention maps with features are no convolutions
    assert macs <= cost.macs < 1.01 * macs
    assert cost.milliseconds is None
    se = [site for site in cost.sites if site.kind == 'SEAttention']
    # two linear layers from 8 channels to 2 and back
    assert [(s.place, s.count, s.parameters, s.macs) for s in se] == [
        (f'transition, stage {stage}, branch 0', 1, 8 * 2 + 2 + 2 * 8 + 8, 2 * 8 * 2)
        for stage in (1, 2, 3)
    ]
    psa = [site for site in cost.sites if site.kind == 'PolarizedAttention']
    assert [s.parameters for s in psa] == [2 * c * c + c for c in (8, 16)]


def test_times(config):
    cost = measure(config, repeat=3)
    assert cost.milliseconds > 0
    parts = [site.milliseconds for site in cost.sites]
    assert len(parts) == 5 and min(parts) > 0 and sum(parts) < cost.milliseconds


def test_format():
    cost = Cost(
        'net', (192, 256), 1234567, 2_500_000, [SiteCost('SE', 'stem', 2, 580, 1000, 0.5)], 8.0
    )
    text = complexity.format_cost(cost).splitlines()
    assert len({len(line) for line in text}) == 1
    assert text[1].split() == ['net,', '192x256', '1,234,567', '2.50', '8.00', '100.0', '%']
    assert complexity.format_cost(cost, markdown=True).splitlines()[-1] == (
        '| SE at stem | 2 | 580 | 0.00 | 0.50 | 6.2 % |'
    )


@pytest.mark.parametrize(
    'text', ['model = dict()', 'codec = dict(input_size=(8, 8))', 'model = dict()\ncodec = dict()']
)
def test_what_is_no_estimator(tmp_path, text):
    path = tmp_path / 'odd.py'
    path.write_text(text)
    with pytest.raises(ValueError, match="odd.py: needs a pose estimator as 'model' and 'codec'"):
        measure(path)


def test_command(config, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['complexity.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / 'complexity.py'), run_name='__main__')
        return capsys.readouterr().out

    assert 'SEAttention at transition, stage 1, branch 0' in run(config, '--repeat', 1)
    with pytest.raises(SystemExit, match='2'):
        run(config.with_name('gone.py'))
    assert 'no such config' in capsys.readouterr().err

    (config.parent / 'x.yml').write_text(
        'Models:\n- Name: tiny\n  Metadata:\n    Published Parameters (M): 7.5\n'
    )
    page = config.with_suffix('.md')
    page.write_text('# Page\n\n| Config | old |\n| gone |\n')
    run(config, '--overview', page)
    head, _, line, rule, row = page.read_text().splitlines()
    assert head == '# Page' and line.startswith('| Config | input') and rule.startswith('|---')
    assert row.startswith('| `tiny` | 64x96 |') and '| 7.5 |' in row and 'gone' not in row


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_page_is_current(config):
    """Regenerate with: python tools/complexity.py configs/*.py --overview docs/complexity.md"""
    entries = complexity.published((ROOT / 'configs').glob('*.yml'))
    row = complexity.overview_row(measure(config), entries[config.stem])
    assert '| ' + ' | '.join(row) + ' |' in PAGE.read_text().splitlines()


def test_page_has_no_other_configs():
    rows = [line for line in Path(PAGE).read_text().splitlines() if line.startswith('| `')]
    assert [row.split('`')[1] for row in rows] == [path.stem for path in CONFIGS]
