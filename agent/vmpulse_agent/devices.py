"""Device statistics of the contract from a sample and the interval that it ends: no I/O and no clock.

Units are VDSM's: B/s, ns per operation (0 where there was none), KiB/s for swap. A rate is absent where there are no
two samples of one life, or, of memory, no two reports of the guest's.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from vmpulse_agent.device_rates import MEMORY, MICROSECONDS, Device, Interval, Trend, card, disk
from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters, MemoryCounters
from vmpulse_contract.columns import LARGEST
from vmpulse_contract.verbs import DeviceStats, DiskStats, MemoryStats

Rates = dict[str, Any]
"""Values of a Struct's fields by their names."""


def device_stats(now: DeviceCounters, interval: Interval) -> DeviceStats:
    """Statistics of one life at its newest sample, which ends *interval*."""
    rates = _rates(interval)
    span_us = interval.last_us - interval.begun_us
    return DeviceStats(
        memory_stats=None if now.memory is None else _memory(now.memory, rates.get(MEMORY, {})),
        balloon_info=now.balloon,
        disks_usage=now.usage,
        network={nic.name: structs.replace(nic, **rates.get(card(nic.name), {})) for nic in now.network} or None,
        disks={one.name: _disk(one, rates.get(disk(one.name), {})) for one in now.disks} or None,
        interval=round(span_us / MICROSECONDS, 3) if span_us else None,
    )


def _rates(interval: Interval) -> dict[Device, Rates]:
    """The rates by device, each with its extremes beside it."""
    rates: dict[Device, Rates] = {}
    for (device, name), trend in interval.trends.items():
        found = _values(trend)
        # No operation takes no time; but what a guest did that has not reported since is not known.
        if found is not None and (trend.least is not None or device != MEMORY):
            mean, least, most = found
            rates.setdefault(device, {}).update({name: mean, f"{name}_min": least, f"{name}_max": most})
    return rates


def _values(trend: Trend) -> tuple[int, int, int] | None:
    """Mean, least and most, whole; of operations that were not made 0."""
    if trend.mean is None or trend.least is None or trend.most is None:
        return (0, 0, 0) if trend.followed else None
    return _whole(trend.mean), _whole(trend.least), _whole(trend.most)


def _whole(rate: float) -> int:
    """What a rate has behind its point is less than its samples can tell, and does not deflate.

    No counter is believed to grow faster than a column can say: a driver that counts wrongly costs no VM its record.
    """
    return min(round(rate), LARGEST)


def _memory(now: MemoryCounters, rates: Rates) -> MemoryStats:
    return MemoryStats(
        mem_total=now.total,
        mem_unused=now.unused,
        # The kernel's own word for "unused and what caches would give back".
        mem_free=now.usable,
        **rates,
    )


def _disk(now: DiskCounters, rates: Rates) -> DiskStats:
    return DiskStats(
        read_ops=now.read_ops,
        write_ops=now.write_ops,
        read_bytes=now.read_bytes,
        written_bytes=now.written_bytes,
        truesize=now.truesize,
        apparentsize=now.apparentsize,
        image_id=now.image_id,
        **rates,
    )
