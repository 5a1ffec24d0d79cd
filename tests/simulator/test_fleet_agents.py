"""A fleet's agents over a real broker: they publish, answer, and come back after goodbye and crash alike."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError

from tests.conftest import ADMIN
from vmpulse_agent.host_agent import Timing
from vmpulse_agent.hypervisor import Exit
from vmpulse_contract import broker_url, topology, verbs, wire
from vmpulse_contract.errors import UnknownHost
from vmpulse_contract.roster_change import applied, read_roster_change
from vmpulse_contract.stream import Frame, Goodbye, RosterMessage, read_frame, read_goodbye, read_roster
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_contract.verbs import AnyReply, Request, RosterReply, Verb
from vmpulse_edges.errors import BrokerRefused
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

HOSTS, VMS = 3, 4
TICK_S = 0.5
FIRST = "host-00000"
EXIT = Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)


class Listener:
    """Hears what hosts publish, and asks them by verb."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.frames: dict[str, list[Frame]] = defaultdict(list)
        self.rosters: dict[str, list[RosterMessage]] = defaultdict(list)
        self.goodbyes: dict[str, list[Goodbye]] = defaultdict(list)
        self._channel = channel
        self._token = secrets.token_hex(8)
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        """Declare what a view would, and listen."""
        for exchange in topology.EXCHANGES:
            await self._channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        stream = await self._channel.declare_queue(exclusive=True)
        await stream.bind(topology.RUNTIME, "#")
        await stream.consume(self._hear, no_ack=True)
        wanted = topology.reply_queue(self._token)
        replies = await self._channel.declare_queue(wanted.name, exclusive=True)
        for exchange, key in wanted.bindings:
            await replies.bind(exchange, key)
        await replies.consume(self._take, no_ack=True)

    async def ask(self, host: str, verb: Verb) -> AnyReply:
        """Ask one host. Raises UnknownHost if nobody holds its rpc queue."""
        exchange = await self._channel.get_exchange(topology.RPC, ensure=False)
        message = aio_pika.Message(wire.write(Request()), reply_to=self._token, user_id=ADMIN.name)
        try:
            await exchange.publish(message, f"{host}.{verb}")
        except DeliveryError as error:
            raise UnknownHost(host) from error
        return verbs.read_reply(verb, await asyncio.wait_for(self._replies.get(), 5))

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        host = (message.routing_key or "").partition(".")[0]
        assert message.user_id == host
        match message.type:
            case Kind.FRAME:
                self.frames[host].append(read_frame(message.body))
            case Kind.ROSTER:
                self.rosters[host].append(read_roster(message.body))
            case Kind.ROSTER_CHANGE:
                told, before = read_roster_change(message.body), self.rosters[host][-1]
                made = applied(before.roster, told.change)
                assert made is not None
                self.rosters[host].append(RosterMessage(told.version, told.epoch, told.seq, made))
            case Kind.GOODBYE:
                self.goodbyes[host].append(read_goodbye(message.body))

    async def _take(self, message: AbstractIncomingMessage) -> None:
        await self._replies.put(message.body)


