"""Dynamics: at the rates asked for, the same for the same seed, and over when they are told to finish."""

from __future__ import annotations

import msgspec
import pytest

from tests.simulator.stand import Clock, small_fleet
from vmpulse_agent.hypervisor import HypervisorEvent, LifecycleChange, LifecycleEvent, SectionsStale
from vmpulse_contract.sections import Section
from vmpulse_simulator.dynamics import Dynamics, Happened, Rates
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.truth import take_truth


class Watch:
    """Runs dynamics on injected time and notes everything that they cause."""

    def __init__(self, hosts: int = 5, vms: int = 20, rates: Rates | None = None, round_s: float = 30.0) -> None:
        self.clock = Clock()
        self.fleet: Fleet = small_fleet(self.clock, hosts, vms)
        self.events: list[HypervisorEvent] = []
        self.restarts: list[tuple[int, bool, float]] = []
        self.dynamics = Dynamics(self.fleet, self._restart, self.clock.now, rates, round_s)

    async def pass_time(self, seconds: float) -> None:
        """Let things happen for so long."""
        for hypervisor in self.fleet.hypervisors:
            await hypervisor.open(self.events.append)
        ends = self.clock.now + seconds
        while (at := self.dynamics.next_at()) < ends:
            self.clock.now = at
            self.dynamics.advance(at)
        self.clock.now = ends

    def _restart(self, index: int, crash: bool, away_s: float) -> bool:  # noqa: FBT001 - the shape of a restart
        self.restarts.append((index, crash, away_s))
        return True

    def happened(self) -> Happened:
        """What has happened, but for migrations, of which some are always under way."""
        return msgspec.structs.replace(self.dynamics.happened, migrations=0, failed_migrations=0)

    def lifecycle(self, change: LifecycleChange) -> list[LifecycleEvent]:
        """The lifecycle events of one kind."""
        return [event for event in self.events if isinstance(event, LifecycleEvent) and event.change is change]


async def test_default_rates_at_full_size() -> None:
    """At 250 hosts with 40 VMs: 200 changes, 50 power cycles, 5 restarts and 10 migrations in 30 s, and so again."""
    watch = Watch(250, 40)
    await watch.pass_time(30)
    assert watch.happened() == Happened(changes=200, power_cycles=50, agent_restarts=5, crashes=3)
    await watch.pass_time(30)
    assert watch.happened() == Happened(changes=400, power_cycles=100, agent_restarts=10, crashes=5)
    watch.dynamics.finish()
    assert watch.dynamics.happened.migrations + watch.dynamics.happened.failed_migrations == 20


async def test_small_fleet_gets_some_of_everything() -> None:
    """Even one host with few VMs sees each kind, however short the round."""
    watch = Watch(1, 4, round_s=8)
    await watch.pass_time(8)
    assert watch.happened() == Happened(changes=1, power_cycles=1, agent_restarts=1, crashes=1)


async def test_rate_of_nothing_is_nothing() -> None:
    """A rate of 0 switches a kind off."""
    watch = Watch(rates=Rates(changes=0, power_cycles=0, agent_restarts=0, migrations=0))
    await watch.pass_time(120)
    assert watch.dynamics.happened == Happened()
    assert watch.events == []


async def test_each_change_makes_its_sections_stale_and_other() -> None:
    """Whatever is announced as stale has changed, and every kind of change occurs."""
    watch = Watch(rates=Rates(changes=1.0, power_cycles=0, agent_restarts=0, migrations=0))
    before = await take_truth(watch.fleet, {})
    await watch.pass_time(30)
    after = await take_truth(watch.fleet, {})
    changed = {vm for vm in before.vms if before.vms[vm].hashes != after.vms[vm].hashes}
    assert len(changed) == len({event.vm for event in watch.events if isinstance(event, SectionsStale)})
    kinds = {event.sections for event in watch.events if isinstance(event, SectionsStale)}
    assert kinds == {
        frozenset({Section.STATUS}),
        frozenset({Section.INFO, Section.CONFIG}),
        frozenset({Section.GUEST_DETAILS}),
        frozenset({Section.STATUS, Section.GUEST_DETAILS}),
    }


