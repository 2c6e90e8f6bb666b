"""Pictures and pages of attention maps, and the tool that makes them."""

import base64
import os
import re
import runpy
import shlex
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from mmpose_attn.apis import save_attention_maps
from mmpose_attn.visualization import attention_drawing
from mmpose_attn.visualization.attention_drawing import draw_html, draw_png, panels, spread
from mmpose_attn.visualization.attention_maps import SiteMaps, attention_sites
from tests.helpers import ROOT
from tests.inference_helpers import save_weights, write_networks

PICTURE = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
PLUGINS = """
model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=dict(type='SEAttention'), position='stem'),
            dict(cfg=dict(type='CBAMAttention'), position='after_conv2'),
        ]
    )
)
"""


def site(name='backbone.x.0', **values):
    values.setdefault('before', torch.rand(2, 1, 6, 4))
    values.setdefault('after', values['before'] / 2)
    return SiteMaps(name, 'Gate', 'fuse, stage 4, branch 0', 0, **values)


def panel(maps, title):
    (found,) = (panel for panel in panels(maps, PICTURE, 1) if panel.title.startswith(title))
    return found


def hue(image):
    return cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 0].astype(int)


# -------------------------------------------------------------------- panels
def test_bright_is_where_the_gate_is_open():
    spatial = torch.full((2, 1, 6, 4), 0.25)
    spatial[1, 0, 0, 3] = 0.75  # top right
    found = panel(site(spatial=spatial), 'spatial gates')
    assert (found.left, found.right) == ('0.25', '0.75')
    height, width = 180, 120  # of the picture, 96 x 64, in a panel
    assert found.image.shape[1] == width
    colours = hue(found.image[:height])
    high = np.zeros((height, width), bool)
    high[:30, 90:] = True
    # viridis: yellow, and violet
    assert (colours[high] < 40).mean() > 0.9 and (colours[~high] > 120).mean() > 0.9


def test_rounding_is_no_pattern():
    spatial = 0.5 + 1e-7 * torch.rand(2, 1, 6, 4)
    found = panel(site(spatial=spatial), 'spatial gates')
    assert found.left == '0.5 everywhere'
    assert np.ptp(hue(found.image[:180])) < 10


@pytest.mark.parametrize('count', [1, 7, 48, 384])
def test_bars_are_as_high_as_the_gates(count):
    channel = torch.linspace(0, 1, count).repeat(2, 1) if count > 1 else torch.full((2, 1), 0.5)
    found = panel(site(channel=channel), 'channel gates')
    assert found.left == f'{count} channels'
    filled = (found.image == attention_drawing._BLUE).all(-1)[:, attention_drawing._AXIS :]
    heights = filled.sum(0)[filled.any(0)]
    assert filled.shape[1] % count == 0
    values = heights / (filled.shape[0] - 10)
    first, last = values[0], values[-1]
    expected = (0, 1) if count > 1 else (0.5, 0.5)
    assert np.allclose((first, last), expected, atol=0.02)
    assert (np.diff(heights) >= 0).all()


def test_gates_beyond_0_and_1_have_room():
    found = panel(site(channel=torch.tensor([[1.0, 1], [-0.5, 1.75]])), 'channel gates')
    filled = (found.image == attention_drawing._BLUE).all(-1)[:, attention_drawing._AXIS :]
    left, right = (
        filled[:, columns].any(1).nonzero()[0] for columns in (slice(100), slice(140, 200))
    )
    unit = (filled.shape[0] - 10) / 3  # from -1 to 2
    assert np.ptp(left) == pytest.approx(0.5 * unit, abs=2)
    assert np.ptp(right) == pytest.approx(1.75 * unit, abs=2)
    assert left.min() == pytest.approx(right.max(), abs=1)


def test_before_and_after_have_one_scale():
    before = torch.full((2, 1, 6, 4), 4.0)
    before[:, :, 0] = 0
    maps = site(before=before)
    first, last = (panel(maps, f'energy {when}') for when in ('before', 'after'))
    assert (first.left, first.right) == (last.left, last.right) == ('0.00', '4.00')
    middle = [found.image[100, 50] for found in (first, last)]
    assert not np.array_equal(*middle)
    assert maps.gain.tolist() == [0.5, 0.5]


