"""The host's own statistics as they travel: what changes with every frame, what seldom does in rosters. Pure functions.

VM counts and idle time are left out, for readers have them from the VMs and from the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs

from vmpulse_contract.stream import HOST_CPU_UNIT, HOST_LOAD_UNIT, HostFacts, HostValues

if TYPE_CHECKING:
    from vmpulse_contract.verbs import HostStats

ALL_CPUS: Final = round(100 / HOST_CPU_UNIT)


def host_values(stats: HostStats) -> HostValues:
    """Give what changes, in the units of a frame."""
    used = None if stats.swap_total is None or stats.swap_free is None else max(0, stats.swap_total - stats.swap_free)
    return HostValues(
        cpu_user=_share(stats.cpu_user),
        cpu_sys=_share(stats.cpu_sys),
        cpu_load=None if stats.cpu_load is None else round(stats.cpu_load / HOST_LOAD_UNIT),
        mem_used=stats.mem_used,
        swap_used=used,
    )


def _share(percent: float | None) -> int | None:
    return None if percent is None else min(round(percent / HOST_CPU_UNIT), ALL_CPUS)


def with_sizes(facts: HostFacts, stats: HostStats) -> HostFacts:
    """Give the facts with the host's sizes as last read; one that was not read this time stays."""
    read = {"cpu_count": stats.cpu_count, "mem_total": stats.mem_total, "swap_total": stats.swap_total}
    return structs.replace(facts, **{name: size for name, size in read.items() if size is not None})
