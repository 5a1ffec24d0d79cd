"""A libvirtd of one's own: real QEMU domains, seen by nobody else, and nothing left behind.

The daemon and its domains live in mount, network and host-name namespaces of their own. Bind mounts put libvirt's fixed
folders (/etc/libvirt, /run/libvirt, ...) below one root folder, so several daemons run side by side and the system's is
never touched; tap devices, the bridge and VNC ports vanish with the network namespace. Only the socket is reached from
outside, by its path below the root folder. The pid namespace is the caller's, so the pids that libvirt writes are true.

A *keeper* process holds the namespaces, starts the daemon and inherits its orphans. When its standard input closes, be
it by ``stop`` or because the test was killed, it kills every process of its mount namespace, removes the root folder
and ends. So there is one way to clean up, and it always runs.

Needs root, libvirtd, qemu-system-x86_64 and iproute2; no systemd, no dbus, no KVM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS: Final = ("libvirtd", "qemu-system-x86_64", "unshare", "mount", "ip")
FOLDERS: Final = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
SOCKET_PATH_MAX: Final = 107
"""sun_path has 108 bytes, the last of them 0."""
BRIDGE: Final = "lab0"
LOOPBACK: Final = "127.0.0.1"
START_S: Final = 30.0
STOP_S: Final = 30.0

_LIBVIRTD_CONF: Final = """\
unix_sock_dir = "{sockets}"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:{log}"
host_uuid = "{host_uuid}"
listen_tls = 0
auth_tcp = "none"
{listen}
"""
# As root, so that QEMU and the daemon see the same /dev/kvm: else every start probes the capabilities anew, 4.5 s.
# No virtlogd, no cgroups, no /dev namespaces: each would outlive the daemon or need an owner of its own.
_QEMU_CONF: Final = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
seccomp_sandbox = 0
"""


