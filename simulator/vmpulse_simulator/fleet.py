"""A fleet of simulated hosts: the same for the same seed, and as uneven as real ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from vmpulse_contract.identity import VmId, host_id
from vmpulse_contract.values import VmStatus
from vmpulse_simulator.domain import SimulatedDomain
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from collections.abc import Callable

VCPUS: Final = ((1, 0.25), (2, 0.3), (4, 0.2), (8, 0.12), (16, 0.07), (32, 0.04), (64, 0.02))
"""Counts of virtual CPUs with their shares."""
STAGES: Final = (("prod", 0.6), ("stage", 0.25), ("test", 0.15))
ROLES: Final = ("app", "build", "cache", "db", "web")
STATES: Final = ((VmStatus.UP, 0.96), (VmStatus.DOWN, 0.03), (VmStatus.PAUSED, 0.01))
OLDEST_S: Final = 200 * 86400.0


class Fleet:
    """All simulated hypervisors, by position.

    Args:
        hosts: how many hosts.
        vms: how many VMs on each.
        seed: decides everything about them.
        clock: monotonic seconds.
    """

    def __init__(self, hosts: int, vms: int, seed: int, clock: Callable[[], float]) -> None:
        self.seed = seed
        self.clock = clock
        self.vms_per_host = vms
        self.hypervisors = [self._host(index) for index in range(hosts)]
        self.homes = {vm: hypervisor for hypervisor in self.hypervisors for vm in hypervisor.domains}
        """Where each VM runs now, or ran last."""

    @property
    def vms(self) -> int:
        """How many VMs the fleet has."""
        return len(self.homes)

    def freeze(self) -> None:
        """Keep every load as it is from now on."""
        for hypervisor in self.hypervisors:
            hypervisor.freeze()

    def thaw(self) -> None:
        """Let every load go on from where it is."""
        for hypervisor in self.hypervisors:
            hypervisor.thaw()

    def _host(self, index: int) -> SimulatedHypervisor:
        first = index * self.vms_per_host
        domains = [self._domain(first + offset, offset + 1) for offset in range(self.vms_per_host)]
        lots = Lots(self.seed, "host", index)
        return SimulatedHypervisor(host_id(f"host-{index:05d}"), str(drawn_uuid(lots)), domains, self.clock)

    def _domain(self, number: int, domain_id: int) -> SimulatedDomain:
        lots = Lots(self.seed, "vm", number)
        vm = VmId(drawn_uuid(lots).bytes)
        name = f"{lots.weighted(STAGES)}-{lots.choice(ROLES)}-{number:04d}"
        # The first VM is always the widest there is, with all its CPUs busy: even a small fleet has one.
        widest = number == 0
        domain = SimulatedDomain(vm, name, number, 64 if widest else lots.weighted(VCPUS), lots)
        state = VmStatus.UP if widest else lots.weighted(STATES)
        if state is not VmStatus.DOWN:
            age = lots.between(60.0, OLDEST_S)
            domain.start(domain_id, self.clock(), before_s=age, status=state, saturated=widest or None)
        return domain


def drawn_uuid(lots: Lots) -> UUID:
    """Draw a random UUID, marked as one."""
    return UUID(int=lots.bits() << 64 | lots.bits(), version=4)
