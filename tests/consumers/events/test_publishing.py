"""Events on a real broker: what a worker's queue holds, and what becomes of events while the broker is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from tests.conftest import ADMIN
from tests.real_broker import address, agent_at_work, at_work, cable, running_vm, simulated_host, unique, view_at_work
from tests.soon_ready import soon_ready
from tests.waiting import eventually
from vmpulse_agent.hypervisor import Exit
from vmpulse_consumers import amqp_upkeep, service
from vmpulse_consumers.amqp_events import EventPublisher
from vmpulse_consumers.amqp_requests import Requests
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Teller
from vmpulse_consumers.http import EventStreams, build_app, listen, serve_on
from vmpulse_consumers.view.events import VmStatusChanged
from vmpulse_contract import topology
from vmpulse_contract.broker_url import BrokerUrl
from vmpulse_contract.fleet import EventType
from vmpulse_contract.identity import HostId, VmId, vm_text
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

VM = VmId(UUID(int=5).bytes)
CHANGE = VmStatusChanged(VM, HostId("alpha"), VmStatus.UP, VmStatus.PAUSED, "web-1")


@pytest.fixture(autouse=True)
def fast_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view is ready after a second, and everybody comes back soon."""
    soon_ready(monkeypatch)
    monkeypatch.setattr(service, "CANARY_S", 0.2)
    monkeypatch.setattr(service, "TICK_S", 0.1)
    monkeypatch.setattr(amqp_upkeep, "BACKOFF_MOST_S", 0.5)


class Worker:
    """A worker's queue."""

    def __init__(self, queue: AbstractQueue) -> None:
        self.queue = queue
        self.got: list[AbstractIncomingMessage] = []

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Consume one event."""
        self.got.append(message)
        await message.ack()

    def ids(self) -> list[str]:
        """The ids of the events so far, repeats left out."""
        return list(dict.fromkeys(str(message.message_id) for message in self.got))


@contextlib.asynccontextmanager
async def worker(broker: PrivateBroker, *keys: str) -> AsyncIterator[Worker]:
    """A worker queue with its consumer; deleted afterwards."""
    wanted = topology.worker_queue(unique("test"), *keys)
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        await channel.declare_exchange(topology.FLEET, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(wanted.name, durable=wanted.durable, arguments=dict(wanted.arguments))
        for exchange, key in wanted.bindings:
            await queue.bind(exchange, key)
        reader = Worker(queue)
        await queue.consume(reader.take)
        yield reader
        await queue.delete(if_unused=False, if_empty=False)


class Desk(NamedTuple):
    """A publisher at work without a view."""

    teller: Teller
    requests: Requests
    speaks: asyncio.Event

    def tell(self, count: int) -> None:
        """Let so many events happen."""
        self.teller.tell([CHANGE] * count)


@contextlib.asynccontextmanager
async def publishing(url: BrokerUrl, view: str, *, events: int = 10_000) -> AsyncIterator[Desk]:
    """A publisher on a connection of its own."""
    teller, speaks = Teller(view, EventLog("ab12", events=events)), asyncio.Event()
    speaks.set()
    publisher = EventPublisher(url, teller, speaks.is_set)
    requests = Requests(url, "test events", beside=publisher.session)
    async with at_work(requests.run()):
        await eventually(requests.up.is_set)
        yield Desk(teller, requests, speaks)


@pytest.mark.timeout(40)
async def test_what_happens_reaches_workers_and_streams_alike(broker: PrivateBroker) -> None:
    """A VM's stop is one event, persistent and with CloudEvents attributes, the same by queue and by stream."""
    hypervisor = simulated_host(unique("told"))
    vm = running_vm(hypervisor)
    async with view_at_work(broker) as view, agent_at_work(hypervisor, address(broker)):
        async with worker(broker, f"*.*.{view.name}.#") as hears:
            await eventually(lambda: EventType.FLEET_RELIST in view.teller.told, what="the view begins to tell")
            assert not [kind for kind in view.teller.told if kind.startswith("vm.")], "VMs that were met are no news"
            begun = view.teller.log.token(view.teller.log.last)
            hypervisor.power_off(vm, Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN))
            await eventually(lambda: [m for m in hears.got if m.headers["cloudEvents_type"] == "vm.status"])
            listener = listen("127.0.0.1", 0)
            app = build_app(view.view, view.clock, EventStreams(view.teller))
            async with at_work(serve_on(app, listener)):
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1/events?type=vm.status&after={begun}"
                streamed = await first_event(url)
        message = next(m for m in hears.got if m.headers["cloudEvents_type"] == "vm.status")
    assert (message.user_id, message.type, message.content_type) == (ADMIN.name, "event", "application/json")
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.routing_key == f"vm.status.{view.name}.{hypervisor.host}.{vm_text(vm)}"
    told = json.loads(message.body)
    assert (told["vm"], told["status"], told["previousStatus"]) == (vm_text(vm), "Down", "Up")
    attributes = {name: value for name, value in streamed.items() if name not in {"data", "datacontenttype"}}
    assert message.headers == {f"cloudEvents_{name}": value for name, value in attributes.items()}
    assert (message.message_id, told) == (streamed["id"], streamed["data"])
    assert hears.ids() == [view.teller.log.token(number) for number in range(1, len(hears.ids()) + 1)]


