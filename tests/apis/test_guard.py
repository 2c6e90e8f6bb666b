"""What stands before the page, by plain requests to the page itself."""

import asyncio
import io
import json
import re
import time
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from mmpose_attn.apis.service import WHOLE_IMAGE
from tests.helpers import ROOT
from tests.page_helpers import file_data, get, port_of, raw, results, served, serving

pytest.importorskip('gradio')

TOKEN = 'a-token-that-nobody-guesses'
LOCAL, CLOSE = 'Host: localhost', 'Connection: close'
FUNCTIONS = dict(preview=0, work=2, end=3)


@pytest.fixture(scope='module')
def service(networks, tmp_path_factory):
    with serving(networks['topdown'], tmp_path_factory.mktemp('page')) as service:
        yield service


@pytest.fixture(scope='module')
def page(service):
    with served(service, names=['pose.example.org']) as (address, _):
        yield address


@pytest.fixture(scope='module')
def locked(service):
    from mmpose_attn.apis.access import Access

    def access(port):
        return Access(TOKEN, is_link=True, port=port)

    with served(service, access=access) as found:
        yield found


@pytest.fixture
def client():
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


def upload(client, address, data=b'x', name='a.jpg', **kwargs):
    files = {'files': (name, data)}
    return client.post(f'{address}gradio_api/upload', files=files, **kwargs)


def call(client, address, function, *data, session='visitor', queue=False, **more):
    body = dict(data=data, fn_index=FUNCTIONS[function], session_hash=session, **more)
    return client.post(f'{address}gradio_api/{"queue/join" if queue else "run/predict"}', json=body)


def paths_of(routes):
    for route in routes:
        if hasattr(route, 'path'):
            yield route.path
        else:  # a router within, as of FastAPI 0.160
            yield from paths_of(route.original_router.routes)


# ------------------------------------------------------------------------ names of hosts
@pytest.mark.parametrize(
    'host',
    [
        *('localhost', 'LocalHost', 'localhost.', '127.0.0.1', '[::1]', '[0:0:0:0:0:0:0:1]'),
        *('[::1]:80', 'pose.example.org', 'POSE.example.org.:443', 'localhost:1'),
    ],
)
def test_names_that_are_the_pages(page, host):
    assert get(page, '/robots.txt', f'Host: {host}')[0] == 200


BAD_HOSTS = [
    *('evil.example', 'evil.example:7860', 'localhost.evil.example', 'evil.example.', '192.0.2.1'),
    *('xlocalhost', 'example.org', 'sub.pose.example.org', '0.0.0.0', '127.0.0.2', '[::2]'),
    *(
        'localhost@evil.example',
        'evil.example@localhost',
        'localhost:80@evil.example',
        'localhost:',
    ),
    *('localhost, evil.example', 'localhost evil.example', 'localhost/evil', '', '127.1', '::1'),
    *('localhost:99999', 'localhost:-1', 'localhost:80:80', 'http://localhost', '*', '..', '.'),
    *('[::1', '[::1]x', '[localhost]', 'l\xf6calhost', 'localhost%00', '2130706433', '0x7f.1'),
]


@pytest.mark.parametrize('host', BAD_HOSTS)
def test_names_that_are_not(page, host):
    for path in ('/', '/robots.txt', '/config', '/gradio_api/heartbeat/x', '/nothing'):
        assert 400 <= get(page, path, f'Host: {host}')[0] < 500


