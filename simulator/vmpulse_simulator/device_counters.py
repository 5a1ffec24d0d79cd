"""Device counters of simulated domains: they grow with the age of the life, at rates of the VM's own, and in bursts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters, MemoryCounters
from vmpulse_contract.verbs import BalloonInfo, DiskUsage, NetworkStats

if TYPE_CHECKING:
    from vmpulse_simulator.domain import Life, SimulatedDomain

GIB = 1 << 30
PERIOD_S = 97.0
"""Between the beginnings of two bursts of a VM; of no common length with the seconds in which agents sample."""
BURST_S = 12.0
"""Less than agents let pass between two samples: a peak that only extremes show."""
REPORT_S = 5
"""How often a guest's balloon driver reports."""
SURPLUS = 8
"""What a burst does beyond the steady rate, as a multiple of that."""


def bursts(domain: SimulatedDomain, seconds: float) -> float:
    """How long bursts have lasted, all together, in the first *seconds* of a life. Each VM has its own moments."""
    whole, part = divmod(seconds + domain.number * 31 % PERIOD_S, PERIOD_S)
    return whole * BURST_S + min(part, BURST_S)


def device_counters(domain: SimulatedDomain, life: Life, now: float) -> DeviceCounters:
    """Everything device-like of a running domain."""
    seconds = now - life.started
    return DeviceCounters(
        token=life.token,
        memory=memory_counters(domain, life, now),
        balloon=balloon(domain),
        disks=tuple(disk_counters(domain, number, seconds) for number in range(domain.disks)),
        network=(network_stats(domain, seconds, now),),
        usage=disk_usage(domain),
    )


def memory_counters(domain: SimulatedDomain, life: Life, now: float) -> MemoryCounters | None:
    """What the guest's balloon driver told last; nothing without an agent."""
    if not domain.agent_answers:
        return None
    total = domain.memory_mib * 1024
    free = total * (100 - life.load.memory) // 100
    reported = int(now // REPORT_S * REPORT_S)
    faults = int(max(0.0, reported - life.started) * (domain.number % 40))
    return MemoryCounters(
        total=total,
        unused=free * 3 // 4,
        usable=free,
        swap_in=0,
        swap_out=0,
        major_faults=faults // 1000,
        minor_faults=faults,
        reported=reported,
    )


def balloon(domain: SimulatedDomain) -> BalloonInfo:
    """The balloon is at its largest: nobody reclaims."""
    kib = domain.memory_mib * 1024
    return BalloonInfo(
        balloon_max=kib, balloon_min=kib // 2, balloon_cur=kib, balloon_target=kib, ballooning_enabled=True
    )


def disk_counters(domain: SimulatedDomain, number: int, seconds: float) -> DiskCounters:
    """One disk; the first is the busiest, and what it does in bursts takes longer."""
    rate = (domain.number % 50 + 1) / (number + 1)
    steady, surplus = int(seconds * rate), int(bursts(domain, seconds) * rate * SURPLUS)
    reads = steady + surplus
    writes = reads * 2
    return DiskCounters(
        name=f"vd{'abcdefgh'[number]}",
        read_ops=reads,
        write_ops=writes,
        flush_ops=writes // 16,
        read_bytes=reads * 16384,
        written_bytes=writes * 8192,
        read_time_ns=steady * 350_000 + surplus * 1_100_000,
        write_time_ns=steady * 1_800_000 + surplus * 5_200_000,
        flush_time_ns=writes // 16 * 2_500_000,
        truesize=(8 + domain.number % 32) * GIB,
        apparentsize=40 * GIB,
        image_id=f"{domain.number:08x}-{number}",
    )


def network_stats(domain: SimulatedDomain, seconds: float, now: float) -> NetworkStats:
    """The one network card."""
    received = int((seconds + bursts(domain, seconds) * SURPLUS) * (domain.number % 300) * 1000)
    return NetworkStats(
        name=f"vnet{domain.number}",
        mac_addr=domain.guest.mac,
        rx=received,
        tx=received // 3,
        rx_errors=0,
        tx_errors=0,
        rx_dropped=received >> 24,
        tx_dropped=0,
        speed=10_000,
        state="up",
        sample_time=round(now, 3),
    )


def disk_usage(domain: SimulatedDomain) -> tuple[DiskUsage, ...] | None:
    """File systems as the guest's agent tells them."""
    if not domain.agent_answers:
        return None
    used = (4 + domain.number % 30) * GIB
    return (DiskUsage(path="/", total=40 * GIB, used=used, fs="ext4"),)
