"""What is measured for metrics: durations and calls. One thread writes, any may read; no I/O, no clock, no driver."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from typing import Final

TICK_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CALL_BOUNDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Seconds. A bulk look at 40 VMs takes some 10 ms, a guest agent some 5; deadlines are 2 to 10 s."""
LOOP_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds. The event loop is never to be blocked for over 50 ms."""


class Durations:
    """How long things took.

    Args:
        bounds: upper bounds of the buckets, seconds, rising.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bucket, not added up; the last one is for what took longer than any bound."""
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one in."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_s += seconds


class CallMeasure:
    """The calls of one kind. ``unanswered``: none came in time, or no thread was free for the call."""

    def __init__(self) -> None:
        self.durations = Durations(CALL_BOUNDS)
        self.errors = 0
        self.unanswered = 0


MENDED: Final = ("characters", "length", "entries", "address", "number", "type", "answer", "xml")
"""What is mended in input: refused characters taken out; texts cut; entries beyond the limits, or that a count promised
and that are not there; addresses, numbers and types that are none; answers and XML of which nothing could be read.
"""


class Mended:
    """What had to be taken out of input, by kind. Any thread may add."""

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, count: int = 1) -> None:
        """Count it, *kind* being one of MENDED."""
        if count:
            with self._lock:
                self.by_kind[kind] += count


class Calls:
    """The calls to a hypervisor, by name, and what was mended in their answers."""

    def __init__(self) -> None:
        self.by_name: dict[str, CallMeasure] = {}
        self.mended = Mended()

    def of(self, name: str) -> CallMeasure:
        """Give the measure of the calls of this name."""
        return self.by_name.setdefault(name, CallMeasure())


class LoopMeasure:
    """The rounds of an event loop. Seconds; what a round spent waiting for a CPU is not its own doing."""

    def __init__(self) -> None:
        self.blocked = Durations(LOOP_BOUNDS)
        """Of each round: computing, waiting for another thread or for a file."""
        self.blocked_most_s = 0.0
        self.starved_s = 0.0
        """Waiting for a CPU, in all rounds together."""
        self.starved_most_s = 0.0

    def add(self, took_s: float, waited_s: float) -> None:
        """Count one round in: how long it took, and how much of that it had no CPU."""
        own_s = max(0.0, took_s - waited_s)
        self.blocked.add(own_s)
        self.starved_s += waited_s
        self.blocked_most_s = max(self.blocked_most_s, own_s)
        self.starved_most_s = max(self.starved_most_s, waited_s)


class HostMeasures:
    """What one host's agent has done. Times are seconds on its loop's clock.

    Args:
        now: when the agent was made.
    """

    def __init__(self, now: float) -> None:
        self.ticks = Durations(TICK_BOUNDS)
        """From the start of a tick's look until its frame was handed over."""
        self.requests: Counter[str] = Counter()
        """By verb; ``unknown`` for what is none."""
        self.requests_failed: Counter[str] = Counter()
        """By the code of the error that was answered."""
        self.advanced_at = now
        """When a tick was last completed, or a step of the first look: whether that went well or not."""
        self.away_since: float | None = None
        """Since when the hypervisor has been away; None while it is there."""
        self.away_why = ""
