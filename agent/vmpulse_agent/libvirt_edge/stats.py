"""From bulk statistics to looks and counters: pure functions over libvirt's typed parameters.

Names and units: https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats
Memory is in KiB, times in ns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters, DomainLook, MemoryCounters
from vmpulse_agent.libvirt_edge import endings
from vmpulse_agent.libvirt_edge.domain_xml import DeviceFacts
from vmpulse_agent.libvirt_edge.evidence import Evidence
from vmpulse_agent.libvirt_edge.status import status
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.libvirt_edge.tokens import Life, boottime_ns
from vmpulse_contract.identity import VmId
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import BalloonInfo, NetworkStats

LOOK_GROUPS: Final = (
    libvirt.VIR_DOMAIN_STATS_CPU_TOTAL,
    libvirt.VIR_DOMAIN_STATS_BALLOON,
)
DEVICE_GROUPS: Final = (
    libvirt.VIR_DOMAIN_STATS_BALLOON,
    libvirt.VIR_DOMAIN_STATS_INTERFACE,
    libvirt.VIR_DOMAIN_STATS_BLOCK,
)

MONITOR_KEYS: Final = frozenset(
    {
        "balloon.rss",
        "balloon.last-update",
        "balloon.unused",
        "balloon.available",
        "cpu.haltpoll.success.time",
    }
)
"""What libvirt's QEMU driver gives only where it could take the domain's monitor job.

Seen with libvirt 9.0 and a stopped QEMU: these vanish, while cpu.time and balloon.current stay.
"""

BALLOON_OLD_S: Final = 120
"""What the guest's balloon driver said longer ago is unknown rather than told as if it were of now.

libvirt goes on giving a dead driver's last words. Without a stats period a driver reports rarely or never; then too the
usage is unknown, for nobody knows it.
"""

Stats = Mapping[str, object]


class Moment(NamedTuple):
    """One moment on three clocks: the loop's (s), that of Life.started_ns (ns), and the wall's (s)."""

    loop_s: float
    boot_ns: int
    wall_s: float

    @classmethod
    def now(cls) -> Moment:
        """Read the clocks. For the event loop."""
        return cls(asyncio.get_running_loop().time(), boottime_ns(), time.time())


class Record(NamedTuple):
    """One domain of a bulk call. ``domain_id`` is -1 for an inactive one."""

    vm: VmId
    domain_id: int
    name: str
    stats: Stats

    @property
    def active(self) -> bool:
        """Whether the domain runs, in whatever state."""
        return self.domain_id >= 0

    @property
    def state(self) -> tuple[int, int]:
        """State and reason, VIR_DOMAIN_*."""
        return integer(self.stats, "state.state") or 0, integer(self.stats, "state.reason") or 0

    @property
    def starting(self) -> bool:
        """Whether the hypervisor's process is only being set up; libvirt has its id before its state."""
        starting = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
        return self.active and (self.state == starting or self.state[0] == libvirt.VIR_DOMAIN_SHUTOFF)


def integer(stats: Stats, name: str) -> int | None:
    """Look up one number; None where it was not given."""
    value = stats.get(name)
    return int(value) if isinstance(value, int | float) else None


def domain_look(
    record: Record, life: Life | None, evidence: Evidence, *, answered: bool | None, moment: Moment
) -> DomainLook:
    """One domain of a look.

    Args:
        record: what the bulk call gave.
        life: its incarnation; None for an inactive domain and for one whose process is still being set up.
        evidence: what events told.
        answered: whether its monitor did; None if it was not asked.
        moment: when the look began.
    """
    state, reason = record.state
    if not record.active:
        return DomainLook(record.vm, 0, VmStatus.DOWN, exit=endings.remembered(state, reason))
    if life is None:
        return DomainLook(record.vm, 0, VmStatus.WAIT_FOR_LAUNCH, answered=answered)
    return DomainLook(
        vm=record.vm,
        token=life.token,
        status=status(state, reason, evidence.role, evidence.rebooting),
        elapsed_ms=None if life.started_ns is None else max(0, moment.boot_ns - life.started_ns) // 1_000_000,
        cpu_time_ns=integer(record.stats, "cpu.time"),
        cpu_system_ns=integer(record.stats, "cpu.system"),
        mem_usage=memory_usage(record.stats, moment.wall_s),
        answered=answered,
    )


def memory_usage(stats: Stats, wall_s: float) -> int | None:
    """Used share of the guest's memory in percent; None where the guest's balloon driver says nothing (any more)."""
    if _balloon_is_old(stats, wall_s):
        return None
    available = integer(stats, "balloon.available")
    free = integer(stats, "balloon.usable")
    if free is None:
        free = integer(stats, "balloon.unused")
    if not available or available < 0 or free is None:
        return None
    return min(100, max(0, round(100 - 100 * free / available)))


