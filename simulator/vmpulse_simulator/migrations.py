"""Live migrations between simulated hosts, as libvirt carries them out and as the agents of both hosts see them.

The destination's process is there first and waits for the guest. At the switch-over the guest runs on there, with what
it was doing, while everything that belongs to its process begins anew: start token, domain id, pid, ports, counters.
The source is the last to end: for up to 1.6 s both hosts list the VM as active (seen with libvirt 9.0). Whether a
definition stays at the source is up to who asked for the migration. One that fails leaves the destination as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_agent.hypervisor import Exit, LifecycleChange
from vmpulse_contract.limits import VMS_PER_HOST
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmpulse_contract.identity import VmId
    from vmpulse_simulator.dynamics import Action, Happened
    from vmpulse_simulator.fleet import Fleet
    from vmpulse_simulator.hypervisor import SimulatedHypervisor
    from vmpulse_simulator.lots import Lots

DURATION_S: Final = (0.3, 8.0)
OVERLAP_S: Final = (0.0, 1.6)
SHORT_S: Final = 1.0
"""The source of a shorter migration is never seen as one: the guest is gone before anything announces it."""
FAILING: Final = 0.1
"""Share of migrations that fail or are cancelled."""
DEFINED: Final = 0.2
"""Share of sources that keep the definition, as with plain libvirt; oVirt has them undefined."""
SUCCEEDED: Final = Exit(ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED)
FAILED: Final = Exit(ExitCode.ERROR, ExitReason.MIGRATION_FAILED)


class Fate(NamedTuple):
    """How a migration will go. ``overlap_s``: how much later than the switch-over the source ends."""

    duration_s: float
    overlap_s: float
    fails: bool
    stays_defined: bool

    @classmethod
    def drawn(cls, lots: Lots) -> Fate:
        """Draw one."""
        return cls(lots.between(*DURATION_S), lots.between(*OVERLAP_S), lots.hits(FAILING), lots.hits(DEFINED))


class Migration:
    """One VM on its way from one host to another.

    Args:
        vm: which one; it is up on the source.
        source: where it runs.
        destination: where to; it may have an inactive definition of the VM.
        fate: how it will go.
    """

    def __init__(self, vm: VmId, source: SimulatedHypervisor, destination: SimulatedHypervisor, fate: Fate) -> None:
        self.vm = vm
        self.source = source
        self.destination = destination
        self.fate = fate
        self._before = destination.domains.get(vm)
        self._waiting = destination.receive(source.domains[vm])
        if fate.duration_s >= SHORT_S:
            source.show(vm, VmStatus.MIGRATION_SOURCE, LifecycleChange.OTHER)

    def fail(self) -> None:
        """Give up: the destination is as it was before, and the source runs on."""
        self.destination.vacate(self.vm, FAILED, self._before)
        self.source.show(self.vm, VmStatus.UP, LifecycleChange.OTHER)

    def switch_over(self) -> None:
        """Let the guest run on at the destination. The definition came with it."""
        leaving = self.source.domains[self.vm].life
        if leaving is not None:
            self._waiting.load = leaving.load.hand_over(self.source.clock())
        self.destination.show(self.vm, VmStatus.UP, LifecycleChange.RESUMED)
        # The agent in the guest connects anew, which libvirt announces.
        self.destination.changed(self.vm, Section.STATUS, Section.GUEST_DETAILS)

    def end(self) -> None:
        """End the source. libvirt announces its end, but not that the definition went with it."""
        left = self.source.domains[self.vm] if self.fate.stays_defined else None
        self.source.vacate(self.vm, SUCCEEDED, left)


class Migrations:
    """All migrations of a fleet.

    Args:
        fleet: where.
        lots: decide where to and how.
        happened: where they are counted.
        later: has something done at a time.
    """

    def __init__(self, fleet: Fleet, lots: Lots, happened: Happened, later: Callable[[float, Action], None]) -> None:
        self.moving: set[VmId] = set()
        """The VMs that are on their way; nothing else is to happen to them."""
        self._fleet = fleet
        self._lots = lots
        self._happened = happened
        self._later = later
        self._left: dict[VmId, SimulatedHypervisor] = {}
        """Where an inactive definition was left behind, at most one for each VM."""

    def begin(self, vm: VmId, at: float) -> None:
        """Migrate a VM that is up to a drawn host, if there is one with room for it."""
        source = self._fleet.homes[vm]
        destination = self._destination(source)
        if destination is None:
            return
        self.moving.add(vm)
        migration = Migration(vm, source, destination, Fate.drawn(self._lots))
        follows = self._fail if migration.fate.fails else self._switch_over
        self._later(at + migration.fate.duration_s, lambda then: follows(migration, then))

    def _destination(self, source: SimulatedHypervisor) -> SimulatedHypervisor | None:
        """Draw two other hosts and take the emptier one: so they stay about evenly full."""
        others = [each for each in self._fleet.hypervisors if each is not source and each.powered]
        if not others:
            return None
        drawn = min(
            (self._lots.choice(others), self._lots.choice(others)), key=lambda hypervisor: len(hypervisor.domains)
        )
        return drawn if len(drawn.domains) < VMS_PER_HOST.maximum else None

    def _fail(self, migration: Migration, _: float) -> None:
        migration.fail()
        self.moving.discard(migration.vm)
        self._happened.failed_migrations += 1

    def _switch_over(self, migration: Migration, at: float) -> None:
        migration.switch_over()
        self._fleet.homes[migration.vm] = migration.destination
        self._later(at + migration.fate.overlap_s, lambda _: self._end(migration))

    def _end(self, migration: Migration) -> None:
        migration.end()
        self.moving.discard(migration.vm)
        self._happened.migrations += 1
        self._keep_one_definition(migration)

    def _keep_one_definition(self, migration: Migration) -> None:
        """Remove an older definition when another is left behind: else they would fill the hosts in a long run."""
        vm = migration.vm
        if self._left.get(vm) is migration.destination:
            del self._left[vm]  # it is in use again
        if migration.fate.stays_defined:
            older = self._left.get(vm)
            if older is not None:
                older.undefine(vm)
            self._left[vm] = migration.source
