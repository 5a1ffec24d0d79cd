"""The process between a test run and its private Docker engine, so that nothing of it can outlive the run.

Run as a script, with the standard library alone. It starts two children and then waits for its standard input, a pipe
that only the test run holds, to close:

- dockerd in mount and network namespaces of its own. Its bridges, its firewall rules, its forwarding switch and its
  published ports all belong to that network namespace and vanish with it; nothing of the host's network is touched.
- slirp4netns, which gives that namespace a way out without any route, rule or interface on the host.

As a subreaper it inherits what they leave behind: containerd, its shims, the containers. At the end it asks dockerd to
stop, kills every process below itself until none is left, and removes the cgroups and the run's folder. So there is one
way to clean up, and it runs after a success, a failure, Ctrl-C, and a killed test run alike.

    python engine_guard.py DATA RUN CGROUP     prints the pid of dockerd, which is the owner of the namespaces
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 20.0  # dockerd gives its containers 10 s
REAP_S = 20.0
CGROUPS = Path("/sys/fs/cgroup")
RESOLVER = "10.0.2.3"  # slirp4netns answers there for whatever the host's resolver says
POOL = "10.97.0.0/16"
FURNISH = f"""
set -e
# Engines write below /etc, /opt and /run on their own account: here, that goes to memory.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$1/over"
for name in etc opt; do
    mkdir "$1/over/$name" "$1/over/$name.work"
    mount -t overlay overlay -o "lowerdir=/$name,upperdir=$1/over/$name,workdir=$1/over/$name.work" "/$name"
done
rm -f /etc/resolv.conf
echo nameserver {RESOLVER} >/etc/resolv.conf
# Loopback is where compose publishes.
ip link set lo up
shift
exec "$@"
"""

libc = ctypes.CDLL(None, use_errno=True)


def main(data: str, run: str, cgroup: str) -> int:
    """Keep an engine until standard input closes."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = Path(run)
    (folder / "over").mkdir()
    with (folder / "dockerd.log").open("ab") as output:
        engine = spawn(inside(run, dockerd(data, run, cgroup)), output.fileno())
        way_out = None
        try:
            if entered(engine.pid):
                way_out = spawn(("slirp4netns", "--configure", "--mtu=65520", str(engine.pid), "tap0"), output.fileno())
            sys.stdout.write(f"{engine.pid}\n")
            sys.stdout.flush()
            wait_for_end(engine)
        finally:
            stop(engine)
            if way_out is not None:
                way_out.kill()
            sweep()
            remove_cgroups(cgroup)
            shutil.rmtree(run, ignore_errors=True)
    return 0


def inside(run: str, command: Sequence[str]) -> list[str]:
    """The command in mount and network namespaces of its own."""
    return ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", FURNISH, "sh", run, *command]


def dockerd(data: str, run: str, cgroup: str) -> list[str]:
    """The engine, with every folder, socket and address of its own."""
    return [
        *("/usr/sbin/dockerd", "--data-root", data, "--exec-root", f"{run}/exec", "--pidfile", f"{run}/docker.pid"),
        *("--host", f"unix://{run}/docker.sock", "--cgroup-parent", f"/{cgroup}", "--bip", "10.96.0.1/24"),
        *("--default-address-pool", f"base={POOL},size=24", "--exec-opt", "native.cgroupdriver=cgroupfs"),
    ]


def spawn(command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
    """A child that the kernel kills when the guard dies."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509 - one thread
    )


def entered(pid: int) -> bool:
    """Wait until a child has left our network namespace; False if it ends before."""
    ours = Path("/proc/self/ns/net").readlink()
    with contextlib.suppress(OSError):
        while Path(f"/proc/{pid}/ns/net").readlink() == ours:
            time.sleep(0.01)
        return True
    return False


def wait_for_end(engine: subprocess.Popen[bytes]) -> None:
    """Return when the pipe closes or the engine ends."""
    ended = os.pidfd_open(engine.pid)
    select.select((sys.stdin.fileno(), ended), (), ())
    os.close(ended)


def stop(engine: subprocess.Popen[bytes]) -> None:
    """In good order, or by force."""
    engine.terminate()
    try:
        engine.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        engine.kill()


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


def remove_cgroups(name: str) -> None:
    """Remove the groups of the containers, the deepest first, in each hierarchy; they are empty by now."""
    for top in [CGROUPS / name, *CGROUPS.glob(f"*/{name}")]:
        groups = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
        for group in groups:
            with contextlib.suppress(OSError):
                group.rmdir()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
