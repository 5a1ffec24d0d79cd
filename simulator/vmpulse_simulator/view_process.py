"""The view that a demo runs: a child process with a log, which ends when the demo does, however that ends."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, Self

from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import ViewDied

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

PROGRAM: Final = (sys.executable, "-m", "vmpulse_consumers")
STOP_DEADLINE_S: Final = 8.0
PREFIX: Final = "VMPULSE_VIEW_"


class ViewProcess:
    """The program ``vmpulse view`` as a child, from entering to leaving the context.

    Args:
        broker: the broker's address, without a password.
        password: of the user in it.
        port: of the HTTP API.
        folder: for its log and its password file.
        options: more arguments of ``vmpulse view``.
    """

    def __init__(self, broker: str, password: str, port: int, folder: Path, *options: str) -> None:
        self._password = password
        self._password_file = folder / "view.password"
        arguments = ("view", "--broker-url", broker, "--http-port", str(port), *options)
        self.child = ChildProcess((*PROGRAM, *arguments), folder / "view.log", self._environment())
        """The process itself, for those who kill it and start it again."""

    async def __aenter__(self) -> Self:
        self._password_file.parent.mkdir(parents=True, exist_ok=True)
        write_secret(self._password_file, self._password)
        await self.child.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.child.end(STOP_DEADLINE_S)
        finally:
            self._password_file.unlink(missing_ok=True)

    async def watch(self) -> None:
        """Wait until the process ends by itself, and then raise ViewDied."""
        status = await self.child.wait()
        raise ViewDied(f"the view ended with exit status {status}; read its log, {self.child.log}\n{self.last_lines()}")

    def last_lines(self) -> str:
        """The end of the log."""
        return self.child.last_lines()

    def _environment(self) -> dict[str, str]:
        """Ours, but for settings that are meant for another view."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return inherited | {f"{PREFIX}BROKER_PASSWORD_FILE": str(self._password_file.absolute())}


def write_secret(file: Path, secret: str) -> None:
    """Write a file that only its owner may read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
        output.write(secret)
