"""docs/own_data.md: its commands run as they are written, on drawn data."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from tests.data_helpers import DEMO, ROOT, TINY, TINY_TOPDOWN
from tests.own_data import NAMES, draw_flies, write_labelme

PAGE = (ROOT / 'docs/own_data.md').read_text()
CONFIGS = dict(re.findall(r'```python\n# (\w+)\.py\n(.*?)```', PAGE, re.DOTALL))
COMMANDS = [
    command
    for block in re.findall(r'```sh\n(.*?)```', PAGE, re.DOTALL)
    for command in re.findall(r'^python .*', block.replace('\\\n', ''), re.MULTILINE)
]
LAST = re.compile(r'"\$\(cat (.*?)\)"')


def prepare(folder: Path, counts: dict[str, int], networks: dict[str, str], **look) -> None:
    """A checkout with labelled pictures, and the page's configs on top of smaller networks.

    Args:
        counts: pictures to label.
        networks: what to write between each config and its base.
    """
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    drawn = draw_flies(folder / 'drawn', counts, **look)
    write_labelme(drawn, 'all', folder / 'data/labelled')
    for name, text in CONFIGS.items():
        base = re.search(r"_base_ = \['(.*?)'\]", text)[1]
        (folder / f'{name}_base.py').write_text(networks[name].format(base=str(ROOT / base)))
        published = re.search(r"^load_from = '(.*)'$", text, re.MULTILINE)[1]
        with DefaultScope.overwrite_default_scope('mmpose'):
            model = MODELS.build(Config.fromfile(folder / f'{name}_base.py').model)
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
        own = text.replace(base, f'{name}_base.py').replace(published, f'{name}.pth')
        (folder / f'{name}.py').write_text(own)


def log(folder: Path, name: str) -> str:
    return '\n'.join(path.read_text() for path in (folder / 'work_dirs' / name).rglob('*.log'))


def test_the_page_has_what_the_tests_below_expect():
    tools = [re.match(r'python tools/(\w+)', command)[1] for command in COMMANDS]
    assert tools == ['convert_dataset', *['check_dataset'] * 2, *['train', 'test'] * 2, 'infer']
    assert set(CONFIGS) == {'flies_bottomup', 'flies_topdown'}
    assert f'--keypoints {" ".join(NAMES)}' in ' '.join(COMMANDS[0].split())


def test_its_commands_run(tmp_path, monkeypatch, capsys):
    """All of them in one process, with networks of milliseconds, one step of training."""
    networks = dict(flies_bottomup=TINY, flies_topdown=TINY_TOPDOWN)
    prepare(tmp_path, dict(all=8), networks, most=1)
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        words = LAST.sub(lambda match: Path(match[1]).read_text(), command)
        _, tool, *arguments = shlex.split(words)
        if 'tools/check' in tool:
            arguments += ['--jobs', '1']
        monkeypatch.setattr(sys, 'argv', [tool, *arguments])
        try:
            runpy.run_path(tool, run_name='__main__')
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        assert status == 0, f'{command}\n{capsys.readouterr()}'
    assert len(json.loads(Path('data/flies/annotations/val.json').read_text())['images']) == 2
    for name in CONFIGS:
        assert 'coco/AP' in log(tmp_path, name)
    assert Path('check_bottomup/report.html').is_file()
    assert Path('check_topdown/contact_sheet_val.png').is_file()
    assert len(list(Path('found/drawn').iterdir())) == 8
    assert 'left_wing' in next(Path('found').glob('*.csv')).read_text().splitlines()[0]


# make demo's network, which learns on a CPU; and a narrow HRNet
LEARNS = dict(
    flies_bottomup=f"""
_base_ = [{str(DEMO)!r}]  # {{base}}
codec = dict(_base_.codec, input_size=(128, 128), heatmap_size=[(32, 32), (64, 64)])
train_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupUniformAffine', input_size=(128, 128), scale_factor=(0.9, 1.1)),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='BottomupCrowdMask'),
    dict(type='PackBottomupInputs'),
]
val_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupMultiScaleResize', input_size=(128, 128), scales=(1,)),
    dict(type='PackBottomupInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
model = dict(head=dict(decoder=dict(codec, heatmap_size=(128, 128))))
train_cfg = dict(max_epochs=8, val_interval=8)
""",
    flies_topdown=TINY_TOPDOWN
    + """
train_dataloader = dict(workers, batch_size=8)
train_cfg = dict(max_epochs=12, val_interval=12)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [dict(type='LinearLR', begin=0, end=20, start_factor=0.05, by_epoch=False)]
""",
)


@pytest.mark.slow
def test_what_it_says_leads_to_an_ap(tmp_path):
    """The same as a user has it, in a shell, until networks have learned."""
    prepare(tmp_path, dict(all=320), LEARNS, most=1)
    binaries = Path(sys.executable).parent
    environment = dict(os.environ, PATH=f'{binaries}{os.pathsep}{os.environ["PATH"]}')
    environment['PYTHONPATH'] = str(ROOT)
    for command in COMMANDS:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}'
    for name in CONFIGS:
        values = [float(v) for v in re.findall(r'coco/AP: ([\d.]+)', log(tmp_path, name))]
        print(name, values)
        assert values[-1] > 0.3
    shutil.rmtree(tmp_path / 'work_dirs')
