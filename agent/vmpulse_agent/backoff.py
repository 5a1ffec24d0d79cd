"""How long an agent waits before it connects again: by itself, and so that a fleet does not come back at once."""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 0.5
MOST_S: Final = 15.0
"""As long as a host may be silent before readers call it lost: the broker's return must not wait longer for us."""
SPREAD_S: Final = 3.5
"""Over so long a fleet comes back whose connections had lasted and end at once, by a broker that closes them and stays:
2,500 hosts are 714 a second. With a tick before and half a second to connect after it, it is as long as a host may be
silent before readers call it late."""


class Backoff:
    """The pauses of one link.

    Args:
        lots: draws them.
    """

    def __init__(self, lots: random.Random) -> None:
        self._lots = lots
        self._most_s = FIRST_S

    def pause_s(self, lasted_s: float) -> float:
        """Give the pause after an attempt, or a connection, that took *lasted_s* from its beginning to its end.

        Only one that lasted counts as a success: a broker that takes us and soon throws us out must not be stormed.
        """
        if lasted_s > MOST_S:
            self._most_s = FIRST_S
            return self._lots.uniform(0.0, SPREAD_S)
        most_s, self._most_s = self._most_s, min(2 * self._most_s, MOST_S)
        return self._lots.uniform(most_s / 4, most_s)
