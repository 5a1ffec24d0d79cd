"""What happens in the fleet meanwhile, and what is true of it: held still and let go, with every change noted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from benches.chaos.fates import Fates, Life, Listed
from vmpulse_contract.identity import vm_text
from vmpulse_simulator.dynamics import Dynamics, Happened, Rates
from vmpulse_simulator.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vmpulse_contract.identity import VmId
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

RATES: Final = Rates(changes=0.1, power_cycles=0.03, agent_restarts=0.0, migrations=30.0)
"""Three to six times what the demo has, for a fault is short. Agents are restarted by faults alone."""
ROUND_S: Final = 6.0
STEP_S: Final = 0.05
"""How exactly the moments are kept at which something happens."""


class Motion:
    """A fleet in motion; at first it is held still.

    Args:
        seed: decides the fleet and what happens in it.
        hosts: how many hosts.
        vms: how many VMs on each at first.
        clock: monotonic seconds.
        rates: how often something happens.
    """

    def __init__(self, seed: int, hosts: int, vms: int, clock: Callable[[], float], rates: Rates = RATES) -> None:
        self.fleet = Fleet(hosts, vms, seed, clock)
        self.fates = Fates()
        self._clock = clock
        self._dynamics = Dynamics(self.fleet, lambda *_: False, clock(), rates, ROUND_S)
        self._held = True
        self.note()

    async def run(self) -> None:
        """Let things happen until cancelled, but for while the fleet is held still."""
        while True:
            if not self._held and self._dynamics.next_at() <= self._clock():
                self._dynamics.advance(self._clock())
                self.note()
            await asyncio.sleep(STEP_S)

    def go_on(self) -> None:
        """Let things happen (again)."""
        self.fleet.thaw()
        self._dynamics.go_on(self._clock())
        self._held = False

    @property
    def happened(self) -> Happened:
        """What has happened so far."""
        return self._dynamics.happened

    def hold_loads(self) -> None:
        """Keep CPU and memory values as they are; the rest goes on."""
        self.fleet.freeze()

    def hold_still(self) -> None:
        """End at once what is under way, and let nothing happen any more until ``go_on``: the truth stays as it is."""
        self._held = True
        self._end_all()
        self.fleet.freeze()

    def lose_power(self, hypervisors: Iterable[SimulatedHypervisor]) -> dict[SimulatedHypervisor, list[VmId]]:
        """Take the power from hosts whose agents were killed; gives what ran on each."""
        # What is under way between two hosts ends first: how it would end with one of them is not modelled.
        self._end_all()
        ran = {hypervisor: hypervisor.lose_power() for hypervisor in hypervisors}
        self._dynamics.go_on(self._clock())
        self.note()
        return ran

    def boot(self, ran: dict[SimulatedHypervisor, list[VmId]]) -> None:
        """Give hosts their power back, and start what ran there."""
        for hypervisor, vms in ran.items():
            hypervisor.boot(vms)
        self.note()

    def note(self) -> None:
        """Note what has become of the VMs."""
        unattended = {str(each.host) for each in self.fleet.hypervisors if not each.attended}
        self.fates.note(self._listed(), unattended, self._clock())

    def _end_all(self) -> None:
        self._dynamics.finish()
        self.note()

    def _listed(self) -> Iterator[Listed]:
        for hypervisor in self.fleet.hypervisors:
            host = str(hypervisor.host)
            for vm, domain in hypervisor.domains.items():
                life = domain.life
                yield Listed(vm_text(vm), host, None if life is None else Life(host, life.token, life.started))
