"""What happens in a fleet: log-ins, edits, updates, power cycles, live migrations and restarts of agents, by the seed.

No clock and no tasks: ``advance`` does everything that is due by a given time, and ``next_at`` says when to call again.
Rates hold for 30 s, and all but that of migrations scale with the fleet; of each kind something happens in every round,
however small the fleet is, but with one host there is nowhere to migrate to.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeAlias, TypeVar

from msgspec import Struct

from vmpulse_agent.hypervisor import Exit
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator.lots import Lots
from vmpulse_simulator.migrations import Migrations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vmpulse_contract.identity import VmId
    from vmpulse_simulator.fleet import Fleet
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

T = TypeVar("T")
Action: TypeAlias = "Callable[[float], None]"
Agenda: TypeAlias = "list[tuple[float, int, Action]]"
"""What is due when, as a heap; the number keeps the order among equals."""

ROUND_S: Final = 30.0
AWAY_S: Final = (1.0, 5.0)
"""How long a VM or an agent stays away."""
TRANSIENT: Final = 0.2
"""Share of power cycles after which the domain is not even defined until its next start."""
EXITS: Final = (
    (Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN), 0.5),
    (Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN), 0.3),
    (Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION), 0.1),
    (Exit(ExitCode.ERROR, ExitReason.GENERIC_ERROR), 0.1),
)


class Rates(NamedTuple):
    """Shares of the fleet to which something happens within 30 s: of its VMs, of its VMs, of its hosts.

    ``migrations``: how many begin within 30 s in the whole fleet.
    """

    changes: float = 0.02
    power_cycles: float = 0.005
    agent_restarts: float = 0.02
    migrations: float = 10.0


class Happened(Struct):
    """What has happened so far. ``changes`` counts VMs' changes of whatever sections; migrations count at their end."""

    changes: int = 0
    power_cycles: int = 0
    agent_restarts: int = 0
    crashes: int = 0
    migrations: int = 0
    failed_migrations: int = 0


