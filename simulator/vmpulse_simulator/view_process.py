"""The view that a demo runs: a child process with a log, which ends when the demo does, however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from vmpulse_simulator.errors import ViewDied

if TYPE_CHECKING:
    from types import TracebackType

GUARD: Final = Path(__file__).with_name("child_guard.py")
PROGRAM: Final = (sys.executable, "-m", "vmpulse_consumers")
STOP_DEADLINE_S: Final = 8.0
LOG_LINES: Final = 12
PREFIX: Final = "VMPULSE_VIEW_"


class ViewProcess:
    """The program ``vmpulse view`` as a child, from entering to leaving the context.

    Args:
        broker: the broker's address, without a password.
        password: of the user in it.
        port: of the HTTP API.
        folder: for its log and its password file.
    """

    def __init__(self, broker: str, password: str, port: int, folder: Path) -> None:
        self.log = folder / "view.log"
        self._password = password
        self._password_file = folder / "view.password"
        self._arguments = ("view", "--broker-url", broker, "--http-port", str(port))
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        write_secret(self._password_file, self._password)
        with self.log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(GUARD), str(os.getpid())),
                *(*PROGRAM, *self._arguments),
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is for the demo, which then stops us in order
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._end()
        finally:
            self._password_file.unlink(missing_ok=True)

    async def watch(self) -> None:
        """Wait until the process ends by itself, and then raise ViewDied."""
        if self._process is not None:
            status = await self._process.wait()
            raise ViewDied(f"the view ended with exit status {status}; read its log, {self.log}\n{self.last_lines()}")

    def last_lines(self) -> str:
        """The end of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def _environment(self) -> dict[str, str]:
        """Ours, but for settings that are meant for another view."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return inherited | {f"{PREFIX}BROKER_PASSWORD_FILE": str(self._password_file.absolute())}

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_DEADLINE_S)
        except TimeoutError:
            self._signal(process.pid, signal.SIGKILL)
            await process.wait()

    @staticmethod
    def _signal(group: int, number: signal.Signals) -> None:
        """Signal the process and whatever it may have started: they are a group of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def write_secret(file: Path, secret: str) -> None:
    """Write a file that only its owner may read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
        output.write(secret)
