"""One simulated VM on its host: its definition, its present life if it has one, and what can be read of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

    def stop(self, end: Exit) -> None:
        """End the life; nobody is logged in any more."""
        self.life, self.exit, self.pause_code = None, end, None
        self.guest.log_off()

    def edit(self) -> None:
        """Edit the definition: another medium and another description."""
        self.edits += 1
        self.cdrom = None if self.cdrom else ISO.format(self.edits % 5)

    # --- what can be read of it ---------------------------------------------------------------------------------

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
            mem_usage=load.memory if self.guest.agent else None,
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
        guest = self.guest
        return Status(
            time_offset=guest.time_offset,
            client_ip=guest.client_ip,
            username=guest.username if guest.agent else None,
            session=guest.session if guest.agent else None,
            guest_ips=guest.addresses(),
            pause_code=self.pause_code,
        )

    def guest_details(self) -> GuestDetails | None:
        """Section ``guestDetails``; None while it does not run or no agent runs in it."""
        return self.guest.details() if self.life else None

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
