"""Streams by address, from servers on the loopback address."""

import itertools
import os
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest

from mmpose_attn import media
from mmpose_attn.apis import find_sources, read_frames
from mmpose_attn.media import live
from mmpose_attn.media.live import LiveStream
from tests.inference_helpers import write_video

FRAMES = 12


@pytest.fixture(scope='module')
def transport(tmp_path_factory):
    """An MPEG transport stream."""
    path = tmp_path_factory.mktemp('ts') / 'a.ts'
    with av.open(str(path), 'w', format='mpegts') as container:
        stream = container.add_stream('mpeg2video', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for i in range(FRAMES):
            image = np.full((48, 64, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.fixture
def server(transport, tmp_path, monkeypatch):
    """``server.url`` with /ts, /mjpeg, /file.avi and hostile pages; ``server.asked``."""
    monkeypatch.setattr(live, '_PAUSE', 0.05)
    secret = tmp_path / 'secret.ts'
    secret.write_bytes(transport)
    film = write_video(tmp_path / 'film.avi', 20).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.server.asked.append(self.path)
            if len(self.server.asked) > self.server.most:
                self.send_error(503)
                return
            self.send_response(302 if self.path == '/moved' else 200)
            if self.path == '/moved':
                self.send_header('Location', f'file://{secret}')
            if self.path == '/file.avi':
                self.send_header('Content-Length', str(len(film)))
            if self.path == '/mjpeg':
                self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=part')
            self.end_headers()
            if self.path == '/ts':
                self.wfile.write(transport)
            elif self.path == '/file.avi':
                self.wfile.write(film)
            elif self.path == '/list':
                self.wfile.write(f'#EXTM3U\n#EXTINF:9,\nfile://{secret}\n'.encode())
            elif self.path == '/mjpeg':
                for i in range(FRAMES):
                    image = np.full((48, 64, 3), 20 * i, np.uint8)
                    jpeg = cv2.imencode('.jpg', image)[1].tobytes()
                    self.wfile.write(
                        b'--part\r\nContent-Type: image/jpeg\r\nContent-Length: '
                        b'%d\r\n\r\n%s\r\n' % (len(jpeg), jpeg)
                    )

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.asked, server.most = [], 99
    server.url = f'http://user:secret@127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('path', ['/ts', '/mjpeg'])
def test_http_is_read_and_reached_again(server, path):
    server.most = 2
    (source,) = find_sources(server.url + path)
    assert (source.kind, source.live, source.count) == ('stream', True, None)
    assert 'secret' not in source.name and source.name.startswith('http_127.0.0.1')
    *frames, last = read_frames([source])
    assert len(server.asked) == 1 + live.RECONNECTS
    assert last.error == 'the stream was lost for good: tried to reach it again 3 times'
    # mpjpeg may lose the last frame, behind which no boundary comes
    assert 2 * FRAMES - 2 <= len(frames) <= 2 * FRAMES
    assert all(frame.live and frame.error is None for frame in frames)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    times = [frame.time for frame in frames]
    assert times[0] == 0 and times[1] == pytest.approx(0.04)
    assert all(a <= b for a, b in itertools.pairwise(times))


def test_a_file_behind_an_address_ends(server):
    (source,) = find_sources(f'{server.url}/file.avi')
    assert (source.live, source.count) == (False, 20)
    frames = list(read_frames([source]))
    assert len(frames) == 20 and not any(f.error or f.live for f in frames)
    assert len(server.asked) == 1


@pytest.mark.parametrize('path', ['/list', '/moved', '/nothing'])
def test_a_server_cannot_have_files_opened(server, path):
    with pytest.raises(ValueError, match=r'^input http://127.0.0.1:\d+/\w+ cannot be read'):
        find_sources(server.url + path)


@pytest.mark.parametrize(
    'address', ['ftp://a/b.mp4', 'file:///etc/passwd', 'concat://a', 'udp://127.0.0.1:9', 'srt://x']
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ValueError, match='a kind that is not read; these are: http, https, rtsp'):
        find_sources(address)


@pytest.mark.parametrize('path', ['/list', '/nothing'])
def test_contents_of_other_kinds_are_told_from_lost_connections(server, path):
    with pytest.raises(ValueError, match=r'what comes is nothing, or of none of these kinds: mpeg'):
        find_sources(server.url + path)


def test_the_scheme_of_an_address_may_be_written_large(server):
    frames = read_frames(find_sources(f'{server.url}/file.avi'.replace('http', 'HTTP')))
    assert len(list(frames)) == 20


@pytest.mark.parametrize(
    'address',
    ['http://', 'rtsp:///a', 'http://127.0.0.1:99999/', 'http://a:b/', 'http://[::1'],
)
def test_addresses_that_name_no_computer(address):
    with pytest.raises(ValueError, match='is no address: a computer, or a port below 65536'):
        find_sources(address)


@pytest.mark.parametrize('address', ['pipe:2147483646', 'pipe:99999999999999999999'])
def test_a_descriptor_that_is_not_open(address):
    with pytest.raises(ValueError, match=f'^input {address} is not open'):
        find_sources(address)


def test_nobody_there():
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    for scheme in ('http', 'rtsp'):
        with pytest.raises(ValueError, match='cannot be read: Connection refused'):
            find_sources(f'{scheme}://127.0.0.1:{port}/a')


def test_a_server_that_is_silent():
    with socket.create_server(('127.0.0.1', 0)) as silent:
        start = time.monotonic()
        with pytest.raises(media.MediaError, match='cannot be read: nothing came for 0.5 seconds'):
            LiveStream(f'http://127.0.0.1:{silent.getsockname()[1]}/a', wait=0.5)
        assert time.monotonic() - start < 5


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_pipes(tmp_path, transport):
    path = tmp_path / 'pipe'
    os.mkfifo(path)

    def write():
        time.sleep(0.3)
        with open(path, 'wb') as file:
            file.write(transport)

    writer = threading.Thread(target=write)
    (source,) = find_sources(path)
    assert source.kind == 'stream' and source.live
    writer.start()
    frames = list(read_frames([source]))
    writer.join()
    assert len(frames) == FRAMES and not any(frame.error for frame in frames)
    assert abs(int(frames[5].image.mean()) - 100) < 5 and frames[5].fps == 25

    reading, writing = os.pipe()
    os.write(writing, transport[:60_000])
    os.close(writing)
    assert len(list(read_frames(find_sources(f'pipe:{reading}')))) == FRAMES
    os.close(reading)
    (shot,) = LiveStream(str(path), wait=0.3).frames()
    assert shot.error == 'the stream cannot be read: nothing came for 0.3 seconds'


def test_what_comes_through_a_pipe_is_no_playlist(tmp_path, transport):
    (tmp_path / 'secret.ts').write_bytes(transport)
    reading, writing = os.pipe()
    os.write(writing, f'#EXTM3U\n#EXTINF:9,\n{tmp_path}/secret.ts\n'.encode() * 50)
    os.close(writing)
    (frame,) = read_frames(find_sources(f'pipe:{reading}'))
    os.close(reading)
    assert 'cannot be read' in frame.error and frame.image is None


class Rtsp(threading.Thread):
    """Enough of RFC 2326 to play a transport stream as RTP in its own connection."""

    def __init__(self, content):
        super().__init__(daemon=True)
        self.content, self.asked = content, []
        self.socket = socket.create_server(('127.0.0.1', 0))
        self.url = f'rtsp://127.0.0.1:{self.socket.getsockname()[1]}/camera'

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.serve(connection)

    def serve(self, connection):
        sdp = 'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n'
        sdp += 'm=video 0 RTP/AVP 33\r\na=control:1\r\n'
        headers = {
            'OPTIONS': 'Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n',
            'DESCRIBE': f'Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n',
            'SETUP': 'Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n',
            'PLAY': 'Session: 1\r\n',
        }
        request = b''
        while data := connection.recv(4096):
            request += data
            if b'\r\n\r\n' not in request:
                continue
            method = request.split()[0].decode()
            number = re.search(rb'CSeq: (\d+)', request)[1].decode()
            request = b''
            self.asked.append(method)
            body = sdp if method == 'DESCRIBE' else ''
            reply = f'RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{headers.get(method, "")}\r\n{body}'
            connection.sendall(reply.encode())
            if method == 'PLAY':
                for i in range(0, len(self.content), 7 * 188):
                    rtp = struct.pack('>BBHII', 0x80, 33, i // 1316 & 0xFFFF, i, 7)
                    rtp += self.content[i : i + 1316]
                    connection.sendall(b'$\0' + struct.pack('>H', len(rtp)) + rtp)
                return


def test_rtsp(transport, monkeypatch):
    monkeypatch.setattr(live, '_PAUSE', 0.05)
    server = Rtsp(transport)
    server.start()
    (source,) = find_sources(server.url)
    assert source.kind == 'stream' and source.live
    source.origin.reconnects = 1
    *frames, last = read_frames([source])
    server.socket.close()
    assert server.asked.count('PLAY') == 2
    assert last.error == 'the stream was lost for good: tried to reach it again 1 time'
    assert len(frames) >= 2 * FRAMES - 4 and all(frame.error is None for frame in frames)
