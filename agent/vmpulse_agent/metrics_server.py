"""``/metrics`` and ``/healthz`` of agents over HTTP, in threads beside the event loop.

It answers while the loop is stuck, which is when it matters. A stranger costs at most CONNECTIONS threads for a few
seconds each, and never the agent; there is no login, so it listens on loopback unless told otherwise.
"""

from __future__ import annotations

import io
import logging
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder, make_wsgi_app

from vmpulse_agent import health
from vmpulse_agent.errors import PortTaken
from vmpulse_agent.metrics import AgentCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIEnvironment

    from vmpulse_agent.amqp_link import AmqpLink
    from vmpulse_agent.host_agent import HostAgent
    from vmpulse_agent.measures import Calls, LoopMeasure

log = logging.getLogger(__name__)

REMEDY: Final = "stop the program that listens there, or choose another metrics_host or metrics_port"
CONNECTIONS: Final = 8
"""At a time: a scraper, a health check, and people looking. More are hung up on."""
STALL_S: Final = 5.0
"""Nothing from the other end for so long, and it is hung up on."""
REQUEST_S: Final = 10.0
"""The longest that a connection may last, however busily it trickles."""
POLL_S: Final = 0.5
"""How often it looks for connections that last too long, while there are any."""


class MetricsServer:
    """Serves agents' metrics and health; a context manager.

    Args:
        host: the address to listen on.
        port: its port; 0: any free one.
        agents: gives the agents at work now; called from any thread.
        link: the broker link that they share.
        calls: what calls to the hypervisor have cost, where that is measured.
        loop: how long the event loop was blocked, where that is measured.

    Raises:
        PortTaken: the address is in use, or not this machine's.
    """

    def __init__(  # noqa: PLR0917 - what is served
        self,
        host: str,
        port: int,
        agents: Callable[[], Iterable[HostAgent]],
        link: AmqpLink,
        calls: Calls | None = None,
        loop: LoopMeasure | None = None,
    ) -> None:
        self._agents = agents
        self._link = link
        self.registry = CollectorRegistry()
        self.registry.register(AgentCollector(agents, link, calls, time.monotonic, loop))
        ProcessCollector(registry=self.registry)
        self._metrics = make_wsgi_app(self.registry)
        self._server = _listening(host, port, self._answer)
        self._thread = threading.Thread(target=self._server.serve_until_closed, name="metrics", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return f"http://{_bracketed(str(host))}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        log.info("metrics at %s/metrics", self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Requests under way are daemon threads, and end with the process or in a few seconds.
        self._server.stop_serving()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._route(environ, start_response)
        except Exception:  # a fault of ours must cost this one reply, and must be seen
            log.exception("a request for %.40r was not answered", environ.get("PATH_INFO"))
            return _plain(start_response, "500 Internal Server Error", "a fault of the agent; see its log")

    def _route(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO"), environ.get("REQUEST_METHOD")
        if method not in {"GET", "HEAD"}:
            return _plain(start_response, "405 Method Not Allowed", "GET is what can be done here")
        if path == "/healthz":
            reasons = health.reasons(self._agents(), self._link, time.monotonic())
            return _plain(start_response, "503 Service Unavailable" if reasons else "200 OK", *(reasons or ["ok"]))
        if path != "/metrics":
            return _plain(start_response, "404 Not Found", "here are /metrics and /healthz")
        environ["REQUEST_METHOD"] = "GET"
        environ["HTTP_ACCEPT"] = _readable(environ.get("HTTP_ACCEPT", ""))
        found: list[bytes] = self._metrics(environ, start_response)
        return found


def probe(host: str, port: int) -> None:
    """See whether metrics could be served there. Raises PortTaken."""
    _listening(host, port, lambda *_: ()).server_close()


def _readable(accept: str) -> str:
    """A scraper's preference, if the driver can read it: it stumbles over versions that are no numbers."""
    try:
        choose_encoder(accept)
    except (TypeError, ValueError):
        return ""
    return accept


def _plain(start_response: StartResponse, status: str, *lines: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return ["".join(f"{line}\n" for line in lines).encode()]


class _Handler(WSGIRequestHandler):
    timeout = STALL_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Say nothing: what strangers send to the port is nothing that the agent's log should fill with."""

    def get_stderr(self) -> io.StringIO:
        """Where wsgiref writes a traceback for a client that went away."""
        return io.StringIO()


class _Server(ThreadingWSGIServer):
    """A thread for each request, but only so many, and none for long."""

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self.address_family = family
        self._open: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        self._closing = False
        super().__init__(address, _Handler)

    def serve_until_closed(self) -> None:
        """Serve until ``stop_serving``. Unlike serve_forever it sleeps while nobody asks: waking costs a host CPU."""
        while not self._closing:
            with self._guard:
                self.timeout = POLL_S if self._open else None
            self.handle_request()
            self.service_actions()

    def stop_serving(self) -> None:
        """Have ``serve_until_closed`` end soon: what waits for connections is woken by the end of the listening."""
        self._closing = True
        _hang_up(self.socket)

    def server_bind(self) -> None:
        """Bind without looking the host's name up, which may take as long as it likes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = (str(self.server_address[0]), int(self.server_address[1]))
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the parent's signature
        """Take a connection if there is room."""
        with self._guard:
            if len(self._open) >= CONNECTIONS:
                return False
            self._open[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        """A connection is done."""
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Hang up on connections that last too long. Called with every poll."""
        with self._guard:
            late = [request for request, began in self._open.items() if time.monotonic() - began > REQUEST_S]
            for request in late:
                # Its thread then finds the end of the stream, and leaves.
                _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a connection broke or took too long, and faults of ours are caught where replies are made."""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection to the metrics was gone already")


def _listening(host: str, port: int, app: Callable[[Any, Any], Iterable[bytes]]) -> _Server:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = _Server(family, address)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise PortTaken(f"cannot serve metrics at {_bracketed(host)}:{port}: {reason}; {REMEDY}") from error
    server.set_app(app)
    return server


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
