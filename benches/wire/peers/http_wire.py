"""Sockets between those that ask and those that are asked, with a relay in between that counts."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from benches.wire.relay import LOOPBACK, Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

START_S: Final = 10.0
GZIP_LEVEL: Final = 6


class Reply(NamedTuple):
    """What an HTTP server answers."""

    content_type: str
    body: bytes


class Relays:
    """Relays that run in a thread of their own, until the context is left."""

    def __init__(self) -> None:
        self.all: list[Relay] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(kind, error, trace), self._loop).result(START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def to(self, port: int) -> int:
        """Begin to relay to a port; gives the port to connect to."""
        relay = Relay(port)
        asyncio.run_coroutine_threadsafe(relay.__aenter__(), self._loop).result(START_S)
        self.all.append(relay)
        return relay.port

    async def _end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for relay in self.all:
            await relay.__aexit__(kind, error, trace)
        # What hangs up does so in the next rounds of the loop.
        await asyncio.sleep(0.01)


class HttpHost:
    """An HTTP server of the standard library for one host: HTTP/1.1, and connections stay open.

    Args:
        answer: gives the reply to a request's path and body.
    """

    def __init__(self, answer: Callable[[str, bytes], Reply]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one write, as Python's XML-RPC server does it

            def do_POST(self) -> None:
                self._reply(self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self) -> None:
                self._reply(b"")

            def _reply(self, asked: bytes) -> None:
                content_type, body = answer(self.path, asked)
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                if "gzip" in self.headers.get("Accept-Encoding", ""):
                    body = gzip.compress(body, GZIP_LEVEL)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing of each request."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class HttpClient:
    """One connection to one host, which stays open.

    Args:
        port: of the host, or of the relay before it.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port)

    def post(self, path: str, body: bytes, content_type: str) -> bytes:
        """Ask; gives the body of the reply. Raises OSError and http.client.HTTPException."""
        headers = {"Content-Type": content_type, "User-Agent": "Python-xmlrpc/3.11"}
        return self._exchange("POST", path, body, headers)

    def get(self, path: str) -> bytes:
        """Ask for a page with gzip; gives it as it came."""
        return self._exchange("GET", path, None, {"Accept-Encoding": "gzip", "Accept": "text/plain;version=0.0.4"})

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        raw = response.read()
        assert response.status == http.client.OK, response.status
        return raw

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
