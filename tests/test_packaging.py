"""The wheel: what it carries, what it requires, and that ``mim`` finds its way in it."""

import ast
import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What a build reads; the repository itself stays untouched by it.
SOURCES = (
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'LICENSE',
    'README.md',
    'CHANGELOG.md',
    'Makefile',
    'requirements.txt',
    'requirements-dev.txt',
    'model-index.yml',
    'benchmarks',
    'compat',
    'configs',
    'demo',
    'docs',
    'fuzz',
    'mmpose_attn',
    'tests',
    'tools',
)
# What is for a checkout alone: in the source distribution, and not in the wheel.
CHECKOUT = ('benchmarks', 'demo', 'fuzz', 'tests')
OPENMMLAB = ('mmcv', 'mmdet', 'mmengine', 'mmpose', 'onedl', 'openmim', 'torch')


def run(*command, cwd, **env):
    # Not the environment's index: nothing may have to be downloaded.
    env = dict(os.environ, PIP_NO_INDEX='1', PIP_DISABLE_PIP_VERSION_CHECK='1', **env)
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=env, text=True, capture_output=True
    )


def copy_sources(target):
    ignore = shutil.ignore_patterns('__pycache__', '*.egg-info', 'build', '.mim')
    target.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, target / name)
    return target


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def build_wheel(source, target):
    command = ('-m', 'pip', 'wheel', source, '--no-deps', '--no-build-isolation', '-w', target)
    result = run(*command, cwd=source.parent)
    return result, next(target.glob('*.whl'), None)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    source = copy_sources(tmp_path_factory.mktemp('build') / 'source')
    # Left-overs that must not be packed: of an earlier build, of running tools, of an editor.
    stale = source / 'build' / 'lib' / 'mmpose_attn' / '.mim' / 'configs' / 'stale.py'
    for file in (stale, source / 'tools' / '__pycache__' / 'a.pyc', source / 'tools' / '.a.swp'):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return source


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    result, wheel = build_wheel(source, tmp_path_factory.mktemp('wheel'))
    assert wheel is not None, result.stdout + result.stderr
    return wheel


def test_wheel_carries_exactly_the_package_and_mim_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith('/')}
    package = {name for name in names if '.dist-info/' not in name}
    assert {name.partition('/')[0] for name in package} == {'mmpose_attn'}

    expected = {'mmpose_attn/.mim/model-index.yml'}
    for folder, prefix in (('mmpose_attn', ''), ('configs', 'mmpose_attn/.mim/')):
        expected |= {
            prefix + path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob('*.py')
        }
    expected = {name for name in expected if 'mmpose_attn/.mim/mmpose_attn' not in name}
    assert expected <= package
    tools = {f'mmpose_attn/.mim/tools/{name}.py' for name in ('train', 'test', 'publish_model')}
    assert tools <= package
    assert {name.rpartition('/')[2] for name in package if '/.mim/tools/' in name} == {
        path.name for path in (ROOT / 'tools').glob('*.py')
    } - {'bench.py', 'demo.py', 'pictures.py'}
    for name in package:
        assert not name.endswith(('.pyc', '.swp', 'stale.py')), name
    assert any(name.endswith('LICENSE') for name in names)


