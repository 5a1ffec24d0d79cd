"""The hypervisor's part of ``check``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from vmpulse_agent.commands.findings import fail, ok, warn
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, inspection
from vmpulse_agent.libvirt_edge.options import is_local_qemu
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
        look = await hypervisor.look()
        found = [ok(WHAT, f"{known.hypervisor_version}, libvirt {known.libvirt_version} at {options.uri}")]
        active = sum(domain.token != 0 for domain in look.domains)
        took = asyncio.get_running_loop().time() - look.started
        found.append(ok("domains", f"{active} active, {len(look.domains) - active} inactive; a look took {took:.3f} s"))
        silent = sum(domain.answered is False for domain in look.domains)
        if silent:
            found.append(warn("monitors", f"{silent} do not answer", "look at these domains: virsh domcontrol DOMAIN"))
        found.append(await _guests(hypervisor, options))
    finally:
        await hypervisor.close()
    return found + await _pid_files(options)


async def _guests(hypervisor: LibvirtHypervisor, options: LibvirtOptions) -> Finding:
    what = "guest agents"
    if not options.guest_agent:
        return ok(what, "not asked, by the setting guest_agent")
    refusal = await Lane("inspect", 1).run("guest", lambda: inspection.read_write_refusal(options), INSPECT_S)
    if hypervisor.asks_guests:
        return ok(what, "may be asked")
    if refusal is None:
        return ok(what, "this driver has none")
    return warn(
        what,
        f"may not be asked: {refusal}; what guests tell will be absent",
        "run the agent as root or in the group libvirt, or set guest_agent to false",
    )


async def _pid_files(options: LibvirtOptions) -> list[Finding]:
    if not is_local_qemu(options.uri):
        return []
    what = "pid files"
    counted = await Lane("inspect", 1).run("pids", lambda: inspection.pid_files(options), INSPECT_S)
    running, readable = counted or (0, 0)
    detail = f"{readable} of {running} running domains have a readable one in {options.run_dir}"
    if readable == running:
        return [ok(what, detail)]
    mend = "set run_dir to where libvirt's qemu driver keeps them, or let the agent read that folder"
    return [fail(what, f"{detail}: one life of a VM could be taken for the next", mend)]
