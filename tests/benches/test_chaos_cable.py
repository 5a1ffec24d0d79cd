"""The cable of a chaos run, over real sockets: it carries, and can be cut, hung, slowed and mended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from benches.chaos.cable import LOOPBACK, Cable, Pace

PATIENCE_S = 5.0
HUNG_S = 0.2
"""Long enough on loopback for what is not held up."""


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[Cable]:
    """A cable to a server that says back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, LOOPBACK, 0)
    async with server, Cable(server.sockets[0].getsockname()[1]) as cable:
        yield cable


async def said_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes) -> bytes:
    """Say something, and hear as much."""
    writer.write(words)
    return await asyncio.wait_for(reader.readexactly(len(words)), PATIENCE_S)


async def test_carries_everything_in_order_and_ends_with_either_end() -> None:
    """A megabyte comes back as it was, and who hangs up is hung up on, with nothing left unsaid."""
    words = bytes(range(256)) * 4096
    async with echoing() as cable:
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        heard = asyncio.create_task(reader.readexactly(len(words)))
        writer.write(words)
        assert await asyncio.wait_for(heard, PATIENCE_S) == words
        writer.write(b"bye")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b"bye"
        writer.close()


async def test_cut_ends_connections_and_refuses_others_until_mended() -> None:
    """After a cut nothing goes, neither the old connection nor a new one; mended, a new one does."""
    async with echoing() as cable:
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        assert await said_back(reader, writer, b"one") == b"one"
        cable.cut()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await said_back(reader, writer, b"two")
        writer.close()
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await said_back(reader, writer, b"three")
        writer.close()
        cable.mend()
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        assert await said_back(reader, writer, b"four") == b"four"
        writer.close()


async def test_hung_lets_nothing_through_and_loses_nothing() -> None:
    """What was said meanwhile comes when the cable is mended, in a connection that was there and in a new one."""
    async with echoing() as cable:
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        assert await said_back(reader, writer, b"one") == b"one"
        cable.hang()
        late_reader, late_writer = await asyncio.open_connection(LOOPBACK, cable.port)
        hearing = asyncio.create_task(said_back(reader, writer, b"two"))
        hearing_late = asyncio.create_task(said_back(late_reader, late_writer, b"three"))
        _, pending = await asyncio.wait({hearing, hearing_late}, timeout=HUNG_S)
        assert pending == {hearing, hearing_late}
        cable.mend()
        assert (await hearing, await hearing_late) == (b"two", b"three")
        writer.close()
        late_writer.close()


async def test_slowed_takes_its_time_in_both_directions() -> None:
    """So many bytes take so long, each way; mended, the rest goes at once."""
    async with echoing() as cable:
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        cable.slow(Pace(bytes_s=1000, delay_s=0.05))
        began = time.monotonic()
        assert await said_back(reader, writer, b"x" * 100) == b"x" * 100
        # The way back begins before the whole has come.
        assert time.monotonic() - began >= 100 / 1000 + 2 * 0.05
        much = asyncio.create_task(said_back(reader, writer, b"y" * 20_000))
        cable.mend()
        assert await much == b"y" * 20_000
        assert time.monotonic() - began < PATIENCE_S
        writer.close()


async def test_broker_that_is_away_is_seen_through_the_cable() -> None:
    """Where nobody listens at the far end, the near end is hung up on."""
    async with Cable(1) as cable:
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()
