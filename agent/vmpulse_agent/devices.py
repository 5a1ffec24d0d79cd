"""Device statistics of the contract from two samples of counters: pure arithmetic, no I/O and no clock.

Rates are over the time between the two samples, absent where there is no earlier one of the same life, and absent,
never negative, where a counter went backwards. Units are VDSM's: B/s, ns per operation (0 where there was none), KiB/s
for swap.
"""

from __future__ import annotations

from typing import Final

from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample, DiskCounters, MemoryCounters
from vmpulse_contract.identity import VmId
from vmpulse_contract.verbs import DeviceStats, DiskStats, MemoryStats

_DIGITS: Final = 2
"""Decimals of rates: VDSM's precision on the wire."""


def device_stats(previous: DeviceSample | None, current: DeviceSample) -> dict[VmId, DeviceStats]:
    """Statistics of all domains of *current*, with rates since *previous*."""
    earlier = {} if previous is None else previous.domains
    span = 0.0 if previous is None else current.started - previous.started
    return {vm: _of_domain(_same_life(earlier.get(vm), now), now, span) for vm, now in current.domains.items()}


def _same_life(before: DeviceCounters | None, now: DeviceCounters) -> DeviceCounters | None:
    return before if before is not None and before.token == now.token else None


def _of_domain(before: DeviceCounters | None, now: DeviceCounters, span: float) -> DeviceStats:
    disks_before = {} if before is None else {disk.name: disk for disk in before.disks}
    memory_before = None if before is None else before.memory
    return DeviceStats(
        memory_stats=None if now.memory is None else _memory(memory_before, now.memory, span),
        balloon_info=now.balloon,
        disks_usage=now.usage,
        network={card.name: card for card in now.network} or None,
        disks={disk.name: _disk(disks_before.get(disk.name), disk, span) for disk in now.disks} or None,
    )


def _memory(before: MemoryCounters | None, now: MemoryCounters, span: float) -> MemoryStats:
    before = before or MemoryCounters()
    major = _whole(_rate(before.major_faults, now.major_faults, span))
    minor = _whole(_rate(before.minor_faults, now.minor_faults, span))
    return MemoryStats(
        mem_total=now.total,
        mem_unused=now.unused,
        # The kernel's own word for "unused and what caches would give back".
        mem_free=now.usable,
        swap_in=_whole(_rate(before.swap_in, now.swap_in, span)),
        swap_out=_whole(_rate(before.swap_out, now.swap_out, span)),
        majflt=major,
        minflt=minor,
        pageflt=None if major is None or minor is None else major + minor,
    )


def _disk(before: DiskCounters | None, now: DiskCounters, span: float) -> DiskStats:
    before = before or DiskCounters(now.name)
    return DiskStats(
        read_ops=now.read_ops,
        write_ops=now.write_ops,
        read_bytes=now.read_bytes,
        written_bytes=now.written_bytes,
        read_rate=_rate(before.read_bytes, now.read_bytes, span),
        write_rate=_rate(before.written_bytes, now.written_bytes, span),
        read_latency=_latency(before.read_time_ns, now.read_time_ns, before.read_ops, now.read_ops),
        write_latency=_latency(before.write_time_ns, now.write_time_ns, before.write_ops, now.write_ops),
        flush_latency=_latency(before.flush_time_ns, now.flush_time_ns, before.flush_ops, now.flush_ops),
        truesize=now.truesize,
        apparentsize=now.apparentsize,
        image_id=now.image_id,
    )


def _growth(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None or now < before else now - before


def _rate(before: int | None, now: int | None, span: float) -> float | None:
    growth = _growth(before, now)
    return None if growth is None or span <= 0 else round(growth / span, _DIGITS)


def _latency(time_before: int | None, time_now: int | None, before: int | None, now: int | None) -> float | None:
    spent, operations = _growth(time_before, time_now), _growth(before, now)
    if spent is None or operations is None:
        return None
    return round(spent / operations, _DIGITS) if operations else 0.0


def _whole(rate: float | None) -> int | None:
    return None if rate is None else round(rate)
