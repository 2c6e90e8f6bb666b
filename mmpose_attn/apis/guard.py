"""What stands before the page: names of hosts, origins, access, addresses, limits and headers."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access
from .addresses import LOOPBACK_NAMES, host_name, plain_address, visitor
from .limits import AtOnce, TooMuch
from .uploads import Uploads

# All that the page in the browser asks for, and config for scripts. Gradio answers more, among
# it what fetches addresses of other machines, edits code or calls ffmpeg.
_GETS = re.compile(
    r'/|/login|/(?:assets|static)/.+|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/config|'
    r'/gradio_api/(?:heartbeat/[\w-]{1,64}|queue/data|upload_progress|file=.+)',
    re.ASCII,
)
_JOIN = '/gradio_api/queue/join'
_CALLS = '/gradio_api/run/predict', _JOIN
_UPLOAD = '/gradio_api/upload'
_POSTS = {*_CALLS, _UPLOAD, '/login'}
_FILE = '/gradio_api/file='
_SESSION = re.compile(r'[\w-]{1,64}', re.ASCII)
_MOST_CALL = 256 * 1024  # bytes of what a function of the page is called with
_MOST_HEADERS = 100
SILENCE = 30  # seconds without a byte of a request until it is given up

_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
HEADERS = {
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'permissions-policy': 'camera=(), microphone=(), geolocation=(), payment=(), usb=(), '
    'display-capture=(), midi=(), serial=(), hid=(), bluetooth=()',
}
_SCRIPT = re.compile(rb'<script\b([^>]*)>(.*?)</script>', re.DOTALL)


class Guard:
    """An ASGI application before that of the page; nothing of it runs for who is refused.

    Args:
        app: the page.
        names: of hosts, without ports, beside the loopback ones.
        folder: that files are served from and taken from.
        uploads: takes files.
        functions: numbers of those that may be called.
        jobs: how many an address has, waiting or at work.
        most_jobs: of an address.
        access: asks who somebody is; None lets in everybody.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Collection[str],
        folder: Path,
        uploads: Uploads,
        functions: Collection[int],
        jobs: Callable[[str], int],
        most_jobs: int = 4,
        access: Access | None = None,
    ) -> None:
        self.app, self.access, self.uploads = app, access, uploads
        self.names = {*LOOPBACK_NAMES, *names}
        self.folder = folder.resolve()
        self.functions, self.jobs, self.most_jobs = functions, jobs, most_jobs
        self._calls = AtOnce(each=8, all=64)
        self._joining = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] == 'lifespan':
            return await self.app(scope, receive, send)
        if scope['type'] == 'websocket':  # the page has none
            return await send({'type': 'websocket.close', 'code': 1008})
        send = _with_headers(scope['path'], send)
        receive = _impatient(receive)
        response = self._refusal(scope)
        if response is None:
            scope = _without_hearsay(scope)
            try:
                response = await self._answer(scope, receive, send)
            except TooMuch as error:
                response = _plain(429, str(error))
                response.headers['retry-after'] = str(error.seconds)
            except asyncio.TimeoutError:
                response = _plain(408, f'Nothing has come for {SILENCE} seconds.')
            except ClientDisconnect:
                return None
        if response is not None:
            await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Why a request is refused whoever asks; None if it is not."""
        headers, method, path = Headers(scope=scope), scope['method'], scope['path']
        if len(headers) > _MOST_HEADERS or any(
            len(headers.getlist(name)) > 1 for name in ('host', 'origin', 'content-length')
        ):
            return _plain(400, 'There are too many headers.')
        host = headers.get('host', '')
        name = host_name(host)
        if name is None:
            return _plain(400, 'The header Host is no name of a host.')
        # an address, other than a name, can be nobody else's
        if name not in self.names and name != plain_address(scope['server'][0]):
            return _plain(403, 'The page has another name: see --allowed-host.')
        methods = ['GET', 'HEAD'] if _GETS.fullmatch(path) else []
        methods += ['POST'] if path in _POSTS else []
        if not methods:
            return _plain(404, 'There is no such address here.')
        if method not in methods:
            return _plain(405, 'That cannot be done with this address.')
        if _is_foreign(headers, host, method, path):
            return _plain(403, 'Another page asks, which may not.')
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        request, path = Request(scope, receive), scope['path']
        address = visitor(scope['client'][0])
        if self.access is not None:
            refusal = await self.access.refusal(request, address)
            if refusal is not None:
                return refusal
        if path == '/login':
            return _plain(404, 'There is no password to be asked for.')
        if path == _UPLOAD:
            return await self.uploads.take(request, address)
        if path in _CALLS:
            return await self._call(scope, request, address, send)
        if path.startswith(_FILE) and not self._is_inside(path.removeprefix(_FILE)):
            return _plain(403, 'That is no file of the page.')
        await self.app(scope, receive, send)
        return None

    async def _call(
        self, scope: Scope, request: Request, address: str, send: Send
    ) -> Response | None:
        """Call a function of the page with what it may be called with."""
        with self._calls.one(address):
            body = b''
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_CALL:
                    return _detail(413, f'More than {_MOST_CALL // 1024} KB.')
            try:
                asked = json.loads(body, parse_constant=_refuse)
                if not _SESSION.fullmatch(asked.get('session_hash', '')):
                    return _detail(400, 'session_hash is up to 64 letters and digits.')
                if (
                    type(asked.get('fn_index')) is not int
                    or asked['fn_index'] not in self.functions
                ):
                    return _detail(404, 'There is no such function.')
                if not all(map(self._is_inside, _paths(asked))):
                    return _detail(403, 'Files are dropped on the page first.')
                # what has been looked at, and not what another reader may see in it
                body = json.dumps(asked, allow_nan=False, ensure_ascii=False).encode()
            except (AttributeError, TypeError, ValueError, RecursionError):
                return _detail(400, 'That is no JSON for the page.')
            headers = MutableHeaders(raw=list(scope['headers']))
            headers['content-type'] = 'application/json'
            headers['content-length'] = str(len(body))
            del headers['transfer-encoding']
            scope = dict(scope, headers=headers.raw)
            receive = _replay(body, request.receive)
            if scope['path'] != _JOIN:
                await self.app(scope, receive, send)
                return None
            async with self._joining:  # one after another, or several would pass the count
                count = self.jobs(address)
                if count >= self.most_jobs:
                    return _detail(429, f'{count} jobs of yours wait already: try again then.')
                answer: list[Message] = []
                await self.app(scope, receive, _keep(answer))
            for message in answer:  # or who does not read it would keep all others waiting
                await send(message)
            return None

    def _is_inside(self, path: str) -> bool:
        # Gradio fetches what begins like an address, and enough '..' would lead that here
        given = Path(path)
        try:
            return (
                given.is_absolute()
                and '..' not in given.parts
                and self.folder in given.resolve().parents
            )
        except (OSError, ValueError, RuntimeError):
            return False


def _is_foreign(headers: Headers, host: str, method: str, path: str) -> bool:
    """Whether a page of another origin asks, for more than to be shown this one."""
    origin, site = headers.get('origin'), headers.get('sec-fetch-site', 'same-origin')
    if origin is not None:
        try:
            parts = urlsplit(origin)
            standard = {'http': 80, 'https': 443}[parts.scheme]
            own = urlsplit(f'//{host}')
            same = (host_name(parts.netloc), parts.port or standard) == (
                host_name(host),
                own.port or standard,
            )
        except (KeyError, ValueError):  # among them 'null'
            return True
        return not same
    if site in ('same-origin', 'none'):
        return False
    return not (
        method in ('GET', 'HEAD')
        and path == '/'
        and headers.get('sec-fetch-mode') == 'navigate'
        and headers.get('sec-fetch-dest') == 'document'
    )


def _without_hearsay(scope: Scope) -> Scope:
    """A request without what proxies say of it, which anybody can; only https is believed."""
    believed = b'x-forwarded-proto', b'https'
    headers = [
        (name, value)
        for name, value in scope['headers']
        if not name.startswith((b'x-', b'forwarded')) or (name, value) == believed
    ]
    if scope['path'] == '/':  # hashes are those of the text itself
        headers = [(name, value) for name, value in headers if name != b'accept-encoding']
    return dict(scope, headers=headers)


def _with_headers(path: str, send: Send) -> Send:
    """Adds the headers of security; scripts within the page are allowed by their hashes."""
    start: Message | None = None
    body = b''

    async def guarded(message: Message) -> None:
        nonlocal start, body
        if message['type'] == 'http.response.start':
            headers = MutableHeaders(raw=list(message.get('headers', ())))
            for name in [name for name in headers if name.startswith('access-control-')]:
                del headers[name]
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            policy = _FILE_POLICY if path.startswith(_FILE) else _POLICY.format(scripts='')
            headers.setdefault('content-security-policy', policy)
            if not path.startswith(('/assets/', '/static/')):
                headers['cache-control'] = 'no-store'
            message = dict(message, headers=headers.raw)
            if path == '/':
                start = message
                return
        elif start is not None:
            body += message.get('body', b'')
            if message.get('more_body'):
                return
            headers = MutableHeaders(raw=list(start['headers']))
            if headers['content-security-policy'] == _POLICY.format(scripts=''):
                scripts = ''.join(f" '{_hash(script)}'" for script in _inline(body))
                headers['content-security-policy'] = _POLICY.format(scripts=scripts)
            await send(dict(start, headers=headers.raw))
            message = dict(message, body=body)
        await send(message)

    return guarded


def _inline(html: bytes) -> Iterator[bytes]:
    for attributes, text in _SCRIPT.findall(html):
        if b'src=' not in attributes:
            yield text


def _hash(text: bytes) -> str:
    return f'sha256-{b64encode(sha256(text).digest()).decode()}'


def _impatient(receive: Receive) -> Receive:
    """Gives up a request whose body does not come; who only listens may do so for hours."""
    done = False

    async def received() -> Message:
        nonlocal done
        if done:
            return await receive()
        message = await asyncio.wait_for(receive(), SILENCE)
        done = not message.get('more_body')
        return message

    return received


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def received() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {'type': 'http.request', 'body': body, 'more_body': False}

    return received


def _keep(messages: list[Message]) -> Send:
    async def kept(message: Message) -> None:
        messages.append(message)

    return kept


def _paths(value: Any) -> Iterator[str]:
    """Of the files anywhere in what a function is called with."""
    if isinstance(value, dict):
        if 'path' in value:
            yield value['path'] if isinstance(value['path'], str) else ''
        value = value.values()
    if not isinstance(value, str | int | float | None):
        for item in value:
            yield from _paths(item)


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no JSON')


def _plain(status: int, text: str) -> Response:
    return PlainTextResponse(text, status)


def _detail(status: int, text: str) -> Response:
    return JSONResponse({'detail': text}, status)
