"""Benches as their users run them: in a folder of their own, and what becomes of one that is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.programs import running, wait_until_none

T = TypeVar("T")


def bench(folder: Path, module: str, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A run with its files in a folder of its own; what does not end by itself is killed."""
    return running((sys.executable, "-m", module, *options), folder)


def assert_it_ends_when_told(folder: Path, number: signal.Signals, at_work: str, *command: str) -> None:
    """Once a line of progress has *at_work* in it, the signal ends it without a verdict, and nothing is left."""
    with bench(folder, *command) as program:
        assert program.stderr is not None
        assert any(at_work in line for line in program.stderr)
        os.kill(program.pid, number)
        out, _ = program.communicate()
    assert (program.returncode, out) == (-number if number is signal.SIGKILL else 3, "")
    assert wait_until_none(folder) == []


def completed(folder: Path, kind: type[T], module: str, *options: str) -> T:
    """Run a bench to its end, which has to be a good one that leaves no process and no file; gives its report."""
    with bench(folder, module, *options) as program:
        out, err = program.communicate()
    assert program.returncode == 0, err
    assert wait_until_none(folder) == []
    assert [path.name for path in folder.rglob("*")] == [".vmpulse"]
    return msgspec.json.decode(out.splitlines()[-1], type=kind)
