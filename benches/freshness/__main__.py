"""Times changes on their way from hypervisors: ``python -m benches.freshness --hosts 250 --changes 2000``.

A RabbitMQ, a view, a fleet of simulated hosts with the real agent, and some more of them, each with a connection of its
own, on whose VMs users log in. For each of these changes it is timed when the view has it, an engine's worker, clients
of the event stream, and peers that poll; between them bare messages go through the same broker.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, measured;
1, a part could not run or changes were not seen; 2, the command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benches.freshness.report import Report
from benches.freshness.run import Run
from benches.program import add_quick, run_and_tell

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    parser = command_line()
    options = parser.parse_args(arguments)
    if options.watched >= options.hosts:
        parser.error("there have to be more hosts than those that are watched")
    return run_and_tell("freshness", lambda folder: Run(folder, options).run(), not_measured)


def not_measured(report: Report) -> str:
    """Why the figures do not count."""
    return "" if report.measured else f"changes were not seen: {report.unseen}"


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.freshness", description="Time changes on their way.")
    parser.add_argument("--hosts", type=int, default=250, help="hosts of the fleet (default 250)")
    parser.add_argument("--vms", type=int, default=40, help="VMs on each (default 40)")
    parser.add_argument("--watched", type=int, default=10, help="hosts whose changes are timed (default 10)")
    parser.add_argument("--changes", type=int, default=2000, help="how many (default 2000)")
    parser.add_argument("--rate", type=float, default=20.0, help="of them in a second, at most (default 20)")
    parser.add_argument("--polls", type=float, nargs="+", default=[3.0, 15.0], help="periods of peers (default 3 15)")
    add_quick(parser, "200 changes", changes=200)
    return parser


if __name__ == "__main__":
    sys.exit(main())
