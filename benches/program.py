"""What the benches that start a whole fleet have in common as programs: their folder, their exit codes, their end."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
from pathlib import Path
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Final

from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ROOT: Final = Path(".vmpulse")
EXIT_WRONG: Final = 1
EXIT_TOLD: Final = 3
OVERHEAD_S: Final = 300.0
"""Start, comparison and end may take so long on top of a run's own time; whatever takes longer hangs."""


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
