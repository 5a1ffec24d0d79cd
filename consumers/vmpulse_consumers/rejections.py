"""Which of the messages that nobody can use get a line in the log: a bad host must not fill the disk."""

from __future__ import annotations

from typing import Final

from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.bounded import Bounded

LINES: Final = 5.0
LINE_S: Final = 10.0
"""Of each sender LINES are told, and from then on one each LINE_S, with how many there were in between."""
SENDERS_KEPT: Final = 4096


class _Told:
    """What has been told of one sender."""

    def __init__(self, now: float) -> None:
        self.lines = Allowance(1 / LINE_S, LINES, now)
        self.untold = 0


class Rejections:
    """What has been told of each sender."""

    def __init__(self) -> None:
        self._senders: Bounded[str | None, _Told] = Bounded(SENDERS_KEPT, _Told)

    def __len__(self) -> int:
        return len(self._senders)

    def untold(self, sender: str | None, now: float) -> int | None:
        """Of a message that has come: how many of its sender were left untold before it; None: it is left as well."""
        told = self._senders.of(sender, now)
        if not told.lines.take(1.0, now):
            told.untold += 1
            return None
        before, told.untold = told.untold, 0
        return before
