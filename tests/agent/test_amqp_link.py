"""The agent's broker link on a real broker: order, properties, reconnects, and one live agent for each host."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError

from tests.real_broker import (
    TICK_S,
    address,
    agent_at_work,
    agent_of,
    at_work,
    cable,
    running_vm,
    simulated_host,
    tapped,
    unique,
)
from tests.waiting import eventually
from vmpulse_agent import amqp_link
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.errors import HostTaken
from vmpulse_contract import broker_url, stream, topology, verbs, wire
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import RosterReply, Verb
from vmpulse_edges.amqp_connection import connect
from vmpulse_edges.errors import BrokerRefused, BrokerUnreachable
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
)


def given(message: AbstractIncomingMessage) -> set[str]:
    """The properties that a message carries."""
    return {name for name in PROPERTIES if getattr(message, name)}


def seq_of(message: AbstractIncomingMessage) -> int:
    """The message's number in its host's stream."""
    body = wire.unpack(message.body)
    assert isinstance(body, tuple)
    return int(body[2])


def epochs(messages: list[AbstractIncomingMessage]) -> set[int]:
    """The epochs that messages are of."""
    return {body[1] for message in messages if isinstance(body := wire.unpack(message.body), tuple)}


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry for a taken host twice, a second apart, in place of three heartbeats."""
    monkeypatch.setattr(topology, "HEARTBEAT_S", 1)
    monkeypatch.setattr(amqp_link, "TAKEN_TRIES", 2)


async def test_stream_keeps_its_order_and_frames_carry_least(broker: PrivateBroker) -> None:
    """The queue sees roster, changes, frames and goodbye in the order of their seq, with just the properties agreed."""
    hypervisor = simulated_host(unique("ordered"), vms=4)
    async with tapped(broker) as tap:
        async with agent_at_work(hypervisor, address(broker)):
            await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
            for vm, domain in hypervisor.domains.items():
                domain.edit()
                hypervisor.changed(vm, Section.INFO, Section.CONFIG)
            await eventually(lambda: len(tap.of(hypervisor.host, Kind.CHANGE)) >= 8)
            await eventually(lambda: len(tap.of(hypervisor.host, Kind.FRAME)) > 3)
        await eventually(lambda: tap.of(hypervisor.host, Kind.GOODBYE))
        heard = tap.of(hypervisor.host)
        assert [seq_of(message) for message in heard] == list(range(1, len(heard) + 1))
        assert [message.type for message in heard[:2]] == [Kind.ROSTER, Kind.FRAME]
        assert heard[-1].type == Kind.GOODBYE
        for message in heard:
            least = {"user_id", "type", "message_id"}
            if message.type == Kind.FRAME:
                assert given(message) == least | {"expiration"}
                assert (message.message_id, message.expiration) == ("-", topology.FRAME_EXPIRATION_TICKS * TICK_S)
            else:
                assert given(message) == least | {"content_type", "app_id", "timestamp"}
                assert (message.content_type, message.app_id) == ("application/msgpack", "vmpulse")


async def test_unconfirmed_changes_are_said_again(broker: PrivateBroker) -> None:
    """A change that the broker never confirmed, because the connection died under it, is said on the next one."""
    hypervisor = simulated_host(unique("cut"))
    vm = running_vm(hypervisor)
    async with (
        tapped(broker) as tap,
        cable(broker) as way,
        agent_at_work(hypervisor, address(broker, way.port)) as agent,
    ):
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        way.hold()
        hypervisor.domains[vm].edit()
        hypervisor.changed(vm, Section.INFO)
        await eventually(lambda: agent.session.changes.unconfirmed)
        assert not tap.of(hypervisor.host, Kind.CHANGE)
        way.cut()
        way.release()
        (change,) = await eventually(lambda: tap.of(hypervisor.host, Kind.CHANGE))
        assert stream.read_change(change.body).vm == vm
        await eventually(lambda: not agent.session.changes.unconfirmed)
        assert epochs(tap.of(hypervisor.host)) == {agent.session.epoch}
        assert isinstance(agent.publisher, AmqpLink)
        assert agent.publisher.counters.lost >= 1


async def test_lost_device_statistics_are_said_again(broker: PrivateBroker) -> None:
    """A report of devices that a connection took with it is said again with the next sample, and not before."""
    hypervisor = simulated_host(unique("lost"))
    async with (
        tapped(broker) as tap,
        cable(broker) as way,
        agent_at_work(hypervisor, address(broker, way.port)) as agent,
    ):
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        way.hold()
        agent.session.report_devices(time.monotonic())
        agent._pump()
        assert agent.session.counters.devices == 1
        way.cut()
        way.release()
        await eventually(lambda: agent.session.devices.due)
        assert agent.session.counters.devices == 1
        agent._devices_wanted.set()
        await eventually(lambda: agent.session.counters.devices == 2 and not agent.session.devices.due)


