"""Who is on the host, as rosters say it: whole, or as the difference to what the stream has said before.

A difference is to the roster that the stream said last on this connection, whole or as a difference. A reader takes it
by the two layouts in it, so one that has missed something notices. It names the rows whose life the layouts since have
brought and the VMs that they have taken away, and is made from the ledger as it is now: what came and went in between
is not in it, but for its tombstone.

No I/O and no clock: times are seconds on the caller's monotonic clock, and milliseconds of the epoch where they say so.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from vmpulse_contract import columns, limits
from vmpulse_contract.roster_change import RosterChange, pack_roster_change
from vmpulse_contract.stream import ROW_BYTES, UUID_BYTES, Roster, Tombstone, pack_roster

if TYPE_CHECKING:
    from vmpulse_agent.ledger import Ledger
    from vmpulse_contract.identity import VmId
    from vmpulse_contract.stream import HostFacts

TOMBSTONE_BYTES: Final = 40
"""About what one takes; facts take some 200, which a whole roster alone has."""
WORTHWHILE: Final = 2
"""A difference is said if the whole would be so many times as long: it spares bytes, and a reader that missed one asks
for the whole."""


class Membership:
    """What rosters are made from, and what of it the stream has said.

    ``tombstones``: the latest ends, oldest first.

    Args:
        ledger: the VMs of the host.
        tombstone_s: how long a tombstone is said.
    """

    def __init__(self, ledger: Ledger, tombstone_s: float) -> None:
        self.tombstones: deque[Tombstone] = deque(maxlen=limits.TOMBSTONES_PER_HOST.maximum)
        self._ledger = ledger
        self._tombstone_ms = int(tombstone_s * 1000)
        self._layout: int | None = None
        """That of the roster said last; None: the next one has to be whole."""
        self._vms: frozenset[VmId] = frozenset()
        self._ended: deque[Tombstone] = deque(maxlen=limits.TOMBSTONES_PER_HOST.maximum)

    def ended(self, tombstone: Tombstone) -> None:
        """A life has ended."""
        self.tombstones.append(tombstone)
        self._ended.append(tombstone)

    def forget_said(self) -> None:
        """Whatever was said, the next roster is to be whole."""
        self._layout = None

    def said(self) -> None:
        """The stream has said who is there now, either way."""
        self._layout, self._vms = self._ledger.layout, frozenset(self._ledger.rows)
        self._ended.clear()

    def whole(self, facts: HostFacts, monotonic_ms: int, now: float) -> Roster:
        """The roster as of *now*, which is *monotonic_ms* of the epoch."""
        while self.tombstones and self.tombstones[0].ended_ms < monotonic_ms - self._tombstone_ms:
            self.tombstones.popleft()
        order = self._ledger.order
        return pack_roster(
            layout=self._ledger.layout,
            monotonic_ms=monotonic_ms,
            facts=facts,
            vms=[row.vm for row in order],
            tokens=[row.token for row in order],
            elapsed_ms=[row.elapsed(now) for row in order],
            hashes=self._ledger.announced_hashes(),
            tombstones=tuple(self.tombstones),
        )

    def difference(self, monotonic_ms: int, now: float) -> RosterChange | None:
        """What of the roster has changed since it was said last; None: it is to be said whole."""
        if self._layout is None or self._layout == self._ledger.layout:
            return None
        began = [row for row in self._ledger.order if row.began_with > self._layout]
        left = sorted(self._vms - self._ledger.rows.keys())
        size = _size(len(began), len(self._ended)) + UUID_BYTES * len(left)
        if size * WORTHWHILE > _size(len(self._ledger), len(self.tombstones)):
            return None
        return pack_roster_change(
            layout=self._ledger.layout,
            base=self._layout,
            monotonic_ms=monotonic_ms,
            left=left,
            vms=[row.vm for row in began],
            tokens=[row.token for row in began],
            elapsed_ms=[row.elapsed(now) for row in began],
            hashes=columns.to_bytes("Q", [value for row in began for value in row.announced]),
            tombstones=tuple(self._ended),
        )


def _size(rows: int, tombstones: int) -> int:
    """About how many bytes they take."""
    return ROW_BYTES * rows + TOMBSTONE_BYTES * tombstones