def test_names_said_in_other_ways(page):
    evil = 'Host: evil.example'
    assert 400 <= get(page, '/')[0] < 500
    assert 400 <= raw(page, 'GET / HTTP/1.0\r\n\r\n')[0] < 500
    assert 400 <= get(page, '/', LOCAL, evil)[0] < 500
    assert 400 <= get(page, '/', LOCAL, LOCAL)[0] < 500
    assert 400 <= get(page, 'http://evil.example/', LOCAL)[0] < 500
    assert 400 <= get(page, 'http://localhost/', evil)[0] < 500
    for name in ('X-Forwarded-Host', 'Forwarded', 'X-Host', 'X-Original-Host', 'X-Gradio-Server'):
        assert get(page, '/', evil, f'{name}: host=localhost')[0] == 403
        # nor does the page believe it
        status, text = get(page, '/config', LOCAL, f'{name}: http://evil.example')
        assert status == 200 and b'evil' not in text
    upgrade = 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'
    upgrade += ('Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',)
    assert get(page, '/gradio_api/queue/join', evil, *upgrade)[0] == 403
    assert get(page, '/gradio_api/queue/join', LOCAL, *upgrade)[0] == 405
    for path in ('/assets/x.js', '/static/img/logo.svg', '/gradio_api/queue/data?session_hash=x'):
        assert get(page, path, evil)[0] == 403
    for path in ('/gradio_api/upload', '/gradio_api/run/predict', '/login'):
        request = f'POST {path} HTTP/1.1\r\n{evil}\r\nContent-Length: 999\r\n{CLOSE}\r\n\r\n'
        assert raw(page, request)[0] == 403


def test_the_address_that_was_asked_is_its_own_name(service):
    with served(service, '0.0.0.0') as (address, _):
        assert get(address, '/robots.txt', 'Host: 127.0.0.1')[0] == 200
        assert get(address, '/robots.txt', 'Host: 127.0.0.2')[0] == 403
        there = address.replace('127.0.0.1', '127.0.0.2')
        assert httpx.get(f'{there}robots.txt', trust_env=False).status_code == 200


# ------------------------------------------------------------------------------- origins
@pytest.mark.parametrize('origin', ['http://evil.example', 'null', 'http://localhost:1', 'x', ''])
def test_another_page_may_not_ask(page, client, origin):
    headers = {'origin': origin}
    assert upload(client, page, headers=headers).status_code == 403
    assert client.get(page, headers=headers).status_code == 403
    url = f'{page}gradio_api/run/predict'
    assert client.post(url, content='{}', headers=headers).status_code == 403
    answer = client.options(url, headers={**headers, 'access-control-request-method': 'POST'})
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith('access-control')]


def test_the_page_itself_may(page, client):
    own = page.rstrip('/')
    assert upload(client, page, headers={'origin': own}).status_code == 200
    assert client.get(page, headers={'origin': own}).status_code == 200
    port = port_of(page)
    for host, origin, status in (
        ('pose.example.org', 'https://pose.example.org', 200),
        ('pose.example.org:443', 'https://pose.example.org', 200),
        ('pose.example.org', 'http://pose.example.org:80', 200),
        ('pose.example.org', 'http://pose.example.org:8080', 403),
        (f'127.0.0.1:{port}', f'http://localhost:{port}', 403),
        (f'127.0.0.1:{port}', f'ftp://127.0.0.1:{port}', 403),
    ):
        assert get(page, '/', f'Host: {host}', f'Origin: {origin}')[0] == status, origin
    two = 'Origin: http://localhost', 'Origin: http://evil.example'
    assert get(page, '/', LOCAL, *two)[0] == 400


