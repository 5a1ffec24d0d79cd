"""The hypervisor's part of ``check``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from vmpulse_agent.commands.findings import fail, ok, warn
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, inspection
from vmpulse_agent.libvirt_edge.threads import Lane

if TYPE_CHECKING:
    from vmpulse_agent.commands.findings import Finding
    from vmpulse_agent.libvirt_edge import LibvirtOptions

WHAT: Final = "libvirt"
INSPECT_S: Final = 5.0


async def check_libvirt(options: LibvirtOptions) -> list[Finding]:
    """Open libvirt as the agent does, look once, and see what is allowed. Raises HypervisorError."""
    hypervisor = LibvirtHypervisor(options)
    await hypervisor.open(lambda _: None)
    try:
        known = await hypervisor.facts()
        began = asyncio.get_running_loop().time()
        look = await hypervisor.look()
        took = asyncio.get_running_loop().time() - began
        found = [ok(WHAT, f"{known.hypervisor_version}, libvirt {known.libvirt_version} at {options.uri}")]
        active = sum(domain.token != 0 for domain in look.domains)
        found.append(ok("domains", f"{active} active, {len(look.domains) - active} inactive; a look took {took:.3f} s"))
        found.append(await _guests(hypervisor, options))
    finally:
        await hypervisor.close()
    return found + await _processes(options)


async def _guests(hypervisor: LibvirtHypervisor, options: LibvirtOptions) -> Finding:
    what = "guest agents"
    if not options.guest_agent:
        return ok(what, "not asked, by the setting guest_agent")
    refusal = await Lane("inspect", 1).run("guest", lambda: inspection.read_write_refusal(options), INSPECT_S)
    if refusal is None:
        return ok(what, "may be asked" if hypervisor.asks_guests else "this driver has none")
    return warn(
        what,
        f"may not be asked: {refusal}; what guests tell will be absent",
        "run the agent as root or in the group libvirt, or set guest_agent to false",
    )


async def _processes(options: LibvirtOptions) -> list[Finding]:
    seen = await Lane("inspect", 1).run("processes", lambda: inspection.processes(options), INSPECT_S)
    found = []
    if seen.hung:
        named = f"{', '.join(seen.hung[:3])}{', ...' if seen.hung[3:] else ''}"
        mend = "see what its process waits for, such as its storage; virsh domcontrol DOMAIN"
        found.append(warn("monitors", f"{len(seen.hung)} of {seen.running} do not answer: {named}", mend))
    if seen.readable is None:
        return found
    what, detail = (
        "pid files",
        f"{seen.readable} of {seen.running} running domains have a readable one in {options.run_dir}",
    )
    if seen.readable == seen.running:
        return [*found, ok(what, detail)]
    mend = "set run_dir to where libvirt's qemu driver keeps them, or let the agent read that folder"
    return [*found, fail(what, f"{detail}: one life of a VM could be taken for the next", mend)]
