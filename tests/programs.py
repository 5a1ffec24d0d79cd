"""Programs of the project as their users start them, in a folder of their own, and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def running(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A program whose output is the test's; it is killed where the test forgets it."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def left_in(folder: Path) -> list[str]:
    """Processes that work in the folder or below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return found


def wait_until_none(folder: Path, deadline_s: float = 5.0) -> list[str]:
    """What is left at the deadline; returns as soon as nothing is."""
    deadline = time.monotonic() + deadline_s
    while (left := left_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
