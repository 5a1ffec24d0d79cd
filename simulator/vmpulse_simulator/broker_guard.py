"""The process between a program and its private broker, so that the broker can never outlive the program.

Run as a script, it starts epmd and the node and then listens to its standard input, a pipe that only the program holds:

    ``t``           end the node in good order (the guard kills it when that takes too long)
    ``k``           kill -9, for tests of what a crash does
    end of file     the program is gone, however it ended: kill

A pipe is used, and not a parent-death signal alone, since that signal follows the *thread* that started the child and a
thread of an executor ends long before its program. The guard itself has one thread, so it may rely on the signal: its
children die with it. As their subreaper it also collects Erlang's helper processes, which would otherwise go to init.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 8.0  # an idle node ends in one second; with thousands of connections to close it may take several
REAP_S = 5.0

libc = ctypes.CDLL(None, use_errno=True)


def main(epmd_port: str, log: str, *node_command: str) -> int:
    """Run the node until it ends, or until the program says so or disappears."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Path(log).open("ab") as output:
        epmd = spawn(("epmd", "-port", epmd_port, "-address", "127.0.0.1"), output.fileno())
        node = spawn(node_command, output.fileno())
    sys.stdout.write(f"{node.pid} {epmd.pid}\n")
    sys.stdout.flush()
    try:
        obey(node)
    finally:
        sweep()
    return node.returncode if node.returncode is not None and node.returncode >= 0 else 1


def spawn(command: tuple[str, ...], output: int) -> subprocess.Popen[bytes]:
    """A child that the kernel kills when the guard dies."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509 - one thread
    )


def obey(node: subprocess.Popen[bytes]) -> None:
    """Wait for an order, for the end of the pipe, or for the end of the node."""
    ended = os.pidfd_open(node.pid)
    readable, _, _ = select.select((sys.stdin.fileno(), ended), (), ())
    if ended not in readable and os.read(sys.stdin.fileno(), 1) == b"t":
        node.terminate()
        # A second order, or the end of the pipe, cuts the good order short.
        select.select((sys.stdin.fileno(), ended), (), (), GRACE_S)
    os.close(ended)
    node.poll()


def sweep() -> None:
    """Kill and collect every process below this one; those whose parent dies first become ours as we go."""
    deadline = time.monotonic() + REAP_S
    while time.monotonic() < deadline:
        for child in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def children() -> list[int]:
    """The direct children of this process."""
    own = str(os.getpid())
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if parent_of(entry) == own]


def parent_of(process: Path) -> str:
    """The parent's pid as /proc tells it; the command's name before it may itself hold spaces and brackets."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
