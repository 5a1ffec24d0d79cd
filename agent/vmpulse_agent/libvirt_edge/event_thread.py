"""libvirt's event loop in one daemon thread of the process, shared by all connections.

libvirt has one event implementation for the whole process, registered once, before any connection is opened. Its own
one, in a thread, is preferred to libvirtaio's: that is bound for ever to the asyncio loop that registered it, it runs
libvirt's socket handling within our loop, and with it a connection cannot outlive or precede a loop.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Final

import libvirt

JOIN_S: Final = 5.0
_LAST_ROUNDS: Final = 3
"""libvirt frees what belongs to a closed connection, its socket included, in the rounds after the close."""


class EventThread:
    """The thread, running while anybody needs it. Its methods may be called from any thread, not from callbacks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registered = False
        self._users = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Have the thread run until ``release``; call it before opening a connection."""
        with self._lock:
            self._register()
            self._users += 1
            if self._thread is None:
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
                self._thread.start()

    def release(self) -> None:
        """Need the thread no longer; the last one ends it."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._thread is not None:
                self._stop(self._thread)
                self._thread = None

    def _register(self) -> None:
        if not self._registered:
            # Errors are raised as exceptions; the default handler would write each of them to stderr as well.
            libvirt.registerErrorHandler(lambda *_: None, None)
            libvirt.virEventRegisterDefaultImpl()
            self._registered = True

    def _stop(self, thread: threading.Thread) -> None:
        self._stopping.set()
        # A timer of 0 ms wakes the loop, and keeps its last rounds from waiting.
        timer = libvirt.virEventAddTimeout(0, _ignore, None)
        thread.join(JOIN_S)
        libvirt.virEventRemoveTimeout(timer)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._round()
        for _ in range(_LAST_ROUNDS):
            self._round()

    def _round(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()


def _ignore(_timer: int, _opaque: Any) -> None:
    pass


EVENTS: Final = EventThread()
"""The one of this process."""
