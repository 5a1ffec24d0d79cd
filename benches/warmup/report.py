"""What a warm-up bench has found, as its one line of JSON tells it. No I/O and no clock."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLD_S: Final = 6.0
WARM_S: Final = 1.0
ASKED_TWICE: Final = 0


class Start(Struct, frozen=True, kw_only=True):
    """One start of a view. Seconds since its process was started.

    - ``connected_s``: its first connection to the broker. ``http_s``: its HTTP API answers; with a store that is when
      all that is remembered has been taken up.
    - ``confirmed_s``: each host is live, by a roster of its own.
    - ``shown_s``: each VM is shown with its sections: none is missing, none is being repaired.
    - ``fresh_s``: each VM's values are fresh, which takes a frame of each host.
    - ``ready_s``: /readyz is 200.
    - ``done_s``: all of these but ``fresh_s``.
    - ``bytes``: on the view's connections to the broker, both ways, until then.
    - ``requests``: put to hosts until a tick later, by verb. ``asked_twice``: how often a host was asked for the same
      thing again.
    - ``cpu_ms``: of the view's process until it was done. ``idle_share``: of the machine's CPUs, meanwhile.
    """

    connected_s: float
    http_s: float
    confirmed_s: float
    shown_s: float
    fresh_s: float
    ready_s: float
    done_s: float
    bytes: int
    requests: dict[str, int]
    asked_twice: int
    cpu_ms: int
    idle_share: float


class Warmup(Struct, frozen=True, kw_only=True):
    """One fleet: medians over the rounds, and ``asked_twice`` is the sum of all starts.

    ``cold_s`` and ``warm_s`` are until ``/readyz`` is 200, ``cold_done_s`` and ``warm_done_s`` until all is shown too.
    """

    hosts: int
    vms: int
    tick_s: float
    cold_s: float
    warm_s: float
    cold_done_s: float
    warm_done_s: float
    bytes_cold: int
    bytes_warm: int
    asked_twice: int
    cold: list[Start]
    warm: list[Start]


class Report(Struct, frozen=True, kw_only=True):
    """All fleets; of the first one its figures once more, and what of them is beyond its goal."""

    cold_s: float
    warm_s: float
    asked_twice: int
    bytes_cold: int
    bytes_warm: int
    fleets: list[Warmup]
    goals: dict[str, float]
    goals_missed: list[str]


def told(hosts: int, vms: int, tick_s: float, cold: Sequence[Start], warm: Sequence[Start]) -> Warmup:
    """Put the starts of one fleet together; there is one of each kind at least."""
    return Warmup(
        hosts=hosts,
        vms=vms,
        tick_s=tick_s,
        cold_s=_median(start.ready_s for start in cold),
        warm_s=_median(start.ready_s for start in warm),
        cold_done_s=_median(start.done_s for start in cold),
        warm_done_s=_median(start.done_s for start in warm),
        bytes_cold=round(_median(start.bytes for start in cold)),
        bytes_warm=round(_median(start.bytes for start in warm)),
        asked_twice=sum(start.asked_twice for start in (*cold, *warm)),
        cold=list(cold),
        warm=list(warm),
    )


def judged(fleets: Sequence[Warmup]) -> Report:
    """Hold the first fleet, of which there has to be one, against the goals."""
    goals = {"cold_s": COLD_S, "warm_s": WARM_S, "asked_twice": ASKED_TWICE}
    missed = [name for name, most in goals.items() if getattr(fleets[0], name) > most]
    first = fleets[0]
    return Report(
        cold_s=first.cold_s,
        warm_s=first.warm_s,
        asked_twice=first.asked_twice,
        bytes_cold=first.bytes_cold,
        bytes_warm=first.bytes_warm,
        fleets=list(fleets),
        goals=goals,
        goals_missed=missed,
    )


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)
