"""A root of its own for a package, and commands that run in it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

STEP_S: Final = 120
IN_ROOT: Final = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


class Done(NamedTuple):
    """How a command in the root ended."""

    code: int
    said: str


class Root(NamedTuple):
    """A root, and the package that is tried there."""

    place: Path
    package: Path

    def run(self, *command: str) -> Done:
        """Run a command in it, in a mount namespace that ends with it."""
        return ran("unshare", "--mount", "--fork", "sh", "-c", IN_ROOT, str(self.place), *command)

    def left(self) -> str:
        """Files of the package that are still there, a few of them."""
        return self.run("sh", "-c", "find /opt/vmpulse /usr/bin/vmpulse* -not -type d 2>/dev/null | head -3").said


def ran(*command: str) -> Done:
    """Run a command outside."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, check=False)
    return Done(done.returncode, done.stdout + done.stderr)
