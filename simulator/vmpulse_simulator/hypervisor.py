"""The hypervisor of one simulated host: the agent's port, kept from memory, and the operator's side of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.hypervisor import (
    DeviceSample,
    DomainLook,
    Exit,
    HypervisorEvent,
    HypervisorFacts,
    LifecycleChange,
    LifecycleEvent,
    Look,
    Notify,
    SectionReading,
    SectionsStale,
)
from vmpulse_agent.session import TOMBSTONE_S
from vmpulse_contract import limits
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats
from vmpulse_simulator.device_counters import device_counters
from vmpulse_simulator.domain import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vmpulse_contract.identity import HostId, VmId
    from vmpulse_simulator.domain import SimulatedDomain

CPUS = 128
MEMORY_MIB = 1 << 20
UPTIME_S = 250 * 86400.0
"""Longer than any VM has been running."""


REMEMBERED_S = TOMBSTONE_S - 120.0
"""Which ended lives an agent must still tell of: not those that its tombstones are about to forget."""


class Ended(NamedTuple):
    """A life that ended, and when."""

    vm: VmId
    exit: Exit
    at: float


class SimulatedHypervisor:
    """One host with its domains; implements vmpulse_agent.hypervisor.Hypervisor.

    It outlives its agents: whatever happens while no agent has it open is announced to nobody, as in real life.

    Args:
        host: the host's id.
        uuid: the host's UUID.
        domains: those defined at first, running or not.
        clock: monotonic seconds, the clock of the event loop that the agent runs in.
    """

    def __init__(self, host: HostId, uuid: str, domains: Iterable[SimulatedDomain], clock: Callable[[], float]) -> None:
        self.host = host
        self.uuid = uuid
        self.clock = clock
        self.domains: dict[VmId, SimulatedDomain] = {domain.vm: domain for domain in domains}
        self.powered = True
        """Whether the machine runs at all."""
        self._booted = clock() - UPTIME_S
        self._last_id = max((domain.life.domain_id for domain in self.domains.values() if domain.life), default=0)
        self._notify: Notify | None = None
        self._frozen = False
        self._shown: dict[VmId, int] = {}
        """The lives, by token, that the last look showed to the agent that has this open."""
        self._looked_at = float("-inf")
        self._exits: dict[tuple[VmId, int], Exit] = {}
        self._ended: deque[Ended] = deque(maxlen=limits.TOMBSTONES_PER_HOST.maximum)

    # --- the agent's port ---------------------------------------------------------------------------------------

    async def open(self, notify: Notify) -> None:
        """Begin to announce events to *notify*."""
        self._notify = notify
        self._shown, self._looked_at = {}, float("-inf")

    async def facts(self) -> HypervisorFacts:
        """Give the facts of the host."""
        return HypervisorFacts(host_uuid=self.uuid, hypervisor_version="7.2.0", libvirt_version="9.0.0")

    async def look(self, *, states_only: bool = False) -> Look:
        """Look at all domains."""
        now = self.clock()
        self._remember(now)
        looks = [domain.look(now) for domain in self.domains.values()]
        return Look(now, [state_of(look) for look in looks] if states_only else looks)

    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Read the wanted sections of one domain."""
        domain = self.domains.get(vm)
        if domain is None:
            raise HypervisorError(f"no domain with id {vm.hex()}")
        return SectionReading(
            vm,
            info=domain.info() if Section.INFO in wanted else None,
            config=domain.config() if Section.CONFIG in wanted else None,
            status=domain.status() if Section.STATUS in wanted else None,
            guest_details=domain.guest_details() if Section.GUEST_DETAILS in wanted else None,
        )

    async def settle(self) -> None:
        """Nothing is asked aside."""

    async def device_sample(self) -> DeviceSample:
        """Read the device counters of all running domains."""
        now = self.clock()
        counters = {
            domain.vm: device_counters(domain, domain.life, now) for domain in self.domains.values() if domain.life
        }
        return DeviceSample(now, counters)

    async def host_stats(self) -> HostStats:
        """Add up what the domains do."""
        lives = [(domain, domain.life.load) for domain in self.domains.values() if domain.life]
        user = min(sum(load.user for _, load in lives) / 10 / CPUS, 95.0)
        system = min(sum(load.system for _, load in lives) / 10 / CPUS, 100.0 - user)
        used = min(sum(domain.memory_mib for domain, _ in lives), MEMORY_MIB)
        return HostStats(
            cpu_user=round(user, 1),
            cpu_sys=round(system, 1),
            cpu_idle=round(100 - user - system, 1),
            cpu_load=round((user + system) * CPUS / 100, 2),
            cpu_count=CPUS,
            mem_total=MEMORY_MIB,
            mem_used=used,
            mem_free=MEMORY_MIB - used,
            swap_total=0,
            swap_free=0,
            vm_count=len(self.domains),
            vm_active=len(lives),
            vm_migrating=sum(domain.migrating for domain in self.domains.values()),
            elapsed_time=round(self.clock() - self._booted, 3),
        )

    async def close(self) -> None:
        """Announce nothing any more."""
        self._notify = None

    # --- the operator's side ------------------------------------------------------------------------------------

    @property
    def attended(self) -> bool:
        """Whether an agent has this open: what happens otherwise is announced to nobody."""
        return self._notify is not None

    def power_on(self, vm: VmId) -> None:
        """Start a domain that is defined and does not run."""
        self._last_id += 1
        domain, now = self.domains[vm], self.clock()
        domain.start(self._last_id, now)
        if self._frozen and domain.life:
            domain.life.load.freeze(now)
        self._announce(LifecycleEvent(vm, LifecycleChange.STARTED))

    def power_off(self, vm: VmId, end: Exit) -> None:
        """End a running domain, which stays defined, and with it the guest: nobody is logged in any more."""
        domain = self.domains[vm]
        domain.guest.log_off()
        self.vacate(vm, end, domain)

    def vacate(self, vm: VmId, end: Exit, left: SimulatedDomain | None) -> None:
        """End a running domain. *left* is the definition that stays; None: none does."""
        life = self.domains[vm].life
        if life:
            self._exits[vm, life.token] = end
        if left is None:
            del self.domains[vm]
        else:
            left.stop(end)
            self.domains[vm] = left
        self._announce(LifecycleEvent(vm, LifecycleChange.STOPPED, end))

    def receive(self, domain: SimulatedDomain) -> Life:
        """Start the destination of a migration: gives its life, which waits for the guest."""
        self._last_id += 1
        life = Life.waiting(self._last_id, domain.vcpus, self.clock())
        self.domains[domain.vm] = domain.twin(life)
        self._announce(LifecycleEvent(domain.vm, LifecycleChange.STARTED))
        return life

    def show(self, vm: VmId, status: VmStatus, change: LifecycleChange) -> None:
        """Let a running domain be seen in another status, and announce the change."""
        life = self.domains[vm].life
        if life:
            life.status = status
        self._announce(LifecycleEvent(vm, change))

    def undefine(self, vm: VmId) -> SimulatedDomain:
        """Forget a domain that does not run; it can be defined again."""
        domain = self.domains.pop(vm)
        self._announce(LifecycleEvent(vm, LifecycleChange.UNDEFINED))
        return domain

    def define(self, domain: SimulatedDomain) -> None:
        """Define a domain; it does not run yet."""
        self.domains[domain.vm] = domain
        self._announce(LifecycleEvent(domain.vm, LifecycleChange.DEFINED))

    def changed(self, vm: VmId, *sections: Section) -> None:
        """Announce that sections of a domain are no longer what they were."""
        self._announce(SectionsStale(vm, frozenset(sections)))

    def running(self, vm: VmId) -> bool:
        """Tell whether a domain runs and is up."""
        domain = self.domains.get(vm)
        return domain is not None and domain.life is not None and domain.life.status is VmStatus.UP

    def lose_power(self) -> list[VmId]:
        """End every life without a word, the agent's too: it must have been killed. Gives the VMs that were active."""
        active = [domain for domain in self.domains.values() if domain.life]
        for domain in active:
            domain.guest.log_off()
            domain.stop(None)
        self.powered, self._notify, self._shown = False, None, {}
        return [domain.vm for domain in active]

    def boot(self, vms: Iterable[VmId]) -> None:
        """Come back after `lose_power`, and start these VMs."""
        self.powered, self._booted, self._last_id = True, self.clock(), 0
        for vm in vms:
            self.power_on(vm)

    def forget_ended(self, since: float) -> None:
        """Take the ends of lives that were seen after *since* for untold: the agent was killed before it kept them."""
        self._ended = deque((ended for ended in self._ended if ended.at <= since), self._ended.maxlen)

    def freeze(self) -> None:
        """Keep every load as it is from now on."""
        self._frozen = True
        now = self.clock()
        for domain in self.domains.values():
            if domain.life:
                domain.life.load.freeze(now)

    def thaw(self) -> None:
        """Let loads go on from where they are."""
        self._frozen = False
        now = self.clock()
        for domain in self.domains.values():
            if domain.life:
                domain.life.load.thaw(now)

    def remembered(self) -> list[Ended]:
        """The ended lives that an agent must tell of: it saw them, and looked again after their end."""
        horizon = self.clock() - REMEMBERED_S
        return [ended for ended in self._ended if ended.at >= horizon]

    def _remember(self, now: float) -> None:
        """Note which of the lives that an agent has seen are over, now that it looks again."""
        if now <= self._looked_at:
            return  # such a look is late, and no agent draws conclusions from it
        self._looked_at = now
        lives = {vm: domain.life.token for vm, domain in self.domains.items() if domain.life}
        for vm, token in self._shown.items():
            if lives.get(vm) != token:
                self._ended.append(Ended(vm, self._exits[vm, token], now))
        self._exits.clear()
        self._shown = lives

    def _announce(self, event: HypervisorEvent) -> None:
        if self._notify is not None:
            self._notify(event)


def state_of(look: DomainLook) -> DomainLook:
    """What is seen of a domain without its monitor; an inactive one has none to ask."""
    return look._replace(cpu_time_ns=None, cpu_system_ns=None, mem_usage=None, answered=None if look.token else True)
