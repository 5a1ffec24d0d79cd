"""Reading one domain. Everything here blocks: for lanes only."""

from __future__ import annotations

from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

import libvirt

from vmpulse_agent.hypervisor import HypervisorFacts
from vmpulse_agent.libvirt_edge import canonical_xml, domain_xml, safe_xml
from vmpulse_agent.libvirt_edge.evidence import Role
from vmpulse_agent.libvirt_edge.handles import Handles
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.libvirt_edge.tokens import Lives
from vmpulse_agent.measures import Mended
from vmpulse_contract import limits
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import PauseCode

_STARTING: Final = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
_STATE: Final = libvirt.VIR_DOMAIN_STATS_STATE
_INCOMING: Final = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
_ROLES: Final = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: Role.SOURCE,
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: Role.DESTINATION,
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: Role.SAVING,
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: Role.RESTORING,
}


class DomainReading(NamedTuple):
    """A domain as it was. ``facts`` and ``config`` are None where they were not wanted or could not be read.

    ``refused``: why its configuration is not told.
    """

    active: bool
    domain_id: int
    state: int
    reason: int
    facts: domain_xml.Facts | None
    config: bytes | None
    refused: str | None = None


def read_domain(handles: Handles, vm: VmId, wanted: frozenset[Section], lives: Lives, mended: Mended) -> DomainReading:
    """Read what the wanted sections are made of. Raises libvirtError if the domain is gone."""
    domain, state = _now(handles, vm)
    facts = config = refused = None
    if wanted - {Section.CONFIG}:
        facts = _facts(domain, vm, lives, mended, starting=state == _STARTING)
    if Section.CONFIG in wanted and not _arrives_without_definition(domain, state):
        config, refused = _config(domain)
        mended.add("xml", int(refused is not None))
    return DomainReading(domain.ID() >= 0, domain.ID(), state[0], state[1], facts, config, refused)


def _now(handles: Handles, vm: VmId) -> tuple[libvirt.virDomain, tuple[int, int]]:
    """The domain with the id and the state that it has now. One call for one that was looked up before."""
    known = handles.domains.pop(vm, None)
    for domain, given in handles.detail.domainListGetStats([known], _STATE) if known is not None else ():
        handles.domains[vm] = domain
        return domain, (given.get("state.state", 0), given.get("state.reason", 0))
    domain = handles.detail.lookupByUUID(vm)
    state, reason = domain.state()[:2]
    if len(handles.domains) >= limits.VMS_PER_HOST.maximum:
        # They are of domains that are gone, mostly.
        handles.domains.clear()
    handles.domains[vm] = domain
    return domain, (state, reason)


def _facts(
    domain: libvirt.virDomain, vm: VmId, lives: Lives, mended: Mended, *, starting: bool
) -> domain_xml.Facts | None:
    life = lives.life(vm, domain.ID(), domain.name(), starting=starting) if domain.ID() >= 0 else None
    try:
        return domain_xml.facts(domain.XMLDesc(0), None if life is None else life.pid, mended)
    except safe_xml.XmlRefused:
        mended.add("xml")
        return None


def _arrives_without_definition(domain: libvirt.virDomain, state: tuple[int, int]) -> bool:
    """Whether it is being migrated here and its definition, if one comes along, has not come yet.

    Until then libvirt makes its inactive XML up from the live one, in which the CPU is written out.
    """
    return state in {_STARTING, _INCOMING} and not domain.isPersistent()


def _config(domain: libvirt.virDomain) -> tuple[bytes | None, str | None]:
    """The configuration, or why there is none."""
    try:
        return canonical_xml.canonical_config(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), None
    except safe_xml.XmlRefused as error:
        return None, str(error)


def role(connection: libvirt.virConnect, vm: VmId) -> Role:
    """What the domain's current job makes of it. It may wait for the monitor. Raises libvirtError."""
    domain = connection.lookupByUUID(vm)
    try:
        job = domain.jobStats()
    except libvirt.libvirtError as error:
        # libvirt tells of an incoming migration only that it does not tell; after post-copy began the guest runs here.
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_UNSUPPORTED or tuple(domain.state()[:2]) != _INCOMING:
            raise
        return Role.DESTINATION
    return _ROLES.get(job.get("operation", libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN), Role.NONE)


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