async def first_event(url: str) -> dict[str, object]:
    """The first event of a stream."""
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data:"):
                found: dict[str, object] = json.loads(line.removeprefix("data:"))
                return found
    pytest.fail("the stream ended")


async def test_a_stand_by_says_nothing(broker: PrivateBroker) -> None:
    """A second view of a name has no events; one that does not hear its canary keeps what it has to itself."""
    hypervisor = simulated_host(unique("quiet"))
    async with view_at_work(broker) as view, agent_at_work(hypervisor, address(broker)):
        await eventually(lambda: view.teller.published.events)
        async with view_at_work(broker, view.name, keep=True) as second:
            await eventually(second.requests.up.is_set)
            second.teller.tell([CHANGE])
            published = view.teller.published.events
            hypervisor.power_off(running_vm(hypervisor), Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN))
            await eventually(lambda: view.teller.published.events > published)
            assert (second.teller.log.last, second.teller.published.events) == (1, 0)


@pytest.mark.timeout(40)
async def test_a_broker_that_was_away_or_deaf_gets_every_event(broker: PrivateBroker) -> None:
    """Over a cut, a network that takes nothing, and a silence of ours, each event comes, in order."""
    view = unique("view")
    async with (
        cable(broker) as way,
        worker(broker, f"*.*.{view}.#") as hears,
        publishing(address(broker, way.port), view) as desk,
    ):
        published = desk.teller.published
        desk.tell(300)
        await eventually(lambda: published.upto == 300)
        way.plugged = False
        way.cut()
        desk.tell(300)
        way.plugged = True
        await eventually(lambda: published.upto == 600)
        way.hold()
        desk.tell(600)
        await asyncio.sleep(0.1)  # what is under way when the connection ends is what may be lost
        assert published.upto == 600
        way.cut()
        way.release()
        await eventually(lambda: published.upto == 1200)
        await eventually(lambda: len(hears.ids()) == 1200)
    assert hears.ids() == [f"ab12-{number}" for number in range(1, 1201)]


async def test_a_broker_away_too_long_is_told_to_relist_first(broker: PrivateBroker) -> None:
    """When more has happened than is kept, fleet.relist with the reason comes before what is kept."""
    view = unique("view")
    async with (
        worker(broker, f"*.*.{view}.#") as hears,
        publishing(address(broker), view, events=100) as desk,
    ):
        desk.speaks.clear()
        desk.tell(250)
        desk.speaks.set()
        await eventually(lambda: len(hears.ids()) == 101)
        relist = hears.got[0]
        assert (relist.message_id, relist.headers["cloudEvents_type"]) == ("ab12-150-relist", "fleet.relist")
        assert "away" in json.loads(relist.body)["reason"]
        assert hears.ids()[1:] == [f"ab12-{number}" for number in range(151, 251)]
        # The worker may have an event before its publisher has the broker's word for it.
        await eventually(lambda: (desk.teller.published.skipped, desk.teller.published.events) == (150, 100))


async def test_a_queue_that_refuses_stops_nobody_elses_events(broker: PrivateBroker) -> None:
    """While one worker's full queue refuses, another gets each event once, and those refused are counted."""
    view = unique("view")
    connection = await aio_pika.connect(broker.url())
    async with (
        worker(broker, f"*.*.{view}.#") as hears,
        publishing(address(broker), view) as desk,
        connection,
        connection.channel() as channel,
    ):
        full = await channel.declare_queue(
            unique("full"), exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await full.bind(topology.FLEET, f"*.*.{view}.#")
        desk.tell(300)
        published = desk.teller.published
        await eventually(lambda: published.upto == 300)
        await eventually(lambda: len(hears.got) == 300)
        assert (published.events + published.refused, published.refused > 200) == (300, True)
        assert hears.ids() == [f"ab12-{number}" for number in range(1, 301)]


async def test_events_do_not_keep_requests_waiting(broker: PrivateBroker) -> None:
    """While thousands of events are on their way, a canary takes no longer than a few of them."""
    view = unique("view")
    async with publishing(address(broker), view) as desk:
        desk.tell(5000)
        await desk.requests.canary(view, "ab12")
        assert desk.teller.unpublished > 2000
        await eventually(lambda: not desk.teller.unpublished, 15)
