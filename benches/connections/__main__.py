"""Kills the broker of a whole fleet of agents: ``python -m benches.connections --connections 2500 --hold 60``.

A RabbitMQ, and simulated hosts with the real agent, each with a connection of its own, its exclusive rpc queue and its
heartbeats, in a few processes. For a while nothing is touched, and no connection may be lost; then the broker is killed
and started again, and all have to come back without coming at once. In the end it closes all connections and stays.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`run.Report`). Exit codes: 0, measured; 1, a
part could not run or hosts did not come back; 2, the command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benches.connections.run import Report, Run
from benches.program import add_quick, run_and_tell

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    return run_and_tell("connections", lambda folder: Run(folder, options).run(), not_measured)


def not_measured(report: Report) -> str:
    """Why the figures do not count."""
    return "" if report.measured else "hosts did not come back, or without their queues"


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.connections", description="Kill the broker of a fleet.")
    parser.add_argument("--connections", type=int, default=2500, help="agents (default 2500)")
    parser.add_argument("--processes", type=int, default=4, help="that they share (default 4)")
    parser.add_argument("--vms", type=int, default=1, help="of each host (default 1)")
    parser.add_argument("--tick", type=float, default=3.0, help="seconds between two frames of a host (default 3)")
    parser.add_argument("--hold", type=float, default=60.0, help="seconds in which nothing is touched (default 60)")
    parser.add_argument("--away", type=float, default=5.0, help="seconds from the kill to the start (default 5)")
    add_quick(parser, "200 agents, 12 s in peace", connections=200, hold=12.0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
