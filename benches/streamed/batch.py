"""Some ticks of a fleet at once, for readers that are to be given them as fast as they read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from benches.streamed.cadence import Rhythm, spoken

if TYPE_CHECKING:
    from benches.streamed.fleet import StreamedFleet
    from vmpulse_contract.topology import Kind

STEP_S: Final = 0.1
"""Steps in which the ticks go by while they are made."""


class Batch(NamedTuple):
    """Messages as they are on the wire, in their order, and how many there are of each kind."""

    parts: list[bytes]
    mix: dict[Kind, int]

    @property
    def messages(self) -> int:
        """How many there are."""
        return sum(self.mix.values())


def batch_of(fleet: StreamedFleet, ticks: int, rhythm: Rhythm) -> Batch:
    """Give what the fleet says in so many ticks, in the proportions in which it says it."""
    before = fleet.said.copy()
    begin = time.monotonic()
    due = spoken(fleet, len(fleet.names), rhythm, begin)
    steps = round(ticks * rhythm.tick_s / STEP_S)
    parts = [part for step in range(1, steps + 1) for part in due(begin + step * STEP_S)]
    return Batch(parts, {kind: count - before[kind] for kind, count in fleet.said.items()})
