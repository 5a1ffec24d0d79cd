"""Who wants to know of the changes: ``python -m benches.freshness.readers``, started by the bench.

An engine's worker on its queue, a client of the event stream, one that follows a single host only, the callback that
bare messages go to, and peers that poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import msgspec

from benches.freshness.place import BARE_EXCHANGE, VIEW_NAME, Records, Seen, number_of, started, write_down
from vmpulse_contract import topology
from vmpulse_contract.fleet import CloudEvent, EventData, EventType
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.signals import run_until_told
from vmpulse_simulator.view_api import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractIncomingMessage

    from benches.freshness.place import Place

LINE_BYTES: Final = 1 << 20
DATA: Final = b"data: "
PREFETCH: Final = 100
RETRY_S: Final = 0.5


class Readers:
    """All of them, and what they have seen."""

    def __init__(self, place: Place) -> None:
        self.seen: Records = {"worker": [], "sse": [], "sse one host": [], "bare": []}
        self._place = place
        fleet = Fleet(place.hosts, 1, 1, time.monotonic)
        self._hosts = [str(hypervisor.host) for hypervisor in fleet.hypervisors[-place.watched :]]

    async def run(self) -> int:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            group.create_task(self._take_bare())
            group.create_task(self._stream("sse", f"type={EventType.VM_SECTION}"))
            group.create_task(self._stream("sse one host", f"type={EventType.VM_SECTION}&host={self._hosts[0]}"))
            for period_s in self._place.polls:
                self.seen[polled(period_s)] = []
                for host in self._hosts:
                    group.create_task(self._poll(host, period_s))
        return 0

    def _note(self, reader: str, number: int | None, at: float) -> None:
        if number is not None:
            self.seen[reader].append(Seen(number, at))

    # --- by the broker ------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Consume events of sections as an engine's worker does, each acknowledged when it was read."""
        key = f"{EventType.VM_SECTION}.{VIEW_NAME}.#"
        queue = topology.worker_queue("freshness", key)
        async with await aio_pika.connect(self._place.worker_url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            own = await channel.declare_queue(queue.name, durable=queue.durable, arguments=dict(queue.arguments))
            for exchange, binding in queue.bindings:
                await own.bind(exchange, binding)
            await own.consume(self._take_event)
            await asyncio.Event().wait()

    async def _take_event(self, message: AbstractIncomingMessage) -> None:
        at = time.monotonic()
        self._note("worker", number_told(msgspec.json.decode(message.body, type=EventData)), at)
        await message.ack()

    async def _take_bare(self) -> None:
        """Consume bare messages; nothing is acknowledged, for nothing is quicker."""
        async with await aio_pika.connect(self._place.bare_url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(BARE_EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
            own = await channel.declare_queue(exclusive=True)
            await own.bind(exchange, "#")
            await own.consume(self._bare, no_ack=True)
            await asyncio.Event().wait()

    async def _bare(self, message: AbstractIncomingMessage) -> None:
        at = time.monotonic()
        self._note("bare", int(message.body), at)

    # --- by HTTP ------------------------------------------------------------------------------------------------

    async def _stream(self, reader: str, query: str) -> None:
        """Follow the event stream; the socket's lines are read as they come, without a client library."""
        while True:
            with contextlib.suppress(OSError):
                await self._follow(reader, query)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, reader: str, query: str) -> None:
        lines, writer = await asyncio.open_connection(LOOPBACK, self._place.api_port, limit=LINE_BYTES)
        writer.write(f"GET /api/v1/events?{query} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode())
        try:
            while line := await lines.readline():
                if line.startswith(DATA):
                    at = time.monotonic()
                    event = msgspec.json.decode(line[len(DATA) :], type=CloudEvent)
                    self._note(reader, number_told(event.data), at)
        finally:
            writer.close()

    async def _poll(self, host: str, period_s: float) -> None:
        """Ask a host for all that it has, again and again, as VDSM and the seed's proposal are asked."""
        known: set[int] = set()
        due = time.monotonic() + random.uniform(0, period_s)  # noqa: S311 - moments, not secrecy
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError, msgspec.DecodeError):
                numbers = await self._ask(host)
                at = time.monotonic()
                for number in numbers - known:
                    self._note(polled(period_s), number, at)
                known |= numbers
            due += period_s

    async def _ask(self, host: str) -> set[int]:
        """The changes that are to be seen on a host now."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self._place.peer_port)
        try:
            writer.write(f"GET /{host} HTTP/1.0\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        rows: list[dict[str, Any]] = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
        found = (number_of((row["status"] or {}).get("username")) for row in rows)
        return {number for number in found if number is not None}


def number_told(data: EventData) -> int | None:
    """The number of the change that an event tells; None: of none of ours."""
    return number_of(data.content.get("username")) if isinstance(data.content, dict) else None


def polled(period_s: float) -> str:
    """What a peer that polls so often is called."""
    return f"polled each {period_s:g} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM or SIGINT; gives the exit code."""
    place, records = started("readers", arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    readers = Readers(place)
    code = run_until_told(readers.run())
    write_down(records, readers.seen)
    return code


if __name__ == "__main__":
    sys.exit(main())
