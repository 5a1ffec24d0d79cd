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

import msgspec

from benches.ingest.run import Ingest
from benches.program import run_in_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    if options.quick:
        options.rounds, options.ticks = min(options.rounds, 3), min(options.ticks, 12)
    return run_in_folder("ingest", lambda folder: ingest(options, folder))


async def ingest(options: argparse.Namespace, folder: Path) -> int:
    """Run and tell; gives the exit code."""
    report = await Ingest(folder, options).run()
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.ingest", description="Compare the view with nothing.")
    parser.add_argument("--hosts", type=_count, default=250, help="of the fleet (default 250)")
    parser.add_argument("--vms", type=_count, default=40, help="on each of them (default 40)")
    parser.add_argument("--rounds", type=_count, default=9, help="turns of each reader (default 9)")
    parser.add_argument("--ticks", type=_count, default=40, help="whose messages are a batch (default 40)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 12 ticks: is it about right?")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
