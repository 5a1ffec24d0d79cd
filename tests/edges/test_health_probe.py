"""Asking a program whether it is well, against a real HTTP server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from vmpulse_agent.commands import health_command
from vmpulse_contract.errors import SettingsError
from vmpulse_edges.health_probe import ask, one_line


class Other(BaseHTTPRequestHandler):
    """Answers as it is told."""

    answers: ClassVar[dict[str, tuple[int, bytes]]] = {
        "/healthz": (200, b"ok\n"),
        "/readyz": (503, b'{"ready":false,"reasons":["one","two"]}'),
        "/gone": (404, b"nothing here"),
    }

    def do_GET(self) -> None:
        """Answer."""
        status, body = self.answers[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server's address."""
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_answers(url: str) -> None:
    """200 is well and 503 is not, each with its text; any other status is none of ours."""
    assert ask("--url", url, "/healthz") == (True, "ok\n")
    assert ask("--url", url, "/readyz") == (False, '{"ready":false,"reasons":["one","two"]}')
    assert ask("--url", url, "/gone") == (False, f"{url}/gone answers with HTTP status 404; check the address")


def test_nobody_there() -> None:
    """Where nobody listens the answer says so."""
    well, text = ask("--url", "http://127.0.0.1:1", "/healthz")
    assert not well
    assert text.startswith("nothing answers at http://127.0.0.1:1: ")


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, "http://127.0.0.1:9178"),
        ({"VMPULSE_AGENT_METRICS_PORT": "9200"}, "http://127.0.0.1:9200"),
        ({"VMPULSE_AGENT_METRICS_HOST": "0.0.0.0"}, "http://127.0.0.1:9178"),  # noqa: S104 - asked, not listened on
        ({"VMPULSE_AGENT_METRICS_HOST": "::", "VMPULSE_AGENT_METRICS_PORT": "1"}, "http://[::1]:1"),
        ({"VMPULSE_AGENT_METRICS_HOST": "fe80::1"}, "http://[fe80::1]:9178"),
        ({"VMPULSE_AGENT_METRICS_HOST": "h1"}, "http://h1:9178"),
    ],
)
def test_agent_is_asked_where_its_environment_has_it(environment: dict[str, str], expected: str) -> None:
    """Without ``--url`` the agent is asked at host and port of the variables that it reads itself."""
    assert health_command.default_url(environment) == expected


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:9178", "ftp://x", "http://x/healthz", "http://x:y", "http://x:0", "http://u@x"]
)
def test_wrong_addresses(address: str) -> None:
    """What is no address is a wrong setting, by the name it was given under."""
    with pytest.raises(SettingsError, match="--url"):
        ask("--url", address, "/healthz")


def test_answers_in_one_line() -> None:
    """Several reasons make one line, without what a terminal would obey."""
    assert one_line("broker away\n\n host h\x1b[31m stuck \n") == "broker away; host h[31m stuck"


@pytest.mark.parametrize("program", ["vmpulse_agent", "vmpulse_consumers"])
@pytest.mark.parametrize("well", [True, False])
def test_programs(program: str, well: bool, url: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """Both programs' health commands give one line and 0 or 1, and load no driver: they are asked every few seconds."""
    name, path = ("--url", "/healthz") if program == "vmpulse_agent" else ("--api", "/readyz")
    said = {
        "/healthz": (b"ok\n", b"one\ntwo\n"),
        "/readyz": (b'{"ready":true,"reasons":[]}', b'{"ready":false,"reasons":["one","two"]}'),
    }[path]
    monkeypatch.setattr(Other, "answers", {path: (200, said[0]) if well else (503, said[1])})
    blocked = ("libvirt", "aio_pika", "aiormq", "httpx", "litestar", "numpy", "rich", "prometheus_client", "asyncio")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
        f"from {program}.__main__ import main; sys.exit(main(['health', {name!r}, {url!r}]))"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=10, check=False)
    expected = {"/healthz": "ok", "/readyz": "ready"}[path] if well else "one; two"
    assert (done.returncode, done.stdout, done.stderr) == (0 if well else 1, expected + "\n", "")
