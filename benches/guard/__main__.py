"""Fails where a ratio has become worse: ``python -m benches.guard``; with ``--renew`` it writes what is expected.

Short benches run one after the other (2 minutes), and of each some ratios and counts are compared with those in
``expected.json``. Worse by more than 15 % fails; better by as much only says so. A part that measures time and seems
worse is measured once more, and the better figure counts.

Progress goes to stderr, and what was compared to stdout, as one line of JSON (`Verdict`). Exit codes: 0, as expected;
1, a figure is worse or a part could not run; 2, the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from benches.guard.comparing import Compared, Figure, best, compared, renewed, worst
from benches.guard.parts import NEEDS_ROOT, PARTS, CouldNotRunError, possible
from benches.program import EXIT_WRONG, progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXPECTED: Final = Path(__file__).with_name("expected.json")
say = progress("guard")


class Verdict(Struct, frozen=True):
    """What was compared, how long each part took, and the names of figures that are worse and of parts that failed."""

    compared: list[Compared]
    took_s: dict[str, float]
    worse: list[str]
    could_not_run: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the guard; gives the exit code."""
    options = command_line().parse_args(arguments)
    expected = msgspec.json.decode(EXPECTED.read_bytes(), type=dict[str, float])
    figures: list[Figure] = []
    took_s: dict[str, float] = {}
    could_not_run = []
    for name in options.only:
        began = time.monotonic()
        say(f"{name} ...")
        try:
            figures += twice(name) if options.renew else measured(name, expected)
        except CouldNotRunError as error:
            say(f"{name}: {error}")
            could_not_run.append(name)
        took_s[name] = round(time.monotonic() - began, 1)
    if options.renew:
        expected = renewed(figures, expected)
        EXPECTED.write_bytes(msgspec.json.format(msgspec.json.encode(expected), indent=2) + b"\n")
    return tell(compared(figures, expected), took_s, could_not_run)


def measured(name: str, expected: Mapping[str, float]) -> list[Figure]:
    """Measure a part, and once more what seems worse if it may be the machine's doing. Raises CouldNotRunError."""
    part = PARTS[name]
    figures = part.figures()
    if part.noisy and any(one.expected is not None and one.failed for one in compared(figures, expected)):
        say(f"{name}: worse than expected; once more, for the machine may have been busy ...")
        figures = best(figures, part.figures())
    return figures


def twice(name: str) -> list[Figure]:
    """Measure a part for expectations, a noisy one twice. Raises CouldNotRunError."""
    part = PARTS[name]
    return worst(part.figures(), part.figures()) if part.noisy else part.figures()


def tell(found: list[Compared], took_s: dict[str, float], could_not_run: list[str]) -> int:
    """Say what was found; gives the exit code."""
    for one in found:
        say(one.words)
    if skipped := NEEDS_ROOT - set(possible()):
        say(f"not measured without root: {', '.join(sorted(skipped))}")
    worse = [one.name for one in found if one.failed]
    sys.stdout.write(msgspec.json.encode(Verdict(found, took_s, worse, could_not_run)).decode() + "\n")
    return EXIT_WRONG if worse or could_not_run else 0


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.guard", description="Fail where a ratio became worse.")
    parser.add_argument("--renew", action="store_true", help="write what was measured as what is expected")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=possible(), help=f"some of {', '.join(PARTS)}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
