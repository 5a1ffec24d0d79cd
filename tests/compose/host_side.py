"""A host for the profile ``host``: a private libvirt with two light QEMU domains, whose socket the agent may use."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import libvirt

from tests.compose.failures import ComposeTestFailed
from tests.lab.private_libvirt import PrivateLibvirt, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compose.stack import Stack

HOST: Final = "compose-host"
AGENT_USER: Final = "vmpulse"
AGENT_UID: Final = 10_001
GROUP: Final = 10_777
DOMAINS: Final = ("compose-1", "compose-2")
SEEN_S: Final = 20.0
INSIDE: Final = "/run/libvirt"
"""Where the container sees the private libvirt's root folder."""


@contextlib.contextmanager
def private_host(folder: Path) -> Iterator[PrivateLibvirt]:
    """Run a libvirt with domains until the context is left. Raises ComposeTestFailed where none can run."""
    reason = missing()
    if reason is not None:
        raise ComposeTestFailed(f"no private libvirt: {reason}")
    with PrivateLibvirt(folder / "libvirt", HOST) as hypervisor:
        register_agent(hypervisor, folder)
        # As Debian's packages set it up: the socket is for a group.
        socket = hypervisor.root / "sock" / "libvirt-sock"
        os.chown(socket, 0, GROUP)
        socket.chmod(0o770)
        for name in DOMAINS:
            with connected(hypervisor) as connection:
                connection.defineXML(hypervisor.light_domain(name)).create()
        yield hypervisor


def register_agent(hypervisor: PrivateLibvirt, folder: Path) -> None:
    """Make the agent's user and group known on the host, as docs/deploy.md says: libvirtd refuses whom it cannot name.

    The host is the one that the private libvirtd sees; the machine's own users stay as they are.
    """
    lines = {
        "passwd": f"{AGENT_USER}:x:{AGENT_UID}:{AGENT_UID}::/nonexistent:/usr/sbin/nologin\n",
        "group": f"{AGENT_USER}:x:{AGENT_UID}:\n",
    }
    for name, line in lines.items():
        known = Path("/etc", name).read_text(encoding="utf-8")
        (folder / name).write_text(known + line, encoding="utf-8")
        inside = ("nsenter", "--mount", "--target", str(hypervisor.keeper_pid))
        subprocess.run(
            [*inside, "mount", "--bind", str(folder / name), f"/etc/{name}"], check=True, capture_output=True
        )


@contextlib.contextmanager
def connected(hypervisor: PrivateLibvirt) -> Iterator[Any]:
    """A connection of the test's own."""
    connection = libvirt.open(hypervisor.uri)
    try:
        yield connection
    finally:
        connection.close()


def values(root: Path) -> dict[str, str]:
    """What the stack must be told about a private libvirt that will have its root there."""
    return {
        "VMPULSE_HOST": HOST,
        "VMPULSE_LABELS": "cluster=compose,zone=a",
        "LIBVIRT_RUN_DIR": str(root),
        "LIBVIRT_PID_DIR": f"{INSIDE}/run/qemu",
        "LIBVIRT_URI": f"qemu+unix:///system?socket={INSIDE}/sock/libvirt-sock",
        "LIBVIRT_GID": str(GROUP),
        "VMPULSE_BROKER_INSECURE": "true",
    }


def agent_tells(stack: Stack, hypervisor: PrivateLibvirt) -> dict[str, float]:
    """The view shows the host live with its domains, and the end of one at once."""
    seconds = {
        "seen": stack.until(
            f"{DOMAINS} are Up", lambda: statuses(stack) == dict.fromkeys(DOMAINS, "Up"), SEEN_S, "agent"
        )
    }
    with connected(hypervisor) as connection:
        connection.lookupByName(DOMAINS[1]).destroy()
        expected = {DOMAINS[0]: "Up", DOMAINS[1]: "Down"}
        seconds["down"] = stack.until(f"{expected}", lambda: statuses(stack) == expected, SEEN_S, "agent")
        connection.lookupByName(DOMAINS[1]).create()
        stack.until(f"{DOMAINS[1]} is Up", lambda: statuses(stack) == dict.fromkeys(DOMAINS, "Up"), SEEN_S, "agent")
    return {name: round(value, 2) for name, value in seconds.items()}


def statuses(stack: Stack) -> dict[str, str]:
    """Name -> status of the host's VMs, as the view tells them while the host is live."""
    host = stack.get("VMPULSE_HTTP_PORT", f"/api/v1/hosts/{HOST}")
    if host["state"] != "live":
        raise httpx.HTTPError(f"{HOST} is {host['state']}")
    rows = stack.get("VMPULSE_HTTP_PORT", "/api/v1/vms", host=HOST)["vms"]
    return {row.get("name", ""): row["status"] for row in rows}
