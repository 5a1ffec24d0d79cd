"""Compares the view with a callback that does nothing: ``python -m benches.ingest --rounds 7 --ticks 40``.

A private RabbitMQ, the program ``vmpulse view`` with its HTTP API, and two readers that do nothing but acknowledge as
the view does: one with aio-pika's callback, one with that of the channel below. The messages are what the agents of a
simulated fleet say, made beforehand, in their proportions; each reader gets the same, as fast as it reads, by turns.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, measured;
1, a part could not run, or a reader did not get every message; 2, the command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benches.ingest.run import Ingest
from benches.program import add_quick, count, run_and_tell

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    return run_and_tell("ingest", lambda folder: Ingest(folder, options).run())


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.ingest", description="Compare the view with nothing.")
    parser.add_argument("--hosts", type=count, default=250, help="of the fleet (default 250)")
    parser.add_argument("--vms", type=count, default=40, help="on each of them (default 40)")
    parser.add_argument("--rounds", type=count, default=9, help="turns of each reader (default 9)")
    parser.add_argument("--ticks", type=count, default=40, help="whose messages are a batch (default 40)")
    add_quick(parser, "3 rounds of 12 ticks: is it about right?", rounds=3, ticks=12)
    return parser


if __name__ == "__main__":
    sys.exit(main())
