"""What a host, or an engine's worker, that has been taken over cannot do: each is refused by a real broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aio_pika
import pytest
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

from vmpulse_contract import topology
from vmpulse_contract.rights import CLI, MONITOR, VIEW, WAREHOUSE, WORKER
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("of_h002"), pytest.mark.timeout(60)]

VIEW_QUEUE = topology.view_queue("main").name
ACCESS_REFUSED, PRECONDITION_FAILED = "ACCESS_REFUSED", "PRECONDITION_FAILED"


class Attempt(NamedTuple):
    """Something that a user tries on a channel of its own, and the broker's word on it; empty: it is allowed."""

    user: str
    try_it: Callable[[AbstractChannel], Awaitable[object]]
    answer: str


def publish(exchange: str, key: str, user_id: str | None = None) -> Callable[[AbstractChannel], Awaitable[object]]:
    """Publish a message and wait for its confirmation."""
    properties = Basic.Properties(user_id=user_id)
    return lambda channel: channel.basic_publish(b"x", exchange=exchange, routing_key=key, properties=properties)


def own_queue_bound(exchange: str, key: str) -> Callable[[AbstractChannel], Awaitable[object]]:
    """Declare the host's own rpc queue, which it may, and bind it."""

    async def bind(channel: AbstractChannel) -> None:
        await channel.queue_declare("vmpulse.rpc.h001", exclusive=True)
        await channel.queue_bind("vmpulse.rpc.h001", exchange, key)

    return bind


async def _ignored(_: object) -> None:
    return


def consume(queue: str) -> Callable[[AbstractChannel], Awaitable[object]]:
    """Consume from a queue."""
    return lambda channel: channel.basic_consume(queue, _ignored)


