"""What one sender may say: so many messages and bytes. What goes beyond is dropped unread, and digests repair it.

And what is held of a host: of what goes beyond only the hash is known.
"""

from __future__ import annotations

from typing import Final

from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.events import Trouble

MESSAGES_S: Final = 500.0
MESSAGES_BURST: Final = 20_000.0
"""All sections of 4,096 VMs may change at once, 16,384 events; but nobody says so much for long."""
BYTES_S: Final = float(2 << 20)
BYTES_BURST: Final = float(64 << 20)
"""The same in bytes: a roster of 4,096 VMs, said 5 times a second, which is the most, takes 1.5 MiB a second."""
HELD_BYTES: Final = 128 << 20
"""Section bodies that are held of one host, each VM's for itself: 250 VMs with a full distribution's packages (120 KiB)
take 30 MiB. Without it a host within its budget fills the view's memory: 4,096 VMs times three sections of 896 KiB."""
DEVICE_BYTES: Final = 32 << 20
"""Device statistics that are held of one host, deflated: of a VM with two disks and a card 150 bytes, so 4,096 have
0.6 MiB. A host whose reports are each the last word on one VM only, and large for it, has no more."""
MAP_COSTS: Final = 8
"""So many times as much as of columns a byte of a map of device statistics costs, as older agents say them."""
OVER_S: Final = 10.0
"""A flood is over when nothing had to be dropped for so long."""
UNMET_KEPT: Final = 4096
"""Senders that are no host yet: each is a user of the broker, so there are more only where somebody makes them up."""


class Budget:
    """One sender's budget, full at first.

    Args:
        now: seconds on the caller's monotonic clock.
    """

    __slots__ = ("_bytes", "_dropped_at", "_messages")

    def __init__(self, now: float) -> None:
        self._messages = Allowance(MESSAGES_S, MESSAGES_BURST, now)
        self._bytes = Allowance(BYTES_S, BYTES_BURST, now)
        self._dropped_at: float | None = None

    def take(self, size: int, now: float) -> tuple[bool, Trouble | None]:
        """Whether a message of so many bytes may be read; and what is to be told: that a flood begins, or is over."""
        if self._messages.take(1.0, now) and self._bytes.take(float(size), now):
            if self._dropped_at is None or now - self._dropped_at <= OVER_S:
                return True, None
            self._dropped_at = None
            return True, Trouble.FLOOD_OVER
        begins = self._dropped_at is None
        self._dropped_at = now
        return False, Trouble.FLOODING if begins else None

    def charge(self, size: int, now: float) -> None:
        """Count what a message turned out to cost as if it had so many bytes more; it may leave a debt."""
        self._bytes.charge(float(size), now)
