"""The broker link: one connection to RabbitMQ for one or many hosts. The only file of the agent that imports aio_pika.

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
import time
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Final

import aio_pika
import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from vmpulse_agent.errors import BrokerError, BrokerRefused, BrokerUnreachable, HostTaken
from vmpulse_contract import topology
from vmpulse_contract.topology import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as UnderlayChannel

    from vmpulse_agent.host_agent import HostAgent
    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

log = logging.getLogger(__name__)

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 15.0
"""As long as a host may be silent before readers call it lost: the broker's return must not wait longer for us."""
CONNECT_TIMEOUT_S: Final = 10.0
STALL_S: Final = 6.0
"""Two ticks: by then the frames in flight are out of date anyway."""
WINDOW: Final = 1024
"""Messages of one host that may await their confirm; four times what a host of 40 VMs says on reconnect."""
TAKEN_TRIES: Final = 4
"""Promise A6: retry three heartbeats, for the broker may hold a dead agent's connection, and with it the queue, for two."""
FRAME_MESSAGE_ID: Final = "-"
"""aiormq gives each message without an id one of 32 characters; one character is the least it lets us send."""
REPLY_EXPIRATION_MS: Final = 10_000


class Flow:
    """What one host has in flight, by publish order; it tells when that is too much or too old."""

    def __init__(self, agent: HostAgent) -> None:
        self.agent = agent
        self.in_flight: dict[int, float] = {}
        self.up = False
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
        self._declare = declare
        self._flows: dict[HostId, Flow] = {}
        self._consumers: dict[HostId, str] = {}
        self._stream: UnderlayChannel | None = None
        self._rpc: UnderlayChannel | None = None
        self._ever_up = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._rpc_lock = asyncio.Lock()

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the link up until cancelled. Raises BrokerRefused or HostTaken, but only before it was up once."""
        backoff = BACKOFF_FIRST_S
        while True:
            try:
                await self._serve_one_connection()
                backoff = BACKOFF_FIRST_S
            except BrokerError as error:
                if isinstance(error, BrokerRefused) and not self._ever_up:
                    raise
                log.warning("%s; trying again within %.1f s", error, backoff)
            # Jitter: a fleet that lost its broker together must not come back together.
            await asyncio.sleep(random.uniform(backoff / 4, backoff))  # noqa: S311 - spreading, not secrecy
            backoff = min(backoff * 2, BACKOFF_MOST_S)
            self.reconnects += 1

    async def _serve_one_connection(self) -> None:
        connection = await connect(self.url, self.name)
        holding: asyncio.Task[None] | None = None
        try:
            closed = await self._open_stream(connection)
            if not self._ever_up:
                # Promise A6: at start another live agent of the host keeps us out before we have said anything.
                await self._hold_rpc(connection, closed, TAKEN_TRIES)
            self._ever_up = True
            for flow in self._flows.values():
                self._up(flow)
            if self._rpc is None:
                holding = asyncio.create_task(self._hold_rpc(connection, closed, None))
            log.info("connected to the broker at %s", self.url)
            log.warning("the connection to the broker ended: %s", await self._supervise(closed))
        except aiormq.exceptions.AMQPError as error:
            raise BrokerUnreachable(f"the broker at {self.url} ended the set-up: {explain(error)}") from error
        finally:
            if holding is not None:
                holding.cancel()
            self._down()
            await connection.close()

    async def _open_stream(self, connection: AbstractConnection) -> asyncio.Future[str]:
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel = await connection.channel(publisher_confirms=True)
        for closing in (channel, connection):
            closing.close_callbacks.add(reporter(closed))
        for exchange in topology.EXCHANGES if self._declare else ():
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        self._stream = await channel.get_underlay_channel()
        return closed

    async def _hold_rpc(self, connection: AbstractConnection, closed: asyncio.Future[str], tries: int | None) -> None:
        """Hold the rpc queues of all hosts; try again each heartbeat while another connection has one."""
        for attempt in count(1):
            channel = await connection.channel(publisher_confirms=False)
            try:
                self._rpc = await channel.get_underlay_channel()
                for host in [host for host in self._flows if host not in self._consumers]:
                    await self._serve_rpc(host)
            except aiormq.exceptions.ChannelLockedResource as error:
                # The broker has closed this channel and with it what was served on it.
                self._rpc = None
                self._consumers.clear()
                taken = HostTaken(
                    f"another agent answers for this host: {explain(error)}; stop it, or give this one another name (setting host)"
                )
                if attempt == tries:
                    raise taken from error
                log.warning("%s; trying again in %d s", taken, topology.HEARTBEAT_S)
                await asyncio.sleep(topology.HEARTBEAT_S)
            else:
                channel.close_callbacks.add(reporter(closed))
                return

    async def _supervise(self, closed: asyncio.Future[str]) -> str:
        """Until the connection ends: take hosts down whose confirms are overdue, and up again when all came."""
        loop = asyncio.get_running_loop()
        while True:
            done, _ = await asyncio.wait({closed}, timeout=1.0)
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
            flow.agent.link_down()
        elif not flow.up and not flow.in_flight and self._stream is not None:
            self._up(flow)

    def _up(self, flow: Flow) -> None:
        flow.up = True
        flow.agent.link_up()

    def _down(self) -> None:
        self._stream = self._rpc = None
        self._consumers.clear()
        for flow in self._flows.values():
            flow.in_flight.clear()
            flow.up = False
            flow.agent.link_down()

    # --- hosts --------------------------------------------------------------------------------------------------

    async def attach(self, agent: HostAgent) -> None:
        """Begin to serve a host."""
        self._flows[agent.host] = flow = Flow(agent)
        if self._stream is not None:
            await self._serve_rpc(agent.host)
            self._up(flow)

    async def detach(self, agent: HostAgent) -> None:
        """Stop serving a host: its messages handed over so far are sent, its rpc queue is given up."""
        flow = self._flows.get(agent.host)
        if flow is None or flow.agent is not agent:
            return
        if self._tasks and self._stream is not None:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        del self._flows[agent.host]
        tag = self._consumers.pop(agent.host, None)
        if tag is not None and self._rpc is not None and not self._rpc.is_closed:
            async with self._rpc_lock:
                await self._rpc.basic_cancel(tag)
                await self._rpc.queue_delete(topology.rpc_queue(agent.host).name)

    # --- publishing ---------------------------------------------------------------------------------------------

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Send one message. Order is kept: tasks start in order, and aiormq's channel lock is first come, first served."""
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
            await channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties(flow.agent.host, message),
            )
            taken = True
        except aiormq.exceptions.DeliveryError:
            log.info("host %s: the broker refused a %s", flow.agent.host, message.kind)
        except (aiormq.exceptions.AMQPError, ConnectionError, RuntimeError, TimeoutError) as error:
            # RuntimeError: aiormq's answer to a publish on a transport that is closing. The link's own supervision
            # sees the end of the connection; the session says the change again on reconnect.
            log.debug("host %s: a %s was not published: %s", flow.agent.host, message.kind, error)
            return
        finally:
            flow.in_flight.pop(number, None)
        if message.change is not None:
            settle = flow.agent.confirmed if taken else flow.agent.refused
            settle(message.change, message.seq)

    # --- verbs --------------------------------------------------------------------------------------------------

    async def _serve_rpc(self, host: HostId) -> None:
        """Hold the host's exclusive rpc queue and answer what comes."""
        queue, channel = topology.rpc_queue(host), self._rpc
        if channel is None:
            return
        async with self._rpc_lock:
            await channel.queue_declare(queue.name, exclusive=queue.exclusive, durable=queue.durable)
            for exchange, key in queue.bindings:
                await channel.queue_bind(queue.name, exchange, key)

            async def consume(request: DeliveredMessage) -> None:
                await self._answer(host, request)

            reply = await channel.basic_consume(queue.name, consume, no_ack=True)
        self._consumers[host] = str(reply.consumer_tag)

    async def _answer(self, host: HostId, request: DeliveredMessage) -> None:
        asked = request.header.properties
        token = asked.reply_to
        flow, channel = self._flows.get(host), self._stream
        if flow is None or channel is None or not token or len(token) > 64 or not token.isalnum():  # noqa: PLR2004
            log.warning("host %s: a request without a usable reply_to was dropped", host)
            return
        verb = (request.routing_key or "").rpartition(".")[2]
        body = await flow.agent.answer(verb, request.body, asked.user_id)
        answer = Basic.Properties(
            user_id=host,
            message_type=Kind.REPLY,
            content_type=topology.CONTENT_TYPE,
            correlation_id=asked.correlation_id,
            message_id=asked.correlation_id or FRAME_MESSAGE_ID,
            app_id=topology.APP_ID,
            timestamp=datetime.now(UTC),
            expiration=str(REPLY_EXPIRATION_MS),
        )
        try:
            await channel.basic_publish(
                body, exchange=topology.REPLIES, routing_key=topology.reply_key(host, token), properties=answer
            )
        except (aiormq.exceptions.AMQPError, ConnectionError, RuntimeError, TimeoutError) as error:
            log.debug("host %s: a reply was not published: %s", host, error)