def test_every_kind_of_map_has_its_panel():
    maps = site(
        channel=torch.rand(2, 8),
        spatial=torch.rand(2, 1, 6, 4),
        gates=torch.rand(2, 8, 3, 2),
        kernels=torch.rand(2, 4),
        mask=torch.rand(2, 1, 6, 4).softmax(2),
        offsets=torch.randn(2, 2, 12, 8),
    )
    titles = [found.title for found in panels(maps, PICTURE)]
    assert titles == [
        'energy before',
        'weights of kernels',
        'pooling (even: 1)',
        'channel gates',
        'spatial gates',
        'gates, mean of cells',
        'gates, mean of channels',
        'offsets, pixels',
        'energy after',
    ]
    broken = replace(maps, channel=torch.full((2, 8), float('nan')))
    assert panel(broken, 'channel gates').right == '0.00 to 0.00'


def test_arrows_point_where_samples_move():
    offsets = torch.zeros(2, 2, 12, 8)
    offsets[1, 0] = 0.25  # to the right
    still, moved = (panels(site(offsets=offsets), PICTURE, i)[1] for i in (0, 1))
    assert moved.title == 'offsets, pixels' and moved.right == '0.25'
    white = (moved.image[:180] > 230).all(-1)
    rows, columns = white.sum(1).max(), white.sum(0).max()
    assert rows > 2 * columns  # lines lie
    assert (still.image[:180] > 230).all(-1).sum() < white.sum() / 4


# --------------------------------------------------------------------- files
def test_png(tmp_path):
    path = tmp_path / 'maps.png'
    sites = [site(f'backbone.{i}', channel=torch.rand(2, 8)) for i in range(30)]
    draw_png(sites[:2], PICTURE, path, title='net', notes=['random weights'])
    small = cv2.imread(str(path))
    draw_png(sites, PICTURE, path, limit=5)
    large = cv2.imread(str(path))
    assert large.shape[1] == small.shape[1] and 2 < large.shape[0] / small.shape[0] < 2.5
    # the picture itself is in the corner
    corner = small[17 : 17 + 180, 18 : 18 + 120]
    assert np.abs(corner.astype(int) - cv2.resize(PICTURE, (120, 180))).max() <= 1
    assert [p.name for p in tmp_path.iterdir()] == ['maps.png']


def test_an_even_choice():
    sites = list(range(104))
    assert spread(sites, 3) == [0, 52, 103]
    assert spread(sites, None) == spread(sites, 200) == sites
    assert len(set(spread(sites, 100))) == 100


