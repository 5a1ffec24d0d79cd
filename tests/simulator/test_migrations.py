"""Live migrations: what both hosts see of one, and that a fleet full of them loses no VM."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulator.stand import Clock, small_fleet
from vmpulse_agent.hypervisor import Exit, HypervisorEvent, LifecycleChange, LifecycleEvent, Notify, SectionsStale
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus
from vmpulse_simulator.domain import Life, SimulatedDomain
from vmpulse_simulator.dynamics import Dynamics, Rates
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.migrations import FAILED, SUCCEEDED, Fate, Migration

GOOD = Fate(duration_s=4.0, overlap_s=1.0, fails=False, stays_defined=False)
SOURCE, DESTINATION = "source", "destination"


class Hosts:
    """Two hosts whose agents listen, and a VM that is up on the first, with an agent in its guest."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.source, self.destination = small_fleet(self.clock).hypervisors
        domains = self.source.domains
        self.vm = next(vm for vm in domains if self.source.running(vm) and domains[vm].guest.agent)
        self.heard: list[tuple[str, LifecycleChange | Exit]] = []
        self.stale: set[Section] = set()

    async def open(self) -> None:
        """Begin to listen."""
        await self.source.open(self._listener(SOURCE))
        await self.destination.open(self._listener(DESTINATION))

    def begin(self, fate: Fate = GOOD) -> Migration:
        """Begin to migrate the VM."""
        return Migration(self.vm, self.source, self.destination, fate)

    def statuses(self) -> tuple[VmStatus | None, VmStatus | None]:
        """How the hosts see the VM; None: not at all."""
        there = [hypervisor.domains.get(self.vm) for hypervisor in (self.source, self.destination)]
        source, destination = (domain.look(self.clock.now).status if domain else None for domain in there)
        return source, destination

    def _listener(self, where: str) -> Notify:
        def note(event: HypervisorEvent) -> None:
            if isinstance(event, LifecycleEvent):
                self.heard.append((where, event.exit or event.change))
            elif isinstance(event, SectionsStale) and where == DESTINATION:
                self.stale |= event.sections

        return note


@pytest.fixture
async def hosts() -> Hosts:
    """Two hosts that are listened to."""
    found = Hosts()
    await found.open()
    return found


def life_of(hypervisor: SimulatedHypervisor, domain: SimulatedDomain) -> Life:
    """The life of the VM on a host."""
    life = hypervisor.domains[domain.vm].life
    assert life is not None
    return life


async def test_destination_runs_before_the_source_ends(hosts: Hosts) -> None:
    """Both hosts list the VM from the beginning until the source ends, which is last, and its definition goes too."""
    migration = hosts.begin()
    assert hosts.statuses() == (VmStatus.MIGRATION_SOURCE, VmStatus.MIGRATION_DESTINATION)
    assert [(await each.host_stats()).vm_migrating for each in (hosts.source, hosts.destination)] == [1, 1]
    migration.switch_over()
    assert hosts.statuses() == (VmStatus.MIGRATION_SOURCE, VmStatus.UP)
    migration.end()
    assert hosts.statuses() == (None, VmStatus.UP)
    assert hosts.heard == [
        (DESTINATION, LifecycleChange.STARTED),
        (SOURCE, LifecycleChange.OTHER),
        (DESTINATION, LifecycleChange.RESUMED),
        (SOURCE, SUCCEEDED),
    ]


async def test_short_migration_never_shows_at_the_source(hosts: Hosts) -> None:
    """The source of a migration of less than a second is plainly up until it is gone."""
    migration = hosts.begin(GOOD._replace(duration_s=0.5))
    assert hosts.statuses() == (VmStatus.UP, VmStatus.MIGRATION_DESTINATION)
    migration.switch_over()
    assert hosts.statuses() == (VmStatus.UP, VmStatus.UP)


