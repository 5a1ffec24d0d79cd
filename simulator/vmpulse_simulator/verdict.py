"""The end of a demo: whether the view says of the fleet what is true of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.truth import AGE_S, Mismatch, Seen, compare, compare_hosts, compare_tombstones
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


class Verdict(Struct, frozen=True):
    """The last comparison. ``report`` is None where the view did not answer; ``ageless``: VMs of unknown age."""

    report: FleetReport | None
    vms: tuple[Mismatch, ...]
    hosts: tuple[Mismatch, ...]
    ageless: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong: each host live, each VM as it is in truth, nothing old."""
        return self.young and not self.vms and not self.hosts

    @property
    def young(self) -> bool:
        """Whether nothing is older than it may be."""
        return self.worst_age_s is not None and self.worst_age_s <= AGE_S

    @property
    def worst_age_s(self) -> float | None:
        """The oldest age of all VMs; None where one of them is unknown, for that one may be the oldest."""
        return None if self.report is None or self.ageless else self.report.worst_age_s

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
        if self.report is not None and not self.young:
            age = "unknown" if self.worst_age_s is None else f"{self.worst_age_s} s"
            yield f"the worst age is {age}; allowed: at most {AGE_S:g} s"


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
    vms += await wrong_tombstones(truth, api)
    ageless = sum(seen.row.get("age_s") is None for seen in rows)
    return Verdict(await api.fleet(), tuple(vms), tuple(hosts), ageless)


async def wrong_tombstones(truth: Truth, api: ViewApi) -> list[Mismatch]:
    """Compare the tombstones of the hosts that must have some. Raises ViewUnreachable."""
    found: list[Mismatch] = []
    for host, expected in truth.hosts.items():
        if expected.ended:
            found += compare_tombstones(expected, await api.host(host))
    return found
