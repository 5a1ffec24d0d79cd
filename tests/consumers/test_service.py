"""The whole path on a real broker: simulated hosts, real agents, a real view; and broker trouble, which is nobody's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import ADMIN, require_broker
from tests.consumers.view.back_to_back import Table
from tests.real_broker import (
    address,
    agent_at_work,
    cable,
    running_vm,
    simulated_host,
    unique,
    view_at_work,
)
from tests.waiting import eventually
from vmpulse_agent import amqp_link, backoff
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.hypervisor import Exit
from vmpulse_consumers import amqp_upkeep, service
from vmpulse_consumers.http.refusals import Refused
from vmpulse_consumers.http.vm_devices import vm_devices
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.rows import VmRow, host_row, vm_row
from vmpulse_consumers.view.states import HostState
from vmpulse_contract.errors import HostDidNotAnswer
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus
from vmpulse_contract.verbs import DeviceStats, Verb
from vmpulse_simulator.hypervisor import CPUS, SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

EXIT = Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)
LATENCY_S = 0.25


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """A broker to hurt."""
    require_broker()
    with PrivateBroker(root=tmp_path_factory.mktemp("own-broker"), users=[ADMIN]) as node:
        yield node


@pytest.fixture
def fast_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that waits for seconds waits for less; a host would be LOST after 2 s."""
    for name, value in (
        ("vmpulse_consumers.view.view.CANARY_MISSING_S", 1.0),
        ("vmpulse_consumers.view.view.LOST_S", 2.0),
    ):
        monkeypatch.setattr(name, value)
    monkeypatch.setattr(service, "CANARY_S", 0.2)
    monkeypatch.setattr(service, "TICK_S", 0.1)
    monkeypatch.setattr(amqp_link, "STALL_S", 1.0)
    monkeypatch.setattr(backoff, "MOST_S", 1.0)
    monkeypatch.setattr(backoff, "SPREAD_S", 0.5)
    monkeypatch.setattr(amqp_upkeep, "BACKOFF_MOST_S", 1.0)


def row_of(view: ViewService, vm: VmId) -> VmRow:
    """What the view says of a VM."""
    return vm_row(view.view, view.clock(), view.view.vms[vm], with_sections=True)


def complete(view: ViewService, hypervisor: SimulatedHypervisor) -> bool:
    """Whether the view says of each VM of the host what is true."""
    now = time.monotonic()
    for vm, domain in hypervisor.domains.items():
        if vm not in view.view.vms:
            return False
        row, truth = row_of(view, vm), domain.look(now)
        if row.repairing or row.sections is None:
            return False
        said = (row.host, row.status, row.name, row.sections.info, row.freshness)
        if said != (hypervisor.host, truth.status.label, domain.name, domain.info(), "fresh"):
            return False
    return True


@contextlib.asynccontextmanager
async def two_hosts(broker: PrivateBroker) -> AsyncIterator[tuple[ViewService, list[HostAgent]]]:
    """Two hosts and a view that knows them."""
    hypervisors = [simulated_host(unique(f"host-{seed}"), seed=seed) for seed in (1, 2)]
    url = address(broker)
    async with (
        view_at_work(broker) as view,
        agent_at_work(hypervisors[0], url) as one,
        agent_at_work(hypervisors[1], url) as two,
    ):
        await eventually(lambda: all(complete(view, hypervisor) for hypervisor in hypervisors))
        yield view, [one, two]


def hypervisor_of(agent: HostAgent) -> SimulatedHypervisor:
    """The simulated hypervisor under an agent."""
    assert isinstance(agent.hypervisor, SimulatedHypervisor)
    return agent.hypervisor


