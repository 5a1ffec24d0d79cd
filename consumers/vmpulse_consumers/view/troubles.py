"""What an operator is told of hosts that harm the view: they say too much, with two voices, or more than is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_consumers.view.bounded import Bounded
from vmpulse_consumers.view.budget import HELD_BYTES, OVER_S, UNMET_KEPT, Budget
from vmpulse_consumers.view.events import HostTrouble, Trouble
from vmpulse_contract.identity import HostId

if TYPE_CHECKING:
    from vmpulse_consumers.view.counts import Counts
    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.telling import Telling

TOLD_AGAIN_S: Final = 60.0
"""Trouble that lasts is told of so often at most."""
_FLOODS: Final = {
    Trouble.FLOODING: "it says more than its budget; what goes beyond is dropped, and repaired later",
    Trouble.FLOOD_OVER: "its messages are applied again",
}


class Troubles:
    """Holds each sender to its budget, and tells of trouble.

    ``unmet``: the budgets of senders that are no host yet.

    Args:
        counts: where it is counted.
        telling: where it is told.
    """

    def __init__(self, counts: Counts, telling: Telling) -> None:
        self.unmet: Bounded[HostId, Budget] = Bounded(UNMET_KEPT, Budget)
        self._counts = counts
        self._telling = telling
        self._flooded_at = float("-inf")

    def within_budget(self, sender: HostId, host: Host | None, size: int, now: float) -> bool:
        """Whether so many bytes may be read; who says too much is told of once, and again when it is over."""
        budget = self.unmet.of(sender, now) if host is None else host.budget
        allowed, trouble = budget.take(size, now)
        if not allowed:
            self._counts.over_budget += 1
            self._flooded_at = now
        if trouble is not None:
            self._tell(sender, trouble, _FLOODS[trouble])
        return allowed

    def flooded(self, now: float) -> bool:
        """Whether some sender has gone beyond its budget just now."""
        return now - self._flooded_at <= OVER_S

    def rivals(self, host: Host, now: float) -> None:
        """Two agents speak for one host: the one that holds the rpc queue is believed; somebody must end the other."""
        self._counts.rivals += 1
        detail = "two agents speak for it; only the one that answers requests is believed: stop the other"
        self._tell_at_times(host, Trouble.RIVALS, detail, now)

    def crowded(self, host: Host, now: float) -> None:
        """A host has more of sections than is held of one: of what goes beyond only the hash is known."""
        self._counts.crowded += 1
        detail = f"its VMs have more than {HELD_BYTES >> 20} MiB of sections; the rest is shown as it was, if at all"
        self._tell_at_times(host, Trouble.CROWDED, detail, now)

    def _tell(self, host: HostId, trouble: Trouble, detail: str) -> None:
        self._telling.events.append(HostTrouble(host, trouble, detail))

    def _tell_at_times(self, host: Host, trouble: Trouble, detail: str, now: float) -> None:
        """Tell of trouble that lasts, once in TOLD_AGAIN_S."""
        if now - host.told_at.get(trouble, float("-inf")) >= TOLD_AGAIN_S:
            host.told_at[trouble] = now
            self._tell(host.id, trouble, detail)
