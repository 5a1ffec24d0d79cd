"""What a run has found, as its one line of JSON tells it. No I/O and no clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spread(Struct, frozen=True):
    """How some measures are spread, by nearest rank. None: there are no measures."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What a run has found.

    ``faults`` by kind. ``mismatched_vms``: VMs that were not right when the view's time for becoming right was over,
    added up over the rounds. ``wrong_down`` (VMs), ``wrong_lost`` (hosts), ``double_owner`` (VMs): see `judging`, each
    counted once in a round. ``time_to_truth_s``: from the healing of all faults of a round until the view equals the
    truth. ``polls``: how often the view was judged. ``rss_mb``: by process, at the end.
    """

    seed: int
    seconds: float
    hosts: int
    vms: int
    rounds: int
    faults: dict[str, int]
    mismatched_vms: int
    wrong_down: int
    wrong_lost: int
    double_owner: int
    time_to_truth_s: Spread
    polls: int
    rss_mb: dict[str, float]
    peak_rss_mb: dict[str, float]

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.mismatched_vms or self.wrong_down or self.wrong_lost or self.double_owner)


def spread(measures: Sequence[float]) -> Spread:
    """Tell how measures are spread."""
    if not measures:
        return Spread()
    ranked = sorted(measures)
    half, most = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.99))
    return Spread(round(half, 2), round(most, 2), round(ranked[-1], 2))
