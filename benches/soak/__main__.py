"""Runs on and on: ``python -m benches.soak --minutes N``; root, for it has a libvirt of its own.

A real RabbitMQ, a real view with its store, a scraper of its metrics and a reader of its event stream; the program
``vmpulse-agent`` on real domains; and the real agents of simulated hosts, one group of which is restarted all the time.
In all hosts VMs start, stop, change, are paused and migrated. Every process is measured, and after the first quarter,
which is for caches and pools to fill, none may grow: in memory, open files or threads, nor may the view's queue. Then
changes stop until the view equals the truth, and go on while one program after the other is told to end by SIGTERM.

What matters is ticks, not minutes: with the default tick of 0.5 s there are 1,000 in 8 minutes 20 s, and all rhythms of
the agents are as much shorter. With fewer than 1,000 after the warm-up the growth of processes is told and not judged.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`). Exit codes: 0, all that
was judged held; 1, something did not, or a part could not run; 2, the command line is wrong; 3, told to end before its
time was over.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benches.chaos.stand import Stand
from benches.program import EXIT_WRONG, OVERHEAD_S, fail, run_in_folder
from benches.soak.queue_depth import QueueDepth, watcher
from benches.soak.real_host import RealHost
from benches.soak.run import Options, Soak
from tests.lab.private_libvirt import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHORTEST_TICK_S: Final = 0.1
LONGEST_TICK_S: Final = 6.0
"""Device statistics are read each five ticks, and may be each 30 s at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = Options(**vars(command_line().parse_args(arguments)))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    reason = missing() if options.domains else None
    if reason is not None:
        return fail(
            "soak", f"no real host here: {reason}; run `make bench-soak` as root, or leave it out by --domains 0"
        )
    return run_in_folder("soak", lambda folder: soak(options, folder))


async def soak(options: Options, folder: Path) -> int:
    """Run and tell; gives the exit code. Raises SimulatorError if a part cannot run, and TimeoutError if one hangs."""
    with_real = f" and a real one with {options.domains} domains" if options.domains else "; no real one"
    sys.stderr.write(f"starting RabbitMQ, a view, {options.hosts} hosts with {options.vms} VMs each{with_real} ...\n")
    real = RealHost(folder, options.domains, options.seed, options.tick) if options.domains else None
    users = [watcher(), *([real.user] if real else [])]
    async with asyncio.timeout(options.minutes * 60.0 + OVERHEAD_S), AsyncExitStack() as stack:
        stand = Stand(folder, options.seed, options.hosts, options.vms, tick_s=options.tick, users=users)
        await stack.enter_async_context(stand)
        depth = await stack.enter_async_context(QueueDepth(stand.broker))
        if real is not None:
            await stack.enter_async_context(real)
            await real.start(stand.broker)
        report = await Soak(options, stand, real, depth).run()
    for failure in report.failed:
        sys.stderr.write(f"FAILED {failure}\n")
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return EXIT_WRONG if report.failed else 0


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.soak", description="Let everything run for long, and see whether anything grows."
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default 20)")
    parser.add_argument("--tick", type=tick, default=0.5, help="seconds between two looks of all agents (default 0.5)")
    parser.add_argument("--seed", type=int, default=1, help="decides what happens (default 1)")
    parser.add_argument("--hosts", type=at_least(2), default=20, help="simulated hosts (default 20)")
    parser.add_argument("--vms", type=at_least(1), default=10, help="VMs on each at first (default 10)")
    parser.add_argument("--domains", type=at_least(0), default=4, help="real domains; 0: no real host (default 4)")
    return parser


def at_least(least: int) -> Callable[[str], int]:
    """Give what reads a count."""

    def count(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: {least} or more")
        return number

    return count


def tick(text: str) -> float:
    """Read a tick."""
    seconds = float(text)
    if not SHORTEST_TICK_S <= seconds <= LONGEST_TICK_S:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: {SHORTEST_TICK_S} to {LONGEST_TICK_S} s")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
