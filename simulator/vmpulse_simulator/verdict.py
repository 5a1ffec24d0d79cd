"""The end of a demo: whether the view says of the fleet what is true of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.truth import Mismatch, Seen, compare, compare_hosts
from vmpulse_simulator.view_api import FleetReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmpulse_simulator.truth import Truth
    from vmpulse_simulator.view_api import ViewApi

CONVERGENCE_S: Final = 20.0
"""A tick, damping, two round trips and the silence after which a host counts as lost, with room (promise V1)."""
POLL_S: Final = 1.0
SHOWN: Final = 20
"""Mismatches that are listed; the rest is counted."""
WORST_AGE_S: Final = 7.0
"""Two ticks and a round trip: what a host may be late without being LATE."""


class Summary(Struct, frozen=True, kw_only=True):
    """What a demo measured, as its last line tells it. Bytes are those of the stream's bodies."""

    hosts: int
    vms: int
    live_hosts: int
    mismatched_vms: int
    frames: int
    dropped: int
    changes: int
    power_cycles: int
    agent_restarts: int
    repairs: int
    bytes_published: int
    bytes_per_vm_tick: float
    worst_age_s: float | None


class Verdict(Struct, frozen=True):
    """The last comparison. ``report`` is None where the view did not answer."""

    report: FleetReport | None
    vms: tuple[Mismatch, ...]
    hosts: tuple[Mismatch, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong: each host live, each VM as it is in truth, nothing old."""
        return self.young and not self.vms and not self.hosts

    @property
    def young(self) -> bool:
        """Whether nothing is older than it may be."""
        age = None if self.report is None else self.report.worst_age_s
        return age is not None and age <= WORST_AGE_S

    @property
    def mismatched_vms(self) -> int:
        """How many VMs have something wrong."""
        return len({mismatch.subject for mismatch in self.vms})

    def lines(self) -> Iterator[str]:
        """The first things that are wrong, for people."""
        found = self.hosts + self.vms
        yield from map(str, found[:SHOWN])
        if len(found) > SHOWN:
            yield f"... and {len(found) - SHOWN:,} more"
        report = self.report
        if report is not None and not self.young:
            yield f"the worst age is {report.worst_age_s} s; allowed: at most {WORST_AGE_S:g} s"


async def judge(truth: Truth, api: ViewApi, clock: Callable[[], float], within_s: float = CONVERGENCE_S) -> Verdict:
    """Compare again and again until nothing is wrong, or the time is over; give the last comparison."""
    deadline = clock() + within_s
    while True:
        try:
            verdict = await compare_once(truth, api)
        except ViewUnreachable as error:
            missing = tuple(Mismatch(vm, "the view", "an answer", str(error)) for vm in truth.vms)
            verdict = Verdict(None, missing, ())
        if verdict.clean or clock() >= deadline:
            return verdict
        await asyncio.sleep(POLL_S)


async def compare_once(truth: Truth, api: ViewApi) -> Verdict:
    """Ask the view for everything, and compare. Raises ViewUnreachable."""
    hosts = compare_hosts(truth, await api.hosts())
    rows: list[Seen] = [seen async for page in api.vms() for seen in page]
    vms = await asyncio.to_thread(compare, truth, rows)
    return Verdict(await api.fleet(), tuple(vms), tuple(hosts))
