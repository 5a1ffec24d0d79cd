"""A part of a large fleet as one process: ``python -m benches.warmup.fleet_part``, started by the bench.

One process cannot speak for thousands of hosts: it would be too busy for the heartbeats of its connection. Parts have
hosts of their own, by their numbers, which begin one after the other, at a pace that the machine can follow. Nothing
happens in them but that loads go up and down.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vmpulse_agent.host_agent import Timing
from vmpulse_contract import broker_url
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl


class FleetPart(Fleet):
    """Some hosts of a fleet.

    Args:
        numbers: which ones.
        vms: how many VMs on each.
    """

    def __init__(self, numbers: range, vms: int) -> None:
        super().__init__(0, vms, 1, time.monotonic)
        self.hypervisors = [self._host(number) for number in numbers]
        self.homes = {vm: hypervisor for hypervisor in self.hypervisors for vm in hypervisor.domains}


async def speak(part: FleetPart, broker: BrokerUrl, tick_s: float, begin_s: float) -> int:
    """Speak for the hosts until cancelled; gives the exit code."""
    await FleetAgents(part, broker, timing=Timing(tick_s=tick_s), stagger_s=begin_s).run()
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM or SIGINT; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.warmup.fleet_part")
    parser.add_argument("--first", type=int, required=True, help="number of its first host")
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--vms", type=int, required=True)
    parser.add_argument("--tick", type=float, required=True, help="seconds between two looks")
    parser.add_argument("--begin", type=float, required=True, help="seconds between the first words of two hosts")
    parser.add_argument("--broker-url", required=True, help="the broker; its user needs the tag impersonator")
    parser.add_argument("--broker-password-file", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    password = options.broker_password_file.read_text(encoding="utf-8")
    broker = broker_url.parse("--broker-url", options.broker_url, password)
    part = FleetPart(range(options.first, options.first + options.hosts), options.vms)
    return run_until_told(speak(part, broker, options.tick, options.begin))


if __name__ == "__main__":
    sys.exit(main())
