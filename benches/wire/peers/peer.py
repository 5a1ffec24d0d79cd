"""What all pollers have in common: whom they ask, when, and what is noted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from benches.wire.ages import Ages

if TYPE_CHECKING:
    from benches.wire.peers.http_wire import Relays
    from benches.wire.peers.world import PolledHost, World

GRID_S = 0.05
"""Ages are added up at moments so far apart."""


class Peer(Protocol):
    """A way to know what a fleet does.

    ``cycle_s``: how often hosts are asked; ``sample_s``: how often they sample; None: when they are asked.
    """

    cycle_s: float
    sample_s: float | None

    def connect(self, world: World, relays: Relays) -> None:
        """Connect to all hosts that are asked."""

    def ask(self, cycle: int) -> None:
        """Ask all of them what is to be asked in this cycle, counted from 0."""

    def read(self) -> tuple[int, float]:
        """How many messages there were, and the CPU seconds of whoever reads."""

    def close(self) -> None:
        """Hang up."""


class Held:
    """The values that a reader holds of one host: how old they get.

    Args:
        ages: where their ages are added up.
    """

    def __init__(self, ages: Ages) -> None:
        self._ages = ages
        self._shown_at: float | None = None
        self._sampled_at = 0.0

    def replaced(self, host: PolledHost, now: float) -> None:
        """There are newer ones, as of the host's last sample. That they travel takes no time here, in their favour."""
        self.kept_until(now)
        self._shown_at, self._sampled_at = now, host.sampled_at

    def kept_until(self, now: float) -> None:
        """The values that are held have grown older until now."""
        if self._shown_at is not None:
            moments = np.arange(self._shown_at, now - GRID_S / 2, GRID_S)
            self._ages.add(moments - self._sampled_at)
