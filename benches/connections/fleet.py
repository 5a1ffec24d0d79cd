"""The processes that agents run in: started, looked after, and read in the end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from benches import processes
from benches.connections.watched_link import Notes
from benches.program import progress
from vmpulse_contract.rights import SIMULATOR
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.view_api import LOOPBACK
from vmpulse_simulator.view_process import write_secret

if TYPE_CHECKING:
    import argparse
    from contextlib import AsyncExitStack
    from pathlib import Path

say = progress("connections")
STARTS_PER_S: Final = 60.0
"""Hosts that start in a second: what two cores can connect without falling behind."""
LOOK_S: Final = 0.5
TELL_S: Final = 5.0
END_S: Final = 30.0
NS_PER_S: Final = 1e9


class AgentProcesses:
    """All of them.

    Args:
        folder: for their logs and notes.
        options: of the bench's command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._children: list[ChildProcess] = []
        self._said_at = 0.0

    async def start(self, stack: AsyncExitStack, port: int, password: str) -> None:
        """Start them for a broker at that port, from now until *stack* ends at the latest."""
        options = self._options
        secret = self._folder / "simulator.password"
        write_secret(secret, password)
        share = -(-options.connections // options.processes)
        for number, first in enumerate(range(0, options.connections, share)):
            words = {
                "--broker-url": f"amqp://{SIMULATOR}@{LOOPBACK}:{port}/",
                "--broker-password-file": secret,
                "--first": first,
                "--hosts": min(share, options.connections - first),
                "--vms": options.vms,
                "--tick": options.tick,
                "--ramp": options.connections / STARTS_PER_S,
                "--records": self._folder / f"records-{number}.json",
            }
            arguments = [str(word) for option in words.items() for word in option]
            command = (sys.executable, "-m", "benches.connections.agents", *arguments)
            child = ChildProcess(command, self._folder / f"agents-{number}.log", os.environ)
            stack.push_async_callback(child.kill)
            await child.start()
            self._children.append(child)

    async def until_serving(self, seconds: float) -> None:
        """Wait until every host can publish and be asked. Raises SimulatorError if one cannot by then."""
        deadline = time.monotonic() + seconds
        while (now := sum(map(serving, self._children))) < self._options.connections:
            if time.monotonic() > deadline:
                raise SimulatorError(f"only {now} agents are connected after {seconds:.0f} s")
            if time.monotonic() - self._said_at > TELL_S:
                say(f"{now} connected")
                self._said_at = time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """End them, upon which they write down their notes."""
        await asyncio.gather(*(child.end(END_S) for child in self._children))

    def cpu_s(self) -> float:
        """CPU seconds of all of them so far."""
        pids = [child.pid for child in self._children]
        return sum(processes.usage(pid).cpu_ns for pid in pids if pid is not None) / NS_PER_S

    def notes(self) -> Notes:
        """What they wrote down."""
        files = sorted(self._folder.glob("records-*.json"))
        every = [msgspec.json.decode(file.read_bytes(), type=Notes) for file in files]
        return Notes([one for its in every for one in its.attempts], [lag for its in every for lag in its.lags])


def serving(child: ChildProcess) -> int:
    """How many hosts of a process serve, by its last word. Raises SimulatorError if it has ended."""
    if child.died is not None:
        raise SimulatorError(f"agents have ended: {child.last_lines()}")
    words = child.last_lines().split()
    return int(words[-1]) if words and words[-1].isdecimal() else 0
