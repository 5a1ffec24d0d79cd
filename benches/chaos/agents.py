"""The agents of some hosts as one process, to be killed: ``python -m benches.chaos.agents``, started by the bench.

Each host has the real agent with a broker connection and a state directory of its own, as ``vmpulse-agent run`` puts
them together; only the hypervisor is in another process. An agent that ends by itself is started again, as by systemd.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benches.chaos.remote_hypervisor import RemoteHypervisor
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.errors import AgentError
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_agent.tombstone_file import TombstoneFile
from vmpulse_contract import broker_url
from vmpulse_contract.identity import host_id
from vmpulse_contract.stream import HostFacts
from vmpulse_edges.errors import EdgeError
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

log = logging.getLogger(__name__)

VERSION: Final = "chaos"
RESTART_S: Final = 2.0
"""RestartSec of the agent's unit."""


TICKS: Final = Timing(tick_s=1.0, refresh_s=100.0, device_s=5.0, device_report_s=100.0)
"""The agent's rhythms in ticks, as they are by default: those of a shorter tick are as much shorter."""


class Place(NamedTuple):
    """Where the agents find what they need."""

    socket: Path
    broker: BrokerUrl
    state: Path
    tick_s: float


async def serve(host: HostId, place: Place, phase_s: float) -> int:
    """Run a host's agent until cancelled, one after the other where one ends by itself."""
    while True:
        try:
            await run_agent(host, place, phase_s)
        except* (AgentError, EdgeError) as group:
            log.warning("host %s: its agent ended and is started again: %s", host, group.exceptions[0])
        await asyncio.sleep(RESTART_S)


async def run_agent(host: HostId, place: Place, phase_s: float) -> None:
    """Run one agent until cancelled, on which it says goodbye. Raises AgentError or EdgeError."""
    hypervisor = RemoteHypervisor(host, place.socket)
    link = AmqpLink(place.broker, f"vmpulse-agent {host}")
    kept = TombstoneFile(place.state / host)
    agent = HostAgent(
        host,
        hypervisor,
        link,
        facts=HostFacts(tick_ms=round(place.tick_s * 1000), fqdn=f"{host}.simulated.example", agent_version=VERSION),
        timing=timing_of(place.tick_s),
        tombstones=kept.read(),
        phase_s=phase_s,
        on_tombstones=kept.keep,
    )
    hypervisor.epoch = agent.session.epoch
    serving, linked = asyncio.create_task(agent.run()), asyncio.create_task(link.run())
    try:
        done, _ = await asyncio.wait({serving, linked}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        linked.cancel()
        await asyncio.gather(linked, return_exceptions=True)


def timing_of(tick_s: float) -> Timing:
    """Give the rhythms that go with a tick of so many seconds."""
    return Timing(*(ticks * tick_s for ticks in TICKS))


async def serve_all(hosts: Sequence[HostId], place: Place) -> int:
    """Run all agents until cancelled; their looks are spread over the tick."""
    async with asyncio.TaskGroup() as group:
        for index, host in enumerate(hosts):
            group.create_task(serve(host, place, place.tick_s * index / len(hosts)))
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM or SIGINT; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.chaos.agents", description="Agents of simulated hosts.")
    parser.add_argument("--socket", type=Path, required=True, help="where the hypervisors are served")
    parser.add_argument("--broker-url", required=True, help="the broker; its user needs the tag impersonator")
    parser.add_argument("--broker-password-file", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for the agents' state directories")
    parser.add_argument("--tick", type=float, required=True, help="seconds between two looks")
    parser.add_argument("hosts", nargs="+", type=host_id)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The link tells the same, with the remedy.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    password = options.broker_password_file.read_text(encoding="utf-8")
    broker = broker_url.parse("--broker-url", options.broker_url, password)
    return run_until_told(serve_all(options.hosts, Place(options.socket, broker, options.state, options.tick)))


if __name__ == "__main__":
    sys.exit(main())
