"""A connection to RabbitMQ, its errors in plain words, and the loop that keeps it up."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

import aio_pika
import aiormq

from vmpulse_consumers.errors import BrokerError, BrokerRefused, BrokerUnreachable
from vmpulse_contract import topology

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.topology import Queue

log = logging.getLogger(__name__)

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 5.0
"""There are few views and many agents: a view may hurry back."""
CONNECT_TIMEOUT_S: Final = 10.0


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


async def declare(channel: AbstractChannel, queue: Queue) -> None:
    """Declare a queue of the topology and bind it. Raises BrokerRefused if one of that name has other arguments."""
    try:
        await channel.queue_declare(
            queue.name, durable=queue.durable, exclusive=queue.exclusive, arguments=dict(queue.arguments)
        )
    except aiormq.exceptions.ChannelPreconditionFailed as error:
        raise BrokerRefused(
            f"queue {queue.name} exists with other arguments: {explain(error)}; delete it, it holds nothing lasting"
        ) from error
    for exchange, key in queue.bindings:
        await channel.queue_bind(queue.name, exchange, key)


async def keep_up(
    url: BrokerUrl, name: str, session: Callable[[AbstractConnection, asyncio.Future[str]], Awaitable[None]]
) -> None:
    """Run *session* on a connection, for ever on a new one after each end.

    Args:
        url: the broker.
        name: the connection's name, as the broker's management shows it.
        session: sets up and then waits for the future, which says why the connection or a watched channel ended.

    Raises:
        BrokerRefused: only before the first session was up; later refusals are retried.
    """
    backoff, ever = BACKOFF_FIRST_S, False
    while True:
        try:
            connection = await connect(url, name)
            closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            connection.close_callbacks.add(reporter(closed))
            started = asyncio.get_running_loop().time()
            try:
                await session(connection, closed)
                log.warning("the %s connection ended: %s", name, closed.result() if closed.done() else "closed")
            except (aiormq.exceptions.AMQPError, ConnectionError, RuntimeError) as error:
                # RuntimeError: aiormq's answer to a call on a transport that is closing.
                raise BrokerUnreachable(f"the broker at {url} ended the {name} connection: {explain(error)}") from error
            finally:
                ever = True
                if asyncio.get_running_loop().time() - started > BACKOFF_MOST_S:
                    backoff = BACKOFF_FIRST_S
                await connection.close()
        except BrokerError as error:
            if isinstance(error, BrokerRefused) and not ever:
                raise
            log.warning("%s; trying again within %.1f s", error, backoff)
        await asyncio.sleep(random.uniform(backoff / 4, backoff))  # noqa: S311 - spreading, not secrecy
        backoff = min(backoff * 2, BACKOFF_MOST_S)


def reporter(closed: asyncio.Future[str]) -> Callable[[object, BaseException | None], None]:
    """Give a close callback that says, once, why a channel or connection ended."""

    def report(_: object, error: BaseException | None = None) -> None:
        if not closed.done():
            closed.set_result(explain(error))

    return report
