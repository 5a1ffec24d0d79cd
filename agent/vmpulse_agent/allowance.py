"""How often something may happen: at once after a pause, and at a steady rate in the long run. No clock in here."""

from __future__ import annotations


class Allowance:
    """Once in *gap_s* seconds in the long run, with *burst* times in a row at once; nobody waits longer than *gap_s*.

    The generic cell rate algorithm: ``_due`` runs ahead of the time by *gap_s* for each time it happened.
    """

    def __init__(self, gap_s: float, burst: int) -> None:
        self._gap_s = gap_s
        self._ahead_s = gap_s * (burst - 1)
        self._due = float("-inf")

    def next_at(self) -> float:
        """The earliest moment at which it may happen again; in the past: now."""
        return self._due - self._ahead_s

    def take(self, now: float) -> None:
        """It happens now."""
        self._due = max(now, self._due) + self._gap_s

    def renew(self) -> None:
        """Forget what has been."""
        self._due = float("-inf")
