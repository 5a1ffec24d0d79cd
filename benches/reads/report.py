"""What a bench of reads has found, as its one line of JSON tells it. No I/O and no clock."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from benches.reads.prober import Stalls
from benches.reads.subscribers import Followed

GOALS: Final[dict[str, float]] = {
    "metrics_cpu_ms": 400,
    "vms_10000_ms": 25,
    "vm_ms": 2,
    "loop_stall_max_ms": 20,
    "sse_lost": 0,
    "missed_ticks": 0,
}


class Scrapes(Struct, frozen=True, kw_only=True):
    """Scrapes of /metrics, one each tick: CPU of the view's process beyond what it takes without, and time; ms."""

    count: int
    cpu_ms: float
    took_ms: float
    bytes: int
    samples: int


class Report(Struct, frozen=True, kw_only=True):
    """What was found, beside the goals.

    - ``metrics_cpu_ms``: of the view's process for one scrape, with gzip, as Prometheus asks.
    - ``vms_10000_ms``: until all VMs of the fleet were there, 10,000 unless told otherwise: median, in ``vms_requests``
      requests. ``vms_cpu_ms``: of the view's process for that.
    - ``vm_ms``: one VM with its sections and claims: median.
    - ``stalls``: by what went on beside; ``loop_stall_max_ms`` is the worst of them all without waits for a CPU.
    - ``followed``: the event streams, while everything went on; ``sse_lost`` is its ``lost``.
    - ``missed_ticks``: messages of hosts that never came to the view while everything went on.
    - ``worst_age_s``: the oldest value that the view had then, of those whose host is heard; a tick and the look's own
      time are usual.
    - ``idle_cpu_percent``: of one CPU, the view's process without readers; ``cpu_percent``: the same with the prober,
      which alone asks 200 times a second, by what went on beside.
    - ``idle_share``: of the machine's CPUs, while everything went on.
    """

    hosts: int
    vms: int
    tick_s: float
    seconds: float
    metrics_cpu_ms: float
    metrics: dict[str, Scrapes]
    vms_10000_ms: float
    vms_requests: int
    vms_bytes: int
    vms_cpu_ms: float
    vm_ms: float
    vm_p99_ms: float
    loop_stall_max_ms: float
    stalls: dict[str, Stalls]
    sse_lost: int
    followed: Followed
    missed_ticks: int
    worst_age_s: float
    idle_cpu_percent: float
    cpu_percent: dict[str, float]
    idle_share: float
    goals: dict[str, float]
    goals_missed: list[str]


def missed(found: dict[str, float]) -> list[str]:
    """The goals that are missed."""
    return [name for name, most in GOALS.items() if found[name] > most]
