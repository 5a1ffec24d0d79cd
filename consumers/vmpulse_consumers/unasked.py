"""Replies that nobody waits for: who sends many of them is not asked for a while, and so told no new address.

Our reply queue takes whatever a host publishes under our token, and each host that was asked knows it. Answers are how
a view repairs itself while somebody floods its stream, so this way has to stay open for the others.
"""

from __future__ import annotations

from typing import Final

from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.bounded import Bounded

LATE_S: Final = 10.0
LATE_BURST: Final = 100.0
"""Answers that come too late: a host is asked 5 times a second after the first 50, so an honest one has no more."""
MUTED_S: Final = 60.0
"""A host that floods us with replies is not asked for so long; each new address costs the others a reconnect.

Nor does a flood of nobody's make another address sooner."""
HOSTS_KEPT: Final = 4096
"""Users of the broker: nobody can make one up."""


class _Replies:
    """Of one host."""

    def __init__(self, now: float) -> None:
        self.late = Allowance(LATE_S, LATE_BURST, now)
        self.muted_until = float("-inf")


class Unasked:
    """The hosts whose unasked replies are counted."""

    def __init__(self) -> None:
        self._hosts: Bounded[str | None, _Replies] = Bounded(HOSTS_KEPT, _Replies)

    def came(self, host: str | None, now: float) -> bool:
        """Note a reply that nobody waits for, of a host or of nobody who is known.

        Tells whether that makes it a flood, once in MUTED_S.
        """
        replies = self._hosts.of(host, now)
        if replies.late.take(1.0, now) or now < replies.muted_until:
            return False
        replies.muted_until = now + MUTED_S
        return True

    def muted(self, host: str, now: float) -> bool:
        """Whether the host is not to be asked now."""
        return now < self._hosts.of(host, now).muted_until
