"""Clients that keep the server waiting: each is cut off after a while, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest
from litestar import Litestar, MediaType, get

from tests.conftest import require
from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet
from vmpulse_consumers.http import server

PATIENCE_S = 1
MUCH = 16 << 20
"""More bytes than the kernel keeps for a connection."""
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@get("/", media_type=MediaType.TEXT)
async def much() -> bytes:
    """Reply with more than anybody takes unread."""
    return b"x" * MUCH


@get("/", media_type=MediaType.TEXT)
async def late() -> bytes:
    """Reply later than any client may be."""
    await asyncio.sleep(2 * PATIENCE_S)
    return b"late"


class Client(NamedTuple):
    """A connection in a test's hands."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_on(self) -> int:
        """Read until the other side hangs up; gives how much it was."""
        size = 0
        with contextlib.suppress(ConnectionError):
            while chunk := await self.reader.read(1 << 16):
                size += len(chunk)
        return size


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """Connect; little is kept unread on this side."""
    address = httpx.URL(url)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect((address.host, address.port))
    client = Client(*await asyncio.open_connection(sock=plain))
    try:
        yield client
    finally:
        client.writer.transport.abort()


@pytest.mark.parametrize("said_before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_head_that_comes_in_drops_is_not_waited_for(fleet: Fleet, said_before: bytes) -> None:
    """One who sends a byte now and then is cut off, on a new connection and on one that has been of use."""
    async with served(fleet, patience_s=PATIENCE_S) as url, connected(url) as client:
        began = time.monotonic()
        client.writer.write(said_before)
        ended = asyncio.create_task(client.read_on())
        while not ended.done():
            client.writer.write(b"G")
            await asyncio.wait({ended}, timeout=0.1)
            assert time.monotonic() - began < 10 * PATIENCE_S
        assert time.monotonic() - began >= PATIENCE_S


async def test_a_reply_that_is_not_read_is_not_kept(fleet: Fleet) -> None:
    """One who asks for much and reads nothing is cut off; another who reads has all of it meanwhile."""
    async with (
        served(fleet, Litestar([much], logging_config=None), patience_s=PATIENCE_S) as url,
        connected(url) as client,
    ):
        for _ in range(2 * PATIENCE_S * 10):
            client.writer.write(ASK)  # asking on gains no time
            await asyncio.sleep(0.1)
        async with httpx.AsyncClient(trust_env=False) as another:
            assert len((await another.get(url)).content) == MUCH
        assert await client.read_on() < MUCH


async def test_idle_connections_beyond_the_bound_are_cut(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is cut at once; those before it are served, and one that ends makes room."""
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    async with served(fleet) as url, connected(url) as first, connected(url):
        async with connected(url) as third:
            assert await third.read_on() == 0
        first.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert await first.read_on() > 0
        async with httpx.AsyncClient(trust_env=False) as another:
            assert (await another.get(f"{url}/healthz")).status_code == 200


async def test_one_address_holds_so_many_connections(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more of it is cut at once; another address, here this machine's loopback, gets in."""
    monkeypatch.setattr(server, "CONNECTIONS_EACH", 2)
    async with served(fleet, host="0.0.0.0") as url:  # noqa: S104 - for as long as the test takes
        beyond, loopback = (str(httpx.URL(url).copy_with(host=host)) for host in (own_address(), "127.0.0.1"))
        async with connected(beyond) as first, connected(beyond), connected(beyond) as third:
            assert await third.read_on() == 0
            async with httpx.AsyncClient(trust_env=False) as another:
                assert (await another.get(f"{loopback}/healthz")).status_code == 200
            first.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert await first.read_on() > 0


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        amiss = probe.connect_ex(("192.0.2.1", 9))
        require("this machine has no address but loopback: give it a network" if amiss else None)
        found: str = probe.getsockname()[0]
        return found


async def test_a_reply_that_takes_long_to_make_is_waited_for(fleet: Fleet) -> None:
    """While it is the server that is slow nobody is cut off."""
    app = Litestar([late], logging_config=None)
    async with served(fleet, app, patience_s=PATIENCE_S) as url, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).content == b"late"
