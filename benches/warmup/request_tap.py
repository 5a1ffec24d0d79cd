"""What a view asks hosts, as the broker hands it to them: a queue of our own beside theirs."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

import aio_pika
import msgspec

from vmpulse_contract import topology, verbs
from vmpulse_simulator.private_broker import BrokerUser

if TYPE_CHECKING:
    from types import TracebackType

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

USER: Final = "warmup.tap"
VIEW_QUEUE: Final = topology.view_queue("main").name
_REQUESTS: Final = msgspec.msgpack.Decoder(verbs.Request)


def tap_user() -> BrokerUser:
    """Give the user that listens; it may do everything, for it also takes the view's queue away."""
    return BrokerUser(USER, secrets.token_urlsafe(16))


class Asked:
    """The questions of one warm-up."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """By verb."""
        self.things: Counter[tuple[str, str, bytes]] = Counter()
        """Host, verb and VM; of verbs that name none, b""."""

    def take(self, key: str, body: bytes) -> None:
        """Count one request by its routing key and its body."""
        host, _, verb = key.partition(".")
        self.requests[verb] += 1
        self.things.update((host, verb, vm) for vm in _REQUESTS.decode(body).vms or (b"",))

    @property
    def twice(self) -> int:
        """How often a host was asked for what it had been asked for already."""
        return sum(count - 1 for count in self.things.values())


class RequestTap:
    """Listens to requests, from entering to leaving the context.

    Args:
        url: of the broker, with the tap's user.
    """

    def __init__(self, url: str) -> None:
        self.asked = Asked()
        self._url = url
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    def anew(self) -> Asked:
        """Count in a new place from now on, which it gives."""
        self.asked = Asked()
        return self.asked

    async def delete_view_queue(self) -> None:
        """Have the broker forget the view, which must not be at work."""
        assert self._channel is not None, "not entered"
        await self._channel.queue_delete(VIEW_QUEUE)

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        exchange = await self._channel.declare_exchange(topology.RPC, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await self._channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(self._take, no_ack=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self.asked.take(message.routing_key or "", message.body)
