"""Reads messages with a callback that does nothing: ``python -m benches.ingest.empty_reader``, started by the bench.

What the view does with the broker's client, and nothing else: the same event loop, prefetch and acknowledgements. By
default the callback is aio-pika's, as its documentation shows it; with ``--below`` it is the one of the channel below,
which the view uses because it is cheaper. On SIGUSR1 it writes how many messages there were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import DeliveredMessage

from vmpulse_consumers.amqp_stream import ACK_EVERY, ACK_S, CONSUMER_TAG, PREFETCH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractChannel

Message = TypeVar("Message")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m benches.ingest.empty_reader")
    parser.add_argument("--url-file", type=Path, required=True)
    parser.add_argument("--count-file", type=Path, required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--exchange", action="append", required=True)
    parser.add_argument("--below", action="store_true")
    uvloop.run(_read(parser.parse_args(arguments)))
    return 0


class Empty(Generic[Message]):
    """Does nothing with messages, but for counting and acknowledging them many at a time."""

    def __init__(self, acknowledge: Callable[[Message], Awaitable[object]]) -> None:
        self.came = 0
        self._settled = 0
        self._last: Message | None = None
        self._acknowledge = acknowledge

    async def callback(self, message: Message) -> None:
        """Take one."""
        self.came += 1
        self._last = message
        if self.came - self._settled >= ACK_EVERY:
            await self.settle()

    async def settle(self) -> None:
        """Acknowledge what is not acknowledged."""
        if self._last is not None and self.came > self._settled:
            self._settled = self.came
            await self._acknowledge(self._last)


async def _read(options: argparse.Namespace) -> None:
    connection = await aio_pika.connect(options.url_file.read_text(encoding="utf-8"))
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.declare_queue(options.queue, durable=True, arguments={"x-max-length": 200_000})
    for name in options.exchange:
        await queue.bind(await channel.declare_exchange(name, "topic", durable=True), "#")
    if options.below:
        await _settle_until_told(await _consume_below(channel, options.queue), options.count_file)
    else:
        empty = Empty[AbstractIncomingMessage](lambda message: message.ack(multiple=True))
        await queue.consume(empty.callback, consumer_tag=CONSUMER_TAG)
        await _settle_until_told(empty, options.count_file)
    await connection.close()


async def _consume_below(channel: AbstractChannel, queue: str) -> Empty[DeliveredMessage]:
    below = await channel.get_underlay_channel()
    empty = Empty[DeliveredMessage](lambda message: below.basic_ack(message.delivery_tag or 0, multiple=True))
    await below.basic_consume(queue, empty.callback, consumer_tag=CONSUMER_TAG)
    return empty


async def _settle_until_told(empty: Empty[Message], count_file: Path) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        count_file.write_text(str(empty.came), encoding="utf-8")

    loop.add_signal_handler(signal.SIGUSR1, tell)
    loop.add_signal_handler(signal.SIGTERM, told.set)
    tell()
    while not told.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), ACK_S)
        await empty.settle()


if __name__ == "__main__":
    sys.exit(main())
