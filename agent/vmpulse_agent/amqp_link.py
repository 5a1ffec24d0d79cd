"""The broker link: a connection to RabbitMQ for one or many hosts. The only file of the agent that knows the driver.

It reconnects for ever with back-off and jitter, and it owns no messages: while the broker is away, blocked or slow, the
hosts' sessions are told so and keep what they have to say as state. A link counts as stalled when a confirm is overdue;
that covers a broker in alarm (it stops reading our socket), a hanging network and a broker that cannot keep up alike.

Publishing goes through the underlying aiormq channel, which aio_pika hands out for that: 25 % cheaper than its exchange
objects, for the same confirms.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Final

import aio_pika
import aiormq
import msgspec
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from vmpulse_agent.backoff import Backoff
from vmpulse_agent.errors import HostTaken
from vmpulse_contract import topology
from vmpulse_contract.topology import Kind
from vmpulse_edges.amqp_connection import (
    PART_S,
    QUEUE_DELETED,
    broker_errors,
    connect,
    explain,
    heed_cancel,
    reporter,
    within,
)
from vmpulse_edges.errors import BrokerError, BrokerRefused, BrokerUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as UnderlayChannel

    from vmpulse_agent.host_agent import HostAgent
    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

log = logging.getLogger(__name__)

STALL_S: Final = 6.0
"""Two ticks: by then the frames in flight are out of date anyway."""
JUDGE_S: Final = 1.0
IDLE_S: Final = 3.0
"""How often confirms are looked after, while some are outstanding and while none are: each look wakes the process."""
WINDOW: Final = 1024
"""Messages of one host that may await their confirm; four times what a host of 40 VMs says on reconnect."""
TAKEN_TRIES: Final = 4
"""Promise A6: retry three heartbeats; the broker may hold a dead agent's connection, and with it the queue, for two."""
FRAME_MESSAGE_ID: Final = "-"
"""aiormq gives each message without an id one of 32 characters; one character is the least it lets us send."""
REPLY_EXPIRATION_MS: Final = 10_000
ANSWERING: Final = 8
"""Requests of one host under way at a time: the rest wait at the broker, where they expire, and cost the host neither
memory (a reply may have 1 MiB) nor its ticks. More than one, for getConfig may have to wait for a slow hypervisor.
"""
TOKEN: Final = re.compile("[0-9A-Za-z]{1,64}")
"""What may be asked to reply to: one word of a routing key, and short enough for one."""


class Flow:
    """What one host has in flight, by publish order; it tells when that is too much or too old."""

    def __init__(self, agent: HostAgent) -> None:
        self.agent = agent
        self.in_flight: dict[int, float] = {}
        self.up = False
        self.blocked_since: float | None = None
        """Since when the broker, although connected, has taken nothing from this host."""
        self.admitted = False
        """Whether the host's rpc queue was ours once: before that another agent may be the live one (promise A6)."""
        self._next = 0

    def sent(self, now: float) -> int:
        """Count a message in; gives the number to count it out with."""
        self._next += 1
        self.in_flight[self._next] = now
        return self._next

    def stalled(self, now: float) -> bool:
        """Whether the oldest confirm is overdue or the window is full."""
        oldest = next(iter(self.in_flight.values()), now)
        return now - oldest > STALL_S or len(self.in_flight) >= WINDOW


class LinkCounters(msgspec.Struct):
    """What became of the messages handed to the link, for metrics."""

    confirmed: int = 0
    refused: int = 0
    lost: int = 0
    """Not confirmed when the connection ended: sessions say what it told again, from state."""
    blocked_s: float = 0.0
    """Seconds in which the broker, although connected, took nothing from a host; added up over the hosts."""


