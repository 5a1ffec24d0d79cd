"""How long the event loop is kept from its sockets and timers: measured in its selector, which it asks in each round.

Between two questions the loop runs callbacks, and nothing else happens. What of that time the thread spent waiting for
a CPU is the machine's doing and told apart: the kernel counts it (proc(5), ``schedstat``). That file takes longer to
read than most rounds last, so it is read when the loop has slept and after rounds worth telling apart, not in each.
Asyncio's debug mode, which also times callbacks, costs far more and cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vmpulse_agent.measures import LoopMeasure

_SCHEDSTAT: Final = "/proc/thread-self/schedstat"
_SHORT_S: Final = 0.001
"""Of rounds up to this the waiting is not looked up: it is counted as theirs."""
_BYTES: Final = 96
"""Three numbers of up to 20 digits."""


def watched_loop(measure: LoopMeasure) -> asyncio.AbstractEventLoop:
    """Make a loop for the calling thread that counts its rounds; a loop factory for ``asyncio.Runner``."""
    return asyncio.SelectorEventLoop(_WatchedSelector(measure))


class _WatchedSelector(selectors.EpollSelector):
    def __init__(self, measure: LoopMeasure) -> None:
        super().__init__()
        self._measure = measure
        self._cpu_wait = _CpuWait()
        self._began_s: float | None = None
        self._waited_s = self._cpu_wait.seconds()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Ask the kernel; before that a round is over, and after it the next one begins."""
        if self._began_s is not None:
            took_s = time.monotonic() - self._began_s
            self._measure.add(took_s, self._waited() if took_s > _SHORT_S else 0.0)
        found = super().select(timeout)
        if timeout is None or timeout > 0:
            self._waited()
        self._began_s = time.monotonic()
        return found

    def _waited(self) -> float:
        """The waiting since this was last asked: since the loop slept, or a long round ended."""
        before, self._waited_s = self._waited_s, self._cpu_wait.seconds()
        return self._waited_s - before

    def close(self) -> None:
        """Close the selector and what it reads."""
        super().close()
        self._cpu_wait.close()


class _CpuWait:
    """For how long the calling thread has been ready to run without a CPU, as far as the kernel tells."""

    def __init__(self) -> None:
        self._file = -1
        try:
            self._file = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # A kernel without it: then every second counts as ours.
            return

    def seconds(self) -> float:
        if self._file < 0:
            return 0.0
        return int(os.pread(self._file, _BYTES, 0).split()[1]) / 1e9

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
