"""Agents of some simulated hosts: ``python -m benches.connections.agents``, started by the bench.

Each has the agent's link with a connection of its own, as on a host; what became of the connections is written down
when the program is told to end.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benches.connections.watched_link import Notes, WatchedLink, serving
from vmpulse_agent.host_agent import Timing
from vmpulse_contract import broker_url
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import HostLife
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

TELL_S: Final = 0.25
SPARE_FILES: Final = 200
"""Descriptors of a process beside its connections."""


class Agents:
    """The agents of one process.

    Args:
        hypervisors: of their hosts.
        url: the broker; its user may speak for every host (tag ``impersonator``).
        tick_s: between two frames of a host.
    """

    def __init__(self, hypervisors: Sequence[SimulatedHypervisor], url: BrokerUrl, tick_s: float) -> None:
        self.links = [WatchedLink(url, hypervisor.host) for hypervisor in hypervisors]
        self._lags: list[tuple[float, float]] = []
        self._lives = [
            HostLife(hypervisor, link, Timing(tick_s=tick_s), {})
            for hypervisor, link in zip(hypervisors, self.links, strict=True)
        ]

    async def run(self, ramp_s: float) -> int:
        """Run them until cancelled; they start one after the other within *ramp_s* seconds. Raises what ends one."""
        tasks = {asyncio.create_task(self._tell())}
        for link, life in zip(self.links, self._lives, strict=True):
            tasks |= {asyncio.create_task(link.run()), asyncio.create_task(life.run())}
            await asyncio.sleep(ramp_s / len(self.links))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
        return 1

    def write_down(self, records: Path) -> None:
        """Write down every attempt of every host, and how late the loop was."""
        attempts = [attempt for link in self.links for attempt in link.attempts]
        records.write_bytes(msgspec.json.encode(Notes(attempts, self._lags)))

    async def _tell(self) -> None:
        """Say on stdout how many serve, whenever that has changed."""
        told = -1
        while True:
            now = serving(self.links)
            if now != told:
                sys.stdout.write(f"{now}\n")
                sys.stdout.flush()
                told = now
            due = time.monotonic() + TELL_S
            await asyncio.sleep(TELL_S)
            self._lags.append((due, time.monotonic() - due))


async def serve(agents: Agents, ramp_s: float, records: Path) -> int:
    """Run the agents until cancelled, and then write down what became of their connections."""
    try:
        return await agents.run(ramp_s)
    finally:
        # Before the goodbyes, which take a while and are none of what is measured.
        agents.write_down(records)


def allow_files(count: int) -> None:
    """Let this process and its children have so many descriptors. Raises OSError where the machine does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except ValueError as error:
        raise OSError(f"{count} open files are needed and {hard} allowed: raise `ulimit -Hn`") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM or SIGINT; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.connections.agents", description="Agents of some hosts.")
    parser.add_argument("--broker-url", required=True, help="the broker; its user needs the tag impersonator")
    parser.add_argument("--broker-password-file", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True, help="position of the first host")
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--vms", type=int, required=True, help="VMs of each")
    parser.add_argument("--tick", type=float, required=True, help="seconds between two frames of a host")
    parser.add_argument("--ramp", type=float, required=True, help="seconds in which they start one after the other")
    parser.add_argument("--records", type=Path, required=True, help="where to write down what became of connections")
    options = parser.parse_args(arguments)
    # Thousands of hosts that lost one broker would say so thousands of times; it is in the records.
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    allow_files(options.hosts + SPARE_FILES)
    fleet = Fleet(options.first + options.hosts, options.vms, 1, time.monotonic)
    password = options.broker_password_file.read_text(encoding="utf-8")
    url = broker_url.parse("--broker-url", options.broker_url, password)
    agents = Agents(fleet.hypervisors[options.first :], url, options.tick)
    return run_until_told(serve(agents, options.ramp, options.records))


if __name__ == "__main__":
    sys.exit(main())
