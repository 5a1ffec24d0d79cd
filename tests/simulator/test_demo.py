"""The demo as its user runs it: it checks the view, ends when told, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_broker
from vmpulse_simulator.broker_files import free_ports

FIELDS = (
    *("hosts", "vms", "live_hosts", "mismatched_vms", "frames", "dropped", "changes", "power_cycles"),
    *("agent_restarts", "migrations", "repairs", "bytes_published", "bytes_per_vm_tick", "worst_age_s"),
)

HAPPENING = ("frames", "changes", "power_cycles", "agent_restarts", "migrations", "repairs")


@contextmanager
def demo(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A small demo with its files in a folder of its own."""
    command = (sys.executable, "-m", "vmpulse_simulator", "demo", "--hosts=5", "--vms=4", f"--port={port}", *options)
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
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
