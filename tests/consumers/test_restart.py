"""A real view that is killed and started again, on a real broker with real agents, over its store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.real_broker import address, agent_at_work, at_work, delete_queue, running_vm, simulated_host, unique
from tests.waiting import eventually
from vmpulse_agent.hypervisor import Exit
from vmpulse_consumers import service
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.store import Keeper, keeper
from vmpulse_consumers.view.rows import vm_row
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import topology
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]

WITHIN_S = 20.0
"""Two views after each other, on a machine that may be busy with other tests."""

EXIT = Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is LOST after 2 s, and what is marked is written soon."""
    monkeypatch.setattr("vmpulse_consumers.view.view.LOST_S", 2.0)
    monkeypatch.setattr(keeper, "BEHIND_S", 0.05)
    monkeypatch.setattr(service, "CANARY_S", 0.2)
    monkeypatch.setattr(service, "TICK_S", 0.1)


@contextlib.asynccontextmanager
async def kept_view(broker: PrivateBroker, name: str, path: Path) -> AsyncIterator[ViewService]:
    """A view with a store, whose queue stays for the next one of its name."""
    kept = ViewService(address(broker), name, keeper=Keeper(path))
    await kept.restore()
    async with at_work(kept.run()):
        yield kept


def complete(view: ViewService, hypervisor: SimulatedHypervisor) -> bool:
    """Whether the view has every VM of the host as it is, fresh and whole."""
    rows = [
        vm_row(view.view, view.clock(), view.view.vms[vm], with_sections=True)
        for vm in hypervisor.domains
        if vm in view.view.vms
    ]
    return len(rows) == len(hypervisor.domains) and all(
        row.freshness == "fresh"
        and not row.repairing
        and row.sections is not None
        and row.sections.info is not None
        and row.sections.info.vm_name == hypervisor.domains[vm].name
        for vm, row in zip(hypervisor.domains, rows, strict=True)
    )


async def test_a_restarted_view_fetches_nothing_that_has_not_changed(broker: PrivateBroker, tmp_path: Path) -> None:
    """It asks each host for its roster once and for the one section that changed; all else it remembers."""
    name, hypervisors = unique("view"), [simulated_host(unique(f"kept-{n}"), vms=8, seed=n) for n in (1, 2)]
    async with agent_at_work(hypervisors[0], address(broker)) as agent, agent_at_work(hypervisors[1], address(broker)):
        async with kept_view(broker, name, tmp_path / "view.db") as first:
            await eventually(lambda: all(complete(first, hypervisor) for hypervisor in hypervisors), WITHIN_S)
            await eventually(lambda: not first.view.memory, WITHIN_S)
        await delete_queue(broker, topology.view_queue(name).name)
        vm = running_vm(hypervisors[0])
        hypervisors[0].domains[vm].name = "renamed-meanwhile"
        hypervisors[0].changed(vm, Section.INFO)
        said = agent.session.seq
        await eventually(lambda: agent.session.seq > said + 3, WITHIN_S, what="its change event is said, to nobody")
        async with kept_view(broker, name, tmp_path / "view.db") as second:
            await eventually(lambda: all(complete(second, hypervisor) for hypervisor in hypervisors), WITHIN_S)
            assert (second.view.counts.relists, second.view.counts.repairs) == (2, 1)
            await delete_queue(broker, topology.view_queue(name).name)


async def test_a_view_over_its_store_is_ready_as_soon_as_its_hosts_have_answered(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    """The first one, which remembers nobody, listens for a tick of 3 s and a slack of 1 s; the next one does not."""
    name, hypervisor = unique("view"), simulated_host(unique("heard"))
    async with agent_at_work(hypervisor, address(broker)):
        listened = []
        for _ in range(2):
            async with kept_view(broker, name, tmp_path / "view.db") as view:
                await eventually(lambda: not view.view.not_ready(view.clock()), WITHIN_S)
                listened.append(view.view.listening.lasts_s(view.clock()))
                assert view.view.hosts[hypervisor.host].state is HostState.LIVE
                await eventually(lambda: not view.view.memory, WITHIN_S)
        assert listened[0] >= 4.0 > listened[1]
        await delete_queue(broker, topology.view_queue(name).name)


async def test_a_host_that_died_meanwhile_is_remembered(broker: PrivateBroker, tmp_path: Path) -> None:
    """It is LOST after its silence is proved, its VMs are Unknown with their last place, and the view is ready."""
    name, hypervisor, other = unique("view"), simulated_host(unique("dead")), simulated_host(unique("alive"), seed=9)
    async with agent_at_work(other, address(broker)):
        async with (
            kept_view(broker, name, tmp_path / "view.db") as first,
            agent_at_work(hypervisor, address(broker)) as agent,
        ):
            await eventually(lambda: complete(first, hypervisor) and complete(first, other), WITHIN_S)
            await eventually(lambda: not first.view.memory, WITHIN_S)
            agent.crash()
        async with kept_view(broker, name, tmp_path / "view.db") as second:
            await eventually(lambda: hypervisor.host in second.view.hosts, WITHIN_S)
            await eventually(lambda: second.view.hosts[hypervisor.host].state is HostState.LOST, WITHIN_S)
            rows = [vm_row(second.view, second.clock(), second.view.vms[vm]) for vm in hypervisor.domains]
            assert {(row.host, row.status) for row in rows} == {(hypervisor.host, "Unknown")}
            await eventually(lambda: not second.view.not_ready(second.clock()), WITHIN_S)
            await delete_queue(broker, topology.view_queue(name).name)
