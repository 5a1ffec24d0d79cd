"""Counts what a fleet costs on the wire: ``python -m benches.wire --hosts 250 --vms 40 --minutes 23``, or ``--quick``.

The same simulated fleet, with the same changes, is told of by vmpulse and asked by pollers, over real TCP connections
with a relay in each that counts both directions. Fleet time runs ahead of the wall's: bytes do not depend on pace.

Progress goes to stderr, and what was found to stdout, as one line of JSON (`report.Report`); docs/performance.md says
how to read it. Exit codes: 0, measured, be the goals met or not; 1, a part could not run; 2, the command line is wrong;
3, told to end early.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benches.program import EXIT_WRONG, run_in_folder
from benches.wire.outcome import FleetOutcome, PeerOutcome
from benches.wire.progress import say, show
from benches.wire.report import made
from vmpulse_simulator.child_process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICK: Final = {"hosts": 20, "vms": 40, "minutes": 3.0, "measured_hosts": 2}
FULL: Final = {"hosts": 250, "vms": 40, "minutes": 23.0, "measured_hosts": 10}
LEAST: Final = {"hosts": 1, "vms": 1, "minutes": 0.5, "measured_hosts": 1, "speed": 1, "churn": 0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; gives the exit code."""
    options = parsed(arguments)
    return run_in_folder("wire", lambda folder: wire(options, folder))


async def wire(options: argparse.Namespace, folder: Path) -> int:
    """Run both sides beside each other and tell; gives the exit code."""
    size = {"hosts": options.hosts, "vms": options.vms, "seed": options.seed}
    common = [f"--{name}={value}" for name, value in size.items()] + [f"--minutes={options.minutes}"]
    common.append(f"--churn={options.churn}")
    outcomes = folder / "peers.json"
    async with AsyncExitStack() as stack:
        parts = [
            part(folder, "fleet_run", *common, f"--speed={options.speed}", f"--folder={folder}"),
            part(folder, "peers", *common, f"--asked={options.measured_hosts}", f"--result={outcomes}"),
        ]
        for each in parts:
            await each.start()
            stack.push_async_callback(each.end)
            stack.callback(asyncio.create_task(show(each.log)).cancel)
        for each in parts:
            if await each.wait():
                say(f"a part could not run; its log, {each.log}, ends:\n{each.last_lines()}")
                return EXIT_WRONG
    fleet = msgspec.json.decode((folder / "fleet.json").read_bytes(), type=FleetOutcome)
    peers = msgspec.json.decode(outcomes.read_bytes(), type=dict[str, PeerOutcome])
    report = made(options, fleet, peers)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0


def part(folder: Path, module: str, *arguments: str) -> ChildProcess:
    """One side of the run, as a program of its own: the vmpulse side has another clock than the rest."""
    command = (sys.executable, "-m", f"benches.wire.{module}", *arguments)
    return ChildProcess(command, folder / f"{module}.log", dict(os.environ))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with what is not said filled in."""
    parser = argparse.ArgumentParser(prog="python -m benches.wire", description="Count what a fleet costs on the wire.")
    parser.add_argument("--quick", action="store_true", help=f"a small fleet for a short time: {_words(QUICK)}")
    parser.add_argument("--hosts", type=int, help=f"in the fleet (default {FULL['hosts']})")
    parser.add_argument("--vms", type=int, help=f"on each of them (default {FULL['vms']})")
    parser.add_argument("--minutes", type=float, help=f"of fleet time (default {FULL['minutes']:g})")
    words = f"of the fleet that pollers ask; their figures are multiplied (default {FULL['measured_hosts']})"
    parser.add_argument("--measured-hosts", type=int, help=words)
    parser.add_argument("--speed", type=float, default=20.0, help="fleet time while nothing is to be done (default 20)")
    words = "times as much happens in the fleet as in the demo; 0: values change, and nothing else (default 1)"
    parser.add_argument("--churn", type=float, default=1.0, help=words)
    parser.add_argument("--seed", type=int, default=1, help="decides the fleet and what happens in it (default 1)")
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, min(value, options.hosts) if name == "measured_hosts" else value)
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} is {least} or more")
    if options.measured_hosts > options.hosts:
        parser.error("--measured-hosts is at most --hosts")
    return options


def _words(sizes: dict[str, float]) -> str:
    return ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in sizes.items())


if __name__ == "__main__":
    sys.exit(main())
