"""What a run of a simulated fleet measured, as one line of JSON tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from vmpulse_simulator.view_api import FleetReport

if TYPE_CHECKING:
    from vmpulse_simulator.dynamics import Happened
    from vmpulse_simulator.lossy_publisher import Traffic
    from vmpulse_simulator.verdict import Verdict


class Summary(Struct, frozen=True, kw_only=True):
    """What a demo measured. Bytes are those of the stream's bodies; ``migrations`` are those that were completed."""

    hosts: int
    vms: int
    live_hosts: int
    mismatched_vms: int
    frames: int
    dropped: int
    changes: int
    power_cycles: int
    agent_restarts: int
    migrations: int
    repairs: int
    bytes_published: int
    bytes_per_vm_tick: float
    worst_age_s: float | None


class RunSummary(Summary, frozen=True, kw_only=True):
    """What a fleet without an end of its own measured so far, and whether the view was right about it."""

    clean: bool


def summarize(
    verdict: Verdict, traffic: Traffic, happened: Happened, *, hosts: int, vms: int, bytes_per_vm_tick: float
) -> Summary:
    """Put a summary together."""
    report = verdict.report or FleetReport()
    return Summary(
        hosts=hosts,
        vms=vms,
        live_hosts=report.live(),
        mismatched_vms=verdict.mismatched_vms,
        frames=traffic.frames,
        dropped=traffic.dropped,
        changes=happened.changes,
        power_cycles=happened.power_cycles,
        agent_restarts=happened.agent_restarts,
        migrations=happened.migrations,
        repairs=report.repairs,
        bytes_published=traffic.bytes,
        bytes_per_vm_tick=round(bytes_per_vm_tick, 2),
        worst_age_s=verdict.worst_age_s,
    )


def with_verdict(summary: Summary, verdict: Verdict) -> RunSummary:
    """Say with a summary whether the view was right."""
    return RunSummary(**msgspec.structs.asdict(summary), clean=verdict.clean)