class AmqpLink:
    """A connection to the broker that serves hosts; implements host_agent.Publisher.

    Args:
        url: the broker.
        name: the connection's name, as the broker's management shows it.
        declare: declare the exchanges too. Agents may not; the view does, and so does a simulator with its own broker.
    """

    def __init__(self, url: BrokerUrl, name: str, *, declare: bool = False) -> None:
        self.url = url
        self.name = name
        self.reconnects = 0
        self.counters = LinkCounters()
        self.away_since: float | None = None
        """Since when there has been no connection, or none yet; None while there is one, and before ``run``."""
        self._declare = declare
        self._flows: dict[HostId, Flow] = {}
        self._consumers: dict[HostId, str] = {}
        self._connection: AbstractConnection | None = None
        self._stream: UnderlayChannel | None = None
        self._rpc: UnderlayChannel | None = None
        self._claims: UnderlayChannel | None = None
        self._closed: asyncio.Future[str] | None = None
        self._ever_up = False
        self._backoff = Backoff(random.Random())  # noqa: S311 - spreading, not secrecy
        self._tasks: set[asyncio.Task[None]] = set()
        self._rpc_lock = asyncio.Lock()
        self._blocked_lock = threading.Lock()
        """So that no scrape sees a time both as going on and as over: the counter would fall later."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def settled(self) -> bool:
        """Whether it is known how we stand with the broker: it has taken us once, or could not be reached."""
        return self._ever_up or self.reconnects > 0

    def blocked_hosts(self) -> list[HostId]:
        """The hosts from which the broker, although connected, takes nothing now. May be called from any thread."""
        return [flow.agent.host for flow in list(self._flows.values()) if flow.blocked_since is not None]

    def blocked_s(self, now: float) -> float:
        """``counters.blocked_s`` and what goes on at *now*. May be called from any thread."""
        with self._blocked_lock:
            began = [flow.blocked_since for flow in list(self._flows.values())]
            # A scrape may have read its clock a moment before.
            return self.counters.blocked_s + sum(max(0.0, now - since) for since in began if since is not None)

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the link up until cancelled. Raises BrokerRefused or HostTaken, but only before it was up once."""
        clock = asyncio.get_running_loop().time
        self.away_since = clock()
        while True:
            started = clock()
            why: BrokerError | None = None
            try:
                await self._serve_one_connection()
            except BrokerError as error:
                if isinstance(error, BrokerRefused) and not self._ever_up:
                    raise
                why = error
            heed_cancel()
            pause_s = self._backoff.pause_s(clock() - started)
            if why is not None:
                log.warning("%s; trying again in %.1f s", why, pause_s)
            await asyncio.sleep(pause_s)
            self.reconnects += 1

    async def _serve_one_connection(self) -> None:
        connection = await connect(self.url, self.name)
        self._closed = closed = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(reporter(closed))
        holding: asyncio.Task[None] | None = None
        try:
            with broker_errors(self.url):
                await self._open_channels(connection, closed)
                # Promise A6: at start another live agent of the host keeps us out before we have said anything.
                await self._admit([flow for flow in self._flows.values() if not flow.admitted])
            self._ever_up = True
            known = [flow for flow in self._flows.values() if flow.admitted and not flow.up]
            for flow in known:
                self._up(flow)
            holding = asyncio.create_task(self._hold_again(known, closed))
            log.info("connected to the broker at %s", self.url)
            log.warning("the connection to the broker ended: %s", await self._supervise(closed))
        finally:
            if holding is not None:
                holding.cancel()
            self._down()
            await within(PART_S, connection.close())

    async def _open_channels(self, connection: AbstractConnection, closed: asyncio.Future[str]) -> None:
        stream = await connection.channel(publisher_confirms=True)
        rpc = await connection.channel(publisher_confirms=False)
        for channel in (stream, rpc):
            channel.close_callbacks.add(reporter(closed))
        for exchange in topology.EXCHANGES if self._declare else ():
            await stream.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        self._rpc = await rpc.get_underlay_channel()
        await self._rpc.basic_qos(prefetch_count=ANSWERING)
        # Somebody deleted an rpc queue: only a new connection gets its host a new one.
        self._rpc.on_consumer_cancel_callbacks.add(lambda _: reporter(closed)(None, QUEUE_DELETED))
        self._stream = await stream.get_underlay_channel()
        self._connection = connection
        self.away_since = None

    async def _admit(self, newcomers: Sequence[Flow]) -> None:
        """Take the rpc queues of hosts that have said nothing yet. Raises HostTaken after three heartbeats."""
        for attempt in count(1):
            taken = await self._hold(newcomers)
            if taken is None:
                break
            if attempt == TAKEN_TRIES:
                raise taken
            log.warning("%s; trying again in %d s", taken, topology.HEARTBEAT_S)
            await asyncio.sleep(topology.HEARTBEAT_S)
        for flow in newcomers:
            flow.admitted = True

    async def _hold_again(self, flows: Sequence[Flow], closed: asyncio.Future[str]) -> None:
        """After a reconnect: take the rpc queues back, for ever; the broker may still hold our own dead connection."""
        try:
            with broker_errors(self.url):
                while (taken := await self._hold(flows)) is not None:
                    log.warning("%s; trying again in %d s", taken, topology.HEARTBEAT_S)
                    await asyncio.sleep(topology.HEARTBEAT_S)
        except BrokerError as error:
            reporter(closed)(None, error)

    async def _hold(self, flows: Sequence[Flow]) -> HostTaken | None:
        """Take the rpc queues of *flows* that we do not have; gives why not, if another connection has one."""
        taken = None
        for flow in flows:
            host = flow.agent.host
            if self._flows.get(host) is not flow or host in self._consumers:
                continue
            try:
                await self._serve_rpc(host)
            except aiormq.exceptions.ChannelLockedResource as error:
                taken = HostTaken(
                    f"another agent answers for this host: {explain(error)}; stop it, or give this one another name "
                    "(setting host)"
                )
        return taken

    async def _supervise(self, closed: asyncio.Future[str]) -> str:
        """Until the connection ends: take hosts down whose confirms are overdue, and up again when all came."""
        loop = asyncio.get_running_loop()
        while True:
            idle = all(flow.up and not flow.in_flight for flow in self._flows.values())
            done, _ = await asyncio.wait({closed}, timeout=IDLE_S if idle else JUDGE_S)
            if done:
                return closed.result()
            for flow in self._flows.values():
                self._judge(flow, loop.time())

    def _judge(self, flow: Flow, now: float) -> None:
        if flow.up and flow.stalled(now):
            log.warning(
                "host %s: the broker is behind with %d confirms; waiting for it", flow.agent.host, len(flow.in_flight)
            )
            flow.up = False
            flow.blocked_since = now
            flow.agent.link_down()
        elif flow.admitted and not flow.up and not flow.in_flight and self._stream is not None:
            self._up(flow)

    def _up(self, flow: Flow) -> None:
        self._unblock(flow)
        flow.up = True
        flow.agent.link_up()

    def _unblock(self, flow: Flow) -> None:
        with self._blocked_lock:
            if flow.blocked_since is not None:
                self.counters.blocked_s += asyncio.get_running_loop().time() - flow.blocked_since
                flow.blocked_since = None

    def _down(self) -> None:
        if self.away_since is None:
            self.away_since = asyncio.get_running_loop().time()
        self._connection = self._stream = self._rpc = self._claims = None
        self._consumers.clear()
        for flow in self._flows.values():
            flow.in_flight.clear()
            self._unblock(flow)
            flow.up = False
            flow.agent.link_down()

    # --- hosts --------------------------------------------------------------------------------------------------

    async def attach(self, agent: HostAgent) -> None:
        """Begin to serve a host.

        Raises:
            HostTaken: another agent keeps the host's rpc queue.
            BrokerRefused: we may not have it. In both cases nothing was said.
        """
        self._flows[agent.host] = flow = Flow(agent)
        if self._connection is None:
            return
        try:
            with broker_errors(self.url):
                await self._admit([flow])
        except (BrokerRefused, HostTaken):
            del self._flows[agent.host]
            raise
        except BrokerUnreachable as error:
            # The link admits the host on its next connection.
            if self._closed is not None:
                reporter(self._closed)(None, error)
            return
        if not flow.up and self._stream is not None:
            self._up(flow)

    async def detach(self, agent: HostAgent) -> None:
        """Stop serving a host: its messages handed over so far are sent, its rpc queue is given up."""
        flow = self._flows.get(agent.host)
        if flow is None or flow.agent is not agent:
            return
        if self._tasks and self._stream is not None:
            await asyncio.wait(set(self._tasks), timeout=PART_S)
        self._unblock(flow)
        del self._flows[agent.host]
        await within(PART_S, self._give_up(agent.host))

    async def _give_up(self, host: HostId) -> None:
        tag = self._consumers.pop(host, None)
        async with self._rpc_lock:
            channel = self._rpc
            if tag is None or channel is None or channel.is_closed:
                return
            try:
                with broker_errors(self.url):
                    await channel.basic_cancel(tag)
                    await channel.queue_delete(topology.rpc_queue(host).name)
            except BrokerError as error:
                log.debug("host %s: its rpc queue ends with the connection: %s", host, error)

    # --- publishing ---------------------------------------------------------------------------------------------

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Send one message. Order is kept: tasks start in order, and aiormq's channel lock serves the first to come."""
        flow = self._flows.get(agent.host)
        if flow is None or self._stream is None:
            return
        number = flow.sent(asyncio.get_running_loop().time())
        task = asyncio.create_task(self._send(self._stream, flow, number, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, channel: UnderlayChannel, flow: Flow, number: int, message: Outgoing) -> None:
        taken = False
        try:
            with broker_errors(self.url):
                await channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    properties=properties(flow.agent.host, message),
                )
            taken = True
            self.counters.confirmed += 1
        except aiormq.exceptions.DeliveryError:
            self.counters.refused += 1
            log.info("host %s: the broker refused a %s", flow.agent.host, message.kind)
        except BrokerError as error:
            # The link's own supervision sees the end of the connection; the session says it all again then.
            self.counters.lost += 1
            log.debug("host %s: a %s was not published: %s", flow.agent.host, message.kind, error)
            if message.kind is Kind.DEVICES:
                flow.agent.devices_lost(message.seq)
            return
        finally:
            flow.in_flight.pop(number, None)
        if message.change is not None:
            settle = flow.agent.confirmed if taken else flow.agent.refused
            settle(message.change, message.seq)
        elif message.kind is Kind.DEVICES:
            (flow.agent.devices_told if taken else flow.agent.devices_lost)(message.seq)

    # --- verbs --------------------------------------------------------------------------------------------------

    async def _serve_rpc(self, host: HostId) -> None:
        """Hold the host's exclusive rpc queue and answer what comes. Raises ChannelLockedResource."""
        queue = topology.rpc_queue(host)

        async def consume(request: DeliveredMessage) -> None:
            try:
                await self._answer(host, request)
            finally:
                await self._settle(request)

        async with self._rpc_lock:
            connection, channel = self._connection, self._rpc
            if connection is None or channel is None:
                return
            # On a channel of its own, for the broker closes the one on which we ask for a queue that another has; the
            # queue belongs to the connection, and the other hosts' consumers live on.
            if self._claims is None or self._claims.is_closed:
                claims = await connection.channel(publisher_confirms=False)
                self._claims = await claims.get_underlay_channel()
            await self._claims.queue_declare(queue.name, exclusive=queue.exclusive, durable=queue.durable)
            for exchange, key in queue.bindings:
                await self._claims.queue_bind(queue.name, exchange, key)
            reply = await channel.basic_consume(queue.name, consume)
            self._consumers[host] = str(reply.consumer_tag)

    async def _settle(self, request: DeliveredMessage) -> None:
        """Done with a request: the broker may send the next."""
        try:
            with broker_errors(self.url):
                await request.channel.basic_ack(request.delivery_tag or 0)
        except BrokerError as error:
            log.debug("a request could not be settled, its queue ends with the connection: %s", error)

    async def _answer(self, host: HostId, request: DeliveredMessage) -> None:
        asked = request.header.properties
        token = asked.reply_to
        flow, channel = self._flows.get(host), self._stream
        if flow is None or channel is None or not token or not TOKEN.fullmatch(token):
            log.warning("host %s: a request without a usable reply_to was dropped", host)
            return
        verb = (request.routing_key or "").rpartition(".")[2]
        body, encoding = await flow.agent.answer(verb, request.body, asked.user_id)
        answer = Basic.Properties(
            user_id=host,
            message_type=Kind.REPLY,
            content_type=topology.CONTENT_TYPE,
            content_encoding=encoding,
            correlation_id=asked.correlation_id,
            message_id=asked.correlation_id or FRAME_MESSAGE_ID,
            app_id=topology.APP_ID,
            timestamp=datetime.now(UTC),
            expiration=str(REPLY_EXPIRATION_MS),
        )
        try:
            with broker_errors(self.url):
                await channel.basic_publish(
                    body, exchange=topology.REPLIES, routing_key=topology.reply_key(host, token), properties=answer
                )
        except (BrokerError, aiormq.exceptions.DeliveryError) as error:
            log.debug("host %s: a reply was not published: %s", host, error)


def properties(host: HostId, message: Outgoing) -> Basic.Properties:
    """Properties of a stream message. Frames carry the least: each byte is sent 83 times a second at 250 hosts."""
    if message.kind is Kind.FRAME:
        return Basic.Properties(
            user_id=host,
            message_type=message.kind,
            expiration=str(message.expiration_ms),
            message_id=FRAME_MESSAGE_ID,
        )
    return Basic.Properties(
        user_id=host,
        message_type=message.kind,
        content_type=topology.CONTENT_TYPE,
        message_id=f"{time.time_ns():x}.{message.seq}",
        app_id=topology.APP_ID,
        timestamp=datetime.now(UTC),
        expiration=None if message.expiration_ms is None else str(message.expiration_ms),
    )