def said_of_hosts(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the view has said about silent hosts."""
    return [
        message
        for message in caplog.messages
        if message.startswith((f"host.{HostState.LATE}", f"host.{HostState.LOST}"))
    ]


def said_of_broker(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the view has said about the broker."""
    return [message.partition(":")[0] for message in caplog.messages if message.startswith("broker.")]


async def test_vms_and_their_changes_reach_the_view(broker: PrivateBroker) -> None:
    """All VMs of all hosts appear with their sections, and a changed section arrives by change event, unasked."""
    async with two_hosts(broker) as (view, agents):
        hypervisor = hypervisor_of(agents[0])
        vm = running_vm(hypervisor)
        changes, repairs = view.view.counts.messages[Kind.CHANGE], view.view.counts.repairs
        hypervisor.domains[vm].name = "renamed"
        hypervisor.changed(vm, Section.INFO)
        await eventually(lambda: row_of(view, vm).name == "renamed")
        assert view.view.counts.messages[Kind.CHANGE] == changes + 1
        assert view.view.counts.repairs == repairs
        assert not view.view.counts.rejected
        assert not view.view.counts.gaps


def devices_of(view: ViewService, vm: VmId) -> DeviceStats | None:
    """The device statistics that the view serves of a VM."""
    try:
        return vm_devices(view.view.vms[vm], view.clock()).device_stats
    except Refused:
        return None


async def test_devices_and_the_host_itself_are_told(broker: PrivateBroker) -> None:
    """The view gets each running VM's devices by report, unasked, and what the host itself does with its frames."""
    hypervisor = simulated_host(unique("devices"))
    async with view_at_work(broker) as view, agent_at_work(hypervisor, address(broker), report_s=0.5) as agent:
        await eventually(lambda: complete(view, hypervisor))
        vm = running_vm(hypervisor)
        await eventually(lambda: devices_of(view, vm) == agent.session.devices.of(agent.session.ledger.rows[vm]))
        age = vm_devices(view.view.vms[vm], view.clock()).age_s
        assert age is not None
        assert age < 5
        stats = host_row(view.view, view.view.hosts[hypervisor.host], view.clock()).stats
        truth = await hypervisor.host_stats()
        assert stats is not None
        assert (stats.cpu_count, stats.mem_free, stats.vm_active) == (CPUS, truth.mem_free, truth.vm_active)
        assert not view.view.counts.rejected


async def test_lifecycle_changes_are_seen_at_once(broker: PrivateBroker) -> None:
    """A VM that stops or starts is seen so within 250 ms, in the middle of a tick of 3 s."""
    hypervisor = simulated_host(unique("prompt"))
    vm = running_vm(hypervisor)
    took = []
    async with view_at_work(broker) as view, agent_at_work(hypervisor, address(broker), tick_s=3.0):
        await eventually(lambda: vm in view.view.vms and view.view.hosts[hypervisor.host].frame_seq)
        for turn in range(4):
            await asyncio.sleep(0.21)  # at most five urgent frames a second are said: let that pass
            started = time.monotonic()
            if turn % 2:
                hypervisor.power_on(vm)
            else:
                hypervisor.power_off(vm, EXIT)
            wanted = (VmStatus.UP if turn % 2 else VmStatus.DOWN).label
            await eventually(lambda wanted=wanted: row_of(view, vm).status == wanted)  # type: ignore[misc]
            took.append(time.monotonic() - started)
    assert statistics.median(took) < LATENCY_S, took


async def test_cut_connections_heal_by_themselves(broker: PrivateBroker, caplog: pytest.LogCaptureFixture) -> None:
    """When every connection dies, agents and view come back by themselves and agree, and no host is blamed."""
    caplog.set_level(logging.INFO, "vmpulse_consumers.service")
    hypervisor = simulated_host(unique("cut"))
    vm = running_vm(hypervisor)
    async with (
        cable(broker) as way,
        view_at_work(broker, url=address(broker, way.port)) as view,
        agent_at_work(hypervisor, address(broker, way.port)) as agent,
    ):
        await eventually(lambda: complete(view, hypervisor))
        way.cut()
        hypervisor.domains[vm].edit()
        hypervisor.changed(vm, Section.INFO)
        hypervisor.domains[vm].name = "renamed-in-the-dark"
        await eventually(lambda: way.connections == 6)
        await eventually(lambda: complete(view, hypervisor) and row_of(view, vm).name == "renamed-in-the-dark")
        assert view.view.hosts[hypervisor.host].epoch == agent.session.epoch
    assert said_of_hosts(caplog) == []


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("fast_clocks")
async def test_hung_network_is_noticed(
    broker: PrivateBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that swallows everything ends the connections by missed heartbeats, requests under way included."""
    caplog.set_level(logging.INFO, "vmpulse_consumers.service")
    monkeypatch.setattr("vmpulse_contract.topology.HEARTBEAT_S", 1)
    hypervisor = simulated_host(unique("hung"))
    vm = running_vm(hypervisor)
    async with (
        cable(broker) as way,
        view_at_work(broker, url=address(broker, way.port)) as view,
        agent_at_work(hypervisor, address(broker, way.port)),
    ):
        await eventually(lambda: complete(view, hypervisor))
        way.hold(both_ways=True)
        asked = [asyncio.create_task(view.requests.ask(hypervisor.host, Verb.LIST)) for _ in range(3)]
        connections = way.connections
        await eventually(lambda: way.connections >= connections + 3, 12, "all three have given the connection up")
        way.cut()
        way.release()
        for request in asked:
            with pytest.raises(HostDidNotAnswer):
                await asyncio.wait_for(request, 5)
        hypervisor.domains[vm].name = "renamed-in-the-dark"
        hypervisor.changed(vm, Section.INFO)
        await eventually(lambda: complete(view, hypervisor) and row_of(view, vm).name == "renamed-in-the-dark", 12)
        assert view.view.asking.in_flight == 0
        await eventually(lambda: said_of_broker(caplog) == ["broker.lost", "broker.back"])
        assert said_of_hosts(caplog) == []


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("fast_clocks")
async def test_broker_in_alarm_is_nobodys_fault(own_broker: PrivateBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A broker short of memory takes no messages: agents wait without growing, no host is blamed, then all is said."""
    caplog.set_level(logging.INFO, "vmpulse_consumers.service")
    async with two_hosts(own_broker) as (view, agents):
        hypervisor = hypervisor_of(agents[0])
        vm = running_vm(hypervisor)
        await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "0.00001")
        try:
            await eventually(lambda: not any(agent.session._connected for agent in agents), what="sessions are told")
            await eventually(lambda: said_of_broker(caplog) == ["broker.lost"], what="the view has noticed")
            waiting = [len(agent.publisher._tasks) for agent in agents]  # type: ignore[attr-defined]
            said = [agent.session.seq for agent in agents]
            hypervisor.domains[vm].name = "renamed-in-alarm"
            hypervisor.changed(vm, Section.INFO)
            alarmed = time.monotonic()
            looks = agents[0].session.counters.looks
            await eventually(lambda: time.monotonic() > alarmed + 2.5, what="long enough for a host to be lost")
            assert agents[0].session.counters.looks > looks + 5, "the agent goes on looking"
            assert [agent.session.seq for agent in agents] == said
            assert [len(agent.publisher._tasks) for agent in agents] == waiting  # type: ignore[attr-defined]
            assert max(waiting) < 30
        finally:
            await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "0.4")
        await eventually(lambda: row_of(view, vm).name == "renamed-in-alarm")
        await eventually(lambda: all(complete(view, hypervisor_of(agent)) for agent in agents))
        await eventually(lambda: said_of_broker(caplog) == ["broker.lost", "broker.back"])
        assert said_of_hosts(caplog) == []


