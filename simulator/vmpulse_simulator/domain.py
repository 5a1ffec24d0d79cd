"""One simulated VM on its host: its definition, its present life if it has one, and what can be read of both."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final, Self

from vmpulse_agent.hypervisor import DomainLook, Exit
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.sections import Info, Status
from vmpulse_contract.values import BootDevice, DisplayType, PauseCode, VmStatus
from vmpulse_simulator.domain_xml import Definition, config_xml
from vmpulse_simulator.guest import Guest
from vmpulse_simulator.load import Load
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from vmpulse_contract.sections import GuestDetails

TOKEN_BITS: Final = 40
"""A start token is the domain id above so many bits of the start time in ms."""
MIGRATING: Final = frozenset({VmStatus.MIGRATION_SOURCE, VmStatus.MIGRATION_DESTINATION})
ISO: Final = "/var/lib/vms/iso/debian-12.{}.0-amd64-netinst.iso"


class Life:
    """One life of a VM: from its start to its end."""

    __slots__ = ("domain_id", "load", "pid", "started", "status", "token")

    def __init__(self, domain_id: int, started: float, load: Load, status: VmStatus, born_ms: int) -> None:
        self.domain_id = domain_id
        self.started = started
        self.load = load
        self.status = status
        self.pid = 2000 + domain_id * 17
        self.token = domain_id << TOKEN_BITS | born_ms & (1 << TOKEN_BITS) - 1

    @classmethod
    def waiting(cls, domain_id: int, vcpus: int, now: float) -> Self:
        """Give the life of a destination whose guest is still to come."""
        return cls(domain_id, now, Load.idle(vcpus, now), VmStatus.MIGRATION_DESTINATION, int(now * 1000))


class SimulatedDomain:
    """A VM as its hypervisor knows it.

    Args:
        vm: its id.
        name: its name.
        number: counts VMs over the fleet.
        vcpus: how many CPUs it has.
        lots: decide the rest of it, and its load in each life.
    """

    def __init__(self, vm: VmId, name: str, number: int, vcpus: int, lots: Lots) -> None:
        self.vm = vm
        self.name = name
        self.number = number
        self.vcpus = vcpus
        self.memory_mib = vcpus * lots.choice((1024, 2048, 4096))
        self.spice = lots.hits(0.2)
        self.disks = 1 + lots.below(3)
        self.cdrom: str | None = ISO.format(lots.below(5)) if lots.hits(0.1) else None
        self.edits = 0
        self.guest = Guest(
            number, f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}", lots
        )
        self.pause_code: PauseCode | None = None
        self.life: Life | None = None
        self.exit: Exit | None = None
        self._lots = lots

    # --- what becomes of it -------------------------------------------------------------------------------------

    def start(
        self,
        domain_id: int,
        now: float,
        *,
        before_s: float = 0.0,
        status: VmStatus = VmStatus.UP,
        saturated: bool | None = None,
    ) -> None:
        """Begin a life, *before_s* seconds ago."""
        lots = Lots(self._lots.bits())
        load = Load(self.vcpus, lots, started=now - before_s, now=now, saturated=saturated)
        born_ms = int((now - before_s) * 1000)
        self.life = Life(domain_id, now - before_s, load, status, born_ms)
        self.exit = None
        self.pause_code = PauseCode.ENOSPC if status is VmStatus.PAUSED else None

    def stop(self, end: Exit | None) -> None:
        """End the life; what becomes of the guest is not said with it. None: nobody remembers how it ended."""
        self.life, self.exit, self.pause_code = None, end, None

    def twin(self, life: Life) -> Self:
        """Give the same VM as another host knows it, with a life there: one guest, two definitions."""
        twin = copy.copy(self)
        twin.life, twin.exit, twin.pause_code = life, None, None
        return twin

    def edit(self) -> None:
        """Edit the definition: another medium and another description."""
        self.edits += 1
        self.cdrom = None if self.cdrom else ISO.format(self.edits % 5)

    # --- what can be read of it ---------------------------------------------------------------------------------

    @property
    def migrating(self) -> bool:
        """Whether it is the source or the destination of a migration."""
        return self.life is not None and self.life.status in MIGRATING

    @property
    def agent_answers(self) -> bool:
        """Whether the agent in the guest answers here: until a migration has brought the guest, nobody does."""
        return self.guest.agent and self.life is not None and self.life.status is not VmStatus.MIGRATION_DESTINATION

    def look(self, now: float) -> DomainLook:
        """Look at it."""
        life = self.life
        if life is None:
            return DomainLook(self.vm, 0, VmStatus.DOWN, exit=self.exit)
        load = life.load
        load.advance(now)
        return DomainLook(
            self.vm,
            life.token,
            life.status,
            elapsed_ms=int((now - life.started) * 1000),
            cpu_time_ns=load.cpu_time_ns,
            cpu_system_ns=load.cpu_system_ns,
            mem_usage=load.memory if self.agent_answers else None,
        )

    def info(self) -> Info:
        """Section ``info``: what the definition says, and while it runs what its process has."""
        life = self.life
        return Info(
            vm_name=self.name,
            acpi_enable=True,
            display_type=DisplayType.QXL if self.spice else DisplayType.VNC,
            display_port=5900 + life.domain_id if life else None,
            display_secure_port=7900 + life.domain_id if life and self.spice else None,
            display_ip="0",
            pid=life.pid if life else None,
            vm_type="kvm",
            kvm_enable=True,
            cdrom=self.cdrom,
            boot=BootDevice.DISK,
        )

    def status(self) -> Status | None:
        """Section ``status``; None while it does not run."""
        if self.life is None:
            return None
        guest, answers = self.guest, self.agent_answers
        return Status(
            time_offset=guest.time_offset,
            client_ip=guest.client_ip,
            username=guest.username if answers else None,
            session=guest.session if answers else None,
            guest_ips=guest.addresses() if answers else None,
            pause_code=self.pause_code,
        )

    def guest_details(self) -> GuestDetails | None:
        """Section ``guestDetails``; None while it does not run or no agent answers in it."""
        return self.guest.details() if self.agent_answers else None

    def config(self) -> bytes:
        """Section ``config``: the canonical XML of the definition."""
        return config_xml(
            Definition(
                name=self.name,
                uuid=vm_text(self.vm),
                title=f"{self.name} ({self.guest.image})",
                memory_mib=self.memory_mib,
                vcpus=self.vcpus,
                mac=self.guest.mac,
                spice=self.spice,
                cdrom=self.cdrom,
                description=f"revision {self.edits}",
                disks=self.disks,
            )
        )
