"""Names from outside: on terminals, in spreadsheets and pages, and as paths."""

import argparse
import csv
import runpy
import sys

import numpy as np
import pytest
import torch

from mmpose_attn.apis.outputs import Drawings, write_tables
from mmpose_attn.apis.results import Frame, People, PoseResult
from mmpose_attn.apis.session import Summary
from mmpose_attn.command_line import one_line_errors
from mmpose_attn.engine import run_mmpose_tool
from mmpose_attn.files import path_inside, printable
from mmpose_attn.visualization.attention_drawing import draw_html
from mmpose_attn.visualization.attention_maps import SiteMaps
from tests.helpers import ROOT

STEERING = '\x1b[31m\x07\x9b2J\u202e\x7f\udcff'


def test_printable():
    assert printable(f'a{STEERING}b') == r'a\x1b[31m\x07\x9b2J\u202e\x7f\udcffb'
    assert printable('näme 人 — 1\n\tb') == 'näme 人 — 1\n\tb'


def test_errors_of_tools_do_not_steer_the_terminal(capsys):
    tool = argparse.ArgumentParser(prog='tool')
    with pytest.raises(SystemExit, match='2'), one_line_errors(tool):
        raise ValueError(f'{STEERING}\n not found')
    assert capsys.readouterr().err == (
        'tool: error: \\x1b[31m\\x07\\x9b2J\\u202e\\x7f\\udcff not found\n'
    )


@pytest.mark.parametrize('tool', ['infer', 'publish_model'])
def test_tools_with_odd_names(tool, tmp_path, monkeypatch, capsys):
    name = 'gone\x1b[31m\x07'
    options = dict(infer='--config a.py --checkpoint b.pth --out out', publish_model='new.pth')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', name, *options[tool].split()])
    with pytest.raises(SystemExit, match='2'):
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    error = capsys.readouterr().err
    assert r'gone\x1b[31m\x07' in error and '\x1b' not in error and '\x07' not in error


def test_tracebacks_of_mmposes_tools(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['train.py', '--help'])
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    with pytest.raises(SystemExit, match='0'):
        run_mmpose_tool('train')
    error = FileNotFoundError(f'image not found: {STEERING}.jpg')
    sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == (
        'FileNotFoundError: image not found: \\x1b[31m\\x07\\x9b2J\\u202e\\x7f\\udcff.jpg\n'
    )


def test_summary():
    skipped = (('a\x1b[31m.jpg', 'it is \x1b]0;x\x07 damaged'),)
    text = str(Summary(1, 0, 1, 1.0, skipped, False, 'out\x1b[2J'))
    assert '\x1b' not in text and '\x07' not in text and '\\x1b]0;x\\x07 damaged' in text


# ---------------------------------------------------------------------- spreadsheets
FORMULAS = ['=cmd|x!A1', '+1', '-2+3', '@SUM(A1)', '\t=1', '\r=1', '\uff1d1']


@pytest.mark.parametrize('name', [*FORMULAS, 'a=b.jpg', 'folder/-1.jpg', '1;=2.jpg'])
def test_names_are_not_computed(tmp_path, name):
    people = People(*(np.ones(s) for s in ((1, 2, 2), (1, 2), (1, 4), (1,), (1,))))
    result = PoseResult(Frame(name, name, 0, 1, (9, 9)), people)
    write_tables(tmp_path, [result], ['=left', 'right'])
    with open(tmp_path / 'results.csv', encoding='utf-8', newline='') as file:
        head, row = csv.reader(file)
    assert row[1] == (f'./{name}' if name in FORMULAS else name)
    assert not any(cell.startswith(('=', '+', '-', '@')) for cell in (*head, *row))


# ----------------------------------------------------------------------------- pages
def test_words_on_a_page_are_words(tmp_path):
    name = '<script>alert(1)</script>"\'&'
    ones = torch.ones(1, 1, 2, 2)
    site = SiteMaps(name, name, '', 0, before=ones, after=ones, note=name)
    path = tmp_path / 'page.html'
    draw_html([site], np.zeros((8, 8, 3), np.uint8), path, title=name, notes=[name])
    page = path.read_text()
    assert '<script' not in page and page.count('&lt;script&gt;') >= 6


# ----------------------------------------------------------------------------- paths
OUTSIDE = ['../x.jpg', 'a/../../x.jpg', '/etc/x.jpg', '..\\x.jpg', '', ' ', '..', 'a\0b']


@pytest.mark.parametrize('name', OUTSIDE)
def test_nothing_is_drawn_outside_of_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match='leads out of the folder'):
        Drawings(tmp_path / 'drawn').path(name, video=False)
    with pytest.raises(ValueError, match='leads out of the folder'):
        path_inside(tmp_path, name)


@pytest.mark.parametrize('name', ['a.jpg', 'b/a.jpg', '..a.jpg', 'a..b', '-', '=.jpg', "'"])
def test_names_inside(tmp_path, name):
    assert path_inside(tmp_path, name) == tmp_path / name
