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
PAGES = [README, ROOT / 'CHANGELOG.md', *sorted((ROOT / 'docs').rglob('*.md'))]
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
CODE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(language, page=README):
    return [text for found, text in CODE.findall(page.read_text()) if found == language]


def prose(page):
    return CODE.sub('', page.read_text())


def slug(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-')


HOWTO = ROOT / 'docs' / 'your_own_attention.md'
FILES = {
    README: ['my_attention.py', 'my_config.py'],
    HOWTO: ['my_surprise.py', 'my_hrnet.py'],
}
PLUGINS = {
    'my_config.py': ['GateAttention'] * 2,
    'my_hrnet.py': ['SEAttention'] + ['SurpriseAttention'] * 2,
}


@pytest.fixture(params=FILES, ids=lambda page: page.name)
def example(request, tmp_path, monkeypatch):
    """A page's plugin and config, in a folder that has the configs; the path of the config."""
    before = set(MODELS.module_dict)
    names = []
    for text in blocks('python', request.param):
        first, _, code = text.partition('\n')
        if first.startswith('# my_'):
            (tmp_path / first[2:]).write_text(code)
            names.append(first[2:])
    assert names == FILES[request.param]
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / names[1]
    sys.modules.pop(names[0].removesuffix('.py'), None)
    for name in set(MODELS.module_dict) - before:
        del MODELS.module_dict[name]


def test_example_plugin_trains(example, mmpose_scope):
    config = Config.fromfile(example)
    extra = config.model.backbone.extra
    for stage in ('stage2', 'stage3', 'stage4'):  # the example's places in a small network
        extra[stage].update(num_modules=1, num_blocks=(1,) * extra[stage].num_branches)
    extra.stage1.num_blocks = (1,)
    model = MODELS.build(config.model)
    kinds = [type(plugin.module).__name__ for plugin in model.backbone.named_plugins()]
    assert kinds == PLUGINS[example.name]
    model.backbone.init_cfg = None
    model.init_weights()
    maps = model.head(model.backbone(torch.randn(2, 3, 64, 64)))
    sum(m.square().mean() for m in ([maps] if torch.is_tensor(maps) else maps)).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert any(f'mim train mmpose {example.name}' in page.read_text() for page in FILES)


def test_positions_are_those_of_the_network(mmpose_scope):
    from tests.helpers import hrnet_extra

    there = MODELS.build(dict(type='AttnHRNet', extra=hrnet_extra(4, (1, 1, 2)))).plugin_sites()
    table = HOWTO.read_text().split('## The places')[1].split('|---|', 1)[1]
    rows = re.findall(r'^\| (`[^|]*) \|.*\| (.*) \| (.*) \|$', table, re.MULTILINE)
    found = {}
    for names, stages, branches in rows:
        for name in re.findall(r'`(\w+)`', names):
            found[name] = stages, branches

    def span(numbers):
        low, high = min(numbers), max(numbers)
        return str(low) if low == high else f'{low} to {high}'

    assert set(found) == set(there)
    for name, sites in there.items():
        if name != 'after_conv3':  # this network has a Bottleneck in stage 1 alone
            assert found[name] == tuple(span(numbers) for numbers in zip(*sites, strict=True))


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


def test_models_tables_list_every_config():
    pages = README, *(ROOT / 'docs' / page for page in ('topdown.md', 'dite_hrnet.md'))
    tables = ''.join(page.read_text() for page in pages)
    rows = re.findall(r'^\| `(\w*hrnet_\w+)` \|(.*)\|$', tables, re.MULTILINE)
    files = (ROOT / 'configs').glob('*.py')
    assert sorted(name for name, _ in rows) == sorted(path.stem for path in files)

    metafiles = (yaml.safe_load(path.read_text()) for path in (ROOT / 'configs').glob('*.yml'))
    models = {model['Name']: model for file in metafiles for model in file['Models']}
    for name, rest in rows:
        _, parameters, *said, published, measured = (cell.strip() for cell in rest.split('|'))
        metadata = models[name]['Metadata']
        known = metadata.get('Parameters')
        assert parameters == (f'{known:,}' if known else '')
        assert said in ([], [str(metadata.get('Published Parameters (M)', ''))])
        # what is published stands in the metafile, what is not stands in neither
        figures = {True: set(), False: set()}
        for result in models[name].get('Results', []):
            metrics = result['Metrics']
            figure = f'{100 * metrics.get("AP", metrics.get("Mean")):.1f}'
            figures['test-dev' in result['Dataset']].add(figure)
        stated = set(re.findall(r'\d\d\.\d', published))
        # those of test-dev have a table of their own
        assert figures[False] <= stated <= figures[False] | figures[True], name
        assert measured in ('', 'not measured') or '`mim test' in measured


@pytest.mark.parametrize(
    'page, where, rows',
    [
        ('topdown.md', 'COCO test-dev2017', 5),
        ('higherhrnet.md', 'the paper that adds an SE-Block', 2),
    ],
)
def test_tables_of_several_figures_are_the_metafiles(page, where, rows):
    metafiles = (yaml.safe_load(path.read_text()) for path in (ROOT / 'configs').glob('*.yml'))
    results = [r for f in metafiles for model in f['Models'] for r in model.get('Results', [])]
    known = [
        [f'{100 * figure:.1f}' for figure in result['Metrics'].values()]
        for result in results
        if where in result['Dataset'] + result['Published From'] and len(result['Metrics']) > 1
    ]
    text = (ROOT / 'docs' / page).read_text()
    table = re.findall(r'^\|[^|]*\|((?: \d\d\.\d \|)+)$', text, re.MULTILINE)
    stated = [re.findall(r'\d\d\.\d', row) for row in table]
    stated = [row for row in stated if len(row) == len(known[0])]
    assert sorted(stated) == sorted(known) and len(stated) == rows


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
        if config in (
            'CONFIG',
            'NAME',
            'my_config.py',
            'my_hrnet.py',
            'flies_bottomup.py',
            'configs/...',
        ):
            continue
        folder = ROOT if package == 'mmpose' else ROOT / 'configs'
        assert (folder / config).is_file(), config
    metafile = ''.join(path.read_text() for path in (ROOT / 'configs').glob('*.yml'))
    for url in re.findall(r'https://download\.openmmlab\.com/\S+?\.pth', text):
        assert 'pretrain_models' in url or url in metafile


@every_page
def test_config_names_exist(page):
    stems = {path.stem for path in (ROOT / 'configs').glob('*.py')}
    for name in re.findall(
        r'`((?:demo_)?(?:higher|de|dite_|lite)?hrnet_\w+)(?:\.py)?`', page.read_text()
    ):
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
