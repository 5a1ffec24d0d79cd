"""Resident memory of processes that come and go, by name."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PROC: Final = Path("/proc")
NOW: Final = "VmRSS"
PEAK: Final = "VmHWM"
KB_PER_MB: Final = 1e6 / 1024
"""The kernel counts in units of 1,024 bytes."""


class Resident:
    """What processes of a name hold now, and what any of them has ever held; MB."""

    def __init__(self) -> None:
        self.now: dict[str, float] = {}
        self.peak: dict[str, float] = {}

    def sample(self, pids: Mapping[str, int]) -> None:
        """Look at the processes. What ended in this moment stays as it was."""
        for name, pid in pids.items():
            with contextlib.suppress(OSError):
                self._take(name, memory_of((PROC / str(pid) / "status").read_text()))

    def _take(self, name: str, found: Mapping[str, float]) -> None:
        if NOW in found:  # one that has just ended has no memory any more
            self.now[name] = found[NOW]
            self.peak[name] = max(found[PEAK], self.peak.get(name, 0.0))


def memory_of(status: str) -> dict[str, float]:
    """Read /proc/PID/status: MB by the kernel's names; nothing of a process that has ended."""
    fields = (line.partition(":") for line in status.splitlines())
    return {name: round(int(rest.split()[0]) / KB_PER_MB, 1) for name, _, rest in fields if name in {NOW, PEAK}}
