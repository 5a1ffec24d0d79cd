"""What ``check`` asks of libvirt beside what the agent always asks. Everything here blocks: for lanes only."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.libvirt_edge import complaints
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_local_qemu, is_test

BUSY_MS: Final = 500
"""A monitor answers a command within milliseconds."""


class Processes(NamedTuple):
    """The running domains' processes: how many, of how many the pid file can be read, whose monitors do not answer.

    ``readable`` is None where the processes are not on this machine, so that there is nothing to read.
    """

    running: int
    readable: int | None
    hung: list[str]


def read_write_refusal(options: LibvirtOptions) -> str | None:
    """Why there is no read-write connection, which guest agents are asked through; None: nothing is amiss."""
    if is_test(options.uri):
        return None
    try:
        connection = libvirt.open(options.uri)
    except libvirt.libvirtError as error:
        return complaints.one_line(error)
    try:
        # A read-only socket lets read-write connections in and refuses only what they ask. This asks for the XML of no
        # configuration in a format that does not exist: nothing but the refusal to ask at all tells anything.
        connection.domainXMLFromNative("none", "")
    except libvirt.libvirtError as error:
        return complaints.one_line(error) if error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED else None
    finally:
        connection.close()
    return None


def processes(options: LibvirtOptions) -> Processes:
    """Look at the running domains' processes. Raises HypervisorError."""
    try:
        connection = libvirt.openReadOnly(options.uri)
    except libvirt.libvirtError as error:
        raise complaints.unavailable(options.uri, error) from error
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
