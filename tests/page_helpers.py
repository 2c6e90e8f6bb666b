"""The page at a port of its own, in a thread, and requests as they are on the wire."""

import json
import socket
import threading
from contextlib import contextmanager
from functools import partial

import pytest

from mmpose_attn.apis.addresses import link
from mmpose_attn.apis.service import PoseService


@contextmanager
def serving(network, folder):
    """A service of a network, its config and weights, whose files are in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(folder))
        patch.setenv('GRADIO_ANALYTICS_ENABLED', 'False')
        yield PoseService([tuple(map(str, network))], folder=folder, device='cpu')


@contextmanager
def served(service, host='127.0.0.1', *, names=(), access=None, an_hour=(200, 5e9), most=10**6):
    """Yields ``(address, page)``; ``access`` makes one for a port."""
    from mmpose_attn.apis.addresses import listen
    from mmpose_attn.apis.guard import Guard
    from mmpose_attn.apis.page import build_page, jobs, web_app
    from mmpose_attn.apis.server import make_server
    from mmpose_attn.apis.uploads import Uploads

    begun = threading.Event()
    with listen(host, 0) as listening:
        address, port = listening.getsockname()[:2]
        page = build_page(service)
        guard = Guard(
            web_app(page),
            names=names,
            folder=service.folder,
            uploads=Uploads(service.folder, service.make_room, most_bytes=most, an_hour=an_hour),
            functions=page.fns,
            jobs=partial(jobs, page),
            access=access and access(port),
        )
        server = make_server(guard, begun=begun.set, ends=partial(page.close, verbose=False))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        assert begun.wait(20)
        try:
            yield link(host, address, port), page
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def port_of(address):
    return int(address.rstrip('/').rpartition(':')[2])


def raw(address, text, seconds=20):
    """The status of what a server answers to bytes on the wire, and all of it."""
    with socket.create_connection(('127.0.0.1', port_of(address)), seconds) as connection:
        connection.sendall(text if isinstance(text, bytes) else text.encode('latin-1'))
        answer = b''
        while part := connection.recv(65536):
            answer += part
    return int(answer.split(b' ', 2)[1]) if answer else 0, answer


def get(address, path='/', *lines):
    """The same for a request of these header lines."""
    return raw(address, '\r\n'.join([f'GET {path} HTTP/1.1', *lines, 'Connection: close', '', '']))


def file_data(path):
    """As Gradio's page sends a file."""
    return {'path': str(path), 'meta': {'_type': 'gradio.FileData'}}


def results(client, address, session):
    """What the last job of a session answers: ``(success, output)``."""
    url = f'{address}gradio_api/queue/data?session_hash={session}'
    with client.stream('GET', url, timeout=60) as events:
        for line in events.iter_lines():
            event = json.loads(line.removeprefix('data: ') or '{}')
            if event.get('msg') == 'process_completed':
                return event['success'], event['output']
    raise AssertionError('no answer')