def properties(host: HostId, message: Outgoing) -> Basic.Properties:
    """Properties of a stream message. Frames carry the least there is: each byte is sent 83 times a second at 250 hosts."""
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
    )


def reporter(closed: asyncio.Future[str]) -> Callable[[object, BaseException | None], None]:
    """Give a close callback that says, once, why a channel or connection ended."""

    def report(_: object, error: BaseException | None = None) -> None:
        if not closed.done():
            closed.set_result(explain(error))

    return report


async def connect(url: BrokerUrl, name: str) -> AbstractConnection:
    """Open a connection. Raises BrokerUnreachable or BrokerRefused, with the remedy in the message."""
    try:
        return await aio_pika.connect(
            host=url.host,
            port=url.port,
            login=url.user,
            password=url.password,
            virtualhost=url.vhost,
            ssl=url.scheme == "amqps",
            timeout=CONNECT_TIMEOUT_S,
            client_properties={"connection_name": name},
            heartbeat=topology.HEARTBEAT_S,
        )
    except (aiormq.exceptions.ProbableAuthenticationError, aiormq.exceptions.AuthenticationError) as error:
        raise BrokerRefused(
            f"the broker at {url} refuses the user {url.user!r}: check its password and that the user exists"
        ) from error
    except aiormq.exceptions.ConnectionNotAllowed as error:
        raise BrokerRefused(f"the broker at {url} refuses us: {explain(error)}; check vhost and permissions") from error
    except (OSError, aiormq.exceptions.AMQPError, TimeoutError) as error:
        raise BrokerUnreachable(
            f"no broker answers at {url}: {explain(error)}; check that RabbitMQ runs there and the address"
        ) from error


def explain(error: BaseException | None) -> str:
    """One line about an AMQP error, with the broker's own words."""
    if error is None:
        return "closed"
    words = " ".join(str(part) for part in error.args if part) or type(error).__name__
    return " ".join(words.split())[:300]
