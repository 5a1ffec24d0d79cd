"""Whatever hangs up on us is a broker that is not there now, and no end of the program."""

from __future__ import annotations

import asyncio

import pytest
from pamqp import commands, frame

from vmpulse_contract import broker_url
from vmpulse_edges.amqp_connection import broker_errors, connect
from vmpulse_edges.errors import BrokerUnreachable

HEAD = b"AMQP\x00\x00\x09\x01"
START: bytes = frame.marshal(commands.Connection.Start(0, 9, {}, "PLAIN", "en_US"), 0)
"""A broker's first frame."""


@pytest.mark.parametrize("says", [b"", HEAD[:3], HEAD, START[:7], START, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_peer_that_hangs_up_is_no_broker(says: bytes) -> None:
    """A proxy whose broker is away takes the connection and ends it, at once or amid a frame: try again later."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(says)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = broker_url.parse("url", f"amqp://engine.view:x@127.0.0.1:{port}/")
        with pytest.raises(BrokerUnreachable, match="no broker answers at"):
            await asyncio.wait_for(connect(url, "test"), 10)


def test_an_end_before_the_next_frame_is_a_lost_connection() -> None:
    """The driver says StopAsyncIteration where the end had come before it looked for a frame (FrameReceiver)."""
    url = broker_url.parse("url", "amqp://engine.view:x@127.0.0.1:1/")
    with pytest.raises(BrokerUnreachable, match="ended the connection"), broker_errors(url):
        raise StopAsyncIteration
