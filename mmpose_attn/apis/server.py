"""Serves the page at a socket until it is told to end."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .addresses import visitor
from .guard import HEADERS

_CONNECTIONS, _OF_ADDRESS = 512, 64
_HEADERS = 20  # seconds until a connection has sent those of its next request


class _Protocol(H11Protocol):
    """Connections that one address cannot have too many of, nor keep open in silence."""

    counts: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.address = visitor(self.client[0])
        self.counts[self.address] += 1
        if self.counts[self.address] > _OF_ADDRESS or self.counts.total() > _CONNECTIONS:
            transport.abort()
        self.loop.call_later(_HEADERS, self._end_if_silent, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.counts[self.address] -= 1
        if not self.counts[self.address]:
            del self.counts[self.address]
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no request is answered before the guard, and with its headers all the same."""
        headers = {**HEADERS, 'content-type': 'text/plain', 'connection': 'close'}
        headers['content-security-policy'] = "default-src 'none'; frame-ancestors 'none'"
        answer = h11.Response(status_code=400, headers=list(headers.items()), reason='Bad Request')
        for event in (answer, h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _end_if_silent(self, last: object) -> None:
        """Ends the connection if there was no request since the last one was answered."""
        if self.transport.is_closing():
            return
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(_HEADERS, self._end_if_silent, self.cycle)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, begun: Callable, ends: Callable) -> None:
        super().__init__(config)
        self._begun, self._ends = begun, ends

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ends()
        await super().shutdown(sockets)


def make_server(
    app: ASGIApp, *, begun: Callable[[], None], ends: Callable[[], None]
) -> uvicorn.Server:
    """What serves an application: ``run(sockets=[...])`` until Ctrl-C or ``kill``.

    Args:
        app: of ASGI.
        begun: is called when it serves.
        ends: is called before the last connections are closed.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # uvicorn's own closes the log files of everybody else in the process
        log_level='error',
        lifespan='on',
        http=_Protocol,
        ws='none',
        proxy_headers=False,  # anybody can send them
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return _Server(config, begun, ends)
