"""What a flood took from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Report(Struct, frozen=True, kw_only=True):
    """The outcome of a run.

    - ``sent_per_s``: messages of the flood that the broker took, a second.
    - ``looks``: how often the view was asked meanwhile.
    - ``lost_hosts``, ``wrong_down``: other hosts that were ever said to be lost, and VMs of theirs that were said to be
      Down while they ran: if not 0 both, the flood cost more than freshness.
    - ``worst_age_s``: the oldest value of the others that was shown.
    - ``not_ready_looks``: how often the view said that it cannot be relied on: its canary did not come through either.
    - ``told_flooding``: whether the view named the host.
    - ``recovery_s``: from the flood's end until nothing of the others was older than it may be.
    - ``mismatched``: VMs and hosts that were still wrong then.
    - ``rss_mb``: most memory, by program.
    """

    seconds: float
    connections: int
    bytes: int
    hosts: int
    vms: int
    sent_per_s: int
    looks: int
    lost_hosts: int
    wrong_down: int
    worst_age_s: float | None
    not_ready_looks: int
    told_flooding: bool
    recovery_s: float | None
    mismatched: int
    rss_mb: dict[str, float]

    @property
    def freshness_only(self) -> bool:
        """Whether the others lost nothing else, and got that back."""
        lost = self.lost_hosts or self.wrong_down or self.mismatched
        return not lost and self.told_flooding and self.recovery_s is not None and self.looks > 0


def lost(hosts: Iterable[Mapping[str, Any]], but: str) -> set[str]:
    """Of the API's hosts those that are said to be lost, but for one."""
    return {str(host["host"]) for host in hosts if host["state"] == "lost" and host["host"] != but}


def wrongly_down(rows: Iterable[Mapping[str, Any]], running: set[str]) -> set[str]:
    """Of the API's VMs those that are said to be Down though they ran all the time."""
    return {str(row["id"]) for row in rows if row["status"] == "Down" and row["id"] in running}
