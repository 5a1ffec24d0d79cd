"""Tries what a confined program must not be able to do, as JSON in its state folder: for each the error, or "allowed".

Run by systemd before the program, with all that its unit restricts (`ExecStartPre=`), and once more without a unit,
where everything has to be allowed: else the attempt would prove nothing. The standard library alone.

    python probe.py [PID]     PID: a process of another user
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000
libc = ctypes.CDLL(None, use_errno=True)


def main(words: list[str]) -> int:
    """Try everything, and write what came of it."""
    folder = Path(os.environ.get("STATE_DIRECTORY", "/root"))
    ours = folder / "probe"
    ours.touch()
    attempts: dict[str, Callable[[], object]] = {
        "write below /etc": lambda: Path("/etc/probe").touch(),
        "write below /usr": lambda: Path("/usr/probe").touch(),
        "write below /var": lambda: Path("/var/probe").touch(),
        "write a kernel setting": lambda: Path("/proc/sys/kernel/domainname").write_text("probe", encoding="ascii"),
        "make a cgroup": lambda: Path(f"/sys/fs/cgroup/probe-{os.getpid()}").mkdir(),
        "see a file below /root": lambda: Path("/root/vmpulse.deb").stat(),
        "see a file in the common /tmp": lambda: Path("/tmp/vmpulse-common").stat(),  # noqa: S108
        "see a device": lambda: Path("/dev/net/tun").stat(),
        "give a file away": lambda: os.chown(ours, 1, 1),
        "make a set-user-id file": lambda: ours.chmod(0o4700),
        "read packets of the network": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "have memory that is written and run": executable_memory,
        "change its priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, 1),
        "name the host": lambda: socket.sethostname(socket.gethostname()),
        "signal another user's process": lambda: os.kill(int(words[0]), 0),
        # The last: in one, everything else would fail.
        "make a user namespace": lambda: called(libc.unshare(CLONE_NEWUSER)),
    }
    results = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            results[name] = "allowed"
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno or 0, str(error))
    (folder / "probe.json").write_text(json.dumps(results), encoding="ascii")
    return 0


def called(result: int) -> None:
    """Raise OSError for a system call that failed."""
    if result:
        raise OSError(ctypes.get_errno(), "refused")


def executable_memory() -> None:
    """Raise OSError if there is none to be had."""
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
