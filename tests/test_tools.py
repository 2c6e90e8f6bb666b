"""Bad arguments of the tools: one line on stderr, exit status 2, nothing written."""

import argparse
import runpy
import sys

import pytest

from demo import training
from mmpose_attn.command_line import one_line_errors
from tests.helpers import ROOT

HRNET = ROOT / 'configs' / 'hrnet_w32_coco_256x192.py'
MISPLACED = f"""
_base_ = [{str(HRNET)!r}]
model = dict(backbone=dict(plugins=[dict(cfg=dict(type='SEAttention'), position='fuze')]))
"""
FILES = {'broken.py': 'x = (', 'misplaced.py': MISPLACED, 'page.md': 'hello', 'full/a': 'b'}


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        ('complexity broken.py', 'broken.py is not valid Python'),
        ('complexity misplaced.py', "asks for position 'fuze'; the positions are"),
        (f'complexity {HRNET} --threads -1', '--threads must be positive'),
        (f'complexity {HRNET} --device bogus', 'bogus'),
        (f'complexity {HRNET} --device cuda:99', 'cuda:99'),
        (f'complexity {HRNET} --overview gone.md', 'gone.md'),
        (f'complexity {HRNET} --overview page.md', 'page.md has no table'),
        ('bench --device cuda:99', 'cuda:99'),
        ('check_dataset gone.py', 'config not found: gone.py'),
        ('check_dataset broken.py', 'broken.py'),
        (f'check_dataset {HRNET} --jobs 0', 'jobs must be positive'),
        (f'check_dataset {HRNET} --phase training', 'invalid choice'),
        ('convert_dataset gone.yaml --out new', 'gone.yaml does not exist'),
        ('convert_dataset broken.py --out new', 'broken.py'),
        ('convert_dataset page.md --out full', 'full exists and is not an empty folder'),
        ('demo --out new --num-val 0', 'num_val=0'),
        ('demo --out new --num-train -1', 'num_train=-1'),
        ('demo --out page.md', 'page.md'),
        ('demo --out new --num-trian 8', 'unrecognized arguments: --num-trian 8'),
        ('demo --out new --cfg-options max_epochs', "invalid setting value: 'max_epochs'"),
        ('make_synthetic_coco new --num-train -1', 'num_train must be an integer'),
        ('make_synthetic_coco new --people 3 1', 'people must be integers'),
        ('make_synthetic_coco new --backgrounds gone', "got 'gone'"),
        ('make_synthetic_coco full', 'full exists and is not an empty folder'),
        ('pictures --checkpoint gone.pth', 'gone.pth'),
        ('publish_model gone.pth new.pth', 'gone.pth does not exist'),
        ('publish_model page.md new.pth', 'truncated, damaged or no PyTorch checkpoint'),
    ],
)
def test_bad_arguments(command, message, tmp_path, monkeypatch, capsys):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    tool, *arguments = command.split()
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    last = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2
    assert last.startswith(f'{tool}.py: error: ') and message in last
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob('*.*')}
    assert left == {name: text for name, text in FILES.items() if name != 'full/a'}


def test_demo_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'CONFIG', tmp_path / 'gone.py')
    with pytest.raises(FileNotFoundError, match=r'gone\.py not found: the demo runs in a checkout'):
        training.run_demo(tmp_path / 'out', 1, 1, 1)
    assert not (tmp_path / 'out').exists()


def test_an_interrupted_tool_says_so(capsys):
    with pytest.raises(SystemExit) as ended, one_line_errors(argparse.ArgumentParser('tool')):
        raise KeyboardInterrupt
    assert ended.value.code == 130 and capsys.readouterr().err == 'tool: interrupted\n'
