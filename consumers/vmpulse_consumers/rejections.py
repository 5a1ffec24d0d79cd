"""Which of the messages that nobody can use get a line in the log: a bad host must not fill the disk."""

from __future__ import annotations

from typing import Final

from vmpulse_consumers.view.allowance import Allowance

LINES: Final = 5.0
LINE_S: Final = 10.0
"""Of each sender LINES are told, and from then on one each LINE_S, with how many there were in between."""
SENDERS_KEPT: Final = 4096


class Rejections:
    """What has been told of each sender, for SENDERS_KEPT of them."""

    def __init__(self) -> None:
        self._senders: dict[str | None, Allowance] = {}
        self._untold: dict[str | None, int] = {}

    def untold(self, sender: str | None, now: float) -> int | None:
        """Of a message that has come: how many of its sender were left untold before it; None: it is left as well."""
        allowance = self._senders.get(sender)
        if allowance is None:
            if len(self._senders) >= SENDERS_KEPT:
                oldest = next(iter(self._senders))
                del self._senders[oldest]
                self._untold.pop(oldest, None)
            allowance = self._senders[sender] = Allowance(1 / LINE_S, LINES, now)
        if allowance.take(1.0, now):
            return self._untold.pop(sender, 0)
        self._untold[sender] = self._untold.get(sender, 0) + 1
        return None
