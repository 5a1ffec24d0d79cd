"""What a running VM does to its CPUs and its memory: random walks, and counters that are exactly their integral.

Rates hold for a whole step and change only between steps, so the growth of a counter over any span is known exactly:
who computes a share from two readings, as the agent does, gets the mean of the true rates over the span between.
"""

from __future__ import annotations

import copy
from typing import Final, Self

from vmpulse_simulator.lots import Lots

STEP_S: Final = 3.0
NS_PER_TENTH: Final = 1e6
"""CPU time of one tenth of a percent of one CPU, in ns per second."""
SATURATED: Final = 0.03
"""Share of VMs that begin with all their CPUs busy: the widest values a frame has to carry."""


class Load:
    """CPU and memory of one life of a VM. CPU rates are in tenths of a percent of one CPU, memory in whole percent.

    Args:
        vcpus: bounds the CPU rates.
        lots: where the walk draws its steps; nobody else may draw from it.
        started: when the life began, on the caller's clock; the counters then stood at 0.
        now: when the walk begins; before that the first rates hold.
        saturated: begin with all CPUs busy; None: draw that too.
    """

    __slots__ = ("_at", "_due", "_lots", "_system_ns", "_user_ns", "memory", "system", "user", "vcpus")

    def __init__(self, vcpus: int, lots: Lots, *, started: float, now: float, saturated: bool | None = None) -> None:
        self.vcpus = vcpus
        self._lots = lots
        full = lots.hits(SATURATED) if saturated is None else saturated
        busy = vcpus * 1000 if full else int(vcpus * 1000 * lots.share() ** 3)
        self.system = busy // 8
        self.user = busy - self.system
        self.memory = 5 + lots.below(90)
        self._user_ns = self._system_ns = 0.0
        self._at, self._due = started, now
        self._integrate(now)
        self._due = now + STEP_S * lots.share()

    @classmethod
    def idle(cls, vcpus: int, now: float) -> Self:
        """Give the load of a process whose guest does not run yet: nothing, for as long as that lasts."""
        load = cls(vcpus, Lots(), started=now, now=now, saturated=False)
        load._stand_still()
        return load

    def hand_over(self, now: float) -> Self:
        """Give the walk to another process, whose counters begin at 0; this one stands still from here on."""
        self.advance(now)
        heir = copy.copy(self)
        heir.count_anew()
        self._stand_still()
        return heir

    def count_anew(self) -> None:
        """Begin the counters at 0, as in a new process."""
        self._user_ns = self._system_ns = 0.0

    def advance(self, now: float) -> None:
        """Walk up to *now*."""
        while self._due <= now:
            self._integrate(self._due)
            self._step()
            self._due += STEP_S
        self._integrate(now)

    def freeze(self, now: float) -> None:
        """Walk up to *now* and keep these rates from here on."""
        self.advance(now)
        self._due = float("inf")

    def thaw(self, now: float) -> None:
        """Walk on from the rates that were kept."""
        self._due = now + STEP_S * self._lots.share()

    @property
    def cpu_time_ns(self) -> int:
        """All CPU time since the start."""
        return int(self._user_ns + self._system_ns)

    @property
    def cpu_system_ns(self) -> int:
        """The part of it that was spent in the hypervisor's kernel."""
        return int(self._system_ns)

    def _stand_still(self) -> None:
        self.user = self.system = 0
        self._due = float("inf")

    def _integrate(self, until: float) -> None:
        per_rate = (until - self._at) * NS_PER_TENTH
        if per_rate > 0:
            self._user_ns += self.user * per_rate
            self._system_ns += self.system * per_rate
            self._at = until

    def _step(self) -> None:
        bits = self._lots.bits()  # one lot for the three steps: this runs once a tick for each VM of the fleet
        stride = self.vcpus * 20
        most = self.vcpus * 1000
        self.system = min(max(self.system + (bits & 0xFFFF) % (stride // 4 + 1) - stride // 8, 0), most // 4)
        user = self.user + (bits >> 16 & 0xFFFF) % (2 * stride + 1) - stride
        self.user = min(max(user, 0), most - self.system)
        self.memory = min(max(self.memory + (-1, 0, 0, 1)[bits >> 32 & 3], 1), 99)
