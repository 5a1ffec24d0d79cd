"""The process between a test run and a machine that it boots, so that nothing of that machine can outlive the run.

A script of the standard library alone. It boots systemd as the first process of a root folder, in namespaces of its own
(mount, pid, network, host name, IPC, cgroup) and a cgroup of its own, and waits for its standard input, a pipe that
only the test run holds, to close. Then it kills the whole cgroup and removes the cgroups and the folder. So there is
one way to clean up, and it runs after a success, a failure, Ctrl-C, and a killed test run alike. A line on standard
input is a reset button: the machine is killed, and boots again.

    python machine_guard.py FOLDER NAME      the root is FOLDER/root; prints the pid of systemd after each boot
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
from pathlib import Path

PR_SET_PDEATHSIG = 1
MS_PRIVATE = 1 << 18
MS_REC = 1 << 14
CLONE_NEWNS = 0x00020000
BOOT_S = 20.0
SWEEP_S = 20.0
POLL_S = 0.02
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
FURNISH = """
set -e
cd "$1"
mount --bind . .
cd "$1"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755,nosuid tmpfs dev
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs run
mkdir dev/net dev/pts dev/shm
for device in null zero full random urandom tty net/tun; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ip link set lo up
hostname "$2"
pivot_root . mnt
umount -l /mnt
# What systemd mounts for a unit in a namespace of its own (its credentials) has to come through, as on any machine.
mount --make-rshared /
exec env -i container=vmpulse PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""

libc = ctypes.CDLL(None, use_errno=True)


def main(folder: str, name: str) -> int:
    """Keep a machine until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = Path(folder)
    cgroups = place / "cgroup"
    group = None
    try:
        group = own_cgroup(cgroups, name)
        with (place / "boot.log").open("ab") as log:
            keep(place / "root", name, group, log.fileno())
    except (OSError, subprocess.CalledProcessError) as error:
        tell(f"error: {error}")
    finally:
        if group is not None:
            end(group)
            remove(group)
        # Never removed while it is mounted: what is below it belongs to the kernel.
        subprocess.run(("umount", str(cgroups)), capture_output=True, check=False)
        if not cgroups.is_mount():
            shutil.rmtree(place, ignore_errors=True)
    return 0


def own_cgroup(cgroups: Path, name: str) -> Path:
    """A new group below our own, by way of a mount that nobody else sees. Raises OSError."""
    if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mount namespace can be made")
    cgroups.mkdir()
    subprocess.run(("mount", "-t", "cgroup2", "cgroup2", str(cgroups)), check=True)
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    ours = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    group = cgroups / ours.lstrip("/") / name
    group.mkdir()
    return group


def keep(root: Path, name: str, group: Path, log: int) -> None:
    """Boot, and boot anew for each line, until standard input closes or the machine ends."""
    while True:
        machine = boot(root, name, group, log)
        tell(str(first_process(machine)))
        pressed = waited(machine)
        end(group)
        machine.wait()
        if not pressed:
            return


def boot(root: Path, name: str, group: Path, log: int) -> subprocess.Popen[bytes]:
    """Start systemd there. It dies with us, and everything in its pid namespace with it."""

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    return subprocess.Popen(
        ("unshare", *NAMESPACES, "--propagation", "private", "sh", "-c", FURNISH, "sh", str(root), name),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - one thread
    )


def first_process(machine: subprocess.Popen[bytes]) -> int:
    """The pid of systemd, as seen from here, once it is systemd. Raises OSError."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
    deadline = time.monotonic() + BOOT_S
    while machine.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for pid in children.read_text(encoding="ascii").split():
                if Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() == "systemd":
                    return int(pid)
        time.sleep(POLL_S)
    raise OSError("systemd does not start, see boot.log")


def waited(machine: subprocess.Popen[bytes]) -> bool:
    """Wait for a line (True), for the end of standard input, or for the machine's."""
    ended = os.pidfd_open(machine.pid)
    try:
        ready, _, _ = select.select([0, ended], [], [])
        return 0 in ready and bool(os.read(0, 64))
    finally:
        os.close(ended)


def end(group: Path) -> None:
    """Kill all that is in the group, and wait until nothing is."""
    deadline = time.monotonic() + SWEEP_S
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1", encoding="ascii")
    while "populated 1" in (group / "cgroup.events").read_text(encoding="ascii") and time.monotonic() < deadline:
        time.sleep(POLL_S)


def remove(group: Path) -> None:
    """Remove the group and those that systemd has made in it, the deepest first."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def tell(text: str) -> None:
    """Say it to the test run."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
