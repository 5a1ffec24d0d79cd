"""The publishing connection of the engine side: requests to hosts and their replies, the canary, and poison.

Fleet events go through the same connection, on a channel that ``amqp_events`` has of its own.

Replies come on an exclusive queue bound to our own token, which is new with each connection: who floods us with replies
loses the address. Requests are mandatory, so that a host without a live agent is a typed error at once; they expire, so
that no agent works on what nobody waits for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import aio_pika
import aiormq
from pamqp.commands import Basic

from vmpulse_consumers.amqp_upkeep import keep_up
from vmpulse_consumers.rejections import Rejections
from vmpulse_consumers.unasked import MUTED_S, Unasked
from vmpulse_contract import deflation, topology, verbs, wire
from vmpulse_contract.errors import HostDidNotAnswer, MessageError, UnknownHost
from vmpulse_contract.topology import Kind
from vmpulse_edges.amqp_connection import PART_S, QUEUE_DELETED, broker_errors, connect, declare, reporter, within
from vmpulse_edges.errors import BrokerError, BrokerRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel, DeliveredMessage

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId, VmId
    from vmpulse_contract.verbs import AnyReply, Verb

log = logging.getLogger(__name__)

ANSWER_S: Final = topology.REQUEST_EXPIRATION_MS / 1000 + 1
"""How long to wait for a reply: as long as the request lives, and a second for the answer's own way."""

Beside: TypeAlias = "Callable[[AbstractConnection, asyncio.Future[str]], Awaitable[None]]"
"""What else publishes on the connection, until it ends; may end it by the future."""


class Waiting(NamedTuple):
    """A request under way: whom we asked, and where the answer goes."""

    host: HostId
    answer: asyncio.Future[DeliveredMessage]