class Page(HTMLParser):
    """Text, links and pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.text, self.references, self.tags = '', [], []
        self.source = path.read_text(encoding='utf-8')
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ('src', 'href', 'srcset', 'action')]

    def handle_data(self, data):
        self.text += data


def test_page_needs_nothing_else_and_escapes(tmp_path):
    path = tmp_path / 'maps.html'
    evil = '<script>alert("1")</script>&'
    sites = [site(evil, spatial=torch.rand(2, 1, 6, 4), note=evil), site('backbone.y.0')]
    draw_html(sites, PICTURE, path, title=evil, notes=[evil])
    page = Page(path)
    assert page.references and all(r.startswith('data:image/') for r in page.references)
    assert not re.search(r'url\(|@import|https?:', page.source)
    assert not {'script', 'link', 'iframe', 'object'} & set(page.tags)
    assert page.text.count(evil) >= 4
    for reference in page.references:
        data = base64.b64decode(reference.split(',')[1])
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    assert page.tags.count('img') == 1 + 3 + 2


def test_page_says_what_it_leaves_out(tmp_path):
    sites = [site(f'backbone.y.{i}') for i in range(9)]
    draw_html(sites, PICTURE, tmp_path / 'maps.html', limit=2)
    page = Page(tmp_path / 'maps.html')
    assert '2 of 9 sites, evenly spread; for others: tools/attention_map.py --sites' in page.text
    assert page.tags.count('img') == 1 + 2 * 2
    assert all(each.name in page.text for each in sites)  # in numbers


@pytest.mark.parametrize('draw', [draw_png, draw_html])
def test_nothing_half_written(draw, tmp_path, monkeypatch):
    path = tmp_path / 'maps'
    path.write_text('before')
    with pytest.raises(ValueError, match='there must be sites'):
        draw([], PICTURE, path)
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        draw([site()], PICTURE, path)
    assert path.read_text() == 'before' and [p.name for p in tmp_path.iterdir()] == ['maps']


# ---------------------------------------------------------------------- tool
@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """``{'topdown' or 'bottomup' or 'plain': (config, checkpoint)}``."""
    folder = tmp_path_factory.mktemp('networks')
    found = write_networks(folder)
    found['plain'] = found['topdown']
    for kind in ('topdown', 'bottomup'):
        path = folder / f'{kind}_attention.py'
        path.write_text(f'_base_ = [{str(found[kind][0])!r}]\n{PLUGINS}')
        with DefaultScope.overwrite_default_scope('mmpose'):
            found[kind] = path, save_weights(path, path.with_suffix('.pth'))
    return found


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'some one.png'
    cv2.imwrite(str(path), PICTURE)
    return path


@pytest.fixture
def tool(monkeypatch, capsys):
    """``tool(*arguments)`` -> exit status, stdout and stderr of tools/attention_map.py."""

    def tool(*args):
        monkeypatch.setattr(sys, 'argv', ['attention_map.py', *map(str, args)])
        capsys.readouterr()
        try:
            runpy.run_path(str(ROOT / 'tools' / 'attention_map.py'), run_name='__main__')
        except SystemExit as ended:
            return ended.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return tool


@pytest.mark.parametrize('kind', ['topdown', 'bottomup'])
def test_tool(kind, networks, image, tool, tmp_path):
    config, checkpoint = networks[kind]
    box = ['--bbox', '10.5,5,40,80'] if kind == 'topdown' else []
    out = tmp_path / 'deep' / 'out'
    status, text, _ = tool(image, '--config', config, '--out', out, '--device', 'cpu', *box)
    assert status == 0
    files = [f'some one.attention.{kind}' for kind in ('html', 'png')]
    assert sorted(path.name for path in out.iterdir()) == files
    assert set(text.splitlines()[-2:]) == {str(out / name) for name in files}
    random = Page(out / files[0])
    assert 'Random weights' in random.text and 'backbone.stem_plugins.0' in random.text
    assert (
        tool(
            *(
                image,
                '--config',
                config,
                '--checkpoint',
                checkpoint,
                '--out',
                out,
                '--device',
                'cpu',
            ),
            *(*box, '--sites', 'backbone.stage4.*'),
        )[0]
        == 0
    )
    trained = Page(out / files[0])
    assert 'Random weights' not in trained.text and 'stem_plugins' not in trained.text
    assert re.findall(r'summary>(.*?)<', trained.source)[0].startswith('stage 4, after_conv2, 4')


def bad(message, *args, **options):
    return pytest.param(args, options, message, id=message)


@pytest.mark.parametrize(
    'args, options, message',
    [
        bad('input not found: .*gone.png', image='gone.png'),
        bad('text.png cannot be read', image='text.png'),
        bad('is not one picture', image='.'),
        bad('topdown.py has no attention', kind='plain'),
        bad('config not found: gone.py', '--config', 'gone.py'),
        bad('gone.pth', '--checkpoint', 'gone.pth'),
        bad('config broken.py cannot be used', '--config', 'broken.py'),
        bad('config empty.py cannot be used', '--config', 'empty.py'),
        bad("no plugin is registered as 'Nope'", '--config', 'unknown.py'),
        bad('no area inside the picture, which is 64x96', '--bbox', '64,10,5,5'),
        bad('no area inside the picture', '--bbox', '5,5,0,5'),
        bad('no area inside the picture', '--bbox', '5,5,nan,5'),
        bad("bbox is x,y,w,h in pixels, got '1,2,3'", '--bbox', '1,2,3'),
        bad('takes the whole image', '--bbox', '1,2,3,4', kind='bottomup'),
        bad("'head.*' match none of backbone", '--sites', 'head.*'),
        bad('limit must be positive', '--limit', '0'),
        bad('text.png', '--out', 'text.png/out'),
        bad("device is 'auto'", '--device', 'tpu'),
    ],
)
def test_errors_are_one_line(args, options, message, networks, image, tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.png').write_text('no picture')
    (tmp_path / 'broken.py').write_text('x = (')
    (tmp_path / 'empty.py').write_text('x = 1')
    unknown = Path(networks['topdown'][0]).read_text().replace('SEAttention', 'Nope')
    (tmp_path / 'unknown.py').write_text(unknown)
    name, kind = options.get('image', image), options.get('kind', 'topdown')
    defaults = ['--config', networks[kind][0], '--out', tmp_path / 'out', '--device', 'cpu']
    status, _, err = tool(name, *defaults, *args)
    assert status == 2
    (line,) = [line for line in err.splitlines() if 'error: ' in line]
    assert err.splitlines()[-1] == line and re.search(message, line)
    assert not (tmp_path / 'out').exists()


def test_boxes_are_numbers(networks, image, tmp_path):
    """Of any kind in the function; text is for the command line."""

    def page(bbox, name):
        config = networks['topdown'][0]
        torch.manual_seed(0)
        return save_attention_maps(image, config, tmp_path / name, device='cpu', bbox=bbox)[1]

    pages = [
        page(bbox, str(i)).read_text()
        for i, bbox in enumerate([(10, 5, 40, 80), np.array([10.0, 5, 40, 80]), None])
    ]
    assert pages[0] == pages[1] != pages[2]
    for bad in ((1, 2, 3), '1234', '1,2,3,4', 5, (1, 2, None, 4)):
        with pytest.raises(ValueError, match='bbox is four numbers x, y, w, h in pixels, got'):
            page(bad, 'bad')
    with pytest.raises(ValueError, match=r'bbox 64,10,5,5 \(x,y,w,h\) has no area inside'):
        page((64, 10, 5, 5), 'bad')


# ---------------------------------------------------------------------- docs
DOC = ROOT / 'docs' / 'attention_maps.md'


def test_pictures_of_the_page_are_small():
    named = re.findall(r'!\[[^\]]*\]\((.*?)\)', DOC.read_text())
    assert named
    for name in named:
        path = DOC.parent / name
        assert path.stat().st_size < 150_000 and cv2.imread(str(path)) is not None


def test_commands_of_the_page_are_understood(tool):
    commands = re.findall(
        r'python (tools/attention_map\.py .*)', DOC.read_text().replace('\\\n', ' ')
    )
    assert len(commands) >= 2
    for command in commands:
        _, *args = shlex.split(command)
        config = args[args.index('--config') + 1]
        assert (ROOT / config).is_file() or f'# {config}\n' in DOC.read_text()
        status, _, err = tool(*args)
        assert status == 2 and 'input not found: ' in err


def test_the_network_of_the_picture_can_be_built(mmpose_scope, tmp_path):
    (code,) = re.findall(r'```python\n# my_config.py\n(.*?)```', DOC.read_text(), re.DOTALL)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'my_config.py').write_text(code)
    config = Config.fromfile(tmp_path / 'my_config.py')
    kinds = {site.split('.')[0] for site in attention_sites(MODELS.build(config.model).backbone)}
    assert kinds == {'stem_plugins', 'stage2', 'stage3', 'stage4'}


def test_the_example_of_the_page_runs(networks, image, tmp_path, monkeypatch):
    (code,) = re.findall(r'```python\n(from .*?)```', DOC.read_text(), re.DOTALL)
    config, checkpoint = networks['topdown']
    for name, target in (('config.py', config), ('weights.pth', checkpoint), ('me.jpg', image)):
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert cv2.imread('maps.png') is not None and '<html' in (tmp_path / 'maps.html').read_text()
