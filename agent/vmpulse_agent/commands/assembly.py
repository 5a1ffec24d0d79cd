"""What several subcommands are put together from, by the settings."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vmpulse_agent.libvirt_edge import LibvirtOptions
from vmpulse_agent.session import Policy
from vmpulse_agent.settings import checked_labels
from vmpulse_contract.stream import HostFacts

if TYPE_CHECKING:
    from vmpulse_agent.settings import AgentSettings


def libvirt_options(settings: AgentSettings) -> LibvirtOptions:
    """How to look."""
    return LibvirtOptions(
        uri=settings.uri, guest_agent=settings.guest_agent, run_dir=Path(settings.run_dir), tick_s=settings.tick_s
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
