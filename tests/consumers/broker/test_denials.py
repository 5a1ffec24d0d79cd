"""What a host, or an engine's worker, that has been taken over cannot do: each is refused by a real broker."""

from __future__ import annotations

import contextlib

import aio_pika
import pytest
from aiormq.exceptions import AMQPError, ConnectionNotAllowed

from tests.consumers.broker.attempts import (
    ACCESS_REFUSED,
    OWN,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    VIEW_QUEUE,
    Attempt,
    consume,
    in_a_transaction,
    led_on,
    not_led_on,
    own_exchange,
    own_queue,
    own_queue_bound,
    publish,
)
from tests.consumers.broker.conftest import MESSAGE_BYTES
from vmpulse_contract import topology
from vmpulse_contract.rights import CLI, MAX_CHANNELS, MAX_CONNECTIONS, MONITOR, VIEW, WAREHOUSE, WORKER
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("of_h002"), pytest.mark.timeout(60)]

A, B = "h001", "h002"
ATTEMPTS: dict[str, Attempt] = {
    # What a host has to be able to do.
    "its own frame": Attempt(A, publish(topology.RUNTIME, "h001", A), ""),
    "its own change": Attempt(A, publish(topology.CHANGES, "h001.info", A), ""),
    "its own reply": Attempt(A, publish(topology.REPLIES, "h001.0a", A), ""),
    "a frame in a transaction": Attempt(A, in_a_transaction(publish(topology.RUNTIME, "h001", A)), ""),
    "as much as the broker takes": Attempt(A, publish(topology.RUNTIME, "h001", A, bytes(MESSAGE_BYTES)), ""),
    # What it need not do, and RabbitMQ asks for no right: it sees whether they are there, and how long a queue is.
    "looking at the view's queue": Attempt(A, lambda channel: channel.queue_declare(VIEW_QUEUE, passive=True), ""),
    "looking at an exchange": Attempt(A, lambda channel: channel.exchange_declare(topology.FLEET, passive=True), ""),
    "its own requests": Attempt(A, own_queue_bound(topology.RPC, "h001.*"), ""),
    # Speak for another host.
    "a frame of another": Attempt(A, publish(topology.RUNTIME, "h002", A), ACCESS_REFUSED),
    "a change of another": Attempt(A, publish(topology.CHANGES, "h002.info", A), ACCESS_REFUSED),
    "devices of another": Attempt(A, publish(topology.DEVICES, "h002.columns", A), ACCESS_REFUSED),
    "devices of another, as a map": Attempt(A, publish(topology.DEVICES, "h002", A), ACCESS_REFUSED),
    "a reply of another": Attempt(A, publish(topology.REPLIES, "h002.0a", A), ACCESS_REFUSED),
    "a frame of a longer name": Attempt(A, publish(topology.RUNTIME, "h0011", A), ACCESS_REFUSED),
    "another's user_id": Attempt(A, publish(topology.RUNTIME, "h001", B), PRECONDITION_FAILED),
    "a frame of another in a transaction": Attempt(
        A, in_a_transaction(publish(topology.RUNTIME, "h002", A)), ACCESS_REFUSED
    ),
    "another's user_id in a transaction": Attempt(
        A, in_a_transaction(publish(topology.RUNTIME, "h001", B)), PRECONDITION_FAILED
    ),
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
    "one of another's requests": Attempt(A, lambda channel: channel.basic_get("vmpulse.rpc.h002"), ACCESS_REFUSED),
    "one of the dead letters": Attempt(A, lambda channel: channel.basic_get("vmpulse.dead"), ACCESS_REFUSED),
    "another's requests, led to an exchange of its own": Attempt(
        A, led_on(topology.RPC, OWN, "h002.*"), ACCESS_REFUSED
    ),
    "all requests, led to an exchange of its own": Attempt(A, led_on(topology.RPC, OWN, "#"), ACCESS_REFUSED),
    "another's requests, led to the stream": Attempt(
        A, led_on(topology.RPC, topology.RUNTIME, "h002.*"), ACCESS_REFUSED
    ),
    "the stream, led to an exchange of its own": Attempt(A, led_on(topology.RUNTIME, OWN, "h001"), ACCESS_REFUSED),
    "changes, led to an exchange of its own": Attempt(A, led_on(topology.CHANGES, OWN, "h001.info"), ACCESS_REFUSED),
    "devices, led to an exchange of its own": Attempt(A, led_on(topology.DEVICES, OWN, "h001"), ACCESS_REFUSED),
    "replies, led to an exchange of its own": Attempt(A, led_on(topology.REPLIES, OWN, "h001.*"), ACCESS_REFUSED),
    "fleet events, led to an exchange of its own": Attempt(A, led_on(topology.FLEET, OWN, "h001"), ACCESS_REFUSED),
    "dead letters, led to an exchange of its own": Attempt(A, led_on(topology.DEAD, OWN, "h001"), ACCESS_REFUSED),
    "its requests, in the view's queue": Attempt(
        A, lambda channel: channel.queue_bind(VIEW_QUEUE, topology.RPC, "h001.*"), ACCESS_REFUSED
    ),
    "looking at another's rpc queue": Attempt(
        A, lambda channel: channel.queue_declare("vmpulse.rpc.h002", passive=True), RESOURCE_LOCKED
    ),
    "the dead letters": Attempt(A, consume("vmpulse.dead"), ACCESS_REFUSED),
    # Silence the fleet.
    "purging the view's queue": Attempt(A, lambda channel: channel.queue_purge(VIEW_QUEUE), ACCESS_REFUSED),
    "deleting the view's queue": Attempt(A, lambda channel: channel.queue_delete(VIEW_QUEUE), ACCESS_REFUSED),
    "deleting an exchange": Attempt(A, lambda channel: channel.exchange_delete(topology.RUNTIME), ACCESS_REFUSED),
    "deleting the exchange of requests": Attempt(
        A, lambda channel: channel.exchange_delete(topology.RPC), ACCESS_REFUSED
    ),
    "unbinding another's requests": Attempt(
        A, lambda channel: channel.queue_unbind("vmpulse.rpc.h002", topology.RPC, "h002.*"), ACCESS_REFUSED
    ),
    "no longer leading requests on": Attempt(A, not_led_on(topology.RPC, topology.RUNTIME, "h002.*"), ACCESS_REFUSED),
    "redeclaring the exchange of requests": Attempt(
        A, lambda channel: channel.exchange_declare(topology.RPC, exchange_type="topic", durable=True), ACCESS_REFUSED
    ),
    "an exchange of another": Attempt(A, lambda channel: channel.exchange_declare("vmpulse.rpc.h002"), ACCESS_REFUSED),
    "more than the broker takes": Attempt(
        A, publish(topology.RUNTIME, "h001", A, bytes(MESSAGE_BYTES + 1)), PRECONDITION_FAILED
    ),
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
    "requests, led from an exchange of its own": Attempt(A, led_on(OWN, topology.RPC, ""), ACCESS_REFUSED),
    "fleet events, led from an exchange of its own": Attempt(A, led_on(OWN, topology.FLEET, ""), ACCESS_REFUSED),
    "dead letters, led from an exchange of its own": Attempt(A, led_on(OWN, topology.DEAD, ""), ACCESS_REFUSED),
    "its requests, led to fleet events": Attempt(A, led_on(topology.RPC, topology.FLEET, "h001.*"), ACCESS_REFUSED),
    "requests, where its exchange knows no way": Attempt(A, own_exchange(topology.RPC), ACCESS_REFUSED),
    "fleet events, where its exchange knows no way": Attempt(A, own_exchange(topology.FLEET), ACCESS_REFUSED),
    "its dead letters as requests": Attempt(A, own_queue(x_dead_letter_exchange=topology.RPC), ACCESS_REFUSED),
    "its dead letters as fleet events": Attempt(A, own_queue(x_dead_letter_exchange=topology.FLEET), ACCESS_REFUSED),
    "its dead letters to a queue by name": Attempt(
        A, own_queue(x_dead_letter_exchange="", x_dead_letter_routing_key=VIEW_QUEUE), ACCESS_REFUSED
    ),
    "a canary": Attempt(A, publish(topology.FLEET, "canary.main.x", A), ACCESS_REFUSED),
    "a dead letter": Attempt(A, publish(topology.DEAD, "x", A), ACCESS_REFUSED),
    # The engine's own users.
    "a worker's frame": Attempt(WORKER, publish(topology.RUNTIME, "h001", WORKER), ACCESS_REFUSED),
    "a worker's fleet event": Attempt(WORKER, publish(topology.FLEET, "vm.gone.main.h001", WORKER), ACCESS_REFUSED),
    "a worker's request": Attempt(WORKER, publish(topology.RPC, "h001.list", WORKER), ACCESS_REFUSED),
    "a worker in the view's queue": Attempt(WORKER, consume(VIEW_QUEUE), ACCESS_REFUSED),
    "the stream, led to a worker": Attempt(WORKER, led_on(topology.RUNTIME, "vmpulse.worker.x", "#"), ACCESS_REFUSED),
    "a worker's exchange, led to the stream": Attempt(
        WORKER, led_on("vmpulse.worker.x", topology.RUNTIME, ""), ACCESS_REFUSED
    ),
    "a warehouse's exchange, led to the stream": Attempt(
        WAREHOUSE, led_on("vmpulse.warehouse.x", topology.RUNTIME, ""), ACCESS_REFUSED
    ),
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


async def test_a_host_has_so_many_connections_and_channels(guarded_broker: PrivateBroker) -> None:
    """One connection more is closed before it is open, one channel more ends its connection; others get in."""
    url = guarded_broker.url(A)
    async with contextlib.AsyncExitStack() as held:
        ours = [await held.enter_async_context(await aio_pika.connect(url)) for _ in range(MAX_CONNECTIONS)]
        with pytest.raises(AMQPError, match=r"Connection\.Close"):
            await aio_pika.connect(url)
        for number in range(MAX_CHANNELS):
            await ours[number % 2].channel()
        with pytest.raises(ConnectionNotAllowed, match=rf"maximum allowed user limit of \({MAX_CHANNELS}\)"):
            await ours[-1].channel()
        await (await aio_pika.connect(guarded_broker.url("h0011"))).close()
