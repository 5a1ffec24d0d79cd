"""The simulated fleet as pollers find it: the same hosts, VMs and changes as vmpulse's, stepped through fleet time.

Of all hosts only some are asked, spread evenly over the fleet, for what a poller moves is proportional to hosts: each
is asked on its own. But things happen to the whole fleet, so that VMs come and go by migration as for vmpulse.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_agent.ledger import Row
from vmpulse_simulator.device_counters import device_counters
from vmpulse_simulator.dynamics import Dynamics, Rates
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from vmpulse_agent.hypervisor import DeviceCounters, HypervisorEvent
    from vmpulse_contract.identity import VmId
    from vmpulse_simulator.domain import SimulatedDomain
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

BEGINS_AT: Final = 1000.0
TICK_S: Final = 3.0


class Size(NamedTuple):
    """How large the fleet is, how many of its hosts are asked, and how many times as much as usual happens in it."""

    hosts: int
    vms: int
    seed: int
    asked: int
    churn: float = 1.0


def rates(churn: float) -> Rates:
    """How often things happen: so many times as often as in the demo."""
    return Rates(*(rate * churn for rate in Rates()))


class Known(NamedTuple):
    """One VM as its host knows it since the last sample.

    ``row`` has the runtime values, computed as vmpulse's agent does it. ``devices`` are the newest counters of a
    running life, ``before`` those of the sample before if it was of the same life, ``span_s`` the time between.
    """

    domain: SimulatedDomain
    row: Row
    devices: DeviceCounters | None
    before: DeviceCounters | None
    span_s: float


class PolledHost:
    """One host that is asked.

    Args:
        hypervisor: of the fleet.
        sample_s: how often it samples; None: when it is asked.
        phase_s: when it samples first.
    """

    def __init__(self, hypervisor: SimulatedHypervisor, sample_s: float | None, phase_s: float) -> None:
        self.hypervisor = hypervisor
        self.known: dict[VmId, Known] = {}
        self.sampled_at = -math.inf
        self.events: list[HypervisorEvent] = []
        """What the hypervisor has announced since somebody took it."""
        self.next_sample = math.inf if sample_s is None else phase_s
        self._sample_s = sample_s
        asyncio.run(hypervisor.open(self.events.append))

    def sample(self) -> None:
        """Read all domains, once at any moment: between two readings time has to pass."""
        now = self.hypervisor.clock()
        if now <= self.sampled_at:
            return
        self.known = {vm: self._read(vm, domain, now) for vm, domain in self.hypervisor.domains.items()}
        self.sampled_at = now
        if self._sample_s is not None:
            self.next_sample = now + self._sample_s

    def _read(self, vm: VmId, domain: SimulatedDomain, now: float) -> Known:
        look, known = domain.look(now), self.known.get(vm)
        row = Row(look, now) if known is None else known.row
        same = row.token == look.token
        if not same:
            row.reincarnate(look.token)
        row.observe(look, now)
        devices = device_counters(domain, domain.life, now) if domain.life else None
        before = known.devices if same and known is not None else None
        return Known(domain, row, devices, before, now - self.sampled_at)


class World:
    """A fleet in which things happen, and the hosts of it that are asked.

    Args:
        size: of the fleet.
        sample_s: how often hosts sample; None: when they are asked.
    """

    def __init__(self, size: Size, sample_s: float | None) -> None:
        before_s = 2 * (sample_s or TICK_S)
        self.now = BEGINS_AT - before_s
        fleet = Fleet(size.hosts, size.vms, size.seed, lambda: self.now)
        self._dynamics = Dynamics(fleet, lambda *_: True, BEGINS_AT, rates(size.churn))
        lots = Lots(size.seed, "sampling")
        self.hosts = [
            PolledHost(
                fleet.hypervisors[at * size.hosts // size.asked], sample_s, self.now + lots.share() * (sample_s or 0.0)
            )
            for at in range(size.asked)
        ]
        if sample_s is None:
            # A share of CPU time needs a sample before the one that is asked for.
            for host in self.hosts:
                host.sample()
        self.advance(BEGINS_AT)

    def advance(self, until: float) -> None:
        """Let happen what happens until then."""
        while (at := min(self._dynamics.next_at(), *(host.next_sample for host in self.hosts), math.inf)) <= until:
            self.now = max(self.now, at)
            self._dynamics.advance(at)
            for host in self.hosts:
                if host.next_sample <= at:
                    host.sample()
        self.now = until
