"""How often something may happen: at once, unless it has happened too often of late. No clock: the caller says when."""

from __future__ import annotations

from collections import deque


class Allowance:
    """At most *count* times within any *span_s* seconds."""

    def __init__(self, count: int, span_s: float) -> None:
        self._span_s = span_s
        self._taken: deque[float] = deque(maxlen=count)

    def next_at(self) -> float:
        """The earliest moment at which it may happen again; in the past: now."""
        full = len(self._taken) == self._taken.maxlen
        return self._taken[0] + self._span_s if full else float("-inf")

    def take(self, now: float) -> None:
        """It happens now."""
        self._taken.append(now)

    def renew(self) -> None:
        """Forget what has been."""
        self._taken.clear()
