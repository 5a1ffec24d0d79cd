"""What readers cost a view: ``python -m benches.reads``; ``--quick`` for a small fleet and short looks.

A real RabbitMQ, the real agents of simulated hosts at work, and ``vmpulse view``. Its metrics are scraped once a tick,
all its VMs and single ones are listed, and 500 subscribers follow its events; first by themselves, then all at once,
while a prober asks for /healthz every 5 ms.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, it was
measured; 1, a part could not run; 2, the command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benches.program import add_quick, count, run_and_tell
from benches.reads.run import Reads
from benches.simulated import Size

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    size = Size(options.hosts, options.vms, options.tick)
    return run_and_tell("reads", lambda folder: Reads(folder, size, options.seconds, options.subscribers).run())


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.reads", description="Read a view in all ways at once.")
    parser.add_argument("--hosts", type=count, default=250, help="simulated hosts (default 250)")
    parser.add_argument("--vms", type=count, default=40, help="VMs on each of them (default 40)")
    parser.add_argument("--tick", type=float, default=3.0, help="seconds between two frames of a host (default 3)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each kind of reader (default 30)")
    parser.add_argument("--subscribers", type=count, default=500, help="of the event stream (default 500)")
    add_quick(parser, "20 hosts, 6 s for each kind of reader", hosts=20, seconds=6.0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
