"""``vmpulse-agent run``: from settings to a host at work."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vmpulse_agent import health
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.commands import EXIT_CODES
from vmpulse_agent.commands.assembly import host_facts, libvirt_options, policy
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_agent.libvirt_edge import LibvirtHypervisor
from vmpulse_agent.loop_watch import watched_loop
from vmpulse_agent.measures import Calls, LoopMeasure
from vmpulse_agent.metrics_server import MetricsServer
from vmpulse_agent.settings import PREFIX, AgentSettings, broker_of, host_of
from vmpulse_agent.tombstone_file import TombstoneFile
from vmpulse_contract.settings import add_flags
from vmpulse_edges import logs, sd_notify
from vmpulse_edges.amqp_connection import warn_if_open
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    from vmpulse_agent.commands import Subparsers
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId
    from vmpulse_contract.stream import HostFacts
    from vmpulse_edges.sd_notify import Notifier

log = logging.getLogger(__name__)


def add_parser(subparsers: Subparsers) -> None:
    """Add ``run``."""
    parser = subparsers.add_parser("run", help="read the hypervisor and publish until told to stop", epilog=EXIT_CODES)
    add_flags(parser, AgentSettings, PREFIX)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises AgentError, EdgeError, SettingsError, BadName."""
    settings = load(AgentSettings, args, PREFIX)
    host = host_of(settings, socket.getfqdn())
    url = broker_of(settings, host, read_secret("broker_password_file", settings.broker_password_file))
    facts = host_facts(settings, socket.getfqdn())
    logs.configure(settings.log_level, settings.log_format)
    warn_if_open(url)
    measure = LoopMeasure()
    with asyncio.Runner(loop_factory=lambda: watched_loop(measure)) as runner:
        runner.run(_until_told(settings, host, url, facts, sd_notify.from_environment(os.environ), measure))
    return 0


async def _until_told(  # noqa: PLR0917 - the parts of one program
    settings: AgentSettings,
    host: HostId,
    url: BrokerUrl,
    facts: HostFacts,
    notifier: Notifier,
    measure: LoopMeasure,
) -> None:
    """Serve until SIGTERM or SIGINT; then say goodbye and end."""
    link, calls = AmqpLink(url, f"vmpulse-agent {host}"), Calls()
    agent = _build(settings, host, link, facts, calls)
    with contextlib.ExitStack() as stack:
        if settings.metrics_port != "":
            server = MetricsServer(settings.metrics_host, settings.metrics_port, lambda: (agent,), link, calls, measure)
            stack.enter_context(server)
        telling = asyncio.create_task(_keep_told(notifier, agent, link))
        try:
            await _serve(agent, link, telling)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


async def _serve(agent: HostAgent, link: AmqpLink, telling: asyncio.Task[None]) -> None:
    serving = asyncio.create_task(agent.run())
    linked = asyncio.create_task(link.run())

    def stop() -> None:
        telling.cancel()
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
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


async def _keep_told(notifier: Notifier, agent: HostAgent, link: AmqpLink) -> None:
    """Tell systemd. Ready: the host's state is known, and the broker has taken us or cannot be reached.

    A broker that is away must not keep the unit from starting, since nothing would come of restarting it; one that
    refuses us, or another agent that has the host, ends the program before it was ready, and so fails the start.
    """
    await sd_notify.keep_told(
        notifier,
        ready=lambda: agent.session.ready and link.settled,
        advancing=lambda: health.advancing(agent, time.monotonic()),
        status=lambda: health.status_line((agent,), link, time.monotonic()),
    )


def _build(settings: AgentSettings, host: HostId, link: AmqpLink, facts: HostFacts, calls: Calls) -> HostAgent:
    kept = TombstoneFile(Path(settings.state_dir)) if settings.state_dir else None
    return HostAgent(
        host,
        LibvirtHypervisor(libvirt_options(settings), calls),
        link,
        facts=facts,
        timing=Timing(settings.tick_s, settings.refresh_s, settings.device_s, settings.device_report_s),
        policy=policy(settings),
        tombstones=kept.read() if kept else (),
        phase_s=random.uniform(0, settings.tick_s),  # noqa: S311 - spreads a fleet over the tick, no secrecy
        on_tombstones=kept.keep if kept else None,
    )
