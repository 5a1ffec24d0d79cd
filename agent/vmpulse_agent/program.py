"""The program ``vmpulse-agent`` itself: from the command line to a host at work. Needs all of the extra ``agent``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.errors import AgentError
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, LibvirtOptions
from vmpulse_agent.session import Policy
from vmpulse_agent.settings import PREFIX, AgentSettings, broker_of, checked_labels, host_of
from vmpulse_agent.tombstone_file import TombstoneFile
from vmpulse_contract.errors import BadName, SettingsError
from vmpulse_contract.settings import add_flags
from vmpulse_contract.stream import HostFacts
from vmpulse_edges import logs
from vmpulse_edges.errors import EdgeError
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

log = logging.getLogger(__name__)

EXIT_CODES = "exit codes: 0 stopped as told, 1 cannot work (broker, hypervisor, another agent), 2 a setting is wrong"


def main(argv: list[str] | None = None) -> int:
    """Run the program; gives its exit code."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except (SettingsError, BadName) as error:
        sys.stderr.write(f"vmpulse-agent: {error}\n")
        return 2
    except (AgentError, EdgeError) as error:
        sys.stderr.write(f"vmpulse-agent: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmpulse-agent",
        description="Tells a virtualization engine what the VMs of this host do.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('vmpulse')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="read the hypervisor and publish until told to stop", epilog=EXIT_CODES)
    add_flags(run, AgentSettings, PREFIX)
    return parser


def _run(args: argparse.Namespace) -> int:
    settings = load(AgentSettings, args, PREFIX)
    host = host_of(settings, socket.getfqdn())
    url = broker_of(settings, host, read_secret("broker_password_file", settings.broker_password_file))
    facts = HostFacts(
        tick_ms=round(settings.tick_s * 1000),
        fqdn=socket.getfqdn(),
        agent_version=version("vmpulse"),
        labels=checked_labels(settings),
    )
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(_until_told(settings, host, url, facts))
    return 0


async def _until_told(settings: AgentSettings, host: HostId, url: BrokerUrl, facts: HostFacts) -> None:
    """Serve until SIGTERM or SIGINT; then say goodbye and end."""
    link = AmqpLink(url, f"vmpulse-agent {host}")
    agent = _build(settings, host, link, facts)
    serving = asyncio.create_task(agent.run())
    linked = asyncio.create_task(link.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        done, _ = await asyncio.wait({serving, linked}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                await task
        log.info("stopped")
    except BaseExceptionGroup as group:
        # A task group wraps what ended one of its tasks; the user wants that one line.
        raise group.exceptions[0] from group
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        linked.cancel()
        await asyncio.gather(linked, return_exceptions=True)


def _build(settings: AgentSettings, host: HostId, link: AmqpLink, facts: HostFacts) -> HostAgent:
    kept = TombstoneFile(Path(settings.state_dir)) if settings.state_dir else None
    return HostAgent(
        host,
        LibvirtHypervisor(
            LibvirtOptions(
                uri=settings.uri,
                guest_agent=settings.guest_agent,
                run_dir=Path(settings.run_dir),
                tick_s=settings.tick_s,
            )
        ),
        link,
        facts=facts,
        timing=Timing(settings.tick_s, settings.refresh_s, settings.device_s),
        policy=Policy(settings.damping_s, settings.unresponsive_after_s, settings.tombstone_s),
        tombstones=kept.read() if kept else (),
        phase_s=random.uniform(0, settings.tick_s),  # noqa: S311 - spreads a fleet over the tick, no secrecy
        on_tombstones=kept.keep if kept else None,
    )
