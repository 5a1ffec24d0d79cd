"""What somebody may try on a channel of the broker, put together from AMQP's own methods."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias

import aio_pika
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from vmpulse_contract import topology
from vmpulse_contract.rights import CLI
from vmpulse_simulator.private_broker import PrivateBroker

Try: TypeAlias = Callable[[AbstractChannel], Awaitable[object]]
ACCESS_REFUSED: Final = "ACCESS_REFUSED"
PRECONDITION_FAILED: Final = "PRECONDITION_FAILED"
RESOURCE_LOCKED: Final = "RESOURCE_LOCKED"
VIEW_QUEUE: Final = topology.view_queue("main").name
OWN: Final = "vmpulse.rpc.h001"
"""The name of the host's queue. Rights are of names, so that an exchange may be called the same."""


class Attempt(NamedTuple):
    """Something that a user tries on a channel of its own, and the broker's word on it; empty: it is allowed."""

    user: str
    try_it: Try
    answer: str


def publish(exchange: str, key: str, user_id: str | None = None, body: bytes = b"x", **properties: Any) -> Try:
    """Publish a message and wait for its confirmation."""
    its = Basic.Properties(user_id=user_id, **properties)
    return lambda channel: channel.basic_publish(body, exchange=exchange, routing_key=key, properties=its)


def in_a_transaction(attempt: Try) -> Try:
    """Do it in a transaction, and commit; on a channel beside, for one with confirmations has no transactions."""

    async def committed(channel: AbstractChannel) -> None:
        beside = await channel.connection.channel(publisher_confirms=False)
        await beside.tx_select()
        await attempt(beside)
        await beside.tx_commit()

    return committed


def own_queue(**arguments: str | int) -> Try:
    """Declare the host's own rpc queue with arguments, underlines being dashes."""
    named: Any = {name.replace("_", "-"): value for name, value in arguments.items()}
    return lambda channel: channel.queue_declare(OWN, exclusive=True, arguments=named)


def own_queue_bound(exchange: str, key: str) -> Try:
    """Declare the host's own rpc queue, which it may, and bind it."""

    async def bind(channel: AbstractChannel) -> None:
        await own_queue()(channel)
        await channel.queue_bind(OWN, exchange, key)

    return bind


def own_exchange(alternate: str) -> Try:
    """Declare an exchange named like the host's queue; what it cannot route goes to another one."""
    arguments: Any = {"alternate-exchange": alternate}
    return lambda channel: channel.exchange_declare(OWN, exchange_type="fanout", arguments=arguments)


def led_on(source: str, destination: str, key: str) -> Try:
    """Have one exchange pass on to another what has such a key."""
    return lambda channel: channel.exchange_bind(destination=destination, source=source, routing_key=key)


def not_led_on(source: str, destination: str, key: str) -> Try:
    """Have one exchange pass that on no more."""
    return lambda channel: channel.exchange_unbind(destination=destination, source=source, routing_key=key)


async def _ignored(_: object) -> None:
    return


def consume(queue: str) -> Try:
    """Consume from a queue."""
    return lambda channel: channel.basic_consume(queue, _ignored)


class Channels(NamedTuple):
    """A channel of the host that was taken over, and one of somebody who asks it."""

    host: AbstractChannel
    asker: AbstractChannel


@contextlib.asynccontextmanager
async def taken_over(broker: PrivateBroker) -> AsyncIterator[Channels]:
    """A host in the wrong hands, and the engine; what is left of the host's ways is taken away afterwards."""
    async with (
        await aio_pika.connect(broker.url("h001")) as ours,
        await aio_pika.connect(broker.url(CLI)) as asking,
    ):
        channels = Channels(*[await (await one.channel()).get_underlay_channel() for one in (ours, asking)])
        try:
            yield channels
        finally:
            after = await (await ours.channel()).get_underlay_channel()
            await after.exchange_delete(OWN)
            await after.queue_delete(OWN)
            await not_led_on(topology.RPC, topology.RUNTIME, "h001.*")(after)
