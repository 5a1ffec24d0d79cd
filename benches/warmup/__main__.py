"""How long a view takes to be of use after its start: ``python -m benches.warmup``; ``--quick`` for a small fleet.

A real RabbitMQ, the real agents of simulated hosts of which nothing changes but the load, and ``vmpulse view``, started
with an empty store and no queue (cold), ended, and started over its store at once (warm), some rounds of both. Then
the same with a large fleet, whose messages and answers are made beforehand. A relay counts the bytes to and from the
broker, and a queue of the bench's own beside the hosts' sees each request.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, it was
measured; 1, a part could not run; 2, the command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from benches.program import add_quick, count, run_and_tell
from benches.simulated import SimulatedFleet, Size
from benches.warmup.report import judged
from benches.warmup.request_tap import tap_user
from benches.warmup.run import WarmupRun
from benches.warmup.streamed_hosts import StreamedHosts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benches.warmup.report import Report

CALM: Final = dict.fromkeys(("change-percent", "power-cycle-percent", "agent-restart-percent", "migrations"), 0)
"""Nothing happens in the small fleet but that loads go up and down."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    return run_and_tell("warmup", lambda folder: warmup(options, folder))


async def warmup(options: argparse.Namespace, folder: Path) -> Report:
    """Measure the fleet, and a large one if it is wanted. Raises SimulatorError if a part cannot run."""
    rounds, users = options.rounds, [tap_user()]
    fleet = SimulatedFleet(folder / "fleet", Size(options.hosts, options.vms, options.tick), CALM, users)
    fleets = [await WarmupRun(folder / "fleet", fleet, rounds, options.latest).run()]
    if options.large_hosts:
        size = Size(options.large_hosts, options.vms, options.large_tick)
        large = StreamedHosts(folder / "large", size, {}, users)
        fleets.append(await WarmupRun(folder / "large", large, options.large_rounds, options.latest).run())
    return judged(fleets)


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.warmup", description="Start a view cold and warm.")
    parser.add_argument("--hosts", type=count, default=250, help="simulated hosts (default 250)")
    parser.add_argument("--vms", type=count, default=40, help="VMs on each of them (default 40)")
    parser.add_argument("--tick", type=float, default=3.0, help="seconds between two frames of a host (default 3)")
    parser.add_argument("--rounds", type=count, default=3, help="of a cold and a warm start (default 3)")
    parser.add_argument("--large-hosts", type=int, default=2500, help="of the large fleet; 0: none (default 2500)")
    parser.add_argument("--large-tick", type=float, default=3.0, help="its seconds between two frames (default 3)")
    parser.add_argument("--large-rounds", type=count, default=1, help="its rounds (default 1)")
    parser.add_argument("--latest", type=float, default=120.0, help="seconds a start may take at most (default 120)")
    add_quick(parser, "20 hosts, one round, no large fleet", hosts=20, rounds=1, large_hosts=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
