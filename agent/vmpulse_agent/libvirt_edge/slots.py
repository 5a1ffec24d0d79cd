"""Connections that are opened when they are first needed: most hosts never need more than one or two of a score.

An idle connection is not free: daemon and client ping each other on each every few seconds, and each ping wakes us.

Nobody waits long for an opening. A daemon that has reached its ``max_clients`` leaves who comes in its backlog, without
a word and without a bound; in a lane that would look as if some domain's monitor hung. So an opening has a thread of
its own, goes on when nobody waits for it any more, and serves who comes next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

import libvirt

from vmpulse_agent.errors import HypervisorUnavailable
from vmpulse_agent.libvirt_edge.opening import close_each

log = logging.getLogger(__name__)

WIDTH: Final = 2
"""Openings at once. One alone would keep all others waiting for a peer that has vanished."""


class Openings:
    """Threads for openings: few, as none can be stopped, and over all the connections of one agent.

    Args:
        shown: whose daemon, for messages.
        wait_s: seconds that one who needs a connection waits for it.
    """

    def __init__(self, shown: str, wait_s: float) -> None:
        self.shown = shown
        self.wait_s = wait_s
        self._room = threading.Semaphore(WIDTH)

    def begin(self, work: Callable[[], libvirt.virConnect]) -> Future[libvirt.virConnect]:
        """Have *work* done in a thread. Raises HypervisorUnavailable if there is none to be had in time."""
        if not self._room.acquire(timeout=self.wait_s):
            raise HypervisorUnavailable(self.complaint())
        opening: Future[libvirt.virConnect] = Future()
        try:
            threading.Thread(target=self._do, args=(work, opening), name="libvirt-open", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            msg = f"no thread can be started for a further connection to libvirt: {error}"
            raise HypervisorUnavailable(msg) from error
        return opening

    def complaint(self) -> str:
        """What is wrong when there is no answer."""
        return (
            f"libvirt at {self.shown} does not let a further connection in: it hangs, or serves as many clients as it "
            f"may; see max_clients and max_anonymous_clients in the daemon's configuration"
        )

    def _do(self, work: Callable[[], libvirt.virConnect], opening: Future[libvirt.virConnect]) -> None:
        try:
            opening.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who waits
            opening.set_exception(error)
        finally:
            self._room.release()


class Slot:
    """Place of one connection.

    Args:
        connect: opens it; it may block and raise, then the next one who needs it tries again.
        openings: where that is done.
        connection: one that is open already.
    """

    def __init__(
        self,
        connect: Callable[[], libvirt.virConnect],
        openings: Openings,
        connection: libvirt.virConnect | None = None,
    ) -> None:
        self._connect = connect
        self._openings = openings
        self._lock = threading.Lock()
        self._opening: Future[libvirt.virConnect] | None = None
        self._began_s = 0.0
        self._late = False
        self._retired = False
        self.opened = connection
        """None before anybody needed it."""

    def get(self, wait_s: float | None = None) -> libvirt.virConnect:
        """Give the connection; for lanes.

        Args:
            wait_s: seconds since the opening began, where it is to be waited for longer than usual.

        Raises:
            HypervisorUnavailable: it is not open by then, and goes on; the first time that is said in the log.
            Exception: whatever ``connect`` raises.
        """
        with self._lock:
            if self.opened is not None:
                return self.opened
            if self._opening is None:
                self._began_s = time.monotonic()
                self._opening = self._openings.begin(self._open)
            opening = self._opening
        left_s = self._began_s + (self._openings.wait_s if wait_s is None else wait_s) - time.monotonic()
        try:
            return opening.result(max(0.0, left_s))
        except TimeoutError:
            if opening.done():
                return opening.result()
            self._say_late()
            raise HypervisorUnavailable(self._openings.complaint()) from None

    def retire(self) -> libvirt.virConnect | None:
        """Be used no more. Gives what is open, for the caller to close; what is being opened closes when it is."""
        with self._lock:
            self._retired = True
            opened, self.opened = self.opened, None
        return opened

    def _open(self) -> libvirt.virConnect:
        try:
            connection = self._connect()
        except BaseException:
            with self._lock:
                self._opening, self._late = None, False
            raise
        with self._lock:
            self._opening = None
            late, self._late, retired = self._late, False, self._retired
            if not retired:
                self.opened = connection
        if retired:
            close_each([connection])
            raise HypervisorUnavailable("the connection has been closed")
        if late:
            log.info("libvirt at %s has let the further connection in", self._openings.shown)
        return connection

    def _say_late(self) -> None:
        with self._lock:
            first = self._opening is not None and not self._late
            self._late = self._late or first
        if first:
            log.warning("%s", self._openings.complaint())
