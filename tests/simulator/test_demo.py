"""The demo as its user runs it: it checks the view, ends when told, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import require_broker
from tests.programs import running, wait_until_none
from vmpulse_simulator.broker_files import free_ports

FIELDS = (
    *("hosts", "vms", "live_hosts", "mismatched_vms", "frames", "dropped", "changes", "power_cycles"),
    *("agent_restarts", "migrations", "repairs", "bytes_published", "bytes_per_vm_tick", "worst_age_s"),
)

HAPPENING = ("frames", "changes", "power_cycles", "agent_restarts", "migrations", "repairs")


def demo(folder: Path, port: int, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A small demo with its files in a folder of its own."""
    command = (sys.executable, "-m", "vmpulse_simulator", "demo", "--hosts=5", "--vms=4", f"--port={port}", *options)
    return running(command, folder)


def read_until(program: subprocess.Popen[str], beginning: str) -> str:
    """The first line that begins so."""
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith(beginning):
            return line
    pytest.fail(f"no line {beginning!r}: {program.stderr.read() if program.stderr else ''}")


@pytest.mark.broker
@pytest.mark.timeout(90)
def test_limited_demo_proves_the_view_right(tmp_path: Path) -> None:
    """With a limit the last line is the summary, something of every kind happened, and nothing is left."""
    require_broker()
    with demo(tmp_path, free_ports().amqp, "--seconds-limit=8") as program:
        out, err = program.communicate()
    assert (program.returncode, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert tuple(summary) == FIELDS
    assert (summary["hosts"], summary["vms"], summary["live_hosts"], summary["mismatched_vms"]) == (5, 20, 5, 0)
    assert all(summary[name] > 0 for name in HAPPENING)
    assert wait_until_none(tmp_path) == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".vmpulse", "demo", "view.log"]


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        signal.SIGTERM,
        pytest.param(signal.SIGKILL, marks=pytest.mark.long),
    ],
)
def test_demo_ends_with_everything_when_told(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it in good order, with exit code 0; even a kill leaves no process."""
    require_broker()
    with demo(tmp_path, free_ports().amqp) as program:
        read_until(program, "end ")
        os.kill(program.pid, number)
        program.communicate()
    assert program.returncode == (-number if number is signal.SIGKILL else 0)
    assert wait_until_none(tmp_path) == []


def test_port_in_use_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    """A port that is taken is found before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(tmp_path, port) as program:
            out, err = program.communicate()
    assert (program.returncode, out) == (1, "")
    assert err.startswith(f"vmpulse-simulator: port {port} cannot be used")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