def driver_reported(stats: Stats) -> int | None:
    """When the guest's balloon driver last reported: whole seconds, rounded down; 0 if never, None if not known."""
    return integer(stats, "balloon.last-update")


def _balloon_is_old(stats: Stats, wall_s: float) -> bool:
    """Whether the driver's last report is of long ago; QEMU stamps it with the host's wall clock, 0 for none yet."""
    reported = integer(stats, "balloon.last-update")
    return bool(reported) and wall_s - (reported or 0) > BALLOON_OLD_S


def counters(record: Record, life: Life, facts: DeviceFacts, moment: Moment) -> DeviceCounters:
    """Device counters of one active domain."""
    return DeviceCounters(
        token=life.token,
        memory=None if _balloon_is_old(record.stats, moment.wall_s) else _memory(record.stats),
        balloon=_balloon(record.stats, facts),
        disks=tuple(_disks(record.stats, facts)),
        network=tuple(_cards(record.stats, facts, moment.loop_s)),
        taken_s=moment.loop_s,
    )


def _memory(stats: Stats) -> MemoryCounters | None:
    memory = MemoryCounters(
        total=integer(stats, "balloon.available"),
        unused=integer(stats, "balloon.unused"),
        usable=integer(stats, "balloon.usable"),
        swap_in=integer(stats, "balloon.swap_in"),
        swap_out=integer(stats, "balloon.swap_out"),
        major_faults=integer(stats, "balloon.major_fault"),
        minor_faults=integer(stats, "balloon.minor_fault"),
    )
    if all(value is None for value in memory):
        return None
    return memory._replace(reported=integer(stats, "balloon.last-update") or None)


def _balloon(stats: Stats, facts: DeviceFacts) -> BalloonInfo | None:
    """Libvirt keeps no target that is still to be reached: the size it has granted is both current and target."""
    current, most = integer(stats, "balloon.current"), integer(stats, "balloon.maximum")
    if current is None or most is None:
        return None
    return BalloonInfo(
        balloon_max=most,
        balloon_min=facts.balloon_min,
        balloon_cur=current,
        balloon_target=current,
        ballooning_enabled=facts.balloon,
    )


def _disks(stats: Stats, facts: DeviceFacts) -> Iterator[DiskCounters]:
    """``truesize`` is what the image occupies on the host, ``apparentsize`` its length there.

    Of a running domain libvirt's "physical" is QEMU's actual-size, which is what the image occupies; "allocation" is
    only how far the guest has written since its start.
    """
    for prefix, name in _named(stats, "block"):
        yield DiskCounters(
            name=name,
            read_ops=integer(stats, f"{prefix}.rd.reqs"),
            write_ops=integer(stats, f"{prefix}.wr.reqs"),
            flush_ops=integer(stats, f"{prefix}.fl.reqs"),
            read_bytes=integer(stats, f"{prefix}.rd.bytes"),
            written_bytes=integer(stats, f"{prefix}.wr.bytes"),
            read_time_ns=integer(stats, f"{prefix}.rd.times"),
            write_time_ns=integer(stats, f"{prefix}.wr.times"),
            flush_time_ns=integer(stats, f"{prefix}.fl.times"),
            truesize=integer(stats, f"{prefix}.physical"),
            apparentsize=integer(stats, f"{prefix}.{facts.lengths.get(name, '')}"),
            image_id=facts.image_ids.get(name),
        )


def _cards(stats: Stats, facts: DeviceFacts, at: float) -> Iterator[NetworkStats]:
    """Speed and state are absent: libvirt knows neither of a virtual card."""
    for prefix, name in _named(stats, "net"):
        yield NetworkStats(
            name=name,
            mac_addr=facts.macs.get(name),
            rx=integer(stats, f"{prefix}.rx.bytes"),
            tx=integer(stats, f"{prefix}.tx.bytes"),
            rx_errors=integer(stats, f"{prefix}.rx.errs"),
            tx_errors=integer(stats, f"{prefix}.tx.errs"),
            rx_dropped=integer(stats, f"{prefix}.rx.drop"),
            tx_dropped=integer(stats, f"{prefix}.tx.drop"),
            sample_time=at,
        )


def _named(stats: Stats, group: str) -> Iterable[tuple[str, str]]:
    """Prefixes and names of a group's numbered devices; a card without a host-side name has no name and no counters."""
    for number in range(integer(stats, f"{group}.count") or 0):
        prefix = f"{group}.{number}"
        name = clean(stats.get(f"{prefix}.name"))
        if name is not None:
            yield prefix, name
