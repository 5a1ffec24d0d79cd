"""What the benches that start a whole fleet have in common as programs: their folder, their exit codes, their end."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
from pathlib import Path
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
ROOT: Final = Path(".vmpulse")
EXIT_WRONG: Final = 1
EXIT_TOLD: Final = 3
OVERHEAD_S: Final = 300.0
"""Start, comparison and end may take so long on top of a run's own time; whatever takes longer hangs."""


def fine(_: object) -> str:
    """Nothing is wrong."""
    return ""


def run_in_folder(name: str, work: Callable[[Path], Coroutine[None, None, int]]) -> int:
    """Run a bench in a folder of its own, and give the exit code. The folder stays where something was wrong."""
    folder = ROOT / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        code = run_until_told(work(folder), code=EXIT_TOLD)
    except TimeoutError:
        code = fail(name, f"not at the end {OVERHEAD_S:.0f} s after the time was over: something hangs")
    except (SimulatorError, SubprocessError, OSError) as error:
        code = fail(name, str(error))
    if code == EXIT_WRONG:
        sys.stderr.write(f"the logs of all programs are in {folder}\n")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def run_and_tell(name: str, work: Callable[[Path], Coroutine[None, None, T]], wrong: Callable[[T], str] = fine) -> int:
    """Run a bench in a folder of its own, write what it has found to stdout as one line of JSON; gives the exit code.

    *wrong* says in words what makes the run one that does not count; empty: nothing does.
    """

    async def told(folder: Path) -> int:
        report = await work(folder)
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        amiss = wrong(report)
        return fail(name, amiss) if amiss else 0

    return run_in_folder(name, told)


def progress(name: str) -> Callable[[str], None]:
    """Give what says on stderr how far the bench of that name has come."""

    def say(words: str) -> None:
        sys.stderr.write(f"{name}: {words}\n")
        sys.stderr.flush()

    return say


class Quick(argparse.Action):
    """Sets several options at once, those of ``const``; what comes later on the command line goes before."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, *_: object) -> None:
        """Set them."""
        for name, value in (self.const or {}).items():
            setattr(namespace, name, value)


def add_quick(parser: argparse.ArgumentParser, help: str, **options: object) -> None:  # noqa: A002 - argparse's word
    """Add ``--quick``, which stands for these options."""
    parser.add_argument("--quick", action=Quick, nargs=0, const=options, help=help)


def fail(name: str, words: str) -> int:
    """Say what is wrong, and give the exit code."""
    sys.stderr.write(f"benches.{name}: {words}\n")
    return EXIT_WRONG


def count(text: str) -> int:
    """Read an option that is a count, of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: 1 or more")
    return number