class Requests:
    """Asks hosts and says what the view has to say to the broker.

    Args:
        url: the broker; its user must be an engine user, for agents answer no other.
        name: names the connection.
        declares: whether it declares exchanges and vmpulse.dead; whoever only asks needs no right to.
        beside: what else publishes on the connection, if anything.
    """

    def __init__(self, url: BrokerUrl, name: str, *, declares: bool = True, beside: Beside | None = None) -> None:
        self.url = url
        self.name = name
        self._declares = declares
        self._beside = beside
        self.up = asyncio.Event()
        self._token = ""
        self._channel: AbstractChannel | None = None
        self._waiting: dict[str, Waiting] = {}
        self._unasked = Unasked()
        self._refused = Rejections()
        self._closed: asyncio.Future[str] | None = None

    async def run(self) -> None:
        """Keep the connection up until cancelled. Raises BrokerRefused, but only at the start."""
        await keep_up(self.url, self.name, self._session)

    async def run_once(self) -> None:
        """Keep one connection up until it ends, for those who do not wait for a broker. Raises BrokerError."""
        connection = await connect(self.url, self.name)
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(reporter(closed))
        try:
            with broker_errors(self.url):
                await self._session(connection, closed)
        finally:
            await within(PART_S, connection.close())

    async def _session(self, connection: AbstractConnection, closed: asyncio.Future[str]) -> None:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(reporter(closed))
        underlay = await channel.get_underlay_channel()
        if self._declares:
            for exchange in topology.EXCHANGES:
                await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
            await declare(underlay, topology.dead_queue())
        else:
            await self._check_exchanges(underlay)
        self._token, self._closed = secrets.token_hex(8), closed
        replies = topology.reply_queue(self._token)
        await declare(underlay, replies)
        await underlay.basic_consume(replies.name, self._take, no_ack=True)
        underlay.on_consumer_cancel_callbacks.add(lambda _: reporter(closed)(None, QUEUE_DELETED))
        self._channel = underlay
        self.up.set()
        beside = None if self._beside is None else asyncio.ensure_future(self._beside(connection, closed))
        try:
            await closed
        finally:
            if beside is not None:
                beside.cancel()
            self.up.clear()
            self._channel = None
            for waiting in self._waiting.values():
                if not waiting.answer.done():
                    waiting.answer.set_exception(
                        HostDidNotAnswer("the connection to the broker ended before the answer came")
                    )

    async def _check_exchanges(self, channel: AbstractChannel) -> None:
        """Raise BrokerRefused where there is nothing to ask through. A passive declaration needs no right."""
        for exchange in (topology.RPC, topology.REPLIES):
            try:
                await channel.exchange_declare(exchange, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity as error:
                raise BrokerRefused(
                    f"the broker at {self.url} has no exchange {exchange}: start the view once, it declares them"
                ) from error

    # --- requests -----------------------------------------------------------------------------------------------

    async def ask(self, host: HostId, verb: Verb, vms: Sequence[VmId] = ()) -> AnyReply:
        """Put one question to one host.

        Raises:
            UnknownHost: no live agent holds the host's queue.
            HostDidNotAnswer: not before the deadline, or we have no connection.
            VerbError: the host's own reason.
            MessageError: the answer is none.
        """
        message = await self._ask(host, verb, wire.write(verbs.Request(vms=tuple(vms), deflate=True)))
        try:
            encoding = message.header.properties.content_encoding
            return verbs.read_reply(verb, deflation.decoded(message.body, encoding, verb))
        except MessageError as error:
            await self.bury(message, error)
            raise

    async def _ask(self, host: HostId, verb: Verb, body: bytes) -> DeliveredMessage:
        channel = self._channel
        if channel is None:
            raise HostDidNotAnswer("there is no connection to the broker now")
        if self._unasked.muted(host, self._clock()):
            raise HostDidNotAnswer(f"host {host} is not asked for {MUTED_S:.0f} s: it sent many replies unasked")
        correlation = secrets.token_hex(8)
        answer: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = Waiting(host, answer)
        try:
            async with asyncio.timeout(ANSWER_S):
                with broker_errors(self.url):
                    await channel.basic_publish(
                        body,
                        exchange=topology.RPC,
                        routing_key=topology.request_key(host, verb),
                        properties=self._request_properties(correlation),
                        mandatory=True,
                    )
                return await answer
        except aiormq.exceptions.PublishError as error:
            raise UnknownHost(
                f"no live agent answers for host {host}: check the name and that its agent runs"
            ) from error
        except TimeoutError as error:
            raise HostDidNotAnswer(f"host {host} did not answer {verb} within {ANSWER_S:.0f} s") from error
        except (BrokerError, aiormq.exceptions.DeliveryError) as error:
            raise HostDidNotAnswer(f"the request to host {host} could not be sent: {error!s:.200}") from error
        finally:
            del self._waiting[correlation]
            answer.cancel()
            if not answer.cancelled():
                answer.exception()

    def _request_properties(self, correlation: str) -> Basic.Properties:
        return Basic.Properties(
            user_id=self.url.user,
            message_type=Kind.REQUEST,
            content_type=topology.CONTENT_TYPE,
            correlation_id=correlation,
            message_id=correlation,
            reply_to=self._token,
            app_id=topology.APP_ID,
            timestamp=datetime.now(UTC),
            expiration=str(topology.REQUEST_EXPIRATION_MS),
        )

    async def _take(self, message: DeliveredMessage) -> None:
        came, key = message.header.properties, message.routing_key or ""
        waiting = self._waiting.get(came.correlation_id or "")
        if waiting is None or waiting.answer.done():
            self._came_unasked(came.user_id, key)
        elif came.user_id != waiting.host or key != topology.reply_key(waiting.host, self._token):
            # Passed over rather than taken for a failure: no host may spoil the answer of another.
            if self._refused.untold(came.user_id, self._clock()) is not None:
                log.warning("an answer for %s came from %.80r with routing key %.100r", waiting.host, came.user_id, key)
            self._came_unasked(came.user_id, key)
        else:
            waiting.answer.set_result(message)

    def _came_unasked(self, user: str | None, key: str) -> None:
        """Nobody waits for a reply. Its sender is known only by a user_id, which the broker checks, that fits the key.

        A host can have words come here under any key, by dead letters and by an exchange of its own, but not with
        another host's user_id. Of what is nobody's, no host is to be blamed; it too makes the address another.
        """
        sender = user if user == key.partition(".")[0] else None
        if self._unasked.came(sender, self._clock()) and self._closed is not None and not self._closed.done():
            who = "somebody" if sender is None else f"host {sender:.80}"
            self._closed.set_result(f"{who} sends replies that nobody waits for: a new address")

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()

    # --- the rest -----------------------------------------------------------------------------------------------

    async def canary(self, view: str, instance: str) -> None:
        """Send the view's canary. A failure is no news: the canary's absence says it."""
        properties = Basic.Properties(
            user_id=self.url.user,
            message_type=Kind.CANARY,
            message_id=instance,
            expiration=str(topology.CANARY_EXPIRATION_MS),
        )
        await self._publish(topology.FLEET, topology.canary_key(view, instance), b"", properties)

    async def bury(self, message: DeliveredMessage, error: MessageError) -> bool:
        """Send a message that nobody can use to vmpulse.dead, with where it came from and why it is there.

        Of a large body the beginning is kept. Tells whether the broker took it.
        """
        came = message.header.properties
        properties = Basic.Properties(
            user_id=self.url.user,
            message_type=Kind.POISON,
            message_id=secrets.token_hex(8),
            content_type=came.content_type,
            content_encoding=came.content_encoding,
            app_id=topology.APP_ID,
            timestamp=datetime.now(UTC),
            headers={
                "x-vmpulse-reason": error.reason,
                "x-vmpulse-error": str(error)[:500],
                "x-vmpulse-exchange": message.exchange or "",
                "x-vmpulse-routing-key": message.routing_key or "",
                "x-vmpulse-user": came.user_id or "",
                "x-vmpulse-bytes": len(message.body),
            },
        )
        return await self._publish(topology.DEAD, error.reason, message.body[: topology.BURIED_BODY_BYTES], properties)

    async def _publish(self, exchange: str, routing_key: str, body: bytes, properties: Basic.Properties) -> bool:
        channel = self._channel
        if channel is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                with broker_errors(self.url):
                    await channel.basic_publish(body, exchange=exchange, routing_key=routing_key, properties=properties)
        except (BrokerError, aiormq.exceptions.DeliveryError, TimeoutError) as error:
            log.debug("a message to %s was not published: %s", exchange, error)
            return False
        return True
