"""What a run has found, as its one line of JSON tells it. No I/O and no clock."""

from __future__ import annotations

from msgspec import Struct

from benches.spread import Spread


class Report(Struct, frozen=True, kw_only=True):
    """What a run has found.

    ``faults`` by kind. ``mismatched_vms``: VMs that were not right when the view's time for becoming right was over,
    added up over the rounds. ``wrong_down`` (VMs), ``wrong_lost`` (hosts), ``double_owner`` (VMs): see `judging`, each
    counted once in a round. ``time_to_truth_s``: from the healing of all faults of a round until the view equals the
    truth; None: there was none. ``polls``: how often the view was judged. ``rss_mb``: by process, at the end.
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
    time_to_truth_s: Spread | None
    polls: int
    rss_mb: dict[str, float]
    peak_rss_mb: dict[str, float]

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.mismatched_vms or self.wrong_down or self.wrong_lost or self.double_owner)
