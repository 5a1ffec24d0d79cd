"""The view's stream on a real broker: poison, acknowledgements, stand-bys, and queues that somebody deletes."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import NamedTuple

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tests.conftest import ADMIN
from tests.real_broker import (
    address,
    agent_at_work,
    cable,
    delete_queue,
    running_vm,
    simulated_host,
    tapped,
    unique,
    view_at_work,
)
from tests.waiting import eventually
from vmpulse_agent.host_agent import HostAgent
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import limits, topology, wire
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker


class Poison(NamedTuple):
    """A message that no view can use."""

    reason: str
    exchange: str
    key: str
    user: str | None
    body: bytes


def poison_of(host: str) -> list[Poison]:
    """One of each kind in a host's name."""
    runtime, changes = topology.RUNTIME, topology.CHANGES
    frame = wire.write((wire.VERSION, 1, 1, 1))
    return [
        Poison("malformed", runtime, host, host, b"\xc1\xc1"),
        Poison("malformed", runtime, host, host, b""),
        Poison("oversized", runtime, f"{host}.roster", host, bytes(limits.MESSAGE_BYTES.maximum + 1)),
        Poison("mistyped", runtime, host, host, frame),
        Poison("mistyped", runtime, f"{host}.no-such-thing", host, frame),
        Poison("mistyped", changes, f"{host}.info", host, wire.write({"a": 1})),
        Poison("mistyped", runtime, "Not A Host", host, frame),
        Poison("sender", runtime, host, None, frame),
        Poison("sender", runtime, host, "other-host", frame),
        Poison("version", runtime, host, host, wire.write((99, 1, 1))),
    ]


def host_state(service: ViewService, host: str) -> HostState | None:
    """What the view says of a host."""
    known = service.view.hosts.get(HostId(host))
    return known.state if known else None


async def live(service: ViewService, host: str) -> None:
    """Wait until the view has the host, and has had a frame of it."""
    await eventually(lambda: host_state(service, host) is HostState.LIVE and service.view.hosts[HostId(host)].frame_seq)


@contextlib.asynccontextmanager
async def graveyard(broker: PrivateBroker) -> AsyncIterator[list[AbstractIncomingMessage]]:
    """What is buried from now on."""
    buried: list[AbstractIncomingMessage] = []

    async def note(message: AbstractIncomingMessage) -> None:
        buried.append(message)

    async with channel_of(broker) as channel:
        await channel.declare_exchange(topology.DEAD, aio_pika.ExchangeType.TOPIC, durable=True)
        dead = topology.dead_queue()
        queue = await channel.declare_queue(dead.name, durable=True, arguments=dict(dead.arguments))
        await queue.bind(topology.DEAD, "#")
        await queue.purge()
        await queue.consume(note, no_ack=True)
        yield buried


