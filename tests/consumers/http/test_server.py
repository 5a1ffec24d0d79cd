"""The server: its address, its shutdown, and what it leaves to the program."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time

import httpx
import pytest

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet
from vmpulse_consumers.errors import PortTaken
from vmpulse_consumers.http import build_app, listen, serve, serve_on


def test_port_in_use_is_named_with_a_remedy() -> None:
    """A second listener on an address is refused in one line that says what to do."""
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}.*in use.*choose another"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host, port", [("192.0.2.1", 0), ("127.0.0.1", 70000), ("no such host", 8080)])
def test_addresses_that_are_not_ours_are_refused(host: str, port: int) -> None:
    """An address of another machine, a port that is none and a name that means nothing are PortTaken too."""
    with pytest.raises(PortTaken, match="choose another address"):
        listen(host, port)


async def test_serve_refuses_a_taken_port_before_it_starts(fleet: Fleet) -> None:
    """``serve`` itself raises PortTaken."""
    with listen("127.0.0.1", 0) as first, pytest.raises(PortTaken):
        await serve(build_app(fleet.view, fleet.clock, fleet.events), "127.0.0.1", first.getsockname()[1])


async def test_cancelling_closes_everything_quickly(fleet: Fleet) -> None:
    """With a request half sent and a connection idle, cancelling ends within 2 s and frees the port."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_on(build_app(fleet.view, fleet.clock, fleet.events), listener))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    _, half = await asyncio.open_connection("127.0.0.1", port)
    half.write(b"GET /api/v1/vms HTTP/1.1\r\nHo")
    await half.drain()
    began = time.monotonic()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert time.monotonic() - began < 2
    listen("127.0.0.1", port).close()
    for open_writer in (writer, half):
        open_writer.close()


async def test_signal_handlers_stay_the_programs(fleet: Fleet) -> None:
    """While the server runs, SIGTERM and SIGINT have the handlers that they had before."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(serve_on(build_app(fleet.view, fleet.clock, fleet.events), listener))
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/healthz")).status_code == 200
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


class Records(logging.Handler):
    """What reaches the program's log."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's logger."""
        self.seen.append(record.name)


async def test_requests_are_not_logged(fleet: Fleet) -> None:
    """A request leaves no line in the log, nor do start and stop: a scrape each few seconds would fill it."""
    root, records = logging.getLogger(), Records()
    level = root.level
    root.addHandler(records)
    root.setLevel(logging.INFO)
    try:
        async with served(fleet) as url, httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"{url}/api/v1/vms")
            await client.get(f"{url}/nowhere")
    finally:
        root.setLevel(level)
        root.removeHandler(records)
    assert set(records.seen) <= {"httpx"}


def test_listener_speaks_ipv6() -> None:
    """An IPv6 address is listened on where the machine has one."""
    # A machine without IPv6 gives the error below, which is looked at as well.
    try:
        with listen("::1", 0) as listener:
            assert listener.family is socket.AF_INET6
    except PortTaken as error:
        assert "[::1]:0" in str(error)  # noqa: PT017 - a machine without IPv6 gets the same clear error
