"""Publishes fleet events on the publishing connection: in order, at least once, and in nobody's way.

The log keeps the events, this only knows how far the broker has confirmed them. After a reconnect it begins with the
first that was not confirmed. So nothing waits for it: neither the view, nor the requests and the canary, which go
through a channel of their own.

Only a view that hears its own canary publishes. A stand-by hears nothing, and one that was cut off may find another at
work when it is back: what it has not told by then waits until it is the one that hears again.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiormq
import msgspec
from pamqp.commands import Basic

from vmpulse_consumers.events.description import routing_key
from vmpulse_consumers.events.log import FellBehind
from vmpulse_contract import fleet, topology
from vmpulse_contract.fleet import CloudEvent
from vmpulse_contract.topology import Kind
from vmpulse_edges.amqp_connection import broker_errors, reporter
from vmpulse_edges.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel

    from vmpulse_consumers.events.log import Entry
    from vmpulse_consumers.events.teller import Teller
    from vmpulse_contract.broker_url import BrokerUrl

log = logging.getLogger(__name__)

WINDOW: Final = 256
"""Events that may await their confirm."""
WINDOW_BYTES: Final = 1 << 20
"""What they may weigh: so much at most stands before the canary on a slow connection."""
POLL_S: Final = 0.5
"""How soon it is seen that the canary is back."""
REFUSED: Final = "events are refused: a worker's queue is full and was declared with x-overflow reject-publish"
TOO_LATE: Final = "the broker was away for so long that what happened meanwhile is no longer kept"


class EventPublisher:
    """Publishes what a teller tells.

    Args:
        url: the broker; its user is the sender.
        teller: has the events.
        may: whether this is the view that speaks.
    """

    def __init__(self, url: BrokerUrl, teller: Teller, may: Callable[[], bool]) -> None:
        self.url = url
        self._teller = teller
        self._may = may
        self._refuses = False

    async def session(self, connection: AbstractConnection, closed: asyncio.Future[str]) -> None:
        """Publish until the connection ends; *closed* is told if that happens here."""
        try:
            with broker_errors(self.url):
                channel = await connection.channel(publisher_confirms=True)
                channel.close_callbacks.add(reporter(closed))
                await self._publish_all(await channel.get_underlay_channel())
        except BrokerError as error:
            reporter(closed)(None, error)
        except Exception as error:  # a fault of ours: begin again on a new connection rather than fall silent
            log.exception("events could not be published")
            reporter(closed)(None, error)

    async def _publish_all(self, channel: AbstractChannel) -> None:
        while True:
            while not self._teller.unpublished or not self._may():
                await self._teller.bell.wait(POLL_S)
            try:
                batch = self._teller.log.read(self._teller.published.upto, events=WINDOW, size=WINDOW_BYTES)
            except FellBehind as behind:
                await self._relist(channel, behind.first - 1)
            else:
                await self._publish(channel, batch)

    async def _publish(self, channel: AbstractChannel, batch: list[Entry]) -> None:
        """Publish a few events and wait for their confirms; those before the first that was not answered are done."""
        sent = await asyncio.gather(
            # Order is kept: tasks start in order, and aiormq's channel lock serves the first to come.
            *(self._send(channel, entry.text) for entry in batch),
            return_exceptions=True,
        )
        for result in sent:
            if isinstance(result, BaseException):
                raise result
            self._teller.published.upto += 1
            self._count(taken=result)

    async def _relist(self, channel: AbstractChannel, after: int) -> None:
        """Say that everything up to number *after* will not be told any more."""
        taken = await self._send(channel, self._teller.relist(after, TOO_LATE))
        published = self._teller.published
        log.warning("%d events were not published: %s", after - published.upto, TOO_LATE)
        published.skipped += after - published.upto
        published.upto = after
        if not taken:
            published.refused += 1

    def _count(self, *, taken: bool) -> None:
        """Count an answer of the broker.

        It refuses where one queue is full that was declared to refuse, though all others have taken the event. So it
        is not published again: one worker's queue would stop the events of all.
        """
        if taken:
            self._teller.published.events += 1
        else:
            self._teller.published.refused += 1
        if self._refuses is taken:
            self._refuses = not taken
            log.warning("%s", "events are taken again" if taken else REFUSED)

    async def _send(self, channel: AbstractChannel, text: bytes) -> bool:
        """Publish one event and wait for the broker's answer: whether all queues that are bound have taken it."""
        event = msgspec.json.decode(text, type=CloudEvent)
        try:
            with broker_errors(self.url):
                await channel.basic_publish(
                    msgspec.json.encode(event.data),
                    exchange=topology.FLEET,
                    routing_key=routing_key(self._teller.view, event),
                    properties=self._properties(event),
                )
        except aiormq.exceptions.DeliveryError:
            return False
        return True

    def _properties(self, event: CloudEvent) -> Basic.Properties:
        return Basic.Properties(
            user_id=self.url.user,
            message_type=Kind.EVENT,
            message_id=event.id,
            content_type=fleet.CONTENT_TYPE,
            delivery_mode=2,
            app_id=topology.APP_ID,
            timestamp=datetime.now(UTC),
            headers=dict(event.headers()),
        )
