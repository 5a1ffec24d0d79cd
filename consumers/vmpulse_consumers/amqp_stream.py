"""The consuming connection: the fleet's stream into the view. It never publishes, so a broker in alarm keeps it going.

aiormq starts a task for each delivery, in order; order holds because the callback applies the message before its first
await (it has none). Messages are acknowledged after they were applied, many at a time; poison too, without waiting for
its burial, or a broker that takes no publishes could make one bad host stop the whole stream.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeAlias

import aio_pika
from aiormq.abc import DeliveredMessage

from vmpulse_consumers.amqp_upkeep import keep_up
from vmpulse_consumers.errors import NotApplied
from vmpulse_contract import topology
from vmpulse_contract.errors import MessageError
from vmpulse_edges.amqp_connection import QUEUE_DELETED, broker_errors, declare, reporter
from vmpulse_edges.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel

    from vmpulse_consumers.view import View
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.topology import Queue

log = logging.getLogger(__name__)

Delivered: TypeAlias = DeliveredMessage
"""A message as it came, for those who are not to import the driver."""

PREFETCH: Final = 2000
"""Bounded, so that what waits for us waits in the broker's queue, where it is bounded and expires."""
CONSUMER_TAG: Final = "s"
"""It stands in each delivery; the driver's own is 36 bytes, 5 % of all that comes (benches.wire)."""
ACK_EVERY: Final = 500
ACK_S: Final = 0.2


class Stream:
    """Consumes the view's queue.

    Args:
        url: the broker.
        view_name: names the queue.
        instance: tells our canary from those of a stand-by of the same name.
        view: takes the messages.
        rejected: called with a message that nobody can use, and why; it sees that it is buried.
        applied: called after each message, for what the view wants done then.
        queue: another than the one of views of that name.
    """

    def __init__(
        self,
        url: BrokerUrl,
        view_name: str,
        instance: str,
        view: View,
        *,
        rejected: Callable[[DeliveredMessage, MessageError], None],
        applied: Callable[[], None],
        queue: Queue | None = None,
    ) -> None:
        self.url = url
        self.view = view
        self._queue = topology.view_queue(view_name) if queue is None else queue
        self._canary_key = topology.canary_key(view_name, instance)
        self._rejected = rejected
        self._applied = applied
        self._channel: AbstractChannel | None = None
        self._unacked = 0
        self._last_tag = 0
        self.consumed = asyncio.Event()
        """Set once the queue has been ours to consume, be it as a stand-by; it stays so."""

    async def run(self) -> None:
        """Keep consuming until cancelled. Raises BrokerRefused, but only at the start."""
        await keep_up(self.url, f"{self._queue.name} stream", self._session)

    async def _session(self, connection: AbstractConnection, closed: asyncio.Future[str]) -> None:
        channel = await connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(reporter(closed))
        for exchange in (topology.RUNTIME, topology.CHANGES, topology.DEVICES, topology.FLEET):
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        self._channel = await channel.get_underlay_channel()
        self._unacked = 0
        await declare(self._channel, self._queue)
        # Somebody deleted the queue: without this the view would wait for ever beside a new one.
        self._channel.on_consumer_cancel_callbacks.add(lambda _: reporter(closed)(None, QUEUE_DELETED))
        await self._channel.basic_qos(prefetch_count=PREFETCH)
        await self._channel.basic_consume(self._queue.name, self._consume, consumer_tag=CONSUMER_TAG)
        log.info("consuming %s at %s", self._queue.name, self.url)
        if self.consumed.is_set():
            self.view.reconnected(asyncio.get_running_loop().time())
        self.consumed.set()
        while not closed.done():
            await asyncio.wait({closed}, timeout=ACK_S)
            if self._unacked and not closed.done():
                await self._ack()

    async def _consume(self, message: DeliveredMessage) -> None:
        exchange, routing_key, now = (
            message.exchange or "",
            message.routing_key or "",
            asyncio.get_running_loop().time(),
        )
        try:
            if exchange == topology.FLEET:
                if routing_key == self._canary_key:
                    self.view.canary(now)
            else:
                self.view.receive(exchange, routing_key, message.header.properties.user_id, message.body, now)
        except MessageError as error:
            self._rejected(message, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must cost this one message, not the stream
            fault = NotApplied(f"not applied: {type(error).__name__}: {error}")
            fault.__cause__ = error
            self.view.counts.rejected[fault.reason] += 1
            self._rejected(message, fault)
        self._last_tag = message.delivery_tag or 0
        self._unacked += 1
        self._applied()
        if self._unacked >= ACK_EVERY:
            try:
                with broker_errors(self.url):
                    await self._ack()
            except BrokerError as error:
                # The session sees the end of the connection; what is not acknowledged comes again and is a repeat.
                log.debug("messages were not acknowledged: %s", error)

    async def _ack(self) -> None:
        self._unacked = 0
        if self._channel is not None and not self._channel.is_closed:
            await self._channel.basic_ack(self._last_tag, multiple=True)