async def test_requests_wait_at_the_broker(broker: PrivateBroker) -> None:
    """Of a flood of requests a few are under way at a time; meanwhile ticks go on, and in the end all are answered."""
    hypervisor, flood = simulated_host(unique("asked")), 200
    async with (
        tapped(broker) as tap,
        cable(broker) as way,
        agent_at_work(hypervisor, address(broker, way.port)) as agent,
    ):
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        way.hold()
        for _ in range(flood):
            await tap.say_request(hypervisor.host, Verb.LIST)
        ticked = agent.session.counters.frames + 3
        await eventually(lambda: agent.session.counters.frames >= ticked)
        assert agent.measures.requests[Verb.LIST] == amqp_link.ANSWERING
        way.release()
        for _ in range(flood):
            reply = await tap.reply()
            assert verbs.read_reply(Verb.LIST, reply.body).error is None
        assert agent.measures.requests[Verb.LIST] == flood


async def test_refused_messages_are_counted(broker: PrivateBroker) -> None:
    """A change that a full queue refuses is counted as refused and said again until it is taken."""
    hypervisor = simulated_host(unique("refused"))
    async with tapped(broker), agent_at_work(hypervisor, address(broker)) as agent:
        await eventually(lambda: agent.publisher.counters.confirmed)  # type: ignore[attr-defined]
        connection = await aio_pika.connect(broker.url())
        async with connection, connection.channel() as channel:
            full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
            queue = await channel.declare_queue(exclusive=True, arguments=full)
            await queue.bind(topology.CHANGES, f"{hypervisor.host}.#")
            vm = running_vm(hypervisor)
            hypervisor.domains[vm].edit()
            hypervisor.changed(vm, Section.INFO)
            await eventually(lambda: agent.publisher.counters.refused)  # type: ignore[attr-defined]
        await eventually(lambda: not agent.session.changes.unconfirmed and agent.session.changes.next_at() is None)