@contextlib.asynccontextmanager
async def listener(broker: PrivateBroker) -> AsyncIterator[Listener]:
    """Somebody who listens to everything."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel(on_return_raises=True) as channel:
        hears = Listener(channel)
        await hears.open()
        yield hears


@contextlib.asynccontextmanager
async def running(broker: PrivateBroker) -> AsyncIterator[FleetAgents]:
    """A small fleet at work."""
    fleet = Fleet(HOSTS, VMS, 1, time.monotonic)
    agents = FleetAgents(fleet, broker_url.parse("url", broker.url()), timing=Timing(tick_s=TICK_S))
    task = asyncio.create_task(agents.run())
    try:
        yield agents
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Any], within_s: float = 8.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_every_host_publishes_frames_of_its_roster(broker: PrivateBroker) -> None:
    """Each host tells its VMs, and its frames go with that roster and agree with its digest."""
    async with listener(broker) as hears, running(broker):
        await until(lambda: len(hears.frames) == HOSTS and all(len(frames) > 2 for frames in hears.frames.values()))
        for host, rosters in hears.rosters.items():
            roster, frame = rosters[-1].roster, hears.frames[host][-1]
            assert roster.count == frame.count == VMS
            assert roster.layout == frame.layout
            assert roster.digest() == frame.digest


async def test_every_verb_is_answered(broker: PrivateBroker) -> None:
    """All verbs are answered over rpc, each with its own shape, and about all VMs."""
    async with listener(broker) as hears, running(broker) as agents:
        await until(lambda: len(agents.epochs()) == HOSTS and len(hears.frames) == HOSTS)
        for verb in Verb:
            reply = await hears.ask(FIRST, verb)
            assert reply.epoch == agents.epochs()[FIRST]
            if verb in {Verb.LIST, Verb.GET_ALL_RUNTIME_STATS, Verb.GET_CONF_INFO, Verb.GET_CONFIG}:
                assert len(getattr(reply, "vms", ())) == VMS


@pytest.mark.parametrize("crash", [False, True])
async def test_restarted_agent_gives_its_rpc_queue_up_and_takes_it_again(broker: PrivateBroker, *, crash: bool) -> None:
    """While an agent is away nobody answers for the host; then a new epoch does; only a clean stop says goodbye."""
    async with listener(broker) as hears, running(broker) as agents:
        await until(lambda: len(hears.frames) == HOSTS)
        before = agents.epochs()[FIRST]
        assert agents.restart(0, crash, 3600)
        assert not agents.restart(0, crash, 3600)
        await until(lambda: agents.lives[0].agent is None)
        with pytest.raises(UnknownHost):
            await hears.ask(FIRST, Verb.GET_ROSTER)
        await agents.finish_restarts()
        reply = await hears.ask(FIRST, Verb.GET_ROSTER)
        assert isinstance(reply, RosterReply)
        assert reply.epoch == agents.epochs()[FIRST] != before
        await until(lambda: hears.frames[FIRST][-1].epoch == reply.epoch)
        assert [goodbye.epoch for goodbye in hears.goodbyes[FIRST]] == [] if crash else [before]


async def test_tombstones_outlive_the_agent(broker: PrivateBroker) -> None:
    """A new agent still tells how VMs ended under the old one, on its own clock."""
    async with listener(broker) as hears, running(broker) as agents:
        await until(lambda: len(hears.frames) == HOSTS)
        hypervisor = agents.lives[0].hypervisor
        vm = next(vm for vm in hypervisor.domains if hypervisor.running(vm))
        token = getattr(hypervisor.domains[vm].life, "token", 0)
        hypervisor.power_off(vm, EXIT)
        await until(lambda: hears.rosters[FIRST][-1].roster.tombstones)
        agents.restart(0, True, 0.1)
        before = agents.epochs()[FIRST]
        await until(lambda: hears.rosters[FIRST][-1].epoch != before)
        (tombstone,) = hears.rosters[FIRST][-1].roster.tombstones
        assert (tombstone.vm, tombstone.token, tombstone.exit_reason) == (vm, token, EXIT.reason)
        assert -10_000 < tombstone.ended_ms < 0


async def test_end_says_goodbye_for_every_host(broker: PrivateBroker) -> None:
    """A fleet that is stopped says so, host by host, and frees every rpc queue."""
    async with listener(broker) as hears:
        async with running(broker):
            await until(lambda: len(hears.frames) == HOSTS)
        await until(lambda: len(hears.goodbyes) == HOSTS)
        with pytest.raises(UnknownHost):
            await hears.ask(FIRST, Verb.LIST)


async def test_refused_password_ends_the_fleet_with_its_reason(broker: PrivateBroker) -> None:
    """A fleet that may not log in fails at once and says why."""
    url = broker_url.parse("url", broker.url(), password="wrong")
    agents = FleetAgents(Fleet(1, 1, 1, time.monotonic), url)
    with pytest.raises(BrokerRefused, match="password"):
        await asyncio.wait_for(agents.run(), 10)
