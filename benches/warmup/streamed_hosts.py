"""A fleet of which all is made beforehand: ``python -m benches.warmup.streamed_hosts``, started by the bench.

Agents with sessions of their own cost the machine more than a view of thousands of hosts does. What these hosts say
was said by real sessions, for some of them, and is said again for the others, in few system calls; one queue answers
for all of them. Nothing happens in them but that values change from frame to frame.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benches.simulated import SimulatedFleet, flags
from benches.streamed.answering import Answering
from benches.streamed.cadence import Cadence, Rhythm
from benches.streamed.fleet import StreamedFleet
from benches.streamed.templates import templates
from vmpulse_contract import broker_url
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl

PROGRAM: Final = (sys.executable, "-m", "benches.warmup.streamed_hosts")
SEED: Final = 1
LOOK_S: Final = 0.5


class StreamedHosts(SimulatedFleet):
    """Such a fleet and its broker."""

    def commands(self) -> list[list[str]]:
        """The program that speaks for the hosts."""
        options = {
            "hosts": self.size.hosts,
            "vms": self.size.vms,
            "tick": self.size.tick_s,
            "broker-url": self.address,
            "broker-password-file": self.secret,
        }
        return [[*PROGRAM, *flags(options)]]


async def speak(broker: BrokerUrl, hosts: int, vms: int, tick_s: float) -> int:
    """Speak for the hosts until cancelled; gives the exit code of a program whose broker is gone."""
    made = await templates(hosts, vms, SEED)
    fleet = StreamedFleet(made, hosts, time.monotonic, SEED)
    with Answering(broker, fleet), Cadence(broker, fleet) as cadence:
        cadence.speak(hosts, Rhythm(tick_s=tick_s, changes_a_minute=0.0))
        while not cadence.failed:  # noqa: ASYNC110 - a thread's word, which wakes nobody
            await asyncio.sleep(LOOK_S)
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM or SIGINT; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.warmup.streamed_hosts")
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--vms", type=int, required=True)
    parser.add_argument("--tick", type=float, required=True, help="seconds between two frames of a host")
    parser.add_argument("--broker-url", required=True, help="the broker; its user needs the tag impersonator")
    parser.add_argument("--broker-password-file", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    password = options.broker_password_file.read_text(encoding="utf-8")
    broker = broker_url.parse("--broker-url", options.broker_url, password)
    return run_until_told(speak(broker, options.hosts, options.vms, options.tick))


if __name__ == "__main__":
    sys.exit(main())