async def test_guest_goes_on_in_a_process_that_begins_anew(hosts: Hosts) -> None:
    """Load, memory, log-ins and addresses are what they were; token, pid, port and CPU time are the new process's."""
    domain = hosts.source.domains[hosts.vm]
    before, life = (domain.status(), domain.guest_details()), life_of(hosts.source, domain)
    migration = hosts.begin()
    there, arrived = hosts.destination.domains[hosts.vm], life_of(hosts.destination, domain)
    waiting = there.look(hosts.clock.now)
    assert (waiting.mem_usage, waiting.cpu_time_ns, there.guest_details()) == (None, 0, None)
    hosts.clock.now += 4
    life.load.advance(hosts.clock.now)
    load = life.load.user, life.load.system, life.load.memory
    migration.switch_over()
    assert hosts.stale == {Section.STATUS, Section.GUEST_DETAILS}
    assert (there.status(), there.guest_details()) == before
    assert (arrived.load.user, arrived.load.system, arrived.load.memory) == load
    assert arrived.token != life.token
    assert (there.info().pid, there.info().display_port) != (domain.info().pid, domain.info().display_port)
    assert (there.look(hosts.clock.now).elapsed_ms, there.look(hosts.clock.now).cpu_time_ns) == (4000, 0)
    burnt = life.load.cpu_time_ns
    hosts.clock.now += 1
    assert domain.look(hosts.clock.now).cpu_time_ns == burnt
    assert (there.look(hosts.clock.now).cpu_time_ns or 0) > 0


@pytest.mark.parametrize("defined", [True, False])
async def test_failed_migration_leaves_both_hosts_as_they_were(hosts: Hosts, *, defined: bool) -> None:
    """The destination's domain is gone again, down to a definition that was there before, and the source runs on."""
    domain = hosts.source.domains[hosts.vm]
    before, life = (domain.status(), domain.config()), life_of(hosts.source, domain)
    if defined:
        left = domain.twin(Life.waiting(99, domain.vcpus, 0.0))
        left.stop(SUCCEEDED)
        hosts.destination.domains[hosts.vm] = left
    hosts.begin(GOOD._replace(fails=True)).fail()
    assert hosts.statuses() == (VmStatus.UP, VmStatus.DOWN if defined else None)
    assert (DESTINATION, FAILED) in hosts.heard
    assert hosts.source.domains[hosts.vm].life is life
    assert (domain.status(), domain.config()) == before


async def test_definition_that_stays_is_used_on_the_way_back(hosts: Hosts) -> None:
    """Plain libvirt leaves the VM shut off at the source; it starts there again, with what it is by then."""
    migration = hosts.begin(GOOD._replace(stays_defined=True))
    migration.switch_over()
    migration.end()
    assert hosts.statuses() == (VmStatus.DOWN, VmStatus.UP)
    assert hosts.source.domains[hosts.vm].look(hosts.clock.now).exit == SUCCEEDED
    hosts.destination.domains[hosts.vm].edit()
    config = hosts.destination.domains[hosts.vm].config()
    assert hosts.source.domains[hosts.vm].config() != config
    back = Migration(hosts.vm, hosts.destination, hosts.source, GOOD)
    back.switch_over()
    back.end()
    assert hosts.statuses() == (VmStatus.UP, None)
    assert hosts.source.domains[hosts.vm].config() == config


async def test_many_migrations_lose_no_vm_and_leave_few_definitions() -> None:
    """After hours of them, with power cycles, each VM that ran runs on just one host, and is defined on at most two."""
    clock = Clock()
    fleet = small_fleet(clock, hosts=4, vms=6)
    ran = {vm for each in fleet.hypervisors for vm in each.domains if each.running(vm)}
    dynamics = Dynamics(fleet, lambda *_: False, clock.now, Rates(power_cycles=0.1, migrations=30))
    ends = clock.now + 3600
    while (at := dynamics.next_at()) < ends:
        clock.now = at
        dynamics.advance(at)
    dynamics.finish()
    happened = dynamics.happened
    assert happened.migrations + happened.failed_migrations == pytest.approx(3600, abs=200)
    assert 0.05 < happened.failed_migrations / happened.migrations < 0.2
    assert sorted(vm for each in fleet.hypervisors for vm in each.domains if each.running(vm)) == sorted(ran)
    assert all(fleet.homes[vm].running(vm) for vm in ran)
    defined = Counter(vm for each in fleet.hypervisors for vm in each.domains)
    assert set(defined.values()) == {1, 2}
    assert not any(domain.migrating for each in fleet.hypervisors for domain in each.domains.values())


async def test_lone_host_has_nowhere_to_migrate_to() -> None:
    """A fleet of one host runs without migrations."""
    clock = Clock()
    dynamics = Dynamics(small_fleet(clock, hosts=1), lambda *_: False, clock.now)
    clock.now += 60
    dynamics.advance(clock.now)
    assert (dynamics.happened.migrations, dynamics.happened.failed_migrations) == (0, 0)
