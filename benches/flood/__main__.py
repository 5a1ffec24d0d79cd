"""Has one host flood a real broker: ``python -m benches.flood --seconds 30 --connections 4 --bytes 200``.

A RabbitMQ with the rights that ``vmpulse broker`` defines, a real view, and simulated hosts with the real agent, whose
VMs change all the time. One more host, with nothing but its own user and rights, says as much as the broker takes.
Meanwhile no other host may be said to be lost, no VM of theirs to be Down that runs, and when it is over all has to be
true again.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, the others
lost freshness only; 1, they lost more, or a part could not run; 2, the command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benches.flood.report import Report
from benches.flood.run import Flood
from benches.program import run_and_tell
from vmpulse_contract.rights import MAX_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    return run_and_tell("flood", lambda folder: Flood(folder, options).run(), costs)


def costs(report: Report) -> str:
    """What the flood has cost the others beside freshness."""
    return "" if report.freshness_only else "the others lost more than freshness"


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.flood", description="Have one host say all it can.")
    parser.add_argument("--seconds", type=float, default=30.0, help="so long (default 30)")
    parser.add_argument("--hosts", type=int, default=50, help="other hosts (default 50)")
    parser.add_argument("--vms", type=int, default=20, help="VMs on each of them (default 20)")
    parser.add_argument("--bytes", type=int, default=200, help="in each message of the flood (default 200)")
    parser.add_argument(
        "--watermark",
        type=int,
        default=680,
        help="MiB from which on the broker takes no messages (default 680, as composed)",
    )
    parser.add_argument(
        "--connections",
        type=int,
        default=MAX_CONNECTIONS,
        choices=range(1, MAX_CONNECTIONS + 1),
        help=f"of the host that floods (default {MAX_CONNECTIONS}, the most that it may have)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
