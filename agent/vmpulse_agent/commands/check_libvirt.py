"""The hypervisor's part of ``check``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from vmpulse_agent.commands.findings import bounded, fail, ok, warn
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, addresses, inspection
from vmpulse_agent.libvirt_edge.threads import Lane

if TYPE_CHECKING:
    from vmpulse_agent.commands.findings import Finding
    from vmpulse_agent.libvirt_edge import LibvirtOptions

WHAT: Final = "libvirt"
DAEMON: Final = "daemon"
DOMAINS: Final = "domains"
GUESTS: Final = "guest agents"
PROCESSES: Final = "pid files"
INSPECT_S: Final = 5.0


async def check_libvirt(options: LibvirtOptions) -> list[Finding]:
    """Open libvirt as the agent does, look once, and see what is allowed. Raises HypervisorError without libvirt."""
    hypervisor = LibvirtHypervisor(options)
    await hypervisor.open(lambda _: None)
    try:
        known = await hypervisor.facts()
        return [
            ok(WHAT, f"{known.hypervisor_version}, libvirt {known.libvirt_version} at {addresses.shown(options.uri)}"),
            # Each by itself: what fails late must not hide what was found before.
            *await bounded(DAEMON, _daemons()),
            *await bounded(DOMAINS, _domains(hypervisor)),
            *await bounded(GUESTS, _guests(hypervisor, options)),
            *await bounded(PROCESSES, _processes(options)),
        ]
    finally:
        await hypervisor.close()


async def _daemons() -> list[Finding]:
    """Which daemon, through which sockets. None: another machine's, or a driver in our own process."""
    seen = await Lane("inspect", 1).run("daemons", inspection.daemons, INSPECT_S)
    served = [f"{daemon.name} at {daemon.path}" for daemon in seen]
    return [ok(DAEMON, "; ".join(served))] if served else []


async def _domains(hypervisor: LibvirtHypervisor) -> list[Finding]:
    began = asyncio.get_running_loop().time()
    look = await hypervisor.look()
    took = asyncio.get_running_loop().time() - began
    active = sum(domain.token != 0 for domain in look.domains)
    return [ok(DOMAINS, f"{active} active, {len(look.domains) - active} inactive; a look took {took:.3f} s")]


async def _guests(hypervisor: LibvirtHypervisor, options: LibvirtOptions) -> list[Finding]:
    if not options.guest_agent:
        return [ok(GUESTS, "not asked, by the setting guest_agent")]
    if hypervisor.lacking is None:
        return [ok(GUESTS, "may be asked" if hypervisor.asks_guests else "this driver has none")]
    detail = f"may not be asked: {hypervisor.lacking}; what guests tell will be absent"
    mend = "let the agent use the read-write socket: as root or in the group libvirt; or set guest_agent to false"
    return [warn(GUESTS, detail, mend)]


async def _processes(options: LibvirtOptions) -> list[Finding]:
    seen = await Lane("inspect", 1).run("processes", lambda: inspection.processes(options), INSPECT_S)
    found = []
    if seen.hung:
        named = f"{', '.join(seen.hung[:3])}{', ...' if seen.hung[3:] else ''}"
        mend = "see what its process waits for, such as its storage; virsh domcontrol DOMAIN"
        found.append(warn("monitors", f"{len(seen.hung)} of {seen.running} do not answer: {named}", mend))
    if seen.readable is None:
        return found
    detail = f"{seen.readable} of {seen.running} running domains have a readable one in {options.run_dir}"
    if seen.readable == seen.running:
        return [*found, ok(PROCESSES, detail)]
    mend = "set run_dir to where libvirt's qemu driver keeps them, or let the agent read that folder"
    return [*found, fail(PROCESSES, f"{detail}: one life of a VM could be taken for the next", mend)]
