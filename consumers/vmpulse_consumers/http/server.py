"""Serves the app in the event loop that is there: the program's own signal handlers, logs and shutdown hold."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from vmpulse_consumers.http.bounds import Bounded
from vmpulse_consumers.http.connection import STATE_KEY, Connection
from vmpulse_consumers.http.peers import peer_of
from vmpulse_consumers.listener import listen

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterator

    from litestar.types import ASGIApp

GRACEFUL_S: Final = 1
"""Replies under way have so long to finish; a page takes milliseconds, and streams have no end of their own."""
SHUTDOWN_S: Final = 1.8
"""After so long the server is cut off, so that a stop takes less than 2 s."""
CONNECTIONS: Final = 900
"""More are cut at once: each is a file descriptor, of which a program has 1,024 unless it is given more."""
CONNECTIONS_EACH: Final = 200
"""So many from one address, or one /64 of IPv6, but for loopback, where a proxy may stand for many."""
HEAD_BYTES: Final = 16 << 10
"""Request line and headers together, as far as they come in pieces; what comes at once ``bounds`` refuses."""
PATIENCE_S: Final = 30
"""A client may keep us waiting so long: with the next request, with the rest of its head, and with reading a reply."""


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve *app* until cancelled; then close within 2 s. Raises PortTaken."""
    await serve_on(app, listen(host, port))


async def serve_on(
    app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None, patience_s: int = PATIENCE_S
) -> None:
    """Serve *app* on a socket that ``listen`` gave, until cancelled; then close within 2 s. *context*: for TLS."""
    server = _Server(_config(app, context, patience_s))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait([serving], timeout=SHUTDOWN_S)
        serving.cancel()
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would take SIGTERM away from the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """One connection, which lets replies without an end of their own know of it what ASGI does not tell.

    uvicorn waits for ever for the end of a head, and for a reply to be read; a thousand such clients would leave no
    connection to others. While the reply is ours to make no time runs, unless what is written of it is not read.
    """

    _deadline: asyncio.TimerHandle | None = None
    peer: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.connection = Connection(transport)
        self.peer = peer_of(self.client[0]) if self.client else None
        if self._is_one_too_many():
            self.connection.cut()
        self.app_state = {**self.app_state, STATE_KEY: self.connection}
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Bytes alone gain no time: a head that comes in drops, and requests of one who reads no reply.
        if self._is_ours and not self.flow.write_paused:
            self._wait_no_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_ours:
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_ours:
            self._wait_no_more()

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > CONNECTIONS:
            return True
        if self.peer is None:
            return False
        peers = [other.peer for other in self.connections if isinstance(other, _Protocol)]
        return peers.count(self.peer) > CONNECTIONS_EACH

    @property
    def _is_ours(self) -> bool:
        """Whether a reply is being made."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        self._wait_no_more()
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.connection.cut)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def shutdown(self) -> None:
        self.connection.closing.set()
        super().shutdown()


def _config(app: ASGIApp, context: ssl.SSLContext | None, patience_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        Bounded(app),
        http=_Protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        # Starts, stops and what strangers send to the port are nothing that the program's own log should fill with.
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=patience_s,
        timeout_graceful_shutdown=GRACEFUL_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
