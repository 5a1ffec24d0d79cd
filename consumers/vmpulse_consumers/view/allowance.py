"""How much of something may happen: so much a second in the long run, and a burst at once."""

from __future__ import annotations

from typing import Final

GRAIN: Final = 1e-6
"""So much less than asked for is enough: after just the wait that was told, rounding must not be what is missing."""


class Allowance:
    """A token bucket on the caller's clock, full at first.

    Args:
        rate: what it gains a second.
        burst: the most that it holds.
        now: seconds on the caller's monotonic clock.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take so much, if it is there; else nothing is taken. More than ``burst`` is never there."""
        passed = now - self._at
        if passed > 0.0:
            self._at, self._left = now, min(self._burst, self._left + self._rate * passed)
        if amount > self._left + GRAIN:
            return False
        self._left = max(0.0, self._left - amount)
        return True

    def charge(self, amount: float, now: float) -> None:
        """Take so much, whether it is there or not: what is owed must be gained first."""
        if not self.take(amount, now):
            self._left -= amount

    def has(self, amount: float, now: float) -> bool:
        """Whether so much, of at most ``burst``, can be taken; nothing is."""
        return self.wait_s(amount, now) * self._rate <= GRAIN

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until so much can be taken."""
        return max(0.0, (amount - self._left) / self._rate - max(0.0, now - self._at))