@pytest.mark.parametrize("link_first", [False, True])
@pytest.mark.usefixtures("short_patience")
async def test_second_agent_is_kept_out(broker: PrivateBroker, *, link_first: bool) -> None:
    """A second agent of a host ends with what to do about it, having said nothing; the first works on undisturbed."""
    hypervisor = simulated_host(unique("taken"))
    async with tapped(broker) as tap, agent_at_work(hypervisor, address(broker)) as first:
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        link = AmqpLink(address(broker), "second")
        second = agent_of(simulated_host(hypervisor.host), link)
        linked = asyncio.create_task(link.run())
        if link_first:
            await eventually(lambda: link._ever_up)
        serving = asyncio.create_task(second.run())
        ended, _ = await asyncio.wait({linked, serving}, timeout=8, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(HostTaken, match="stop it, or give this one another name"):
            ended.pop().result()
        serving.cancel()
        linked.cancel()
        await asyncio.gather(linked, serving, return_exceptions=True)
        reply = verbs.read_reply(Verb.GET_ROSTER, (await tap.ask(hypervisor.host, Verb.GET_ROSTER)).body)
        assert isinstance(reply, RosterReply)
        assert reply.epoch == first.session.epoch
        assert epochs(tap.of(hypervisor.host)) == {first.session.epoch}
        assert first.publisher.reconnects == 0  # type: ignore[attr-defined]


@pytest.mark.usefixtures("short_patience")
async def test_taken_host_costs_the_other_hosts_of_a_link_nothing(broker: PrivateBroker) -> None:
    """One host of a shared link that is taken elsewhere is refused alone; the others answer and publish on."""
    ours, theirs = simulated_host(unique("ours"), seed=6), simulated_host(unique("theirs"))
    async with tapped(broker) as tap, agent_at_work(theirs, address(broker)):
        await eventually(lambda: tap.of(theirs.host, Kind.FRAME))
        link = AmqpLink(address(broker), "shared")
        good = agent_of(ours, link)
        async with at_work(link.run()), at_work(good.run()):
            await eventually(lambda: tap.of(ours.host, Kind.FRAME))
            with pytest.raises(HostTaken):
                await agent_of(simulated_host(theirs.host), link).run()
            assert (await tap.ask(ours.host, Verb.LIST)).user_id == ours.host
            assert link.reconnects == 0


async def test_clean_stop_frees_the_queue_at_once(broker: PrivateBroker) -> None:
    """After a goodbye nobody holds the host's queue, and the next agent starts without any waiting."""
    hypervisor = simulated_host(unique("stopped"))
    async with tapped(broker) as tap:
        async with agent_at_work(hypervisor, address(broker)) as first:
            await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        with pytest.raises(DeliveryError):
            await tap.ask(hypervisor.host, Verb.LIST)
        started = time.monotonic()
        async with agent_at_work(hypervisor, address(broker)) as second:
            await eventually(lambda: epochs(tap.of(hypervisor.host)) == {first.session.epoch, second.session.epoch})
            assert time.monotonic() - started < 2


@pytest.mark.usefixtures("short_patience")
async def test_reconnect_speaks_before_it_has_its_queue_back(broker: PrivateBroker) -> None:
    """While the broker still believes in our dead connection we publish already, and take the queue when it is free."""
    hypervisor = simulated_host(unique("half-dead"))
    async with (
        tapped(broker) as tap,
        cable(broker) as way,
        agent_at_work(hypervisor, address(broker, way.port)),
    ):
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        way.cut(keep_far_end=True)
        before = len(tap.of(hypervisor.host, Kind.ROSTER))
        await eventually(lambda: way.connections == 2 and len(tap.of(hypervisor.host, Kind.ROSTER)) > before)
        # Heartbeats of one second: the broker gives the dead connection up after two or three of them.
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            try:
                reply = await tap.ask(hypervisor.host, Verb.LIST)
            except (DeliveryError, TimeoutError):
                continue
            assert reply.user_id == hypervisor.host
            return
        pytest.fail("the queue was never taken back")


async def test_detaching_from_a_mute_broker_ends_soon(broker: PrivateBroker) -> None:
    """An agent that is told to stop while its broker takes nothing any more ends within a few seconds."""
    hypervisor = simulated_host(unique("mute"))
    async with tapped(broker) as tap, cable(broker) as way:
        async with agent_at_work(hypervisor, address(broker, way.port)):
            await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
            way.hold()
            started = time.monotonic()
        assert time.monotonic() - started < 5


async def test_overdue_confirms_take_the_host_down_and_up(
    broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that confirms nothing makes the session wait, with no more in memory; then all is said at once."""
    monkeypatch.setattr(amqp_link, "STALL_S", 0.5)
    hypervisor = simulated_host(unique("stalled"))
    vm = running_vm(hypervisor)
    async with (
        tapped(broker) as tap,
        cable(broker) as way,
        agent_at_work(hypervisor, address(broker, way.port), tick_s=0.1) as agent,
    ):
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        way.hold()
        await eventually(lambda: not agent.session._connected)
        said = agent.session.seq
        hypervisor.domains[vm].edit()
        hypervisor.changed(vm, Section.INFO)
        await eventually(lambda: agent.session.ledger.rows[vm].current != agent.session.ledger.rows[vm].announced)
        assert agent.session.seq == said
        link = agent.publisher
        assert isinstance(link, AmqpLink)
        assert len(link._tasks) < 30
        assert link.blocked_hosts() == [hypervisor.host]
        way.release()
        await eventually(lambda: tap.of(hypervisor.host, Kind.CHANGE))
        assert link.reconnects == 0
        assert link.blocked_hosts() == []
        assert 0 < link.counters.blocked_s < 8


@pytest.fixture
async def strange_port() -> AsyncIterator[int]:
    """A port where something answers that is no broker."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_refusals_name_the_remedy(broker: PrivateBroker) -> None:
    """A wrong password or virtual host is a refusal, in one line that says what to check and shows no secret."""
    url = address(broker)
    with pytest.raises(BrokerRefused, match="check its password") as wrong:
        await connect(url._replace(password="nope-nope"), "test")
    assert "nope-nope" not in str(wrong.value)
    with pytest.raises(BrokerRefused, match="virtual host 'nowhere' exists") as nowhere:
        await connect(url._replace(vhost="nowhere"), "test")
    assert "0x" not in str(nowhere.value)
    assert "\n" not in f"{wrong.value}{nowhere.value}"


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "a..b"])
async def test_unreachable_brokers_are_said_so(host: str, broker: PrivateBroker) -> None:
    """A closed port and names that do not resolve are one error, which may be tried again."""
    with pytest.raises(BrokerUnreachable, match="check that RabbitMQ runs there and the address"):
        await connect(address(broker)._replace(host=host, port=1), "test")


async def test_what_is_no_broker_is_unreachable(strange_port: int, broker: PrivateBroker) -> None:
    """Something else that listens on the port is no broker and no crash."""
    with pytest.raises(BrokerUnreachable, match="check"):
        await connect(address(broker, strange_port), "test")


async def test_a_link_that_is_told_to_end_while_it_connects_ends() -> None:
    """At whatever moment: a cancel that falls into connecting is not lost, or the program would have to be killed."""
    url = broker_url.parse("broker_url", "amqp://h001@localhost:1/")
    for moment in range(150):
        running = asyncio.create_task(AmqpLink(url, "ends").run())
        await asyncio.sleep(moment / 50_000)
        running.cancel()
        ended, _ = await asyncio.wait({running}, timeout=5)
        assert ended, f"after {moment / 50} ms"


async def test_refused_connections_that_cancel_each_other_leave_nothing(broker: PrivateBroker) -> None:
    """Of connections that are refused together, the first cancels the rest, and no refusal is left to asyncio's log."""
    url = broker_url.parse("broker_url", f"amqp://test.admin@127.0.0.1:{broker.port}/", "wrong")
    left: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))
    for _ in range(50):
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for name in ("one", "two", "three"):
                    group.create_task(connect(url, name))
        gc.collect()
    assert not left
