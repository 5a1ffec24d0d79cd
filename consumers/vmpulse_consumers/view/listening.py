"""For how long a view hears the stream, and whether it knows by now which hosts there are.

A view that remembers hosts knows its fleet from the start; one host more is met as at any other time. One that
remembers none knows nobody until each host at work has spoken, which takes a tick. Without the broker nobody can speak,
so time counts from the canary on, and anew after trouble.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_consumers.view.host import LOST_S, SLACK_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_consumers.view.host import Host

USUAL_TICK_S: Final = 3.0
"""An agent's, unless it is set otherwise; hosts that are not met yet have said nothing of theirs."""
LONGEST_TICK_S: Final = LOST_S
"""Hosts may have ticks of up to an hour, and one of them alone must not keep a view from being ready for so long."""


class Listening:
    """The stream as a view hears it. Times are seconds on the view's clock."""

    def __init__(self) -> None:
        self.knows_fleet = False
        """Whether hosts were remembered, or a canary has proved that each had its time to be heard; then it stays."""
        self._since: float | None = None

    def canary(self, hosts: Iterable[Host], now: float) -> None:
        """The stream came through until now; *hosts*: those that have been heard."""
        if self._since is None:
            self._since = now
        self.knows_fleet = self.is_enough(hosts, now)

    def lost(self) -> None:
        """It does not, or did not."""
        self._since = None

    def lasts_s(self, now: float) -> float:
        """For how long it has come through at a stretch, as far as is known."""
        return 0.0 if self._since is None else now - self._since

    def is_enough(self, hosts: Iterable[Host], now: float) -> bool:
        """Whether each host at work must have been heard by now."""
        return self.knows_fleet or self.lasts_s(now) >= _tick_s(hosts) + SLACK_S


def _tick_s(hosts: Iterable[Host]) -> float:
    """How long a host may take until it speaks again: the others may have the longest tick that was heard of."""
    longest = max((host.facts.tick_ms / 1000 for host in hosts), default=USUAL_TICK_S)
    return min(max(longest, USUAL_TICK_S), LONGEST_TICK_S)
