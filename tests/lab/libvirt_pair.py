"""Two private libvirts that migrate domains to each other, over a cable between their network namespaces.

Both see the same file system but for libvirt's own folders, so a disk has the same path on either side. Each daemon
listens without authentication, which only the two can reach.
"""

from __future__ import annotations

import subprocess
from typing import Final

import libvirt

from tests.lab.private_libvirt import PrivateLibvirt

FIRST: Final = "10.98.0.1"
SECOND: Final = "10.98.0.2"
"""Addresses for the two; they exist only in their namespaces, so every pair may have the same."""
LINK: Final = "peer0"
LIVE: Final = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    # The disk is one file, which either QEMU opens without a cache of its own only if it is told so.
    | libvirt.VIR_MIGRATE_UNSAFE
)
AS_ENGINES_DO: Final = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
"""The definition goes along. Without it the domain is transient there, and libvirt writes out its CPU in the XML."""


def link(one: PrivateLibvirt, other: PrivateLibvirt) -> None:
    """Lay the cable. Both have been started, each with an address."""
    ends = f"netns {one.keeper_pid} type veth peer name {LINK} netns {other.keeper_pid}"
    _run("ip", *f"link add {LINK} {ends}".split())
    for end, far in ((one, other), (other, one)):
        _within(end, f"link set {LINK} up")
        _within(end, f"route add {far.address} dev {LINK} src {end.address}")


def migrate(
    domain: libvirt.virDomain, destination: PrivateLibvirt, flags: int = 0, *, bandwidth_mib_s: int | None = None
) -> None:
    """Migrate a running domain live, and return when it runs there. Raises libvirtError."""
    params: dict[str, object] = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{destination.address}"}
    if bandwidth_mib_s is not None:
        params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = bandwidth_mib_s
        if flags & libvirt.VIR_MIGRATE_POSTCOPY:
            params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY] = bandwidth_mib_s
    domain.migrateToURI3(f"qemu+tcp://{destination.address}/system", params, LIVE | flags)


def _within(end: PrivateLibvirt, words: str) -> None:
    _run("nsenter", "--target", str(end.keeper_pid), "--net", "ip", *words.split())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
