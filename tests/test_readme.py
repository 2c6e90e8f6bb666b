"""README and docs: the example runs, and what they name exists."""

import re
import subprocess
import sys

import pytest
import torch
import yaml
from mmengine import Config
from mmpose.registry import MODELS

from tests.helpers import ROOT

README = ROOT / 'README.md'
PAGES = [README, ROOT / 'CHANGELOG.md', *sorted((ROOT / 'docs').glob('*.md'))]
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
CODE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(language, page=README):
    return [text for found, text in CODE.findall(page.read_text()) if found == language]


def prose(page):
    return CODE.sub('', page.read_text())


def slug(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-')


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The README's plugin and config, in a folder that has the configs."""
    names = []
    for text in blocks('python'):
        first, _, code = text.partition('\n')
        if first.startswith('# my_'):
            (tmp_path / first[2:]).write_text(code)
            names.append(first[2:])
    assert names == ['my_attention.py', 'my_config.py']
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop('my_attention', None)
    MODELS.module_dict.pop('GateAttention', None)


def test_example_plugin_trains(example, mmpose_scope):
    config = Config.fromfile(example / 'my_config.py')
    extra = config.model.backbone.extra
    for stage in ('stage2', 'stage3', 'stage4'):  # the example's places in a small network
        extra[stage].update(num_modules=1, num_blocks=(1,) * extra[stage].num_branches)
    extra.stage1.num_blocks = (1,)
    model = MODELS.build(config.model)
    plugins = [plugin.module for plugin in model.backbone.named_plugins()]
    assert [type(plugin).__name__ for plugin in plugins] == ['GateAttention'] * 2
    assert all(plugin.gate.in_channels == 32 for plugin in plugins)
    maps = model.head(model.backbone(torch.zeros(2, 3, 64, 64)))
    assert [tuple(m.shape) for m in maps] == [(2, 34, 16, 16), (2, 17, 32, 32)]
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None for plugin in plugins for p in plugin.parameters())


def test_example_is_short():
    assert sum(bool(line.strip()) for line in blocks('python')[1].splitlines()[4:]) <= 10


def test_mmcv_plugins_that_are_named_work(mmpose_scope):
    config = Config.fromfile(ROOT / 'configs' / 'higherhrnet_w32_coco_512.py')
    for cfg in (dict(type='ContextBlock', ratio=1 / 16), dict(type='NonLocal2d')):
        assert f'`{cfg["type"]}`' in prose(README)
        config.model.backbone.plugins = [dict(cfg=cfg, position='fuse', stages=(4,))]
        with torch.device('meta'):
            model = MODELS.build(config.model).eval()
            assert len(model.backbone(torch.zeros(1, 3, 64, 64))) == 1


def test_models_table_lists_every_config():
    rows = re.findall(r'^\| `(\w+)` \|(.*)\|$', README.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(
        path.stem for path in (ROOT / 'configs').glob('*.py')
    )

    metafile = yaml.safe_load((ROOT / 'configs' / 'higherhrnet.yml').read_text())
    models = {model['Name']: model for model in metafile['Models']}
    for name, rest in rows:
        _, parameters, published, measured = (cell.strip() for cell in rest.split('|'))
        known = models[name]['Metadata'].get('Parameters')
        assert parameters == (f'{known:,}' if known else '')
        # what is published stands in the metafile, what is not stands in neither
        figures = {f'{100 * r["Metrics"]["AP"]:.1f}' for r in models[name].get('Results', [])}
        stated = set(re.findall(r'\d\d\.\d', published.replace('without SE 64.5', '')))
        assert stated == figures
        assert measured in ('', 'not measured') or '`mim test' in measured


@every_page
def test_links_and_paths_exist(page):
    text = page.read_text()
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in target:
            continue
        path, _, anchor = target.partition('#')
        file = page.parent / path if path else page
        assert file.exists(), f'{page.name} links to {target}'
        if anchor:
            headings = re.findall(r'^#+ (.*)$', file.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f'{page.name} links to {target}'
    named = r'(?<![\w/.:-])((?:configs|tools|tests|docs|compat|mmpose_attn)/[\w./-]*\w)'
    for path in re.findall(named, text):
        assert (ROOT / path).exists(), f'{page.name} names {path}'


@every_page
def test_make_targets_and_options_exist(page):
    makefile = (ROOT / 'Makefile').read_text()
    for target in re.findall(r'`make ([a-z-]+)', prose(page)) + [
        name for text in blocks('sh', page) for name in re.findall(r'^make ([a-z-]+)', text, re.M)
    ]:
        assert re.search(rf'^{target}:', makefile, re.MULTILINE), f'make {target}'


def test_the_two_commands_come_first():
    assert re.findall(r'^make (\w+)', blocks('sh')[0], re.MULTILINE) == ['demo', 'test']


@every_page
def test_mim_commands_name_configs_that_exist(page):
    text = page.read_text().replace('\\\n', ' ')
    for package, config in re.findall(r'mim (?:train|test) (\w+) ([\w./]+)', text):
        assert package in ('mmpose', 'mmpose_attn')
        if config in ('CONFIG', 'NAME', 'my_config.py', 'configs/...'):
            continue
        folder = ROOT if package == 'mmpose' else ROOT / 'configs'
        assert (folder / config).is_file(), config
    metafile = (ROOT / 'configs' / 'higherhrnet.yml').read_text()
    for url in re.findall(r'https://download\.openmmlab\.com/\S+?\.pth', text):
        assert 'pretrain_models' in url or url in metafile


@every_page
def test_config_names_exist(page):
    stems = {path.stem for path in (ROOT / 'configs').glob('*.py')}
    for name in re.findall(r'`((?:demo_)?higherhrnet_\w+)(?:\.py)?`', page.read_text()):
        assert name in stems, name


def test_public_names_exist():
    import mmpose_attn

    for name in re.findall(r'`(\w+Attention)`', prose(README)):
        assert name in MODELS.module_dict, name
    assert mmpose_attn.__version__ in (ROOT / 'CHANGELOG.md').read_text()


def test_shell_blocks_parse():
    for page in PAGES:
        for text in blocks('sh', page):
            result = subprocess.run(['sh', '-n'], input=text, text=True, capture_output=True)
            assert result.returncode == 0, f'{page.name}: {text}{result.stderr}'
