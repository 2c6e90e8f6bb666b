"""tools/app.py: its handlers called directly, and the page in headless Chromium."""

import json
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from mmpose_attn.apis import InferenceSession
from mmpose_attn.apis.app import serve
from mmpose_attn.apis.service import WHOLE_IMAGE, PoseService
from tests.helpers import ROOT
from tests.inference_helpers import write_video

TOOL = ROOT / 'tools' / 'app.py'
# The tool in a process that says when it wants to reach another machine, and cannot.
ALONE = """
import runpy, socket, sys

def alone(function, place):
    def guarded(*args, **kwargs):
        address = args[place]
        host = address[0] if isinstance(address, tuple) else address
        if host not in (None, '', '127.0.0.1', 'localhost', '0.0.0.0'):
            print('CALLS OUT:', address, file=sys.stderr, flush=True)
            raise OSError(f'no way to {address}')
        return function(*args, **kwargs)
    return guarded

socket.getaddrinfo = alone(socket.getaddrinfo, 0)
for name in ('connect', 'connect_ex'):
    setattr(socket.socket, name, alone(getattr(socket.socket, name), 1))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def given(networks, kinds=('topdown', 'bottomup')):
    """``config`` and ``checkpoint`` of :func:`serve`."""
    configs, checkpoints = zip(*(map(str, networks[kind]) for kind in kinds))
    return dict(config=list(configs), checkpoint=list(checkpoints))


# ----------------------------------------------------------------- without a browser
def test_bad_arguments(networks, monkeypatch):
    pytest.importorskip('gradio')
    for name in ('GRADIO_ANALYTICS_ENABLED', 'GRADIO_TEMP_DIR', 'no_proxy'):  # is put back then
        monkeypatch.setenv(name, os.environ.get(name, ''))
    good = given(networks)
    with pytest.raises(ValueError, match='every checkpoint belongs to a config: got 1 and 2'):
        serve(**dict(good, config=good['config'][:1]))
    with pytest.raises(ValueError, match='every checkpoint belongs to a detector: got 1 and 0'):
        serve(**good, detector=['yolox_nano'])
    with pytest.raises(FileNotFoundError, match='input not found: gone'):
        serve(**good, examples='gone')
    with pytest.raises(ValueError, match='port is from 0, .*, got 70000'):
        serve(**good, port=70_000)
    for name in ('https://x.example', '*', 'a b', ''):
        with pytest.raises(ValueError, match='a name of a host is one like'):
            serve(**good, allowed_host=[name])
    for password in ('', '1234567', 'two\nlines and more', 'a\0 and more'):
        with pytest.raises(ValueError, match='password has at least 8 characters'):
            serve(**good, password=password)
    with pytest.raises(ValueError, match='give one of them'):
        serve(**good, password='12345678', no_auth=True)
    taken = socket.create_server(('127.0.0.1', 0))
    with taken, pytest.raises(OSError, match='in use'):
        serve(**good, port=taken.getsockname()[1])
    with pytest.raises(FileNotFoundError, match='checkpoint not found: gone.pth'):
        serve(good['config'][:1], ['gone.pth'], port=0)


def test_the_documented_command_is_understood(monkeypatch):
    page = (ROOT / 'docs' / 'app.md').read_text()
    (command,) = re.findall(r'python (tools/app\.py .*)', page.replace('\\\n', ' '))
    monkeypatch.setattr(sys, 'argv', shlex.split(command))
    args = runpy.run_path(str(TOOL))['parse_args']()[1]
    assert len(args.config) == len(args.checkpoint) == 2
    assert all((ROOT / config).is_file() for config in args.config)
    for name in re.findall(r'`--([a-z-]+)', page):
        assert name.replace('-', '_') in vars(args), name
    assert args.host == '127.0.0.1' and f'http://{args.host}:{args.port}.' in page


def test_passwords_are_no_arguments(monkeypatch, tmp_path, capsys):
    tool = runpy.run_path(str(TOOL))
    file = tmp_path / 'password'
    file.write_text('of a file \r\n', newline='')
    monkeypatch.delenv('MMPOSE_ATTN_PASSWORD', raising=False)
    assert tool['read_password'](False, None) is None
    assert tool['read_password'](False, str(file)) == 'of a file '
    monkeypatch.setattr(sys.stdin, 'isatty', lambda: False, raising=False)
    with pytest.raises(ValueError, match='no terminal to ask for the password: set MMPOSE_ATTN_'):
        tool['read_password'](True, None)
    monkeypatch.setenv('MMPOSE_ATTN_PASSWORD', 'of the environment')
    assert tool['read_password'](True, None) == 'of the environment'
    assert tool['read_password'](False, None) is None
    given = ['app.py', '--config', 'c.py', '--checkpoint', 'c.pth']
    for more in (['--password', 'x'], ['--password', '--no-auth'], ['--no-auth=x']):
        monkeypatch.setattr(sys, 'argv', given + more)
        with pytest.raises(SystemExit):
            tool['parse_args']()
    assert 'not allowed with' in capsys.readouterr().err


def test_without_gradio_one_line_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    monkeypatch.delitem(sys.modules, 'mmpose_attn.apis.page', raising=False)
    monkeypatch.setattr(sys, 'argv', ['app.py', '--config', 'c.py', '--checkpoint', 'c.pth'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert ended.value.code == 2
    expected = 'app.py: error: the page needs Gradio (no module gradio): pip install '
    assert capsys.readouterr().err == f'{expected}"mmpose_attn[app]"\n'


@pytest.fixture
def handlers(networks, pictures, tmp_path):
    page = pytest.importorskip('mmpose_attn.apis.page', reason='Gradio is not installed')
    pairs = [tuple(map(str, networks[kind])) for kind in ('topdown', 'bottomup')]
    service = PoseService(pairs, folder=tmp_path, device='cpu')
    return page._Handlers(service, sorted(pictures.iterdir()))


def test_what_the_page_does(handlers, tmp_path):
    visitor, other = SimpleNamespace(session_hash='a'), SimpleNamespace(session_hash='b')
    options = WHOLE_IMAGE, 0.3, 0.3, True
    message, *_ = handlers.preview(None)
    assert 'Drop a picture' in message
    message, *_ = handlers.work(None, 'topdown', *options, visitor, lambda *args, **kwargs: None)
    assert 'failed' in message

    path = handlers.choose(SimpleNamespace(index=1))
    assert Path(path).parent.parent == tmp_path and Path(path).name == handlers.examples[1].name
    message, picture, *_ = handlers.preview(path)
    assert 'Ready' in message and picture['value'].shape[2] == 3
    first = cv2.imread(path)[0, 0]
    assert abs(picture['value'][0, 0].astype(int) - first[::-1]).max() < 8  # RGB

    steps = []
    args = path, 'tiny', *options, visitor, lambda step, unit: steps.append((step, unit))
    message, _, video, attention, *downloads = handlers.work(*args)
    assert steps == [((0, 1), 'frames'), ((1, 1), 'frames')]
    assert 'failed' not in message and Path(path).name in message
    assert not video['visible'] and '<iframe sandbox' in attention and 'SEAttention' in attention
    assert [item['value'].name for item in downloads][::3] == ['results.json', 'attention.html']

    handlers.begin(visitor)
    handlers.stop(other)
    assert 'failed' not in handlers.work(*args)[0] and 'Stopped' not in message
    handlers.begin(visitor)
    handlers.leave(visitor)
    assert 'Stopped before it began' in handlers.work(*args)[0]
    assert 'Stopped' not in handlers.work(*args)[0]

    bad = tmp_path / '<b>.jpg'
    bad.write_bytes(b'no picture')
    for message, *_ in (handlers.preview(str(bad)), handlers.work(str(bad), *args[1:])):
        assert 'failed' in message and '&lt;b&gt;.jpg' in message and '<b>' not in message


# -------------------------------------------------------------------- with a browser
class Server:
    """tools/app.py in a process of its own."""

    def __init__(self, folder, *args):
        self.temporary = folder / 'temporary'
        self.temporary.mkdir()
        self.log = folder / 'log'
        # a proxy that is not there: nothing may ask for it
        environment = dict(
            os.environ,
            TMPDIR=str(self.temporary),
            PYTHONPATH=str(ROOT),
            http_proxy='http://192.0.2.1:9',
            https_proxy='http://192.0.2.1:9',
        )
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-W', 'ignore', '-c', ALONE, TOOL, *args],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        found = None
        for line in self.process.stdout:
            if found := re.match(r'(http://\S+) shows the page', line):
                break
        assert found, self.log.read_text()
        self.link = found[1]
        self.address = self.link.partition('?')[0]
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


@pytest.fixture(scope='module')
def server(networks, pictures, detector, tmp_path_factory):
    pytest.importorskip('gradio')
    args = given(networks)
    server = Server(
        tmp_path_factory.mktemp('server'),
        *('--config', *args['config'], '--checkpoint', *args['checkpoint']),
        *('--detector', detector[0], '--detector-checkpoint', detector[1]),
        *('--examples', str(pictures), '--port', '0', '--device', 'cpu'),
    )
    yield server
    server.process.kill()


@pytest.fixture
def tab(server, browser):
    """A fresh page, and afterwards the check that nothing was asked of another machine."""
    page, asked = browser.new_page(), []
    page.on('request', lambda request: asked.append(request.url))
    page.goto(server.address)
    yield page
    page.close()
    foreign = [url for url in asked if not url.startswith((server.address, 'data:', 'blob:'))]
    assert asked and not foreign
    assert 'CALLS OUT' not in server.log.read_text()


def drop(tab, path):
    if (clear := tab.get_by_role('button', name='Clear')).count():
        clear.first.click()
    tab.set_input_files('#file input[type=file]', path)


def choose(tab, where, name):
    tab.click(f'{where} input')
    tab.get_by_role('option', name=name).click()


def run(tab):
    tab.get_by_text('Ready: press').wait_for()
    tab.click('#run')


def message(tab, part):
    found = tab.locator('#message').get_by_text(part)
    found.wait_for()
    return found.inner_text()


def download(tab, index, target):
    with tab.expect_download() as started:
        tab.click(f'#download-{index}')
    started.value.save_as(target)
    return started.value.suggested_filename


def test_a_picture_in_the_browser(tab, networks, pictures, tmp_path):
    path = min(pictures.iterdir())
    drop(tab, path)
    choose(tab, '#detector', WHOLE_IMAGE)
    run(tab)
    assert '1 person in' in message(tab, path.name)
    image = tab.get_by_role('tabpanel').locator('img').first
    image.wait_for()
    assert min(image.bounding_box()[side] for side in ('width', 'height')) > 200
    assert download(tab, 0, tmp_path / 'page.json') == 'results.json'
    session = InferenceSession([path], tmp_path / 'out', *networks['topdown'], device='cpu')
    session.run(progress=False)
    found = json.loads((tmp_path / 'page.json').read_text())
    assert found == json.loads((tmp_path / 'out' / 'results.json').read_text())
    # the other network, which has an attention module and needs no boxes
    choose(tab, '#model', 'tiny')
    tab.click('#run')
    tab.locator('#download-3').wait_for()
    tab.get_by_role('tab', name='Attention maps').click()
    tab.frame_locator('#attention iframe').get_by_text('channel gates').first.wait_for()
    assert download(tab, 3, tmp_path / 'maps.html') == 'attention.html'


def test_an_example_and_the_detector_in_the_browser(tab, pictures):
    tab.locator('#examples button').nth(2).click()
    run(tab)
    message(tab, re.compile(f'{max(pictures.iterdir()).name}. '))
    assert tab.locator('#model input').input_value() == 'topdown'
    assert tab.locator('#detector input').input_value().startswith('yolox_nano')


def test_a_video_in_the_browser(tab, tmp_path):
    drop(tab, write_video(tmp_path / 'clip.avi', 12))
    choose(tab, '#detector', WHOLE_IMAGE)
    run(tab)
    assert 'somebody is in 12 of 12 frames' in message(tab, 'clip.avi')
    video = tab.locator('video').first
    # not wait_for_function, whose text the page's policy does not let be evaluated
    video.evaluate('v => v.readyState >= 2 || new Promise(done => v.onloadeddata = () => done())')
    shape = video.evaluate('v => [v.videoWidth, v.videoHeight]')
    assert min(shape) >= 320


def test_the_page_goes_on_after_errors(tab, pictures, tmp_path):
    good, bad = min(pictures.iterdir()), tmp_path / 'bad.jpg'
    bad.write_bytes(good.read_bytes()[:100])
    drop(tab, bad)
    message(tab, 'bad.jpg')
    tab.click('#run')
    tab.locator('#message .failed').wait_for()
    tab.locator('#run:enabled').wait_for()
    drop(tab, good)
    choose(tab, '#detector', WHOLE_IMAGE)
    run(tab)
    message(tab, f'1 person in {good.name}')


def test_stop_and_leave_in_the_browser(server, browser, tab, tmp_path, pictures):
    video = write_video(tmp_path / 'long.avi', 400, (640, 480))
    drop(tab, video)
    choose(tab, '#detector', WHOLE_IMAGE)
    run(tab)
    tab.get_by_text(re.compile(r'[1-9]\d*/400 frames')).first.wait_for()
    tab.click('#stop')
    found = re.match(r'Stopped after (\d+) of 400 frames', message(tab, 'Stopped after'))
    assert 0 < int(found[1]) < 400
    # who leaves does not keep the others waiting
    tab.locator('#run:enabled').wait_for()
    tab.click('#run')
    tab.get_by_text(re.compile(r'[1-9]\d*/400 frames')).first.wait_for()
    tab.goto('about:blank')
    tab.goto(server.address)
    drop(tab, min(pictures.iterdir()))
    choose(tab, '#detector', WHOLE_IMAGE)
    run(tab)
    message(tab, f'1 person in {min(pictures.iterdir()).name}')


def test_files_of_the_machine_are_not_served(server):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in (ROOT / 'README.md', Path(tempfile.gettempdir(), 'x'), '/etc/hostname'):
        with pytest.raises(urllib.error.HTTPError, match='HTTP Error 40[34]'):
            opener.open(f'{server.address}gradio_api/file={path}')


def test_an_end_that_leaves_nothing(server):
    assert list(server.temporary.iterdir())
    server.end()
    assert not list(server.temporary.iterdir())
    assert 'Traceback' not in server.log.read_text()


@pytest.fixture
def open_server(networks, tmp_path):
    pytest.importorskip('gradio')
    args = given(networks, ['bottomup'])
    server = Server(
        tmp_path,
        *('--config', *args['config'], '--checkpoint', *args['checkpoint'], '--device', 'cpu'),
        *('--host', '0.0.0.0', '--port', '0', '--allowed-host', 'pose.example.org'),
    )
    yield server
    server.process.kill()


def test_where_others_reach_it_a_token_is_asked_for(open_server):
    found = re.fullmatch(r'(http://127\.0\.0\.1:\d+/)\?token=([\w-]{43})', open_server.link)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
    )
    for path in ('', 'config', f'?token={found[2][:-1]}', 'theme.css'):
        with pytest.raises(urllib.error.HTTPError, match='HTTP Error 403'):
            opener.open(found[1] + path)
    with opener.open(open_server.link) as answer:
        assert answer.url == found[1] and b'gradio_config' in answer.read()
    for host, good in (('pose.example.org', True), ('evil.example', False)):
        request = urllib.request.Request(f'{found[1]}theme.css', headers={'Host': host})
        if good:
            assert opener.open(request).status == 200
        else:
            with pytest.raises(urllib.error.HTTPError, match='HTTP Error 403'):
                opener.open(request)
    assert open_server.end() is not None
    assert found[2] not in open_server.log.read_text()
