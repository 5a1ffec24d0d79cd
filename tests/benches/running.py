"""Benches as their users run them: in a folder of their own, and what becomes of one that is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tests.programs import running, wait_until_none


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
