"""The readers that are compared, each a process of its own, and how many messages each has taken."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from benches import processes
from benches.soak.queue_depth import NAME, QueueDepth
from vmpulse_contract import topology
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.view_process import write_secret

if TYPE_CHECKING:
    from pathlib import Path

    from vmpulse_simulator.private_broker import PrivateBroker
    from vmpulse_simulator.view_api import ViewApi
    from vmpulse_simulator.view_process import ViewProcess

STREAMS: Final = (topology.RUNTIME, topology.CHANGES, topology.DEVICES)
OWN: Final = "ingest{}."
"""Replaces ``vmpulse.`` in names of exchanges for readers that are not the view; as long, so messages stay whole."""
POLL_S: Final = 0.1
IDLE_SHARE: Final = 0.1
"""A reader that uses less of a CPU than this between two looks has nothing to read."""
QUIET_POLLS: Final = 5
"""A busy broker may be about to route what it was given."""
DRAINED_S: Final = 120.0
READY_S: Final = 30.0


class Reader(Protocol):
    """Who reads messages."""

    name: str
    queue: str
    prefix: str
    """Of the exchanges that it is bound to."""

    @property
    def pid(self) -> int:
        """The process."""

    async def count(self) -> int:
        """How many messages it has taken."""


class EmptyReader:
    """A process whose callback does nothing."""

    def __init__(self, name: str, broker: PrivateBroker, user: str, folder: Path, *, below: bool) -> None:
        self.name = name
        self.queue = f"bench.{name}"
        self.prefix = OWN.format(int(below))
        self._count = folder / f"{name}.count"
        self._url = folder / f"{name}.url"
        self._address = broker.url(user)
        words = ["--url-file", str(self._url), "--count-file", str(self._count), "--queue", self.queue]
        words += [word for name in STREAMS for word in ("--exchange", name.replace("vmpulse.", self.prefix))]
        command = (sys.executable, "-m", "benches.ingest.empty_reader", *words, *(["--below"] if below else []))
        self.child = ChildProcess(command, folder / f"{name}.log", os.environ)

    @property
    def pid(self) -> int:
        """The process."""
        return running(self.child)

    async def start(self) -> None:
        """Start it, and wait until it reads."""
        write_secret(self._url, self._address)
        await self.child.start()
        deadline = time.monotonic() + READY_S
        while not self._count.exists():
            running(self.child)
            if time.monotonic() > deadline:
                raise SimulatorError(f"{self.name} did not begin to read within {READY_S:.0f} s")
            await asyncio.sleep(POLL_S)

    async def count(self) -> int:
        """How many messages it has taken."""
        self._count.unlink()
        os.kill(self.pid, signal.SIGUSR1)
        deadline = time.monotonic() + READY_S
        while not (self._count.exists() and (said := self._count.read_text(encoding="utf-8"))):
            if time.monotonic() > deadline:
                raise SimulatorError(f"{self.name} did not say what it has read within {READY_S:.0f} s")
            await asyncio.sleep(POLL_S)
        return int(said)


class ViewReader:
    """The program ``vmpulse view``, with its HTTP API."""

    name = "view"
    queue = NAME
    prefix = "vmpulse."

    def __init__(self, process: ViewProcess, api: ViewApi) -> None:
        self._process = process
        self._api = api

    @property
    def pid(self) -> int:
        """The process."""
        return running(self._process.child)

    async def count(self) -> int:
        """How many messages of the stream it has taken."""
        return (await self._api.fleet()).messages


def running(child: ChildProcess) -> int:
    """The pid of a process that has to be there. Raises SimulatorError with the end of its log."""
    if child.pid is None:
        raise SimulatorError(f"a reader has ended: {child.last_lines()}")
    return child.pid


class Turn(NamedTuple):
    """What a reader used for a batch: CPU time, and how many messages it took of it."""

    cpu_ns: int
    messages: int

    @property
    def us_per_message(self) -> float:
        """Microseconds for one."""
        return self.cpu_ns / self.messages / 1000


async def drained(broker: PrivateBroker, reader: Reader) -> None:
    """Wait until a reader's queue is empty and it has nothing to do. Raises SimulatorError if that takes too long."""
    deadline, quiet = time.monotonic() + DRAINED_S, 0
    async with QueueDepth(broker, reader.queue) as queue:
        while time.monotonic() < deadline:
            before = processes.usage(reader.pid).cpu_ns
            await asyncio.sleep(POLL_S)
            used = processes.usage(reader.pid).cpu_ns - before
            await queue.measure()
            quiet = quiet + 1 if not queue.depths[-1] and used < POLL_S * IDLE_SHARE * 1e9 else 0
            if quiet == QUIET_POLLS:
                return
    raise SimulatorError(f"{reader.name} had not read everything after {DRAINED_S:.0f} s")
