"""The loop that keeps a connection of the engine side up."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from vmpulse_edges.amqp_connection import PART_S, broker_errors, connect, heed_cancel, reporter, within
from vmpulse_edges.errors import BrokerError, BrokerRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from vmpulse_contract.broker_url import BrokerUrl

log = logging.getLogger(__name__)

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 5.0
"""There are few views and many agents: a view may hurry back."""


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
    backoff, ever, clock = BACKOFF_FIRST_S, False, asyncio.get_running_loop().time
    while True:
        started = clock()
        try:
            ended = await _one_session(url, name, session)
            ever = True
            log.warning("the %s connection ended: %s", name, ended)
        except BrokerError as error:
            if isinstance(error, BrokerRefused) and not ever:
                raise
            log.warning("%s; trying again within %.1f s", error, backoff)
        heed_cancel()
        if clock() - started > BACKOFF_MOST_S:
            # Only then: a broker that takes us and soon throws us out must not be stormed either.
            backoff = BACKOFF_FIRST_S
        await asyncio.sleep(random.uniform(backoff / 4, backoff))  # noqa: S311 - spreading, not secrecy
        backoff = min(backoff * 2, BACKOFF_MOST_S)


async def _one_session(
    url: BrokerUrl, name: str, session: Callable[[AbstractConnection, asyncio.Future[str]], Awaitable[None]]
) -> str:
    """Run *session* on one connection. Gives why that ended; raises BrokerError if it was never up."""
    connection = await connect(url, name)
    closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    connection.close_callbacks.add(reporter(closed))
    try:
        with broker_errors(url):
            await session(connection, closed)
    finally:
        await within(PART_S, connection.close())
    return closed.result() if closed.done() else "closed"
