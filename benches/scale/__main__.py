"""Finds how large a fleet one view takes: ``python -m benches.scale --hosts 25000 --vms 40 --seconds 60``.

A private RabbitMQ, a view (`watched_view`) and a load of bytes made beforehand, on one machine. The load says what the
agents of so many hosts say: frames every 3 s, 1 % of the VMs changing a section in a minute, rosters and device
statistics every 5 minutes; and it answers for all of them. The fleet grows by ``--ladder``; each size is measured.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, measured,
whether or not goals were reached (``goals_missed`` names them); 1, a part could not run; 2, the command line is wrong;
3, told to end early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from benches.program import add_quick, count, run_and_tell
from benches.scale.report import HOSTS, SECONDS
from benches.scale.run import Scale
from vmpulse_consumers.view.host import REMEASURE_SLOW_S

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLED_S: Final = REMEASURE_SLOW_S + 2.0
"""By then a view also has measured the clocks anew that it could not measure well at first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = command_line().parse_args(arguments)
    return run_and_tell("scale", lambda folder: Scale(folder, options).run())


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.scale", description="Find how large a fleet may be.")
    parser.add_argument("--hosts", type=count, default=HOSTS, help="of the largest fleet (default 25,000)")
    parser.add_argument("--vms", type=count, default=40, help="on each of them (default 40)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="at the full size (default 60)")
    parser.add_argument("--small", type=count, default=250, help="hosts of the fleet to compare with (default 250)")
    parser.add_argument("--ladder", type=_sizes, default=(5000, 10_000, 15_000, 20_000), help="sizes on the way")
    parser.add_argument("--stage-seconds", type=float, default=20.0, help="at each of these (default 20)")
    parser.add_argument("--settled", type=float, default=SETTLED_S, help="seconds without a question before measuring")
    small = {"hosts": 2000, "seconds": 15.0, "stage_seconds": 5.0, "ladder": ()}
    add_quick(parser, "2,000 hosts for 15 s: is it about right?", **small)
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(count, text.split(","))) if text else ()


if __name__ == "__main__":
    sys.exit(main())
