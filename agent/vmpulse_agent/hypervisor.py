"""What the agent needs from a hypervisor: one narrow port, kept by libvirt on real hosts and by the simulator.

Every read either gives what was true when it *started* or raises HypervisorError; "could not look" never looks like
"nothing there" (promise A2). The port may be slow but never blocks the event loop, and each call ends within its own
deadline (promise A1). It only reads (promise A7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol, TypeAlias

from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import GuestDetails, Info, Section, Status
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus
from vmpulse_contract.verbs import BalloonInfo, DiskUsage, HostStats, NetworkStats


class Exit(NamedTuple):
    """How an incarnation ended."""

    code: ExitCode
    reason: ExitReason


class DomainLook(NamedTuple):
    """One domain in one look.

    ``token`` is the start token, equal for one life of the domain and new at every start; 0 for an inactive domain, and
    for one that is being started and has no process yet (WAIT_FOR_LAUNCH). An active domain is never Down.
    ``answered``: True, its monitor gave its values; False, it was asked and gave nothing; None, it was not asked. With
    no answer the values are kept from before, with their age. ``exit`` is what the hypervisor remembers of an inactive
    domain's last end.
    """

    vm: VmId
    token: int
    status: VmStatus
    elapsed_ms: int | None = None
    cpu_time_ns: int | None = None
    cpu_system_ns: int | None = None
    mem_usage: int | None = None
    answered: bool | None = True
    exit: Exit | None = None


class Look(NamedTuple):
    """All domains of the host at one moment. ``started``: when the look began, seconds on the loop's clock.

    ``partial``: only some domains could be asked, and nothing is known of any other, not even whether it is there.
    """

    started: float
    domains: Sequence[DomainLook]
    partial: bool = False


class SectionReading(NamedTuple):
    """Sections of one domain as read. None: not asked for, or could not be read; the section stays as it was.

    ``config`` is the canonical XML. ``status`` leaves ``monitor_response`` to the session, which knows the ages.
    """

    vm: VmId
    info: Info | None = None
    config: bytes | None = None
    status: Status | None = None
    guest_details: GuestDetails | None = None


class DiskCounters(NamedTuple):
    """Cumulative counters of one disk since the domain's start; times in ns, sizes in bytes."""

    name: str
    read_ops: int | None = None
    write_ops: int | None = None
    flush_ops: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    read_time_ns: int | None = None
    write_time_ns: int | None = None
    flush_time_ns: int | None = None
    truesize: int | None = None
    apparentsize: int | None = None
    image_id: str | None = None


class MemoryCounters(NamedTuple):
    """Guest memory: sizes in KiB; swap in cumulative KiB; faults cumulative.

    ``reported``: when the guest said all this, at its own pace, in whole seconds of the host's wall clock. None: nobody
    knows, and so there are no rates.
    """

    total: int | None = None
    unused: int | None = None
    usable: int | None = None
    swap_in: int | None = None
    swap_out: int | None = None
    major_faults: int | None = None
    minor_faults: int | None = None
    reported: int | None = None


class DeviceCounters(NamedTuple):
    """Everything device-like of one domain at one moment.

    ``taken_s``: that moment, seconds on the loop's clock; None: when the sample began.
    """

    token: int
    memory: MemoryCounters | None = None
    balloon: BalloonInfo | None = None
    disks: tuple[DiskCounters, ...] = ()
    network: tuple[NetworkStats, ...] = ()
    usage: tuple[DiskUsage, ...] | None = None
    taken_s: float | None = None


class DeviceSample(NamedTuple):
    """Device counters of all active domains that could be asked, each complete; ``started`` as in Look."""

    started: float
    domains: Mapping[VmId, DeviceCounters]


class HypervisorFacts(NamedTuple):
    """What the hypervisor says of its host. Absent where it does not know."""

    host_uuid: str | None = None
    hypervisor_version: str | None = None
    libvirt_version: str | None = None


class LifecycleChange(Enum):
    """What became of a domain."""

    DEFINED = auto()
    UNDEFINED = auto()
    STARTED = auto()
    SUSPENDED = auto()
    RESUMED = auto()
    STOPPED = auto()
    OTHER = auto()


class LifecycleEvent(NamedTuple):
    """The hypervisor announces a change of one domain. ``exit`` where the change ends an incarnation."""

    vm: VmId
    change: LifecycleChange
    exit: Exit | None = None


class SectionsStale(NamedTuple):
    """Something that sections are made of has changed: read these again.

    ``settling``: it was announced before all of it was there, so they are read once more a moment later.
    """

    vm: VmId
    sections: frozenset[Section]
    settling: bool = False


class BalloonChanged(NamedTuple):
    """The guest's memory has grown or shrunk to so many KiB."""

    vm: VmId
    kib: int


class ConnectionLost(NamedTuple):
    """The hypervisor is gone until ConnectionBack. Nothing follows for the VMs."""

    why: str


class ConnectionBack(NamedTuple):
    """The hypervisor is there again; whatever happened meanwhile was not announced."""


HypervisorEvent: TypeAlias = LifecycleEvent | SectionsStale | BalloonChanged | ConnectionLost | ConnectionBack
Notify: TypeAlias = Callable[[HypervisorEvent], None]


class Hypervisor(Protocol):
    """The port. All methods are called from one event loop."""

    async def open(self, notify: Notify) -> None:
        """Connect, and from now on call *notify* in the loop for each event; reconnect for ever by itself.

        Raises HypervisorUnavailable if the first connection fails; the message says how to mend it.
        """

    async def facts(self) -> HypervisorFacts:
        """Give the facts of the host. Raises HypervisorError."""

    async def look(self, *, states_only: bool = False) -> Look:
        """Look at all domains, in one cheap call. Raises HypervisorError.

        *states_only* asks for nothing that takes a monitor's answer: what follows at once on an announced change.
        """

    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Read the wanted sections of one domain. Raises HypervisorError if it could read none of them."""

    async def settle(self) -> None:
        """Wait, for a few seconds at most, until what is asked aside has been answered once, such as guests.

        Until then sections that wait for such an answer may not be given; those that can be by now are notified as
        stale. Called once, after the first readings.
        """

    async def device_sample(self) -> DeviceSample:
        """Read the device counters of all active domains. Raises HypervisorError."""

    async def host_stats(self) -> HostStats:
        """Read the host's own statistics, rates over the time since the last call. Raises HypervisorError."""

    async def close(self) -> None:
        """Let go of the connection. Nothing is notified afterwards."""
