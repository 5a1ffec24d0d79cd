"""Breaks everything, by a seed: ``python -m benches.chaos --seed N --seconds S --hosts 50 --vms 20``.

A real RabbitMQ, a real view and the real agents run as processes; in the hosts, which are simulated, VMs are changed,
stopped, started and migrated all the time. Round by round parts are killed, paused, cut off or slowed down, and healed.
While that lasts nothing may be said of a VM or a host that the view could know to be wrong; afterwards the view has to
come to say the truth, VM by VM and section by section.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, nothing was
wrong; 1, something was, or a part could not run; 2, the command line is wrong; 3, told to end before the end.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benches.chaos.plan import Kind
from benches.chaos.rounds import Run
from benches.chaos.stand import Stand
from benches.program import EXIT_WRONG, OVERHEAD_S, run_in_folder

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return run_in_folder("chaos", lambda folder: chaos(options, folder))


async def chaos(options: argparse.Namespace, folder: Path) -> int:
    """Run and tell; gives the exit code. Raises SimulatorError if a part cannot run, and TimeoutError if one hangs."""
    async with asyncio.timeout(options.seconds + OVERHEAD_S):
        sys.stderr.write(f"starting RabbitMQ, a view and {options.hosts} hosts with {options.vms} VMs each ...\n")
        async with Stand(folder, options.seed, options.hosts, options.vms) as stand:
            report = await Run(stand, options.seed, options.seconds, options.only).run()
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0 if report.clean else EXIT_WRONG


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.chaos", description="Break everything, and see whether the view stays right."
    )
    parser.add_argument("--seed", type=int, default=1, help="decides what happens when (default 1)")
    parser.add_argument("--seconds", type=float, default=120.0, help="faults begin for so long (default 120)")
    parser.add_argument("--hosts", type=at_least_one, default=50, help="simulated hosts (default 50)")
    parser.add_argument("--vms", type=at_least_one, default=20, help="VMs on each host at first (default 20)")
    parser.add_argument("--only", type=Kind, action="append", default=[], help=f"of {', '.join(Kind)}; repeatable")
    return parser


def at_least_one(text: str) -> int:
    """Read a count. Raises ValueError."""
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


if __name__ == "__main__":
    sys.exit(main())
