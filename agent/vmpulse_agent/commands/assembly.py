"""What several subcommands are put together from, by the settings."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmpulse_agent.libvirt_edge import LibvirtOptions, addresses
from vmpulse_agent.session import Policy
from vmpulse_agent.settings import checked_labels
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.stream import HostFacts

if TYPE_CHECKING:
    from vmpulse_agent.settings import AgentSettings

URI_ALLOWED: Final = "a libvirt URI without a password; it belongs into libvirt_password_file"


def libvirt_options(settings: AgentSettings) -> LibvirtOptions:
    """How to look. Raises SettingsError for a URI with a password, which libvirt would take for a part of the user."""
    if addresses.has_password(settings.uri):
        raise SettingsError("uri", addresses.shown(settings.uri), URI_ALLOWED)
    secret = settings.libvirt_password_file
    return LibvirtOptions(
        uri=settings.uri,
        guest_agent=settings.guest_agent,
        guest_exec_apps=settings.guest_exec_apps,
        run_dir=Path(settings.run_dir),
        user=settings.libvirt_user,
        password_file=Path(secret) if secret else None,
        tick_s=settings.tick_s,
    )


def host_facts(settings: AgentSettings, fqdn: str) -> HostFacts:
    """What rosters say of the host, but for what the hypervisor knows. Raises SettingsError for bad labels."""
    return HostFacts(
        tick_ms=round(settings.tick_s * 1000),
        fqdn=fqdn,
        agent_version=version("vmpulse"),
        labels=checked_labels(settings),
    )


def policy(settings: AgentSettings) -> Policy:
    """The session's own settings."""
    return Policy(settings.damping_s, settings.unresponsive_after_s, settings.tombstone_s)
