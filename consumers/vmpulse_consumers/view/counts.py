"""What a view has done since its start."""

from __future__ import annotations

from collections import Counter


class Counts:
    """Cumulative counts, for metrics.

    ``rejected`` by reason, ``requests_failed`` by the error's code; ``clocks`` are requests that measure an agent's
    clock and nothing else; ``over_budget`` messages dropped because their host says too much; ``crowded`` bodies not
    kept, because their host has too many bytes of them; ``rivals`` how often a host was found to have two agents;
    ``held_back`` requests that a host's allowance put off; ``unburied`` poison that did not get to ``vmpulse.dead``.
    """

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.bytes = 0
        self.gaps = 0
        self.repeats = 0
        self.strangers = 0
        self.digest_mismatches = 0
        self.layout_mismatches = 0
        self.relists = 0
        self.clocks = 0
        self.repairs = 0
        self.held_back = 0
        self.requests_failed: Counter[str] = Counter()
        self.unburied = 0
        self.over_budget = 0
        self.crowded = 0
        self.rivals = 0
        self.rejected: Counter[str] = Counter()