class Dynamics:
    """Lets things happen in a fleet.

    Args:
        fleet: where.
        restart: restarts a host's agent, by the host's position; told whether it crashes and how long it stays away;
            says False if that agent is being restarted already.
        now: when the first round begins.
        rates: how often.
        round_s: things are spread over rounds of so many seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        restart: Callable[[int, bool, float], bool],
        now: float,
        rates: Rates | None = None,
        round_s: float = ROUND_S,
    ) -> None:
        self.happened = Happened()
        self._fleet = fleet
        self._restart = restart
        self._rates = rates or Rates()
        self._round_s = round_s
        self._lots = Lots(fleet.seed, "dynamics")
        self._next_round = now
        self._due: Agenda = []
        self._returns: Agenda = []
        self._order = 0
        self._vms = Deck(fleet.homes, self._lots)
        self._hosts = Deck(range(len(fleet.hypervisors)), self._lots)
        self._migrations = Migrations(fleet, Lots(fleet.seed, "migrations"), self.happened, self._later)

    def next_at(self) -> float:
        """When something is due next."""
        return min([self._next_round, *(queue[0][0] for queue in (self._due, self._returns) if queue)])

    def advance(self, now: float) -> None:
        """Do everything that is due by *now*, in the order in which it is due."""
        while (at := self.next_at()) <= now:
            if at == self._next_round:
                self._plan(at)
                self._next_round += self._round_s
            else:
                queue = min((queue for queue in (self._due, self._returns) if queue), key=lambda queue: queue[0])
                _, _, action = heapq.heappop(queue)
                action(at)

    def finish(self) -> None:
        """Plan nothing any more; start at once what waits for its start, and end migrations as they would have."""
        self._next_round = math.inf
        self._due.clear()
        while self._returns:
            at, _, action = heapq.heappop(self._returns)
            action(at)

    def go_on(self, now: float) -> None:
        """Plan again after ``finish``; the first round begins *now*."""
        self._next_round = now

    # --- planning -----------------------------------------------------------------------------------------------

    def _plan(self, at: float) -> None:
        rates, share = self._rates, self._round_s / ROUND_S
        vms, hosts = self._fleet.vms, len(self._fleet.hypervisors)
        self._spread(at, rates.changes * vms * share, self._change)
        self._spread(at, rates.power_cycles * vms * share, self._power_off)
        self._spread(at, rates.agent_restarts * hosts * share, self._restart_agent)
        self._spread(at, rates.migrations * share if hosts > 1 else 0, self._migrate)

    def _spread(self, at: float, wanted: float, action: Action) -> None:
        """Plan at least as many as wanted, evenly over the round; none only for a rate of 0."""
        count = math.ceil(round(wanted, 6))
        for number in range(count):
            self._push(self._due, at + (number + self._lots.share()) / count * self._round_s, action)

    def _later(self, at: float, action: Action) -> None:
        """Plan what must happen, because something has begun: ``finish`` does it at once."""
        self._push(self._returns, at, action)

    def _push(self, queue: Agenda, at: float, action: Action) -> None:
        self._order += 1
        heapq.heappush(queue, (at, self._order, action))

    def _pick(self) -> tuple[SimulatedHypervisor, VmId] | None:
        """Draw a VM that is up and not on its way; each has its turn before any has another. None: none was found."""
        for _ in range(len(self._vms)):
            vm = self._vms.draw()
            hypervisor = self._fleet.homes[vm]
            if hypervisor.running(vm) and vm not in self._migrations.moving:
                return hypervisor, vm
        return None

    # --- what happens -------------------------------------------------------------------------------------------

    def _change(self, _: float) -> None:
        picked = self._pick()
        if picked is None:
            return
        hypervisor, vm = picked
        guest = hypervisor.domains[vm].guest
        # Without an agent in the guest nobody would see an update or another address.
        kinds = (("log-in", 0.5), ("edit", 0.2), ("update", 0.2), ("move", 0.1))[: 4 if guest.agent else 2]
        match self._lots.weighted(kinds):
            case "log-in":
                guest.log_in(self._lots)
                hypervisor.changed(vm, Section.STATUS)
            case "edit":
                hypervisor.domains[vm].edit()
                hypervisor.changed(vm, Section.INFO, Section.CONFIG)
            case "update":
                guest.update()
                hypervisor.changed(vm, Section.GUEST_DETAILS)
            case _:
                guest.move()
                hypervisor.changed(vm, Section.STATUS, Section.GUEST_DETAILS)
        self.happened.changes += 1

    def _power_off(self, at: float) -> None:
        picked = self._pick()
        if picked is None:
            return
        hypervisor, vm = picked
        hypervisor.power_off(vm, self._lots.weighted(EXITS))
        gone = hypervisor.undefine(vm) if self._lots.hits(TRANSIENT) else None

        def power_on(_: float) -> None:
            if gone is not None:
                hypervisor.define(gone)
            hypervisor.power_on(vm)

        self._later(at + self._lots.between(*AWAY_S), power_on)
        self.happened.power_cycles += 1

    def _migrate(self, at: float) -> None:
        picked = self._pick()
        if picked is not None:
            self._migrations.begin(picked[1], at)

    def _restart_agent(self, _: float) -> None:
        crash = self.happened.agent_restarts % 2 == 0
        if self._restart(self._hosts.draw(), crash, self._lots.between(*AWAY_S)):
            self.happened.agent_restarts += 1
            self.happened.crashes += crash


class Deck(Generic[T]):
    """Draws each item once, in a drawn order, before it draws any again."""

    def __init__(self, items: Iterable[T], lots: Lots) -> None:
        self._items = list(items)
        self._lots = lots
        self._left: list[T] = []

    def __len__(self) -> int:
        return len(self._items)

    def draw(self) -> T:
        """Draw the next item."""
        if not self._left:
            self._left = self._lots.shuffled(self._items)
        return self._left.pop()
