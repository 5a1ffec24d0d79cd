"""Becomes another program, and has the kernel kill that one if the program that started it dies.

Run as a script by `child_process`: parent's pid, then the command. A parent-death signal follows the thread that
started the child, so it must be started from the main thread, as asyncio does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    """Arm the signal, make sure that the parent did not die before that, and become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == int(parent):
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