async def test_stopped_vms_come_back_with_a_new_life() -> None:
    """Each power cycle is a stop with an exit and, 1 to 5 s later, a start; some domains vanish in between."""
    watch = Watch(rates=Rates(changes=0, power_cycles=0.5, agent_restarts=0, migrations=0))
    lives = {vm: domain.life for each in watch.fleet.hypervisors for vm, domain in each.domains.items()}
    await watch.pass_time(30)
    watch.dynamics.finish()
    stopped, started = watch.lifecycle(LifecycleChange.STOPPED), watch.lifecycle(LifecycleChange.STARTED)
    assert [event.exit is not None for event in stopped] == [True] * 50
    assert sorted(event.vm for event in started) == sorted(event.vm for event in stopped)
    gone, back = watch.lifecycle(LifecycleChange.UNDEFINED), watch.lifecycle(LifecycleChange.DEFINED)
    assert gone
    assert sorted(event.vm for event in gone) == sorted(event.vm for event in back)
    for hypervisor in watch.fleet.hypervisors:
        for vm in {event.vm for event in stopped} & hypervisor.domains.keys():
            life, old = hypervisor.domains[vm].life, lives[vm]
            assert life is not None
            assert old is not None
            assert life.token != old.token


async def test_same_seed_same_history() -> None:
    """Two runs of one seed cause the same events in the same order."""
    first, second = Watch(), Watch()
    await first.pass_time(60)
    await second.pass_time(60)
    assert first.events == second.events
    assert first.restarts == second.restarts


async def test_finish_starts_what_is_away_and_nothing_happens_any_more() -> None:
    """After the end every VM is defined and runs again, and nothing is due."""
    watch = Watch(rates=Rates(power_cycles=0.5, migrations=0))
    count = [len(hypervisor.domains) for hypervisor in watch.fleet.hypervisors]
    await watch.pass_time(29)
    watch.dynamics.finish()
    assert [len(hypervisor.domains) for hypervisor in watch.fleet.hypervisors] == count
    happened = len(watch.events)
    await watch.pass_time(300)
    assert len(watch.events) == happened
    assert watch.dynamics.next_at() == float("inf")


async def test_frozen_fleet_stands_still() -> None:
    """After freezing, rates stay as they are, and so do those of a VM that starts or arrives later."""
    watch = Watch(2, 5)
    watch.fleet.freeze()
    await watch.pass_time(30)
    watch.dynamics.finish()
    before = await take_truth(watch.fleet, {})
    watch.clock.now += 300
    assert await take_truth(watch.fleet, {}) == before


async def test_thawed_fleet_goes_on() -> None:
    """After a thaw things happen again, and loads walk on from where they stood."""
    watch = Watch(2, 5)
    await watch.pass_time(30)
    watch.dynamics.finish()
    watch.fleet.freeze()
    frozen, happened = await take_truth(watch.fleet, {}), len(watch.events)
    watch.clock.now += 300
    watch.fleet.thaw()
    watch.dynamics.go_on(watch.clock.now)
    assert await take_truth(watch.fleet, {}) == frozen
    await watch.pass_time(30)
    assert len(watch.events) > happened
    after = (await take_truth(watch.fleet, {})).vms
    assert all(after[vm].cpu_user != true.cpu_user for vm, true in frozen.vms.items() if true.cpu_user)


@pytest.mark.parametrize("count", [1, 7, 250])
async def test_every_second_restart_is_a_crash(count: int) -> None:
    """Half of the restarts say goodbye, half do not, and all hosts have their turn."""
    watch = Watch(count, 1, rates=Rates(changes=0, power_cycles=0, agent_restarts=1.0))
    await watch.pass_time(60)
    assert len(watch.restarts) == 2 * count
    assert sum(crash for _, crash, _ in watch.restarts) == count
    assert {index for index, _, _ in watch.restarts} == set(range(count))
    assert all(1 <= away <= 5 for _, _, away in watch.restarts)
