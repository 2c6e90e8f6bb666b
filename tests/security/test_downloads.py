"""Downloads of checkpoints: whole, of the right name, and never unpacked."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmpose_attn.engine import CheckpointError
from mmpose_attn.engine.download import download


def contents(value=1.0):
    data = io.BytesIO()
    torch.save(dict(state_dict=dict(a=torch.full((3,), value))), data)
    return data.getvalue()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """``serve(path, body, status, **headers)`` -> its address."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body, status, headers = answers.get(self.path, (b'', 404, {}))
            self.send_response(status)
            for name, value in {'Content-Length': len(body), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    def serve(path, body=b'', status=200, **headers):
        answers[path] = body, status, {k.replace('_', '-'): v for k, v in headers.items()}
        return f'http://127.0.0.1:{httpd.server_port}{path}'

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield serve
        httpd.shutdown()


def load(url):
    return CheckpointLoader.load_checkpoint(url, map_location='cpu', logger='silent')


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / 'hub' / 'checkpoints').glob('*'))


def test_whole_files_with_their_hash(serve, tmp_path):
    digest = hashlib.sha256(contents()).hexdigest()[:8]
    for name in (f'net-{digest}.pth', f'net-{digest}_20240101.pth', 'plain.pth'):
        url = serve(f'/{name}', contents())
        assert load(url)['state_dict']['a'].tolist() == [1, 1, 1]
    serve('/plain.pth', contents(2.0))  # is not asked again
    assert load(url)['state_dict']['a'].tolist() == [1, 1, 1]
    moved = serve('/moved.pth', status=302, Location='/plain.pth')
    assert load(moved)['state_dict']['a'].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ('name', 'answer', 'message'),
    [
        ('cut.pth', dict(body=contents()[:500], Content_Length=len(contents())), '500 of .* came'),
        (
            'net-0123abcd.pth',
            dict(body=contents()),
            'SHA-256 begins .* its name with 0123abcd',
        ),
        ('net-0123abcd_20240101.pth', dict(body=contents()), 'SHA-256 begins with'),
        ('gone.pth', dict(status=404), 'HTTP Error 404'),
        (
            'local.pth',
            dict(status=302, Location='file:///etc/passwd'),
            'file:///etc/passwd',
        ),
        ('ftp.pth', dict(status=301, Location='ftp://127.0.0.1/x'), 'redirects to ftp:'),
        ('round.pth', dict(status=302, Location='/round.pth'), 'infinite loop'),
        ('', dict(body=contents()), 'names no file'),
        ('%2e%2e', dict(body=contents()), 'names no file'),
        ('..%2f..%2fleft.pth', dict(body=contents()), 'names no file'),
        ('a%1b.pth', dict(body=contents()), 'names no file'),
    ],
)
def test_bad_downloads_are_not_kept(serve, tmp_path, name, answer, message):
    url = serve(f'/{name}', **answer)
    with pytest.raises(CheckpointError, match=f'was not downloaded: .*{message}'):
        load(url)
    assert not kept(tmp_path) and not list(tmp_path.rglob('*left*'))


def test_archives_are_not_unpacked(serve, tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('inner.pth', contents())
    url = serve('/outer.pth', archive.getvalue())
    with pytest.raises(CheckpointError, match=r'outer\.pth .*truncated, damaged'):
        load(url)
    assert kept(tmp_path) == ['outer.pth']


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with pytest.raises(OSError, match='refused'):
        download('http://127.0.0.1:9/a.pth', tmp_path)
    assert not list(tmp_path.iterdir())
