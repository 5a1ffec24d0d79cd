"""A machine of one's own: systemd as the first process of a root folder, seen by nobody and gone with the test run."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD: Final = Path(__file__).with_name("machine_guard.py")
PROGRAMS: Final = ("unshare", "nsenter", "setpriv", "mount", "ip", "debootstrap", "mke2fs")
NAMESPACES: Final = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd")
ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
)
HOSTNAME: Final = "h001"
BOOT_S: Final = 90.0
STEP_S: Final = 120.0
STOP_S: Final = 60.0
POLL_S: Final = 0.1


class MachineError(RuntimeError):
    """The machine cannot be made, or does not boot. The text says why."""


class Done(NamedTuple):
    """How a command in the machine ended."""

    code: int
    said: str


class Machine:
    """One machine, with its root below *folder*, which goes when the machine goes.

    Use it as a context manager: it boots when entered, after the root has been made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.name = f"vmpulse-machine-{secrets.token_hex(4)}"
        self._guard: subprocess.Popen[str] | None = None
        self._pid = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Boot, and wait until everything that is to start has started. Raises MachineError."""
        self._guard = subprocess.Popen(
            (sys.executable, "-I", "-S", str(GUARD), str(self.folder), self.name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._booted()

    def reset(self) -> None:
        """Press the reset button: nothing is shut down, everything boots anew. Raises MachineError."""
        pipe = self._pipe("stdin")
        pipe.write("reset\n")
        pipe.flush()
        self._booted()

    def stop(self) -> None:
        """End everything and remove it. Bounded by a minute; may be called twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        for pipe in (guard.stdin, guard.stdout):
            if pipe is not None:
                pipe.close()
        try:
            guard.wait(STOP_S)
        finally:
            guard.kill()
            guard.wait()

    def run(self, *command: str, seconds: float = STEP_S) -> Done:
        """Run a command in it as root, as from a console. Raises subprocess.TimeoutExpired."""
        words = ("nsenter", "--target", self._pid, *NAMESPACES, "--", "env", "-i", *ENVIRONMENT, *command)
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            start_new_session=True,
        )
        return Done(done.returncode, (done.stdout + done.stderr).strip())

    def shell(self, script: str, folder: str = "/root") -> Done:
        """Run a script in it that ends at the first command that fails."""
        return self.run("sh", "-e", "-c", f"cd {folder}\n{script}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, at its path in the machine."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds; tells whether it did in time."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def show(self, unit: str, *properties: str) -> list[str]:
        """Properties of a unit, in the order in which they are asked for."""
        done = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        found = dict(line.split("=", 1) for line in done.said.splitlines() if "=" in line)
        return [found.get(name, "") for name in properties]

    def _booted(self) -> None:
        answer = self._pipe("stdout").readline().strip()
        if not answer.isdigit():
            raise MachineError(answer or f"the machine does not boot: {self._log()}")
        self._pid = answer
        if not self.until(lambda: self._state() in {"running", "degraded"}, BOOT_S):
            raise MachineError(f"the machine is still {self._state()} after {BOOT_S:.0f} s: {self._log()}")

    def _state(self) -> str:
        return self.run("systemctl", "is-system-running").said.partition("\n")[0]

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "boot.log").read_text(encoding="utf-8", errors="replace")[-500:]
        return "no log"

    def _pipe(self, name: str) -> IO[str]:
        pipe: IO[str] | None = getattr(self._guard, name)
        assert pipe is not None
        return pipe


def missing() -> str | None:
    """Why no machine can run here, or None."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None
