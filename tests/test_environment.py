"""What ``import mmpose_attn`` checks and sets up."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner import CheckpointLoader

import mmpose_attn
from mmpose_attn.engine.checkpoint import load_from_local
from tests.helpers import ROOT


def test_import_registers_and_is_idempotent():
    for _ in range(2):
        importlib.reload(mmpose_attn)
        assert MODULE2PACKAGE['mmpose_attn'] == 'mmpose_attn'
        assert CheckpointLoader._get_checkpoint_loader('a.pth') is load_from_local
        assert CheckpointLoader._get_checkpoint_loader('s3://a.pth') is not load_from_local


def test_tested_versions_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        mmpose_attn._check_environment()


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet', 'mmpose'])
def test_missing_package_is_named_with_a_remedy(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'needs {name}, .*pip install .*make setup'):
        mmpose_attn._check_environment()


@pytest.mark.parametrize('name', ['mmcv._ext', 'xtcocotools'])
def test_missing_part_is_named_with_a_remedy(monkeypatch, name):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda wanted: None if wanted == name else find_spec(wanted)
    )
    with pytest.raises(ImportError, match=rf'module {name}\), not installed.*pip install compat/'):
        mmpose_attn._check_environment()


def test_old_and_untried_versions(monkeypatch):
    import mmpose

    monkeypatch.setattr(mmpose, '__version__', '0.29.0')
    with pytest.raises(ImportError, match=r'mmpose>=1\.3\.0, but 0\.29\.0 is installed'):
        mmpose_attn._check_environment()
    monkeypatch.setattr(mmpose, '__version__', '1.9.0')
    with pytest.warns(UserWarning, match=r'not tested with mmpose 1\.9\.0'):
        mmpose_attn._check_environment()


@pytest.mark.parametrize('name', ['benchmarks', 'demo', 'fuzz', 'tests'])
def test_the_folders_of_a_checkout_are_its_packages(name):
    # model-index, for one, installs a package of the name tests
    code = f'import importlib.util; print(importlib.util.find_spec({name!r}).origin)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True, capture_output=True)
    assert Path(done.stdout.strip()) == ROOT / name / '__init__.py', done.stderr
