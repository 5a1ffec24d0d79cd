"""Hypervisors over a socket: an agent in another process sees what one beside them would, and may come and go."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benches.chaos.hypervisor_server import HypervisorServer
from benches.chaos.remote_hypervisor import RemoteHypervisor
from tests.simulator.stand import Clock, small_fleet
from tests.waiting import eventually
from vmpulse_agent.errors import HypervisorError, HypervisorUnavailable
from vmpulse_agent.hypervisor import Exit, HypervisorEvent, LifecycleChange, LifecycleEvent, SectionsStale
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator.hypervisor import SimulatedHypervisor

EVERYTHING = frozenset(Section)
END = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)


class Pair(NamedTuple):
    """A hypervisor, the server that serves it, and an agent's way to it."""

    local: SimulatedHypervisor
    server: HypervisorServer
    remote: RemoteHypervisor


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Pair]:
    """A host of some VMs, served."""
    fleet = small_fleet(Clock(), hosts=1)
    (local,) = fleet.hypervisors
    async with HypervisorServer(fleet.hypervisors, folder / "s") as server:
        remote = RemoteHypervisor(local.host, folder / "s")
        remote.epoch = 77
        yield Pair(local, server, remote)
        await remote.close()


async def test_everything_is_seen_as_it_is(tmp_path: Path) -> None:
    """Facts, looks, sections, devices and the host's statistics come through unchanged."""
    async with served(tmp_path) as (local, _, remote):
        await remote.open(lambda _: None)
        assert await remote.facts() == await local.facts()
        assert await remote.look() == await local.look()
        assert await remote.look(states_only=True) == await local.look(states_only=True)
        for vm in local.domains:
            assert await remote.read(vm, EVERYTHING) == await local.read(vm, EVERYTHING)
        assert await remote.device_sample() == await local.device_sample()
        assert await remote.host_stats() == await local.host_stats()


async def test_events_come_before_the_looks_they_explain(tmp_path: Path) -> None:
    """An end is announced, with its reason, before a look shows it; and so is what has become stale."""
    heard: list[HypervisorEvent] = []
    async with served(tmp_path) as (local, _, remote):
        await remote.open(heard.append)
        await remote.look()
        vm = next(vm for vm in local.domains if local.running(vm))
        local.power_off(vm, END)
        local.changed(vm, Section.INFO)
        await remote.look()
        assert heard == [
            LifecycleEvent(vm, LifecycleChange.STOPPED, END),
            SectionsStale(vm, frozenset({Section.INFO})),
        ]


async def test_errors_are_errors_there_too(tmp_path: Path) -> None:
    """What the hypervisor refuses, the agent is refused."""
    async with served(tmp_path) as (_, _, remote):
        await remote.open(lambda _: None)
        with pytest.raises(HypervisorError, match="no domain"):
            await remote.read(VmId(bytes(16)), EVERYTHING)


async def test_the_newest_agent_has_the_hypervisor(tmp_path: Path) -> None:
    """The end of an agent that another one has followed takes nothing from that one."""
    async with served(tmp_path) as (local, server, remote):
        await remote.open(lambda _: None)
        await remote.look()
        assert server.epochs() == {local.host: 77}
        heard: list[HypervisorEvent] = []
        follower = RemoteHypervisor(local.host, tmp_path / "s")
        follower.epoch = 78
        await follower.open(heard.append)
        await follower.look()
        await remote.close()
        await follower.look()
        assert server.epochs() == {local.host: 78}
        local.changed(next(iter(local.domains)), Section.INFO)
        await eventually(lambda: heard)
        await follower.close()
        await eventually(lambda: server.epochs() == {})


async def test_a_server_that_goes_leaves_nobody_waiting(tmp_path: Path) -> None:
    """Without a server there is no hypervisor: an error at once, for who asks and for who comes."""
    async with served(tmp_path) as (_, _, remote):
        await remote.open(lambda _: None)
        await remote.look()
    with pytest.raises(HypervisorUnavailable):
        await remote.look()
    with pytest.raises(HypervisorUnavailable):
        await remote.open(lambda _: None)
