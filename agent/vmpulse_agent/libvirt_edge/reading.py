"""Reading one domain. Everything here blocks: for lanes only."""

from __future__ import annotations

from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

import libvirt

from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.hypervisor import HypervisorFacts
from vmpulse_agent.libvirt_edge import canonical_xml, domain_xml, guest_agent, safe_xml
from vmpulse_agent.libvirt_edge.evidence import Role
from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.handles import Handles
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.libvirt_edge.tokens import Lives
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.sections import Section
from vmpulse_contract.values import PauseCode

_STARTING: Final = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP]
_ROLES: Final = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: Role.SOURCE,
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: Role.DESTINATION,
}


class DomainReading(NamedTuple):
    """A domain as it was. ``facts`` and ``config`` are None where they were not wanted or could not be read.

    ``refused``: why its configuration is not told.
    """

    active: bool
    state: int
    reason: int
    facts: domain_xml.Facts | None
    config: bytes | None
    refused: str | None = None


def read_domain(handles: Handles, vm: VmId, wanted: frozenset[Section], lives: Lives) -> DomainReading:
    """Read what the wanted sections are made of. Raises libvirtError if the domain is gone."""
    domain = handles.detail.lookupByUUID(vm)
    state = domain.state()
    facts = config = refused = None
    if wanted - {Section.CONFIG}:
        facts = _facts(domain, vm, state[:2] == _STARTING, lives)
    if Section.CONFIG in wanted:
        config, refused = _config(domain)
    return DomainReading(domain.ID() >= 0, state[0], state[1], facts, config, refused)


def _facts(domain: libvirt.virDomain, vm: VmId, starting: bool, lives: Lives) -> domain_xml.Facts | None:  # noqa: FBT001
    life = lives.life(vm, domain.ID(), domain.name(), starting=starting) if domain.ID() >= 0 else None
    try:
        return domain_xml.facts(domain.XMLDesc(0), None if life is None else life.pid)
    except safe_xml.XmlRefused:
        return None


def _config(domain: libvirt.virDomain) -> tuple[bytes | None, str | None]:
    """The configuration, or why there is none."""
    try:
        return canonical_xml.canonical_config(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), None
    except safe_xml.XmlRefused as error:
        return None, str(error)


def ask_guest(handles: Handles, vm: VmId) -> GuestFacts | None:
    """Ask a guest's agent; None where we may not. Raises HypervisorError where it gave nothing that we can read.

    It may block for as long as the guest likes.
    """
    if handles.guest is None:
        return None
    try:
        return guest_agent.ask(handles.guest.lookupByUUID(vm))
    except (libvirt.libvirtError, ValueError, TypeError) as error:
        # ValueError: also text that is not UTF-8, from a binding that decodes what guests say.
        raise HypervisorError(f"the guest agent of {vm_text(vm)} gave nothing: {type(error).__name__}") from error


def migration_role(connection: libvirt.virConnect, vm: VmId) -> Role | None:
    """What the domain's current job makes of it. It may wait for the monitor. Raises libvirtError."""
    job = connection.lookupByUUID(vm).jobStats()
    return _ROLES.get(job.get("operation", libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN))


def disk_error(connection: libvirt.virConnect, vm: VmId) -> PauseCode:
    """Why the disks of a paused domain fail, where no event has told. It waits for the monitor. Raises libvirtError."""
    errors = connection.lookupByUUID(vm).diskErrors()
    return PauseCode.ENOSPC if libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE in errors.values() else PauseCode.EOTHER


def host_facts(handles: Handles) -> HypervisorFacts:
    """Facts of the host. Raises libvirtError."""
    connection = handles.detail
    return HypervisorFacts(
        host_uuid=_host_uuid(connection.getCapabilities()),
        hypervisor_version=f"{connection.getType()} {_dotted(connection.getVersion())}",
        libvirt_version=_dotted(connection.getLibVersion()),
    )


def _host_uuid(capabilities: str) -> str | None:
    try:
        root: Element = safe_xml.parse(capabilities)
    except safe_xml.XmlRefused:
        return None
    return clean(root.findtext("host/uuid"))


def _dotted(version: int) -> str:
    """Libvirt's numbers are 1,000,000 * major + 1,000 * minor + release."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