A, B = "h001", "h002"
ATTEMPTS: dict[str, Attempt] = {
    # What a host has to be able to do.
    "its own frame": Attempt(A, publish(topology.RUNTIME, "h001", A), ""),
    "its own change": Attempt(A, publish(topology.CHANGES, "h001.info", A), ""),
    "its own reply": Attempt(A, publish(topology.REPLIES, "h001.0a", A), ""),
    "its own requests": Attempt(A, own_queue_bound(topology.RPC, "h001.*"), ""),
    # Speak for another host.
    "a frame of another": Attempt(A, publish(topology.RUNTIME, "h002", A), ACCESS_REFUSED),
    "a change of another": Attempt(A, publish(topology.CHANGES, "h002.info", A), ACCESS_REFUSED),
    "devices of another": Attempt(A, publish(topology.DEVICES, "h002", A), ACCESS_REFUSED),
    "a reply of another": Attempt(A, publish(topology.REPLIES, "h002.0a", A), ACCESS_REFUSED),
    "a frame of a longer name": Attempt(A, publish(topology.RUNTIME, "h0011", A), ACCESS_REFUSED),
    "another's user_id": Attempt(A, publish(topology.RUNTIME, "h001", B), PRECONDITION_FAILED),
    # Read what another one is told, or says.
    "binding another's requests": Attempt(A, own_queue_bound(topology.RPC, "h002.*"), ACCESS_REFUSED),
    "binding all requests": Attempt(A, own_queue_bound(topology.RPC, "#"), ACCESS_REFUSED),
    "binding a longer name's requests": Attempt(A, own_queue_bound(topology.RPC, "h0011.*"), ACCESS_REFUSED),
    "binding the stream": Attempt(A, own_queue_bound(topology.RUNTIME, "h001"), ACCESS_REFUSED),
    "binding replies": Attempt(A, own_queue_bound(topology.REPLIES, "#"), ACCESS_REFUSED),
    "binding fleet events": Attempt(A, own_queue_bound(topology.FLEET, "#"), ACCESS_REFUSED),
    "another's rpc queue": Attempt(A, consume("vmpulse.rpc.h002"), ACCESS_REFUSED),
    "the view's queue": Attempt(A, consume(VIEW_QUEUE), ACCESS_REFUSED),
    "one message of the view's queue": Attempt(A, lambda channel: channel.basic_get(VIEW_QUEUE), ACCESS_REFUSED),
    "the dead letters": Attempt(A, consume("vmpulse.dead"), ACCESS_REFUSED),
    # Silence the fleet.
    "purging the view's queue": Attempt(A, lambda channel: channel.queue_purge(VIEW_QUEUE), ACCESS_REFUSED),
    "deleting the view's queue": Attempt(A, lambda channel: channel.queue_delete(VIEW_QUEUE), ACCESS_REFUSED),
    "deleting an exchange": Attempt(A, lambda channel: channel.exchange_delete(topology.RUNTIME), ACCESS_REFUSED),
    "unbinding the view": Attempt(
        A, lambda channel: channel.queue_unbind(VIEW_QUEUE, topology.RUNTIME, "#"), ACCESS_REFUSED
    ),
    "declaring an exchange": Attempt(A, lambda channel: channel.exchange_declare("mine"), ACCESS_REFUSED),
    "declaring a queue": Attempt(A, lambda channel: channel.queue_declare("mine"), ACCESS_REFUSED),
    "an unnamed queue": Attempt(A, lambda channel: channel.queue_declare("", exclusive=True), ACCESS_REFUSED),
    "another's rpc queue before it": Attempt(
        A, lambda channel: channel.queue_declare("vmpulse.rpc.h0011", exclusive=True), ACCESS_REFUSED
    ),
    "redeclaring the view's queue": Attempt(
        A, lambda channel: channel.queue_declare(VIEW_QUEUE, durable=True), ACCESS_REFUSED
    ),
    # Ask others, and reach queues by their names.
    "a request": Attempt(A, publish(topology.RPC, "h002.list", A), ACCESS_REFUSED),
    "a request to itself": Attempt(A, publish(topology.RPC, "h001.list", A), ACCESS_REFUSED),
    "the view's queue by name": Attempt(A, publish("", VIEW_QUEUE, A), ACCESS_REFUSED),
    "another's queue by name": Attempt(A, publish("", "vmpulse.rpc.h002", A), ACCESS_REFUSED),
    "a canary": Attempt(A, publish(topology.FLEET, "canary.main.x", A), ACCESS_REFUSED),
    "a dead letter": Attempt(A, publish(topology.DEAD, "x", A), ACCESS_REFUSED),
    # The engine's own users.
    "a worker's frame": Attempt(WORKER, publish(topology.RUNTIME, "h001", WORKER), ACCESS_REFUSED),
    "a worker's fleet event": Attempt(WORKER, publish(topology.FLEET, "vm.gone.main.h001", WORKER), ACCESS_REFUSED),
    "a worker's request": Attempt(WORKER, publish(topology.RPC, "h001.list", WORKER), ACCESS_REFUSED),
    "a worker in the view's queue": Attempt(WORKER, consume(VIEW_QUEUE), ACCESS_REFUSED),
    "a worker's own queue": Attempt(WORKER, lambda channel: channel.queue_declare("vmpulse.worker.x"), ""),
    "a warehouse's frame": Attempt(WAREHOUSE, publish(topology.RUNTIME, "h001", WAREHOUSE), ACCESS_REFUSED),
    "a warehouse's request": Attempt(WAREHOUSE, publish(topology.RPC, "h001.list", WAREHOUSE), ACCESS_REFUSED),
    "a view's frame": Attempt(VIEW, publish(topology.RUNTIME, "h001", VIEW), ACCESS_REFUSED),
    "a view in a host's name": Attempt(VIEW, publish(topology.FLEET, "x", "h001"), PRECONDITION_FAILED),
    "a view by queue name": Attempt(VIEW, publish("", "vmpulse.rpc.h002", VIEW), ACCESS_REFUSED),
    "a caller in the view's queue": Attempt(CLI, consume(VIEW_QUEUE), ACCESS_REFUSED),
    "a caller's frame": Attempt(CLI, publish(topology.RUNTIME, "h001", CLI), ACCESS_REFUSED),
    "a monitor's request": Attempt(MONITOR, publish(topology.RPC, "h001.list", MONITOR), ACCESS_REFUSED),
}


@pytest.mark.parametrize("what", ATTEMPTS)
async def test_rights_allow_what_they_should_and_nothing_else(guarded_broker: PrivateBroker, what: str) -> None:
    """Each attempt is allowed, or refused with the broker's own word, on a connection of that user."""
    attempt = ATTEMPTS[what]
    async with await aio_pika.connect(guarded_broker.url(attempt.user)) as connection:
        channel = await (await connection.channel(publisher_confirms=True)).get_underlay_channel()
        try:
            await attempt.try_it(channel)
            told = ""
        except AMQPError as error:
            told = str(error)
        if attempt.answer:
            assert attempt.answer in told, told or "it was allowed"
        else:
            assert told == ""
