"""A root of its own for a package, and commands that run in it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

STEP_S: Final = 120
IN_ROOT: Final = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
KEPT: Final = ("etc/.pwd.lock", "etc/group-", "etc/gshadow-", "etc/passwd-", "etc/shadow-", "etc/vmpulse")
"""What may be new after all: traces of the view's user, who stays, and what an administrator wrote."""
NOT_ITS_OWN: Final = ("run/", "usr/share/licenses", "var/lib/dpkg/", "var/lib/rpm", "var/log/", "vmpulse.deb")
"""And what others write, among it a folder that EL's basic packages own and Debian's do not."""


class Done(NamedTuple):
    """How a command in the root ended."""

    code: int
    said: str


class Root(NamedTuple):
    """A root, the package that is tried there, and the paths that were there before it."""

    place: Path
    package: Path
    before: frozenset[str]

    def run(self, *command: str) -> Done:
        """Run a command in it, in a mount namespace that ends with it."""
        return ran("unshare", "--mount", "--fork", "sh", "-c", IN_ROOT, str(self.place), *command)

    def left(self) -> str:
        """What the package left behind, a few paths; what an administrator wrote has to be among what is there."""
        if not (self.place / "etc" / "vmpulse" / "agent.toml").exists():
            return "an administrator's /etc/vmpulse/agent.toml is gone"
        new = paths(self.place) - self.before
        return " ".join(sorted(path for path in new if not path.startswith(KEPT + NOT_ITS_OWN))[:6])


def paths(place: Path) -> frozenset[str]:
    """All paths below a folder."""
    return frozenset(str(path.relative_to(place)) for path in place.rglob("*"))


def ran(*command: str, seconds: float = STEP_S) -> Done:
    """Run a command outside."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    return Done(done.returncode, done.stdout + done.stderr)