@pytest.mark.timeout(90)
@pytest.mark.usefixtures("fast_clocks")
async def test_crashed_broker_is_nobodys_fault(own_broker: PrivateBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is killed and comes back: everybody reconnects, everything converges, and no host is blamed."""
    caplog.set_level(logging.INFO, "vmpulse_consumers.service")
    async with two_hosts(own_broker) as (view, agents):
        hypervisor = hypervisor_of(agents[0])
        vm = running_vm(hypervisor)
        epochs = [agent.session.epoch for agent in agents]
        restarting = asyncio.create_task(asyncio.to_thread(own_broker.restart, crash=True))
        await eventually(lambda: said_of_broker(caplog) == ["broker.lost"])
        hypervisor.domains[vm].name = "renamed-in-the-dark"
        hypervisor.changed(vm, Section.INFO)
        await restarting
        await eventually(lambda: row_of(view, vm).name == "renamed-in-the-dark", 15)
        await eventually(lambda: all(complete(view, hypervisor_of(agent)) for agent in agents))
        assert [view.view.hosts[agent.host].epoch for agent in agents] == epochs
        await eventually(lambda: said_of_broker(caplog) == ["broker.lost", "broker.back"])
        assert said_of_hosts(caplog) == []
        assert all(view.view.hosts[agent.host].state is HostState.LIVE for agent in agents)


def test_broker_trouble_alone_makes_no_host_late() -> None:
    """When canary and hosts fall silent together, no host is called late before the canary's absence is noticed."""
    table = Table()
    for _ in range(3):
        table.step()
    view, last_heard = table.view, table.now
    view.drain_events()
    # The host's next frame and our next canary would both come now; the broker has stopped.
    view.canary(last_heard + 2.9)
    for tenth in range(300):
        view.tick(last_heard + 2.9 + tenth / 10)
    assert [event for event in view.drain_events() if hasattr(event, "host")] == []
