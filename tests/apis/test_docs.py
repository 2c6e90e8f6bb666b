"""docs/inference.md: its commands are understood, and its example runs."""

import io
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from demo.pictures import SHEETS, make_pictures
from demo.training import CONFIG
from mmpose_attn.apis import InferenceSession, PersonDetector, whole_image
from tests.helpers import ROOT
from tests.inference_helpers import write_video

PAGE = (ROOT / 'docs' / 'inference.md').read_text()
COMMANDS = re.findall(r'python (tools/infer\.py .*)', PAGE.replace('\\\n', ' '))


@pytest.fixture
def parse(monkeypatch):
    def parse(command):
        monkeypatch.setattr(sys, 'argv', shlex.split(command))
        return runpy.run_path(str(ROOT / 'tools' / 'infer.py'))['parse_args']()

    return parse


def test_there_are_commands():
    assert len(COMMANDS) == 7


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_are_understood(command, parse, tmp_path, monkeypatch):
    args = parse(command)
    assert (ROOT / args.config).is_file() and args.checkpoint.endswith('.pth')
    # all that is wrong with them here is that the inputs are not there
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(sys, 'stdin', io.StringIO('gone.jpg'))
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match='input|camera|pattern'):
        InferenceSession(**vars(args))


def test_options_that_are_named_exist(parse):
    known = vars(parse('infer.py x --config c --checkpoint p --out o'))
    named = set(re.findall(r'`--([a-z-]+)', PAGE))
    assert len(named) > 12
    for name in named:
        assert name.removeprefix('no-').replace('-', '_') in known, name


def test_the_example_runs(networks, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, checkpoint = networks['topdown']
    Path('config.py').symlink_to(config)
    Path('weights.pth').symlink_to(checkpoint)
    Path('people.jpg').symlink_to(min(pictures.iterdir()))
    write_video(tmp_path / 'clip.mp4', 3)
    detector = PersonDetector('yolox_nano', device='cpu')
    torch.save(dict(state_dict=detector.model.state_dict()), 'yolox_nano.pth')
    code, stream = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    scope = {}
    exec(code, scope)
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split()[0] for line in lines] == [
        'people.jpg',
        *(f'clip.mp4#{i}' for i in range(3)),
    ]
    assert all(line.endswith(', 17, 2)') for line in lines)
    image = cv2.imread('people.jpg')
    grabbed = iter([SimpleNamespace(seconds=5 + i / 4, image=image) for i in range(3)])
    scope['predictor'].boxes = whole_image
    exec(stream, dict(scope, grab=lambda: next(grabbed, None)))
    assert capsys.readouterr().out.splitlines()[-3:] == ['0.0 [1]', '0.25 [1]', '0.5 [1]']


def test_pictures_are_small_and_of_the_tools_size():
    for name, (scenes, columns, side) in SHEETS.items():
        file = ROOT / 'docs' / 'images' / name
        assert file.stat().st_size < 150_000
        rows = -(-len(scenes) // columns)
        size = [n * (side + 4) + 4 for n in (rows, columns)]
        assert list(cv2.imread(str(file)).shape[:2]) == size


@pytest.mark.slow
def test_pictures_are_drawn(tmp_path):
    config = Config.fromfile(CONFIG)
    with DefaultScope.overwrite_default_scope('mmpose'):
        torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'demo.pth')
    for file in make_pictures(tmp_path / 'demo.pth', tmp_path / 'images'):
        assert cv2.imread(str(file)).std() > 10
