"""A host's own statistics, put together again: what its last frame said, what its roster says, and what its VMs do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from msgspec import structs

from vmpulse_contract.stream import HOST_CPU_UNIT, HOST_LOAD_UNIT, HostFacts, HostValues
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.runtime import Runtime

NOTHING: Final = HostValues()


class HostSaid(NamedTuple):
    """What a host has said of itself last, in a frame and in a roster."""

    values: HostValues
    facts: HostFacts


def host_said(host: Host, now: float) -> HostSaid | None:
    """What may be said of the host itself; None while it is not heard, or no frame of its epoch has come."""
    if host.frame_ms is None or not host.heard(now):
        return None
    return HostSaid(host.host_stats or NOTHING, host.facts)


def host_stats(host: Host, runtime: Runtime, now: float) -> HostStats | None:
    """Give all that is known; None as ``host_said``."""
    said = host_said(host, now)
    if said is None:
        return None
    return structs.replace(
        stats_of(said),
        vm_count=len(host.vms),
        vm_active=len(host.tokens) - host.tokens.count(0),
        vm_migrating=_migrating(host, runtime),
    )


def stats_of(said: HostSaid) -> HostStats:
    """Give the statistics without the VM counts."""
    values, facts = said
    user, system = _scaled(values.cpu_user, HOST_CPU_UNIT), _scaled(values.cpu_sys, HOST_CPU_UNIT)
    return HostStats(
        cpu_user=user,
        cpu_sys=system,
        cpu_idle=None if user is None or system is None else max(0.0, round(100 - user - system, 1)),
        cpu_load=_scaled(values.cpu_load, HOST_LOAD_UNIT),
        cpu_count=facts.cpu_count,
        mem_total=facts.mem_total,
        mem_used=values.mem_used,
        mem_free=_rest(facts.mem_total, values.mem_used),
        swap_total=facts.swap_total,
        swap_free=_rest(facts.swap_total, values.swap_used),
    )


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else round(value * unit, 2)


def _rest(total: int | None, used: int | None) -> int | None:
    return None if total is None or used is None else max(0, total - used)


def _migrating(host: Host, runtime: Runtime) -> int:
    statuses = runtime.status[host.block.start : host.block.start + host.block.size]
    roles = (VmStatus.MIGRATION_SOURCE, VmStatus.MIGRATION_DESTINATION)
    return sum(int(np.count_nonzero(statuses == role)) for role in roles)
