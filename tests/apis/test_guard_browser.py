"""The page behind its guard in headless Chromium: nothing is lost, and what is refused is said."""

import pytest

from mmpose_attn.apis.service import WHOLE_IMAGE
from tests.page_helpers import served, serving

pytest.importorskip('gradio')

PASSWORD = 'correct horse'


@pytest.fixture(scope='module')
def service(networks, tmp_path_factory):
    # the one with an attention module
    with serving(networks['bottomup'], tmp_path_factory.mktemp('page')) as service:
        yield service


@pytest.fixture
def tab(browser):
    """A fresh page without cookies, and afterwards the check that its policy forbade nothing."""
    browser.clear_cookies()
    tab, said = browser.new_page(), []
    tab.on('console', lambda message: said.append(message.text))
    yield tab
    tab.close()
    assert not [text for text in said if 'Content Security Policy' in text or 'CORS' in text]


def drop(tab, path):
    tab.locator('#message').get_by_text('Drop a picture').wait_for()  # the page is there
    tab.set_input_files('#file input[type=file]', path)


def test_the_token_and_all_that_the_page_shows(tab, service, pictures):
    from mmpose_attn.apis.access import Access

    with served(service, access=lambda port: Access('t' * 43, is_link=True, port=port)) as found:
        address = found[0]
        tab.goto(address)
        tab.get_by_label('Token of the link').fill('wrong')
        tab.get_by_role('button', name='Open the page').click()
        tab.get_by_text('Wrong token').wait_for()
        assert not tab.locator('#run').count()
        tab.goto(f'{address}?token={"t" * 43}')
        tab.locator('#run').wait_for()
        assert tab.url == address
        drop(tab, min(pictures.iterdir()))
        tab.get_by_text('Ready: press').wait_for()
        tab.click('#run')
        tab.locator('#download-3').wait_for()
        tab.get_by_role('tab', name='Attention maps').click()
        frame = tab.frame_locator('#attention iframe')
        frame.get_by_text('channel gates').first.wait_for()
        # drawn with its own style and pictures, which the policy allows, and no script
        shown = frame.locator('img').first.evaluate('image => image.naturalWidth')
        assert shown > 10
        assert tab.locator('#message .message').evaluate('m => getComputedStyle(m).borderLeftWidth')


def test_the_password_in_the_browser(tab, service):
    from mmpose_attn.apis.access import Access

    with served(service, access=lambda port: Access(PASSWORD, is_link=False, port=port)) as found:
        tab.goto(found[0])
        tab.get_by_label('Password').fill(PASSWORD)
        tab.get_by_role('button', name='Open the page').click()
        tab.locator('#run').wait_for()
        assert tab.url == found[0]
        (cookie,) = tab.context.cookies()
        assert (
            cookie['httpOnly'] and cookie['sameSite'] == 'Lax' and PASSWORD not in cookie['value']
        )


def test_limits_are_said_on_the_page(tab, service, tmp_path):
    large, small = tmp_path / 'large.jpg', tmp_path / 'small.jpg'
    large.write_bytes(bytes(2 * 10**6))
    small.write_bytes(b'x')
    with served(service, an_hour=(1, 10**7)) as (address, _):
        tab.goto(address)
        drop(tab, large)
        tab.get_by_text('A file has at most 0.001 GB').first.wait_for()
        tab.goto(address)
        drop(tab, small)
        tab.locator('#message .failed').wait_for()
        tab.goto(address)
        drop(tab, small)
        tab.get_by_text('You have sent 1 files').first.wait_for()


def test_a_job_too_many_is_said_on_the_page(tab, service, pictures):
    import httpx

    from tests.page_helpers import file_data

    path = min(pictures.iterdir())
    with served(service) as (address, _), httpx.Client(trust_env=False) as client:
        sent = client.post(f'{address}gradio_api/upload', files={'files': path.read_bytes()})
        asked = [file_data(sent.json()[0]), service.models[0], WHOLE_IMAGE, 0.3, 0.3, True]
        with service._one:
            for i in range(4):
                body = dict(data=asked, fn_index=2, session_hash=f's{i}')
                client.post(f'{address}gradio_api/queue/join', json=body).raise_for_status()
            tab.goto(address)
            drop(tab, path)
            tab.get_by_text('Ready: press').wait_for()
            tab.click('#run')
            tab.get_by_text('4 jobs of yours wait already').first.wait_for()
            tab.locator('#message').get_by_text('It was not begun').wait_for()
            tab.locator('#run:enabled').wait_for()


def test_a_page_of_another_origin(tab, service, tmp_path):
    import http.server
    import threading
    from functools import partial

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / 'index.html').write_text('<!doctype html><title>another</title>')
    handler = partial(Quiet, directory=tmp_path)
    other = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with served(service) as (address, _):
        kept = set(service.folder.iterdir())
        tab.goto(address)  # a cookie, if there were one, would be of the same site
        outside = tab.context.new_page()
        outside.goto(f'http://127.0.0.1:{other.server_port}/')
        ways = """async address => {
            const form = new FormData()
            form.append('files', new Blob(['x']), 'a.jpg')
            const send = (path, options) => fetch(address + path, options).then(
                answer => answer.type == 'opaque' ? 'sent' : answer.status, () => 'refused')
            const frame = document.createElement('iframe')
            frame.src = address
            document.body.append(frame)
            const image = new Image()
            const seen = new Promise(done => {
                image.onload = () => done('seen'); image.onerror = () => done('refused')})
            image.src = address + 'static/img/logo_nosize.svg'
            await new Promise(done => frame.onload = done)
            let inside = 'refused'
            try { inside = frame.contentWindow.length } catch { }
            return [await send('config'), await seen, frame.contentDocument === null,
                await send('gradio_api/upload', {method: 'POST', body: form}),
                await send('gradio_api/upload', {method: 'POST', body: form, mode: 'no-cors'})]
        }"""
        found = outside.evaluate(ways, address)
        assert found[:2] == ['refused', 'refused'] and found[3] == 'refused'
        assert outside.frames[-1].content().find('gradio_config') < 0
        assert set(service.folder.iterdir()) == kept
        outside.close()
    other.shutdown()
    other.server_close()
