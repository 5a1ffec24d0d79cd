"""What ``check`` asks of libvirt beside what the agent always asks. Everything here blocks: for lanes only."""

from __future__ import annotations

from pathlib import Path

import libvirt

from vmpulse_agent.libvirt_edge import complaints
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_local_qemu, is_test


def read_write_refusal(options: LibvirtOptions) -> str | None:
    """Why there is no read-write connection, which guest agents are asked through; None: nothing is amiss."""
    if is_test(options.uri):
        return None
    try:
        libvirt.open(options.uri).close()
    except libvirt.libvirtError as error:
        return complaints.one_line(error)
    return None


def pid_files(options: LibvirtOptions) -> tuple[int, int] | None:
    """How many of the running domains there are, and of how many the pid file can be read.

    None: the domains' processes are not on this machine, so that there is nothing to read. Raises libvirtError.
    """
    if not is_local_qemu(options.uri):
        return None
    connection = libvirt.openReadOnly(options.uri)
    try:
        names = [domain.name() for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)]
    finally:
        connection.close()
    return len(names), sum(_pid(options.run_dir / f"{name}.pid") for name in names)


def _pid(path: Path) -> bool:
    try:
        return path.read_text(encoding="ascii").strip().isdigit()
    except (OSError, ValueError):
        return False
