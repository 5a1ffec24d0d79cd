"""What ``check`` finds out at the broker, without saying anything that a reader sees.

- Exchanges and the host's rpc queue are looked for by passive declares, which change nothing.
- The right to publish is tried within a transaction that is rolled back: the broker judges permissions, topic and
  user_id when it takes a message, and routes none before the commit.
- The right to the rpc queue is tried by having it for a moment, bound to a key that nobody asks by. Only if no live
  agent has it; one that starts in this very moment tries again 5 s later, as with any other that has it (promise A6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiormq
from pamqp.commands import Basic

from vmpulse_contract import topology
from vmpulse_edges.amqp_connection import PART_S, broker_errors, connect, explain, within

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

OWN: Final = (topology.RUNTIME, topology.CHANGES, topology.DEVICES, topology.REPLIES)
"""The exchanges that a host publishes to."""
NEEDED: Final = (*OWN, topology.RPC)
NAME: Final = "vmpulse-agent check"
NOBODY: Final = "check"
"""The second word of the keys used here: no verb and no kind of message is called so."""


class Inspection:
    """A connection to look around with; use ``opened``."""

    def __init__(self, connection: AbstractConnection, url: BrokerUrl, host: HostId) -> None:
        self._connection = connection
        self._url = url
        self._host = host

    def server(self) -> str:
        """What the broker calls itself."""
        transport = self._connection.transport
        properties = getattr(transport.connection, "server_properties", None) if transport else None
        found = properties or {}
        return f"{found.get('product', 'a broker')} {found.get('version', '')}".strip()

    async def missing_exchanges(self) -> list[str]:
        """The exchanges that are needed and not there. Raises BrokerError."""
        missing = []
        for exchange in NEEDED:
            async with self._channel() as channel:
                try:
                    await channel.exchange_declare(exchange, passive=True)
                except aiormq.exceptions.ChannelNotFoundEntity:
                    missing.append(exchange)
        return missing

    async def has_live_agent(self) -> bool:
        """Whether another connection has the host's rpc queue. Raises BrokerError."""
        async with self._channel() as channel:
            try:
                await channel.queue_declare(topology.rpc_queue(self._host).name, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity:
                return False
            except aiormq.exceptions.ChannelLockedResource:
                return True
        return True

    async def rpc_refusal(self) -> str | None:
        """Why the host's rpc queue may not be had, bound and read; None: it may. Raises BrokerError."""
        queue = topology.rpc_queue(self._host)
        async with self._channel() as channel:
            try:
                await channel.queue_declare(queue.name, exclusive=queue.exclusive, durable=queue.durable)
                await channel.queue_bind(queue.name, topology.RPC, f"{self._host}.{NOBODY}")
                await channel.basic_get(queue.name, no_ack=True)
                await channel.queue_delete(queue.name)
            except (aiormq.exceptions.ChannelClosed, aiormq.exceptions.ChannelLockedResource) as error:
                return explain(error)
        return None

    async def publish_refusals(self) -> dict[str, str]:
        """Why messages of the host may not be published, by exchange; empty: they may. Raises BrokerError."""
        found = {}
        for exchange in OWN:
            async with self._channel() as channel:
                try:
                    await channel.tx_select()
                    await channel.basic_publish(
                        b"",
                        exchange=exchange,
                        routing_key=f"{self._host}.{NOBODY}",
                        properties=Basic.Properties(user_id=self._host),
                    )
                    await channel.tx_rollback()
                except aiormq.exceptions.ChannelClosed as error:
                    found[exchange] = explain(error)
        return found

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel of its own for each question, for the broker closes the one on which it says no."""
        with broker_errors(self._url):
            channel = await self._connection.channel(publisher_confirms=False)
            under = await channel.get_underlay_channel()
        try:
            with broker_errors(self._url):
                yield under
        finally:
            if not under.is_closed:
                await within(PART_S, under.close())


@asynccontextmanager
async def opened(url: BrokerUrl, host: HostId) -> AsyncIterator[Inspection]:
    """Connect and look around. Raises BrokerUnreachable, BrokerRefused."""
    connection = await connect(url, f"{NAME} {host}")
    try:
        yield Inspection(connection, url, host)
    finally:
        # A broker in alarm may answer nothing any more.
        await within(PART_S, connection.close())
