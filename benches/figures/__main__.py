"""Runs all benches of what vmpulse costs, and writes tables and plots: ``python -m benches.figures``.

They run one after the other, for each wants the machine for itself: 50 minutes in all. What each has found is
kept as soon as it is there, so that ``--only NAME`` takes one anew and ``--draw`` draws everything anew.

Progress goes to stderr, and to stdout one line of JSON: how long each took, and which goals were met or missed. Exit
codes: 0, all ran, whether or not goals were reached; 1, one could not run, or a kept file is none of a bench; 2, the
command line is wrong; 3, told to end early.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from benches.figures.catalogue import BENCHES
from benches.figures.pages import NotAReport, draw, keep
from benches.program import EXIT_TOLD, EXIT_WRONG, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

say = progress("figures")
FOLDER: Final = Path("docs/performance")


class Summary(Struct, frozen=True):
    """What was done: seconds by bench that ran, benches that could not, and goals by bench."""

    ran_s: dict[str, float]
    failed: list[str]
    met: dict[str, list[str]]
    missed: dict[str, list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; gives the exit code."""
    options = command_line().parse_args(arguments)
    ran: dict[str, float] = {}
    failed: list[str] = []
    try:
        for name in () if options.draw else options.only:
            began = time.monotonic()
            if _run(name, options):
                ran[name] = round(time.monotonic() - began, 1)
            else:
                failed.append(name)
        judged = draw(options.into)
    except NotAReport as error:
        say(str(error))
        return EXIT_WRONG
    except KeyboardInterrupt:
        return EXIT_TOLD
    met = {name: [goal.key for goal in goals if goal.met] for name, goals in judged.items()}
    missed = {name: [goal.key for goal in goals if not goal.met] for name, goals in judged.items()}
    sys.stdout.write(msgspec.json.encode(Summary(ran, failed, met, missed)).decode() + "\n")
    return EXIT_WRONG if failed else 0


def _run(name: str, options: argparse.Namespace) -> bool:
    """Run one bench and keep what it has found. Tells whether it could."""
    command = [sys.executable, "-m", f"benches.{name}", *(["--quick"] if options.quick else [])]
    say(f"{name} ...")
    # Its progress goes where ours does. An interrupt at the terminal reaches it as well, and it ends by itself.
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        say(f"{name} could not run: exit code {ended.returncode}")
        return False
    keep(options.into, name, lines[-1])
    return True


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.figures", description="Run all benches, and draw them.")
    names = ", ".join(BENCHES)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES), help=f"some of {names}")
    parser.add_argument("--quick", action="store_true", help="small fleets: is it about right?")
    parser.add_argument("--draw", action="store_true", help="run none, draw what is kept")
    parser.add_argument("--into", type=Path, default=FOLDER, help=f"the folder to write to (default {FOLDER})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