def missing() -> str | None:
    """Why no private libvirt can run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


class PrivateLibvirt:
    """One private libvirtd with everything below *root*.

    Args:
        root: an empty folder whose path is short, for the socket's path is bounded by 107 bytes.
        hostname: what this libvirt calls its host.
        address: where it also listens for other libvirts, inside its own network namespace; see libvirt_pair.

    Use it as a context manager, or call ``start`` and ``stop``. ``kill`` is SIGKILL for the daemon alone: its domains
    live on, as they do when a real daemon dies, until ``start`` takes them up again or ``stop`` ends everything.
    """

    def __init__(self, root: Path, hostname: str = "private-libvirt", address: str | None = None) -> None:
        self.root = root
        self.hostname = hostname
        self.address = address
        self.host_uuid = str(uuid4())
        self._keeper: subprocess.Popen[str] | None = None
        self._daemon: int | None = None
        if len(str(self._socket)) > SOCKET_PATH_MAX:
            msg = f"{self._socket} is longer than a socket's path may be ({SOCKET_PATH_MAX}); use a shorter root folder"
            raise ValueError(msg)

    @property
    def _socket(self) -> Path:
        # Named by us: a daemon finds its default name through the systemd socket files, which are not there.
        return self.root / "sock" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """The URI for read-write and read-only connections; libvirt has one socket for each."""
        return f"qemu+unix:///system?socket={self._socket}"

    @property
    def uri_read_only(self) -> str:
        """The URI whose socket serves only read-only connections."""
        return f"qemu+unix:///system?socket={self._socket}-ro"

    @property
    def run_dir(self) -> Path:
        """Where this libvirt keeps the pid files of its domains; reachable from outside."""
        return self.root / "run" / "qemu"

    @property
    def log(self) -> str:
        """What the daemon has complained of."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / "log" / "libvirtd.log").read_text()
        return ""

    @property
    def keeper_pid(self) -> int:
        """A process inside the namespaces, for nsenter and ``ip link set ... netns``."""
        return self._running_keeper().pid

    @property
    def daemon_pid(self) -> int | None:
        """The daemon's pid; None while it is not running."""
        return self._daemon

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon and wait until it listens. Domains that outlived a kill are taken up. Bounded by 30 s."""
        if self._keeper is None:
            self._prepare()
            self._keeper = subprocess.Popen(
                [sys.executable, __file__, str(self.root), self.hostname, self.address or LOOPBACK],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._hear()
        # A daemon killed while it runs another program (QEMU to try it out, one for its networks) leaves a child, which
        # holds the locks of all its drivers for a moment.
        run = self.root / "run"
        for path in (*(self.root / "sock").iterdir(), run / "libvirtd.pid", *run.glob("*/driver.pid")):
            path.unlink(missing_ok=True)
        self._daemon = int(self._ask("start"))
        _wait_for(self._listening, START_S, lambda: f"libvirtd does not listen: {self.log[-500:]}")

    def kill(self) -> None:
        """SIGKILL for the daemon; its domains live on."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM for the daemon, as for a package upgrade; its domains live on."""
        self._end(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the daemon: SIGSTOP makes it hang, SIGCONT lets it go on."""
        if self._daemon is not None:
            os.kill(self._daemon, number)

    @contextlib.contextmanager
    def hung(self, *names: str) -> Iterator[None]:
        """The QEMU processes of these domains are stopped for as long as the block lasts; some may end meanwhile."""
        pids = [self.domain_pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def restart(self) -> None:
        """SIGKILL and start."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End the daemon and all its domains, and remove the root folder. Bounded by 30 s; may be called twice."""
        keeper, self._keeper, self._daemon = self._keeper, None, None
        if keeper is not None:
            _pipe(keeper.stdin).close()
            try:
                keeper.wait(STOP_S)
            finally:
                keeper.kill()
                keeper.wait()
                _pipe(keeper.stdout).close()

    def light_domain(self, name: str, *, uuid: UUID | None = None, memory_mib: int = 16, vnc: bool = False) -> str:
        """XML of a domain that costs next to nothing: no system, running in its BIOS; disk, card, balloon, channel.

        The disk is a sparse file of 1 MiB below the root folder.
        """
        disk = self.root / "disks" / f"{name}.raw"
        disk.parent.mkdir(exist_ok=True)
        if not disk.exists():
            disk.touch()
            os.truncate(disk, 1 << 20)
        graphics = "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>" if vnc else ""
        return _LIGHT_DOMAIN.format(
            name=name, uuid=uuid or uuid4(), memory=memory_mib, disk=disk, bridge=BRIDGE, graphics=graphics
        )

    def domain_pid(self, name: str) -> int:
        """The pid of a running domain's QEMU. Raises FileNotFoundError if it is not running."""
        return int((self.run_dir / f"{name}.pid").read_text())

    def _prepare(self) -> None:
        for folder in (*FOLDERS, "sock", "etc/qemu"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for target in FOLDERS.values():
            Path(target).mkdir(parents=True, exist_ok=True)
        conf = _LIBVIRTD_CONF.format(
            sockets=self.root / "sock",
            log=self.root / "log" / "libvirtd.log",
            host_uuid=self.host_uuid,
            listen=f'listen_tcp = 1\nlisten_addr = "{self.address}"' if self.address else "listen_tcp = 0",
        )
        (self.root / "etc" / "libvirtd.conf").write_text(conf)
        (self.root / "etc" / "qemu.conf").write_text(_QEMU_CONF)

    def _listening(self) -> bool:
        return self._socket.exists() and self._socket.with_name("libvirt-sock-ro").exists()

    def _end(self, number: signal.Signals) -> None:
        pid, self._daemon = self._daemon, None
        if pid is None:
            return
        os.kill(pid, number)
        _wait_for(lambda: not _alive(pid), STOP_S, lambda: f"libvirtd {pid} does not end")

    def _running_keeper(self) -> subprocess.Popen[str]:
        if self._keeper is None:
            msg = "the private libvirt has not been started"
            raise RuntimeError(msg)
        return self._keeper

    def _ask(self, question: str) -> str:
        pipe = _pipe(self._running_keeper().stdin)
        pipe.write(question + "\n")
        pipe.flush()
        return self._hear()

    def _hear(self) -> str:
        answer = _pipe(self._running_keeper().stdout).readline().strip()
        if not answer or answer.startswith("error"):
            self.stop()
            msg = f"the private libvirt cannot run: {answer or 'its keeper has ended'}"
            raise RuntimeError(msg)
        return answer


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _alive(pid: int) -> bool:
    """Whether anything is left of a process.

    Its first thread may have ended while others still hold sockets and locks; it is reaped when all have.
    """
    return Path(f"/proc/{pid}").exists()


def _wait_for(condition: Callable[[], bool], seconds: float, complaint: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(complaint())
        time.sleep(0.01)


_LIGHT_DOMAIN: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>
  <clock offset='variable' adjustment='0' basis='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
      <serial>disk-{name}</serial>
    </disk>
    <interface type='bridge'><source bridge='{bridge}'/><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='virtio'><stats period='2'/></memballoon>
    {graphics}
  </devices>
</domain>
"""


# --- the keeper: everything below runs inside the namespaces, with the standard library alone ------------------------

_PR_SET_CHILD_SUBREAPER: Final = 36
_NAMESPACES: Final = ["unshare", "--mount", "--net", "--uts", "--propagation", "private"]


def _keep(root: Path, hostname: str, address: str) -> None:
    """Hold the namespaces, start the daemon on request, and kill all that is left when standard input closes."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        _furnish(root, hostname, address)
        # From here on: before, it would take away the exit codes that subprocess.run waits for.
        signal.signal(signal.SIGCHLD, lambda *_: _reap())
        _tell("ready")
        for line in sys.stdin:
            if line.strip() == "start":
                _tell(str(_start_daemon(root)))
    except (OSError, subprocess.CalledProcessError) as error:
        _tell(f"error: {error}")
    finally:
        _kill_namespace()
        shutil.rmtree(root, ignore_errors=True)


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _furnish(root: Path, hostname: str, address: str) -> None:
    for folder, target in FOLDERS.items():
        subprocess.run(["mount", "--bind", str(root / folder), target], check=True, capture_output=True)
    Path("/proc/sys/kernel/hostname").write_text(hostname)
    for words in (
        f"link add {BRIDGE} type bridge",
        f"link set {BRIDGE} up",
        "link set lo up",
        f"address replace {address}/32 dev lo",
    ):
        subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _start_daemon(root: Path) -> int:
    with (root / "log" / "libvirtd.out").open("ab") as output:
        daemon = subprocess.Popen(
            ["libvirtd", "--listen", "-f", "/etc/libvirt/libvirtd.conf", "-p", str(root / "run" / "libvirtd.pid")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # The keeper reaps all its children itself, in one place.
    daemon.returncode = 0
    return daemon.pid


def _reap() -> bool:
    """Take leave of all children that have ended. Tells whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _kill_namespace() -> None:
    """SIGKILL for every process of our mount namespace but ourselves, until none is left, not even unreaped."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end = time.monotonic() + STOP_S
    while (_reap() or _neighbours()) and time.monotonic() < end:
        for pid in _neighbours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _neighbours() -> list[int]:
    ours = Path("/proc/self/ns/mnt").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if re.fullmatch("[0-9]+", entry.name) and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns" / "mnt").readlink() == ours:
                    found.append(int(entry.name))
    return found


if __name__ == "__main__":
    if len(sys.argv) > len(("program", "root", "hostname", "address")):
        _keep(Path(sys.argv[1]), *sys.argv[2:4])
    else:
        os.execvp("unshare", [*_NAMESPACES, sys.executable, __file__, *sys.argv[1:], "inside"])  # noqa: S606
