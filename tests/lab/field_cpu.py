"""What looks say of guests' CPU shares, look by look, and what /proc says over the same time."""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.lab.field_log import TICKS, process_ticks
from tests.lab.lab import TICK_S, CheckFailed, Lab, Row

if TYPE_CHECKING:
    from tests.lab.guests import Guest

POLL_S: Final = 0.05
LATE_S: Final = (0.0, 0.1, 0.2, 0.3)
"""A look may read the counters so long after it began."""
COUNTERS: Final = {"cpuUser": ("utime",), "cpuSys": ("stime",), "total": ("utime", "stime")}


class Share(NamedTuple):
    """Percent of a CPU in one look: what was said, and bounds of the truth."""

    said: dict[str, float]
    true: dict[str, tuple[float, float]]


class Looks:
    """The looks at one guest while ``watch`` is at work."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._said: dict[float, Row] = {}
        self._ticks: list[tuple[float, dict[str, int]]] = []

    @property
    def count(self) -> int:
        """How many looks have been seen whose whole time was watched."""
        return max(0, len(self._said) - 1)

    def note(self, lab: Lab) -> None:
        """Read both once."""
        asked = time.monotonic()
        self._ticks.append((asked, process_ticks(self._guest.pid)))
        row = lab.row(self._guest.uuid) or {}
        at = asked - row.get("age_s", 0.0)
        # A look of before our first reading of /proc has nothing to be held against.
        earliest = max(self._said) + TICK_S / 2 if self._said else self._ticks[0][0]
        if "cpuUser" in row and at >= earliest:
            self._said[at] = row

    def shares(self) -> list[Share]:
        """What each look said of the time since the one before it, and what is true of that time."""
        return [
            Share(_total(self._said[end]), {name: self._true(name, begin, end) for name in COUNTERS})
            for begin, end in pairwise(sorted(self._said))
        ]

    def _true(self, name: str, begin: float, end: float) -> tuple[float, float]:
        found = [
            100 * (self._spent(name, last) - self._spent(name, first)) / TICKS / (last - first)
            for first in (begin + late for late in LATE_S)
            for last in (end + late for late in LATE_S)
        ]
        return min(found), max(found)

    def _spent(self, name: str, at: float) -> float:
        """Ticks by a moment, in proportion between two readings."""
        number = min(max(1, bisect_left(self._ticks, at, key=lambda one: one[0])), len(self._ticks) - 1)
        (began, earlier), (ended, later) = self._ticks[number - 1 : number + 1]
        first, last = (sum(one[counter] for counter in COUNTERS[name]) for one in (earlier, later))
        return first + (last - first) * (min(at, ended) - began) / (ended - began)


def _total(row: Row) -> dict[str, float]:
    return {"cpuUser": row["cpuUser"], "cpuSys": row["cpuSys"], "total": row["cpuUser"] + row["cpuSys"]}


def watch(lab: Lab, guests: list[Guest], looks: int) -> dict[str, list[Share]]:
    """See so many looks at each guest through. Raises CheckFailed if they do not come."""
    seen = {guest.uuid: Looks(guest) for guest in guests}
    end = time.monotonic() + (looks + 3) * TICK_S
    while any(one.count < looks for one in seen.values()):
        if time.monotonic() > end:
            raise CheckFailed(f"not {looks} looks within {(looks + 3) * TICK_S:g} s")
        for one in seen.values():
            one.note(lab)
        time.sleep(POLL_S)
    time.sleep(max(LATE_S))
    for one in seen.values():
        one.note(lab)
    return {vm: one.shares() for vm, one in seen.items()}
