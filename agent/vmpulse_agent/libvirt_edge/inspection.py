"""What ``check`` asks of libvirt beside what the agent always asks. Everything here blocks: for lanes only."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.libvirt_edge import complaints
from vmpulse_agent.libvirt_edge.opening import Opener
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_local_qemu

BUSY_MS: Final = 500
"""A monitor answers a command within milliseconds."""


_SOCKET_NAME: Final = re.compile(r"/(lib)?virt\w*-sock(-ro)?$")


class Daemon(NamedTuple):
    """Who serves one of our connections, through which socket."""

    name: str
    path: str


class Processes(NamedTuple):
    """The running domains' processes: how many, of how many the pid file can be read, whose monitors do not answer.

    ``readable`` is None where the processes are not on this machine, so that there is nothing to read.
    """

    running: int
    readable: int | None
    hung: list[str]


def processes(options: LibvirtOptions) -> Processes:
    """Look at the running domains' processes. Raises HypervisorError."""
    opener = Opener(options)
    try:
        connection = opener.open(read_only=True)
    except libvirt.libvirtError as error:
        raise complaints.unavailable(options.uri, error, opener.refusal) from error
    try:
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        names = [domain.name() for domain in domains]
        hung = [domain.name() for domain in domains if _hangs(domain)]
    except libvirt.libvirtError as error:
        raise complaints.failed("the list of running domains", error) from error
    finally:
        connection.close()
    local = is_local_qemu(options.uri)
    readable = sum(_has_pid(options.run_dir / f"{name}.pid") for name in names) if local else None
    return Processes(len(names), readable, hung)


def daemons() -> list[Daemon]:
    """The daemons that this process is connected to through sockets on this machine, as the kernel tells."""
    found: dict[str, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if entry.is_socket():
                found |= _served(int(entry.name))
    return [Daemon(name, path) for path, name in sorted(found.items())]


def _served(descriptor: int) -> dict[str, str]:
    """Path and daemon, if this is a connection to one. Raises OSError if it is not connected."""
    with socket.socket(fileno=os.dup(descriptor)) as ours:
        path = ours.getpeername() if ours.family == socket.AF_UNIX else ""
        return {path: _served_by(ours, path)} if isinstance(path, str) and _SOCKET_NAME.search(path) else {}


def _served_by(ours: socket.socket, path: str) -> str:
    """Its name; where systemd listens for it, by what its socket is called."""
    pid = struct.unpack("3i", ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii", errors="replace").strip()
        if re.fullmatch(r"(lib)?virt\w*d", name):
            return name
    prefix = Path(path).name.partition("-sock")[0]
    return "libvirtd or virtproxyd" if prefix == "libvirt" else prefix


def _hangs(domain: libvirt.virDomain) -> bool:
    """Whether its monitor has been busy with one command for long. It takes no monitor."""
    try:
        state, _, since_ms = domain.controlInfo()
    except libvirt.libvirtError:
        # It has just ended, or this driver has no monitors.
        return False
    return state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED and since_ms >= BUSY_MS


def _has_pid(path: Path) -> bool:
    try:
        return path.read_text(encoding="ascii").strip().isdigit()
    except (OSError, ValueError):
        return False
