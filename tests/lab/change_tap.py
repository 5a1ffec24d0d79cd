"""Hears every change event that the lab's agent publishes, as an inventory would, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from uuid import UUID

import aio_pika

from vmpulse_contract import stream, topology

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

START_S: Final = 15.0


class Change(NamedTuple):
    """One change event. ``at`` is when it was heard, seconds on the monotonic clock."""

    at: float
    vm: str
    section: str
    new: int
    previous: int
    body: bytes | None


class ChangeTap:
    """Use it as a context manager; ``drain`` gives what was heard since the last time.

    Args:
        url: the broker, with a user who may declare and bind.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._heard: list[Change] = []
        self._lock = threading.Lock()
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over: asyncio.Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name="change-tap", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_S):
            msg = f"the broker does not let us listen within {START_S:g} s"
            raise TimeoutError(msg)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(START_S)

    def drain(self) -> list[Change]:
        """What was heard since the last time, in order."""
        with self._lock:
            heard, self._heard = self._heard, []
        return heard

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._listen())

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _listen(self) -> None:
        self._over = self._loop.create_future()
        connection = await aio_pika.connect(self._url)
        async with connection:
            channel = await connection.channel()
            await channel.declare_exchange(topology.CHANGES, aio_pika.ExchangeType.TOPIC, durable=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(topology.CHANGES, "#")
            await queue.consume(self._hear, no_ack=True)
            self._listening.set()
            await self._over

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        event = stream.read_change(message.body)
        change = Change(
            time.monotonic(), str(UUID(bytes=event.vm)), event.section.label, event.hash, event.previous, event.body
        )
        with self._lock:
            self._heard.append(change)
