"""A connection to RabbitMQ, and its errors in plain words."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import aio_pika
import aiormq

from vmpulse_contract import topology
from vmpulse_edges.errors import BrokerError, BrokerRefused, BrokerUnreachable
from vmpulse_edges.tls import alert, client_context, distrust

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.topology import Queue

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
PART_S: Final = 1.0
"""How long parting from the broker may take: one that blocks us answers nothing, and we have to go on."""
AWAY: Final = (aiormq.exceptions.AMQPError, ConnectionError, RuntimeError, StopAsyncIteration, TimeoutError)
"""What aiormq raises when the connection is lost; RuntimeError: a call on a transport that is closing;
StopAsyncIteration: the peer hung up before its next frame had begun, as a proxy does whose broker is away."""
QUEUE_DELETED: Final = BrokerUnreachable("a queue of ours was deleted")
"""What ``reporter`` is told when the broker cancels a consumer of ours."""


def warn_if_open(url: BrokerUrl) -> None:
    """Say once, at a program's start, that whoever listens on the network reads all of it."""
    if url.is_open:
        log.warning("the password for %s and all messages go over the network in clear; use amqps://", url)


async def connect(url: BrokerUrl, name: str) -> AbstractConnection:
    """Open a connection. Raises BrokerUnreachable or BrokerRefused, with the remedy in the message."""
    context = client_context(url.tls) if url.scheme == "amqps" else None
    try:
        # Not aio_pika's own timeout: it connects in a task of its own, whose refusal nobody hears if we are cancelled.
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await aio_pika.connect(
                host=url.host,
                port=url.port,
                login=url.user,
                password=url.password,
                virtualhost=url.vhost,
                auth="external" if url.external else None,
                client_properties={"connection_name": name},
                heartbeat=topology.HEARTBEAT_S,
                ssl=context is not None,
                ssl_context=context,
            )
    except (aiormq.exceptions.ProbableAuthenticationError, aiormq.exceptions.AuthenticationError) as error:
        raise BrokerRefused(
            f"the broker at {url} refuses the user {url.user!r}; check its password and that the user exists"
        ) from error
    except aiormq.exceptions.ConnectionNotAllowed as error:
        raise BrokerRefused(f"the broker at {url} refuses us: {explain(error)}; check vhost and permissions") from error
    except aiormq.exceptions.InvalidFrameError as error:
        if "Connection.Close" not in str(error):
            raise BrokerUnreachable(
                f"what answers at {url} is no broker: {explain(error)}; check the address"
            ) from error
        # aiormq does not hand on the broker's words to the opening of a virtual host.
        raise BrokerRefused(
            f"the broker at {url} closes the door; check that the virtual host {url.vhost!r} exists, and that the user "
            f"{url.user!r} has permissions for it and connections left"
        ) from error
    except (OSError, UnicodeError, aiormq.exceptions.AMQPError, StopAsyncIteration, TimeoutError) as error:
        if distrusted := distrust(error):
            raise BrokerRefused(
                f"the certificate of the broker at {url} is not trusted: {distrusted}; name the file of its authority "
                f"with broker_ca_file, and check that the certificate is for {url.host!r}"
            ) from error
        if refused := alert(error):
            raise BrokerRefused(
                f"the broker at {url} refuses our TLS: {refused}; check broker_cert_file, and the broker's log"
            ) from error
        raise BrokerUnreachable(
            f"no broker answers at {url}: {explain(error)}; check that RabbitMQ runs there and the address"
        ) from error
    try:
        heed_cancel()
    except asyncio.CancelledError:
        await within(PART_S, connection.close())
        raise
    return connection


def explain(error: BaseException | None) -> str:
    """One line about an AMQP error, with the broker's own words."""
    if error is None or type(error) is Exception:
        return "closed"
    words = " ".join(str(part) for part in error.args if part) or type(error).__name__
    return " ".join(words.split())[:300]


@contextmanager
def broker_errors(url: BrokerUrl) -> Iterator[None]:
    """Turn what ends a call of aiormq into a BrokerError, except what refuses only one queue or one message."""
    try:
        yield
    except (BrokerError, aiormq.exceptions.ChannelLockedResource, aiormq.exceptions.DeliveryError):
        raise
    except (aiormq.exceptions.ChannelAccessRefused, aiormq.exceptions.ChannelPreconditionFailed) as error:
        raise BrokerRefused(
            f"the broker at {url} refuses us: {explain(error)}; check the user's permissions"
        ) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled us: aiormq hands its own reader's end, after missed heartbeats, to all who wait.
        raise BrokerUnreachable(f"the broker at {url} is silent; check whether it hangs, and the network") from error
    except Exception as error:
        # A bare Exception is what aiormq gives those who wait when the peer just hangs up.
        if not isinstance(error, AWAY) and type(error) is not Exception:
            raise
        raise BrokerUnreachable(
            f"the broker at {url} ended the connection: {explain(error)}; check its log, and that it still runs"
        ) from error


def heed_cancel() -> None:
    """Raise CancelledError if the running task was told to end.

    For loops that connect again and again: a cancel that falls into aiormq's connecting may come out as any error, or
    not at all (asyncio.wait_for drops one that races with the end of what it waits for), and the loop would go on.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def within(seconds: float, parting: Coroutine[None, None, None]) -> None:
    """Wait for the end of *parting*, but not for ever; it goes on, for aiormq's calls do not always heed a cancel."""
    task = asyncio.create_task(parting)
    await asyncio.wait({task}, timeout=seconds)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        log.debug("parting from the broker: %s", error)


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


def reporter(closed: asyncio.Future[str]) -> Callable[[object, BaseException | None], None]:
    """Give a close callback that says, once, why a channel or connection ended."""

    def report(_: object, error: BaseException | None = None) -> None:
        if not closed.done():
            closed.set_result(explain(error))

    return report
