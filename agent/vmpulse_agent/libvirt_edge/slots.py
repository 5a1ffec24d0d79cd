"""Connections that are opened when they are first needed: most hosts never need more than one or two of a score.

An idle connection is not free: daemon and client ping each other on each every few seconds, and each ping wakes us.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import libvirt


class Slot:
    """Place of one connection.

    Args:
        connect: opens it; it may block and raise libvirtError, then the next one who needs it tries again.
        connection: one that is open already.
    """

    def __init__(self, connect: Callable[[], libvirt.virConnect], connection: libvirt.virConnect | None = None) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self.opened = connection
        """None before anybody needed it."""

    def get(self) -> libvirt.virConnect:
        """Give the connection. For lanes."""
        with self._lock:
            if self.opened is None:
                self.opened = self._connect()
            return self.opened