def test_what_browsers_say_of_a_request(page, client):
    for site in ('cross-site', 'same-site'):
        headers = {'sec-fetch-site': site, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image'}
        assert client.get(f'{page}theme.css', headers=headers).status_code == 403
        assert upload(client, page, headers=headers).status_code == 403
        link = {'sec-fetch-site': site, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document'}
        assert client.get(page, headers=link).status_code == 200
        assert client.get(page, headers={**link, 'sec-fetch-dest': 'iframe'}).status_code == 403
        assert client.get(f'{page}config', headers=link).status_code == 403


# -------------------------------------------------------------------------------- access
def test_nothing_is_shown_without_the_token(locked, client, service):
    address, page = locked
    secret = service.folder / 'upload_x' / 'a.jpg'
    secret.parent.mkdir(exist_ok=True)
    secret.write_bytes(b'x')
    paths = {f'/gradio_api/file={secret}', f'/gradio_api/file%3D{secret}', '/x', '//', '/../config'}
    paths |= {re.sub(r'\{[^}]*\}', 'x', path) for path in paths_of(page.app.routes)}
    assert len(paths) > 60  # all of Gradio's
    for path in sorted(paths):
        for method in ('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'ODD'):
            answer = client.request(method, address.rstrip('/') + path)
            assert answer.status_code in (400, 403, 404, 405), (method, path)
            assert b'gradio' not in answer.content.lower()
    assert upload(client, address).status_code == 403
    assert call(client, address, 'end').status_code == 403
    form = client.get(address)
    assert form.status_code == 403 and 'type="password"' in form.text and TOKEN not in form.text


def test_the_link_opens_the_page(locked, client):
    address, _ = locked
    cookie = f'mmpose_attn_{port_of(address)}'
    answer = client.get(f'{address}?token={TOKEN}')
    assert answer.status_code == 303 and answer.headers['location'] == './'
    flags = answer.headers['set-cookie']
    assert TOKEN not in flags and 'HttpOnly' in flags and 'SameSite=lax' in flags
    assert 'Secure' not in flags
    page = client.get(address)
    assert page.status_code == 200 and 'gradio_config' in page.text
    assert upload(client, address).status_code == 200
    assert call(client, address, 'end').status_code == 200
    assert client.get(f'{address}login').status_code == 303
    # also without what the browser adds, but not with another value
    given = client.cookies[cookie]
    for value, status in ((given, 200), (given[:-1], 403), (given + 'x', 403), ('', 403)):
        text = get(address, '/', LOCAL, f'Cookie: a="; {cookie}={value}; b=c')
        assert text[0] == status, value
    proxied = client.get(f'{address}?token={TOKEN}', headers={'x-forwarded-proto': 'https'})
    assert 'Secure' in proxied.headers['set-cookie']


def test_other_tokens_do_not(service, client):
    from mmpose_attn.apis.access import Access

    queries = [
        'token=',
        'token',
        f'token={TOKEN}x',
        f'token={TOKEN[:-1]}',
        f'token=x&token={TOKEN}',
    ]
    queries += [f'Token={TOKEN}', 'token=%FF', 'token=%00', f'a=token={TOKEN}']
    with served(service, access=lambda port: Access(TOKEN, is_link=True, port=port)) as (
        address,
        _,
    ):
        for query in queries:
            answer = client.get(f'{address}?{query}')
            assert answer.status_code == 403 and 'set-cookie' not in answer.headers, query
        for path in ('config', 'gradio_api/queue/data', 'login'):
            assert client.get(f'{address}{path}?token={TOKEN}').status_code == 403


def test_a_password_and_wrong_attempts(service, client):
    from mmpose_attn.apis.access import Access

    password = 'corréct horse'
    with served(service, access=lambda port: Access(password, is_link=False, port=port)) as found:
        login = f'{found[0]}login'
        assert client.get(f'{found[0]}?token={password}').status_code == 403
        odd = (b'', b'x', b'secret', b'secret=%FF', b'secret=a&secret=b', b'\xff=1', b's' * 10**5)
        for body in odd:
            assert client.post(login, content=body).status_code in (400, 403)
        assert client.post(login, data={'secret': password}).status_code == 303
        assert client.get(found[0]).status_code == 200
        client.cookies.clear()
        statuses = [client.post(login, data={'secret': 'wrong'}).status_code for _ in range(12)]
        assert statuses[0] == 403 and statuses[-1] == 429
        # the right one does not help then, nor does another name for oneself
        answer = client.post(
            login, data={'secret': password}, headers={'x-forwarded-for': '192.0.2.7'}
        )
        assert answer.status_code == 429 and 0 < int(answer.headers['retry-after']) <= 61
        assert 'Too many wrong attempts' in answer.text


# -------------------------------------------------------------------------------- limits
def test_a_file_that_is_too_large(page, client, service):
    kept = set(service.folder.iterdir())
    for length in ('Content-Length: 2000000', 'Content-Length: ' + '9' * 18):
        head = f'POST /gradio_api/upload HTTP/1.1\r\n{LOCAL}\r\n{length}\r\n{CLOSE}\r\n'
        head += 'Content-Type: multipart/form-data; boundary=b\r\n\r\n'
        assert raw(page, head)[0] == 413
    for size in (10**6 + 1, 3 * 10**6):
        answer = upload(client, page, bytes(size))
        assert answer.status_code == 413 and 'at most 0.001 GB' in answer.text

    def chunks():  # without a length
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        for _ in range(40):
            yield bytes(10**5)

    answer = client.post(
        f'{page}gradio_api/upload',
        content=chunks(),
        headers={'content-type': 'multipart/form-data; boundary=b'},
    )
    assert answer.status_code == 413
    assert set(service.folder.iterdir()) == kept
    assert upload(client, page, bytes(10**6)).status_code == 200


def test_forms_that_are_odd(page, client, service):
    kept = set(service.folder.iterdir())
    url = f'{page}gradio_api/upload'
    many = [('files', (f'{i}.jpg', b'x')) for i in range(2)]
    assert client.post(url, files=many).status_code == 400
    assert client.post(url, files={'other': ('a.jpg', b'x')}).status_code == 400
    assert client.post(url, files={'files': ('a.jpg', b'x')}, data={'a': 'b'}).status_code == 400
    assert client.post(url, json={}).status_code == 400
    assert client.post(url).status_code == 400
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nxyz'
    for kind in ('multipart/form-data', 'multipart/form-data; boundary=', 'text/plain'):
        for body in (b'', part):
            answer = client.post(url, content=body, headers={'content-type': kind})
            assert answer.status_code == 400, kind
    kind = {'content-type': 'multipart/form-data; boundary=b; charset=nothing'}
    for body in (b'--b', part, part[:30], part.replace(b'name="files"', b'x'), b'--b\r\n' * 1000):
        answer = client.post(f'{url}?upload_id=x', content=body, headers=kind)
        assert answer.status_code == 400, body
    # who hangs up leaves nothing
    head = f'POST /gradio_api/upload HTTP/1.1\r\n{LOCAL}\r\nContent-Length: 9999\r\n'
    head += 'Content-Type: multipart/form-data; boundary=b\r\n\r\n'
    with pytest.raises(TimeoutError):
        raw(page, head.encode() + part, seconds=0.5)
    for _ in range(50):
        if set(service.folder.iterdir()) == kept:
            break
        time.sleep(0.1)
    assert set(service.folder.iterdir()) == kept


@pytest.mark.parametrize(
    'name',
    [
        *('../../x.jpg', '/etc/passwd', '..', '.', '', 'C:\\x\\y.jpg', 'a\nb.jpg', '\x7f\x01'),
        *('<b>.jpg', 'Ä ß 漢.png', '-rf', '.bashrc', 'x.m3u8', '%2e%2e%2f', 'con.jpg:x'),
        'x' * 3000 + '.jpg',
    ],
)
def test_names_of_files_that_are_odd(page, client, service, name):
    escaped = name.encode().replace(b'\n', b'\\n')
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + escaped
    body += b'"\r\n\r\nx\r\n--b--\r\n'
    kind = {'content-type': 'multipart/form-data; boundary=b'}
    answer = client.post(f'{page}gradio_api/upload', content=body, headers=kind)
    if not name:
        assert answer.status_code in (200, 400)
        return
    (path,) = map(Path, answer.json())
    assert path.parent.parent == service.folder and path.read_bytes() == b'x'
    assert re.fullmatch('upload_[0-9a-f]{32}', path.parent.name)
    assert 0 < len(path.name.encode()) <= 200 and path.name.isprintable()


def test_files_of_an_address_within_an_hour(service, client):
    with served(service, an_hour=(5, 400_000)) as (address, _):
        assert [upload(client, address).status_code for _ in range(2)] == [200, 200]
        answer = upload(client, address, bytes(500_000))
        assert answer.status_code == 429 and 'You have sent 2 files' in answer.text
        assert 0 < int(answer.headers['retry-after']) <= 3600
        # what was refused has been sent, too, and another name for oneself does not help
        headers = {'x-forwarded-for': '192.0.2.7', 'x-real-ip': '192.0.2.7'}
        assert upload(client, address, headers=headers).status_code == 429
    with served(service, an_hour=(3, 400_000)) as (address, _):
        assert [upload(client, address).status_code for _ in range(4)] == [200, 200, 200, 429]


def test_what_is_too_much_at_once():
    from mmpose_attn.apis.limits import AtOnce, TooMuch

    now = AtOnce(each=2, all=3)
    with now.one('a'), now.one('a'):
        with pytest.raises(TooMuch), now.one('a'):
            pass
        with now.one('b'), pytest.raises(TooMuch), now.one('c'):
            pass
    with now.one('a'):
        pass


def test_jobs_of_an_address(service, client):
    with served(service) as (address, _):
        path = upload(client, address, b'no picture').json()[0]
        asked = file_data(path), 'topdown', WHOLE_IMAGE, 0.3, 0.3, True
        with service._one:  # nothing is done until then
            answers = [
                call(client, address, 'work', *asked, session=f's{i}', queue=True) for i in range(6)
            ]
            assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
            assert '4 jobs of yours' in answers[-1].json()['detail']
        for i in range(4):
            success, output = results(client, address, f's{i}')
            assert success and 'failed' in output['data'][0]
        for _ in range(50):
            if call(client, address, 'work', *asked, queue=True).status_code == 200:
                break
            time.sleep(0.1)
        assert results(client, address, 'visitor')[0]


def test_connections_of_an_address(page):
    import socket

    held = [socket.create_connection(('127.0.0.1', port_of(page)), 10) for _ in range(70)]
    try:
        time.sleep(0.5)
        ended = 0
        for connection in held:
            connection.setblocking(False)
            try:
                ended += connection.recv(1) == b''
            except BlockingIOError:
                pass
            except ConnectionResetError:
                ended += 1
        assert 6 <= ended < 20
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.2)
    assert get(page, '/robots.txt', LOCAL)[0] == 200


def test_a_silent_connection_is_ended(page, monkeypatch):
    import mmpose_attn.apis.server as server

    monkeypatch.setattr(server, '_HEADERS', 0.3)
    assert raw(page, 'GET / HTTP/1.1\r\nHost: local', seconds=5)[0] == 0


# ------------------------------------------------------------------------------- headers
def policy(answer):
    parts = answer.headers['content-security-policy'].split(';')
    return {name: values for name, *values in (part.split() for part in parts)}


def test_headers(page, client):
    path = upload(client, page).json()[0]
    for url in ('', 'config', 'theme.css', 'nothing', f'gradio_api/file={path}', 'login'):
        answer = client.get(page + url)
        assert answer.headers['x-content-type-options'] == 'nosniff'
        assert answer.headers['x-frame-options'] == 'DENY'
        assert answer.headers['referrer-policy'] == 'no-referrer'
        assert answer.headers['cross-origin-resource-policy'] == 'same-origin'
        assert answer.headers['cross-origin-opener-policy'] == 'same-origin'
        assert 'camera=()' in answer.headers['permissions-policy']
        assert answer.headers['cache-control'] == 'no-store'
        assert 'server' not in answer.headers
        rules = policy(answer)
        assert rules['default-src'] == rules['frame-ancestors'] == ["'none'"]
        for name, values in rules.items():
            for value in values:  # no other machine, nothing evaluated, no script in the text
                assert value in ("'none'", "'self'", 'data:', 'blob:') or (
                    value.startswith("'sha256-") if name == 'script-src' else name == 'style-src'
                )
    assert len(policy(client.get(page))['script-src']) == 6  # the page's own
    assert 'sandbox' in policy(client.get(f'{page}gradio_api/file={path}'))


@pytest.mark.parametrize('request_', ['?', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b', 'GET /'])
def test_what_is_no_request_gets_them_too(page, request_):
    status, answer = raw(page, f'{request_}\r\n\r\n')
    assert status == 400
    for header in (b'nosniff', b'x-frame-options: DENY', b"default-src 'none'", b'no-referrer'):
        assert header.lower() in answer.lower()


def test_who_does_not_read_an_answer_keeps_nobody_waiting(service):
    from mmpose_attn.apis.guard import Guard

    body = json.dumps(dict(data=[], fn_index=3, session_hash='x')).encode()
    scope = dict(type='http', method='POST', path='/gradio_api/queue/join', query_string=b'')
    scope |= dict(headers=[(b'host', b'localhost')], server=('127.0.0.1', 80))

    async def page(scope, receive, send):
        await PlainTextResponse('done')(scope, receive, send)

    async def both():
        guard = Guard(
            page, names=[], folder=service.folder, uploads=None, functions=[3], jobs=lambda _: 0
        )

        async def receive():
            return dict(type='http.request', body=body, more_body=False)

        async def never(message):
            await asyncio.Event().wait()

        sent = []

        async def send(message):
            sent.append(message)

        first = dict(scope, client=('192.0.2.1', 1))
        stuck = asyncio.create_task(guard(first, receive, never))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(guard(dict(scope, client=('192.0.2.2', 1)), receive, send), 5)
        assert not stuck.done() and sent[0]['status'] == 200
        stuck.cancel()

    asyncio.run(both())


# ----------------------------------------------------------- Gradio's interface, directly
def test_a_job_by_requests_alone(page, client, pictures, service):
    path = upload(client, page, min(pictures.iterdir()).read_bytes()).json()[0]
    assert 'Ready' in call(client, page, 'preview', file_data(path)).json()['data'][0]
    asked = file_data(path), 'topdown', WHOLE_IMAGE, 0.3, 0.3, True
    assert call(client, page, 'work', *asked, queue=True).status_code == 200
    success, output = results(client, page, 'visitor')
    assert success and '1 person in a.jpg' in output['data'][0]
    found = re.findall(rf'{service.folder}/(job_[^/]+)/results.json', json.dumps(output))
    assert found and re.fullmatch('job_[0-9a-f]{32}', found[0])
    url = f'{page}gradio_api/file={service.folder / found[0] / "results.json"}'
    assert isinstance(client.get(url).json(), list)


def test_files_that_nobody_dropped(page, client, service, tmp_path):
    link = service.folder / 'upload_link'
    link.unlink(missing_ok=True)
    link.symlink_to('/etc')
    bad = ['/etc/hostname', 'http://192.0.2.1/x.jpg', 'https://example.org/x.jpg', '~/.bashrc', '']
    bad += [
        f'{service.folder}/../x',
        str(service.folder),
        f'{link}/hostname',
        'file:///etc/hostname',
    ]
    # seem to end in the folder, and are addresses to Gradio
    up = '../' * 40 + str(service.folder.resolve()).lstrip('/')
    bad += [f'{scheme}://192.0.2.1/{up}/x.jpg' for scheme in ('http', 'https', 'HTTP', 'ftp')]
    bad += [f'{service.folder}/a/../x.jpg', f'./{up}/x.jpg', f'file:///{up}/x.jpg']
    bad += [f'{service.folder}/\0', str(ROOT / 'README.md'), 'data:image/png;base64,AAAA', '\ud800']
    for path in bad:
        for data in (file_data(path), [file_data(path)], {'a': {'b': file_data(path)}}):
            for queue in (False, True):
                answer = client.post(
                    f'{page}gradio_api/{"queue/join" if queue else "run/predict"}',
                    content=json.dumps(dict(data=[data], fn_index=0, session_hash='x')),
                )
                assert answer.status_code in (400, 403), path
        if path.isprintable():
            assert get(page, f'/gradio_api/file={path}', LOCAL)[0] in (403, 404), path
    for odd in (1, None, [], {}, True):
        data = dict(file_data('x'), path=odd)
        assert call(client, page, 'preview', data).status_code == 403
    link.unlink()


@pytest.mark.parametrize(
    'body',
    [
        *(b'', b'{', b'[]', b'null', b'1', b'\xff', b' ' * 300_000),
        *(b'[' * 100_000, b'{"a":' * 50_000, b'9' * 10_000),
        b'{"data": [NaN], "fn_index": 3, "session_hash": "x"}',
        b'{"data": ["\\ud800"], "fn_index": 3, "session_hash": "x"}',
        b'{"data": [], "fn_index": 3}',
        b'{"data": [], "fn_index": 3, "session_hash": 7}',
        b'{"data": [], "fn_index": 3, "session_hash": "%s"}' % (b'x' * 65),
    ],
)
def test_calls_that_are_no_json_for_the_page(page, client, body):
    for path in ('run/predict', 'queue/join'):
        answer = client.post(f'{page}gradio_api/{path}', content=body)
        assert answer.status_code in (400, 413) and answer.json()['detail']


def test_arguments_that_do_not_fit(page, client, pictures):
    path = upload(client, page, min(pictures.iterdir()).read_bytes()).json()[0]
    good = [file_data(path), 'topdown', WHOLE_IMAGE, 0.3, 0.3, True]
    for index, value in ((1, '../x'), (1, 7), (2, 'gone'), (3, 1e308), (3, 'x'), (4, -1), (0, 'x')):
        asked = list(good)
        asked[index] = value
        session = f's{index}'
        answer = call(client, page, 'work', *asked, queue=True, session=session)
        if answer.status_code == 200:
            success, output = results(client, page, session)
            assert not success or 'failed' in output['data'][0], (index, value)
    for index in (-1, 99, 10**9, 'x', None):
        body = dict(data=[], fn_index=index, session_hash='x', event_data=dict(index=0))
        assert client.post(f'{page}gradio_api/run/predict', json=body).status_code >= 400
    # a function that waits is not to be had without waiting
    assert call(client, page, 'work', *good).status_code == 404
    assert get(page, '/robots.txt', LOCAL)[0] == 200


def test_what_else_gradio_answers_is_not_to_be_had(page, client):
    other = ('monitoring', 'monitoring/summary', 'logout', 'gradio_api/info', 'gradio_api/runs')
    other += ('gradio_api/proxy=https://example.org', 'gradio_api/file/etc/hostname', 'svelte/x')
    other += ('gradio_api/dev/reload', 'gradio_api/openapi.json', 'gradio_api/token', 'docs')
    other += ('gradio_api/deep_link?session_hash=x', 'gradio_api/startup-events', 'openapi.json')
    for path in other:
        assert client.get(page + path).status_code == 404, path
    for path in (
        'component_server',
        'process_recording',
        'vibe-edit',
        'cancel',
        'reset',
        'call/end',
    ):
        assert client.post(f'{page}gradio_api/{path}', json={}).status_code == 404, path
    assert client.get(f'{page}?deep_link=../x').status_code == 200  # there is none


def test_what_was_uploaded_cannot_be_guessed(page, client):
    first, second = (upload(client, page, b'the same').json()[0] for _ in range(2))
    assert Path(first).parent != Path(second).parent
    body = io.BytesIO(b'the same')
    assert upload(client, page, body).status_code == 200