@contextlib.asynccontextmanager
async def channel_of(broker: PrivateBroker) -> AsyncIterator[AbstractChannel]:
    """A channel of its own connection."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        yield channel


async def rename(agent: HostAgent, text: str) -> None:
    """Have a change event said, whose content nobody can have heard before."""
    hypervisor = agent.hypervisor
    vm = running_vm(hypervisor)  # type: ignore[arg-type]
    hypervisor.domains[vm].name = text  # type: ignore[attr-defined]
    hypervisor.changed(vm, Section.INFO)  # type: ignore[attr-defined]


async def told(service: ViewService, hypervisor: SimulatedHypervisor, name: str) -> None:
    """Wait until the view has heard of the new name."""
    host, vm = service.view.hosts[hypervisor.host], running_vm(hypervisor)
    await eventually(lambda: name.encode() in (host.bodies[host.index[vm] * len(Section)] or b""), what=name)


async def test_poison_is_buried_and_costs_the_others_nothing(broker: PrivateBroker) -> None:
    """Each kind of poison lands in vmpulse.dead with its reason and body, is counted, and the rest is applied."""
    hypervisor, victim = simulated_host(unique("sound")), unique("poisoned")
    async with (
        tapped(broker) as tap,
        graveyard(broker) as buried,
        view_at_work(broker) as service,
        agent_at_work(hypervisor, address(broker)) as agent,
    ):
        await live(service, hypervisor.host)
        wanted = poison_of(victim)
        for number, poison in enumerate(wanted):
            name = f"name-{number}-{secrets.token_hex(3)}"
            await rename(agent, name)
            await tap.say(poison.exchange, poison.key, poison.body, user_id=poison.user, content_type="x/y")
            await told(service, hypervisor, name)
        await eventually(lambda: len(buried) == len(wanted))
        found = [
            Poison(
                str(message.headers["x-vmpulse-reason"]),
                str(message.headers["x-vmpulse-exchange"]),
                str(message.headers["x-vmpulse-routing-key"]),
                str(message.headers["x-vmpulse-user"]) or None,
                message.body,
            )
            for message in buried
        ]
        kept = [poison._replace(body=poison.body[: topology.BURIED_BODY_BYTES]) for poison in wanted]
        assert sorted(found, key=repr) == sorted(kept, key=repr)
        assert {message.headers["x-vmpulse-bytes"] for message in buried} == {len(poison.body) for poison in wanted}
        assert {message.user_id for message in buried} == {ADMIN.name}
        assert all(message.headers["x-vmpulse-error"] and message.content_type == "x/y" for message in buried)
        rejected = service.view.counts.rejected
        assert rejected == {"malformed": 2, "oversized": 1, "mistyped": 4, "sender": 2, "version": 1}
        assert HostId(victim) not in service.view.hosts
        assert host_state(service, hypervisor.host) is HostState.LIVE


async def test_what_was_applied_is_acknowledged(broker: PrivateBroker) -> None:
    """Nothing stays unacknowledged for long: a successor in the queue gets nothing that was applied a second ago."""
    hypervisor, name = simulated_host(unique("acked")), unique("view")
    async with view_at_work(broker, name, keep=True) as service:
        async with agent_at_work(hypervisor, address(broker)):
            await live(service, hypervisor.host)
        await eventually(lambda: host_state(service, hypervisor.host) is HostState.STOPPED)
        await eventually(lambda: not service.stream._unacked)
    async with channel_of(broker) as channel:
        queue = topology.view_queue(name)
        left = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        again = []
        while (message := await left.get(fail=False, no_ack=True)) is not None:
            again.append(message)
        assert [m.type for m in again if m.type != Kind.CANARY] == []
    await delete_queue(broker, queue.name)


async def test_stopped_view_goes_on_where_it_left(broker: PrivateBroker) -> None:
    """What hosts say while the view is stopped waits for it, and is applied by the one that comes."""
    hypervisor, name = simulated_host(unique("waiting")), unique("view")
    async with tapped(broker) as tap, agent_at_work(hypervisor, address(broker)) as agent:
        async with view_at_work(broker, name, keep=True) as first:
            await live(first, hypervisor.host)
        said = len(tap.of(hypervisor.host))
        await rename(agent, "renamed-meanwhile")
        await eventually(lambda: len(tap.of(hypervisor.host)) > said + 3)
        async with view_at_work(broker, name) as second:
            await live(second, hypervisor.host)
            # All of it came through the queue, changes too: more than the frames since the second view's start.
            await eventually(lambda: second.view.counts.messages[Kind.CHANGE])
            await told(second, hypervisor, "renamed-meanwhile")


async def test_stand_by_takes_over(broker: PrivateBroker) -> None:
    """A second view of the same name gets nothing while the first lives, and everything when that one is killed."""
    hypervisor, name = simulated_host(unique("followed")), unique("view")
    async with (
        cable(broker) as way,
        agent_at_work(hypervisor, address(broker)),
        view_at_work(broker, name, address(broker, way.port)) as first,
    ):
        await live(first, hypervisor.host)
        async with view_at_work(broker, name, keep=True) as second:
            await eventually(lambda: second.stream._channel is not None and second.requests.up.is_set())
            heard = first.view.counts.messages.total()
            await eventually(lambda: first.view.counts.messages.total() > heard + 3)
            assert not second.view.counts.messages
            assert second.view.not_ready(second.clock())[0] == "the stream has not been heard yet"
            way.plugged = False
            way.cut()
            await live(second, hypervisor.host)
            await eventually(lambda: second.view.broker_ok)


async def test_deleted_queue_is_made_again(broker: PrivateBroker) -> None:
    """A view whose queue somebody deletes makes itself a new one and goes on, by itself."""
    hypervisor = simulated_host(unique("deleted"))
    async with view_at_work(broker) as service, agent_at_work(hypervisor, address(broker)):
        await live(service, hypervisor.host)
        await delete_queue(broker, topology.view_queue(service.name).name)
        await asyncio.sleep(0)
        heard = service.view.counts.messages.total()
        await eventually(lambda: service.view.counts.messages.total() > heard + 5)
        assert host_state(service, hypervisor.host) is HostState.LIVE
