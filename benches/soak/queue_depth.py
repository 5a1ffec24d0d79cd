"""How many messages wait in the view's queue, by asking the broker."""

from __future__ import annotations

import secrets
import statistics
from typing import TYPE_CHECKING, Final, Self

import aio_pika

from benches.soak import trends
from benches.soak.report import Queue
from vmpulse_contract import topology
from vmpulse_contract.rights import NOTHING, Rights
from vmpulse_simulator.private_broker import BrokerUser

if TYPE_CHECKING:
    from types import TracebackType

    from aio_pika.abc import AbstractChannel, AbstractConnection

    from vmpulse_simulator.private_broker import PrivateBroker

NAME: Final = topology.view_queue("main").name
USER: Final = "soak.watch"


def watcher() -> BrokerUser:
    """Give the user that asks, who may do nothing else."""
    return BrokerUser(USER, secrets.token_urlsafe(16), Rights(NOTHING, NOTHING, NOTHING))


class QueueDepth:
    """Asks a broker, which has to know the watcher and to have the queue, from entering to leaving the context.

    What the view was given and has not acknowledged yet, some hundred messages at most, does not count.

    Args:
        broker: whom to ask.
        name: of the queue.
    """

    def __init__(self, broker: PrivateBroker, name: str = NAME) -> None:
        self.depths: list[int] = []
        self._name = name
        self._url = broker.url(USER)
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def measure(self) -> None:
        """Ask once."""
        assert self._channel is not None, "not entered"
        queue = await self._channel.declare_queue(self._name, passive=True)
        self.depths.append(queue.declaration_result.message_count or 0)

    def report(self, warm_up: float) -> Queue:
        """Tell what was measured after the warm-up, a share of the measures; there has to be one at least."""
        depths = trends.settled(self.depths, warm_up)
        first, last = trends.thirds(depths)
        return Queue(statistics.median(first), statistics.median(last), max(depths))

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()
