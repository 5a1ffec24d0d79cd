"""A program as a child: with a log, ended or killed, started again, and never left behind, however its parent ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GUARD: Final = Path(__file__).with_name("child_guard.py")
STOP_DEADLINE_S: Final = 8.0
LOG_LINES: Final = 12


class ChildProcess:
    """One program, which runs from ``start`` to ``end`` or ``kill``, any number of times.

    Args:
        command: the program, by its path, and its arguments.
        log: where its output goes, that of a later start after that of the one before.
        environment: all that it inherits.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self._command = tuple(command)
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._told = False

    @property
    def pid(self) -> int | None:
        """The program's pid; None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def died(self) -> int | None:
        """The exit status with which it ended though nobody told it to; None: it did not."""
        return None if self._process is None or self._told else self._process.returncode

    async def start(self) -> None:
        """Start it. Call it from the main thread, see `child_guard`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb" if self._process is None else "ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *self._command),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is for the parent, which then stops us in order
            )
        self._told = False  # only now: until here ``died`` still speaks of the one before

    async def end(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """End it in good order, and kill it if that takes longer."""
        self._told = True
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is paused would not hear it
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), deadline_s)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End it as kill -9 does, and collect it."""
        self._told = True
        self._signal(signal.SIGKILL)
        await self.wait()

    def pause(self) -> None:
        """Let it do nothing, as SIGSTOP does, until ``resume``."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Wait for its end; gives the exit status, 0 for one that was never started."""
        return 0 if self._process is None else await self._process.wait()

    def last_lines(self) -> str:
        """The end of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and whatever it may have started: they are a group of their own."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
