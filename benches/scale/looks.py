"""What the watched view has written down, as it comes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from benches import processes
from benches.scale.watched_view import Look
from vmpulse_simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vmpulse_simulator.child_process import ChildProcess

POLL_S: Final = 0.1
STUCK_S: Final = 60.0
"""A view that says nothing for so long hangs."""


class Looks:
    """The looks of one view.

    Args:
        view: its process.
        file: where it writes them.
    """

    def __init__(self, view: ChildProcess, file: Path) -> None:
        self._view = view
        self._file = file
        self._read = 0
        self._newest: Look | None = None

    async def next(self) -> Look:
        """Wait for another look and give it. Raises SimulatorError if the view has ended or hangs."""
        before, deadline = self.newest(), time.monotonic() + STUCK_S
        while (look := self.newest()) is before or look is None:
            if time.monotonic() > deadline:
                raise SimulatorError(f"the view did nothing for {STUCK_S:.0f} s: {self._view.last_lines()}")
            await asyncio.sleep(POLL_S)
        return look

    async def until(self, true: Callable[[Look], bool], seconds: float) -> bool:
        """Wait until something is so, but no longer than that. Tells whether it is."""
        deadline = time.monotonic() + seconds
        while not true(await self.next()):
            if time.monotonic() > deadline:
                return False
        return True

    def newest(self) -> Look | None:
        """The newest look; None: there is none yet. Raises SimulatorError if the view has ended."""
        self.rss_mib()
        if self._file.exists():
            with self._file.open("rb") as written:
                written.seek(self._read)
                # A line that is being written is read when it is whole.
                whole = written.read().rpartition(b"\n")[0]
            if whole:
                self._read += len(whole) + 1
                self._newest = msgspec.json.decode(whole.splitlines()[-1], type=Look)
        return self._newest

    def rss_mib(self) -> float:
        """What the view holds now. Raises SimulatorError if it has ended."""
        if self._view.pid is None:
            raise SimulatorError(f"the view has ended: {self._view.last_lines()}")
        return processes.memory(self._view.pid)["rss_mib"]