def imported(code):
    """Top-level names of what a module imports absolutely, anywhere in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0]


def test_nothing_in_the_wheel_needs_a_checkout(wheel):
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith('.py')]
        for name in modules:
            assert not set(CHECKOUT) & set(imported(archive.read(name))), name


def test_plain_install_requires_nothing_of_openmmlab(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
        metadata = email.message_from_bytes(archive.read(name))
    scope = {}
    exec((ROOT / 'mmpose_attn' / 'version.py').read_text(), scope)
    assert metadata['Version'] == scope['__version__']
    required = metadata.get_all('Requires-Dist')
    plain = [line for line in required if 'extra ==' not in line]
    assert not [line for line in plain if line.lower().startswith(OPENMMLAB)]
    assert any(line.startswith('seaborn') and 'extra == "tools"' in line for line in required)
    mim = {line.split('<')[0].split('>')[0] for line in required if 'extra == "mim"' in line}
    assert mim == {'mmengine', 'mmcv', 'mmdet', 'mmpose'}


def test_incomplete_checkout_is_refused(source, tmp_path):
    incomplete = tmp_path / 'source'
    shutil.copytree(source, incomplete)
    (incomplete / 'model-index.yml').unlink()
    result, wheel = build_wheel(incomplete, tmp_path)
    assert result.returncode != 0 and wheel is None
    assert 'model-index.yml not found in' in result.stdout + result.stderr


def test_wheel_from_source_distribution_is_the_same(source, wheel, tmp_path):
    build = 'from setuptools import build_meta; print(build_meta.build_sdist({!r}))'
    result = run('-c', build.format(str(tmp_path)), cwd=source)
    assert result.returncode == 0, result.stderr
    shutil.unpack_archive(next(tmp_path.glob('*.tar.gz')), tmp_path)
    unpacked = next(path for path in tmp_path.iterdir() if path.is_dir())
    assert (unpacked / 'compat' / 'chumpy').is_dir() and (unpacked / 'requirements.txt').is_file()
    for folder in (*CHECKOUT, 'docs'):
        assert files(unpacked / folder) == files(source / folder), folder
    result, again = build_wheel(unpacked, tmp_path)
    assert again is not None, result.stdout + result.stderr
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert set(first.namelist()) == set(second.namelist())


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """Folder with the installed wheel alone, to be put before everything else."""
    target = tmp_path_factory.mktemp('site')
    result = run('-m', 'pip', 'install', '--no-deps', '--target', target, wheel, cwd=target)
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def test_mim_finds_every_config_and_the_scripts(installed, tmp_path):
    # What `mim train mmpose_attn NAME` does before it starts the script.
    code = """
import sys
from pathlib import Path
from mim.utils import get_installed_path, module_full_name, recursively_find
assert module_full_name('mmpose_attn') == 'mmpose_attn'
root = get_installed_path('mmpose_attn')
print(root)
configs = [p for p in Path(root, '.mim', 'configs').rglob('*.py') if '_base_' not in p.parts]
assert configs
for config in configs:
    assert recursively_find(root, config.name, followlinks=True) == [str(config)], config
"""
    result = run('-W', 'ignore', '-c', code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == installed / 'mmpose_attn'


def test_the_inferencer_finds_models_in_the_wheel(installed, tmp_path):
    code = """
import mmpose_attn
from mmpose.apis.inferencers import Pose2DInferencer
inferencer = object.__new__(Pose2DInferencer)
inferencer.scope = 'mmpose_attn'
config, weights = inferencer._load_model_from_metafile('higherhrnet-se_w32')
print(config.filename, weights)
"""
    result = run('-W', 'ignore', '-c', code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    config = installed / 'mmpose_attn' / '.mim' / 'configs' / 'higherhrnet_se_w32_coco_512.py'
    assert result.stdout.split() == [str(config), 'None']


@pytest.mark.parametrize(('name', 'option'), [('train', '--resume'), ('test', 'checkpoint')])
def test_scripts_take_mmpose_arguments(installed, tmp_path, name, option):
    script = installed / 'mmpose_attn' / '.mim' / 'tools' / f'{name}.py'
    result = run('-W', 'ignore', script, '-h', cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert f'usage: {name}.py' in result.stdout and option in result.stdout
    assert '--cfg-options' in result.stdout and '--launcher' in result.stdout


def test_missing_upstream_script_is_a_clear_error(monkeypatch, tmp_path):
    import mmpose

    from mmpose_attn.engine import run_mmpose_tool

    monkeypatch.setattr(mmpose, '__path__', [str(tmp_path / 'mmpose')])
    with pytest.raises(FileNotFoundError, match=r'carries no tools/train\.py .*pip install mmpose'):
        run_mmpose_tool('train')
