"""One run: broker, view, the rest of the fleet, readers, and the hosts whose changes are timed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import msgspec

from benches import processes
from benches.freshness.place import CHANGES, Place, Records, read_down
from benches.freshness.report import Report, report
from benches.program import progress
from vmpulse_contract.rights import SIMULATOR, VIEW, WORKER, engine_rights, simulator_rights, view_rights
from vmpulse_simulator.broker_files import free_port_numbers, with_passwords
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker
from vmpulse_simulator.view_api import LOOPBACK, ViewApi
from vmpulse_simulator.view_process import write_secret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

say = progress("freshness")
BARE: Final = "bench.bare"
READY_S: Final = 30.0
POLL_S: Final = 0.2
TELL_S: Final = 2.0
LEAST_SAMPLES: Final = 2
START_S: Final = 180.0
"""Until all hosts are live; what takes longer hangs."""
END_S: Final = 15.0
NS_PER_S: Final = 1e9


class Run:
    """A run.

    Args:
        folder: for everything that is written.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        rights = {SIMULATOR: simulator_rights(), VIEW: view_rights(), WORKER: engine_rights()[WORKER]}
        users = with_passwords(rights)
        self._users = [*users, BrokerUser(BARE, secrets.token_urlsafe(16))]
        self._broker = PrivateBroker(root=folder, users=self._users)
        self._parts: dict[str, ChildProcess] = {}
        self._load = os.getloadavg()[0]

    async def run(self) -> Report:
        """Run it. Raises SimulatorError if a part cannot run, or ends by itself."""
        options = self._options
        async with AsyncExitStack() as stack:
            say("starting RabbitMQ and a view ...")
            await stack.enter_async_context(self._broker)
            place = self._write_place()
            await self._start(stack, "view")
            await self._until_answered(ViewApi(f"http://{LOOPBACK}:{place.api_port}", time.monotonic))
            say(f"starting {options.hosts} hosts with {options.vms} VMs each, and readers ...")
            await self._start(stack, "readers")
            await self._start_load(stack)
            await self._start(stack, "hosts")
            cpu = await self._until_done()
            await asyncio.gather(*(self._parts[name].end(END_S) for name in ("readers", "view")))
            seen = self._read()
        try:
            return report(seen, hosts=options.hosts, vms=options.vms, watched=options.watched, load=self._load, cpu=cpu)
        except ValueError as error:
            raise SimulatorError(f"there is nothing to report: {error}") from error

    # --- parts --------------------------------------------------------------------------------------------------

    def _write_place(self) -> Place:
        options = self._options
        api_port, peer_port = free_port_numbers(2)
        place = Place(
            simulator_url=self._broker.url(SIMULATOR),
            view_url=self._broker.url(VIEW),
            worker_url=self._broker.url(WORKER),
            bare_url=self._broker.url(BARE),
            api_port=api_port,
            peer_port=peer_port,
            hosts=options.hosts,
            vms=options.vms,
            watched=options.watched,
            changes=options.changes,
            rate=options.rate,
            polls=tuple(options.polls),
        )
        write_secret(self._folder / "place.json", msgspec.json.encode(place).decode())
        return place

    async def _start(self, stack: AsyncExitStack, name: str) -> None:
        """Start a part of the bench."""
        words = ("--place", str(self._folder / "place.json"), "--records", str(self._records(name)))
        await self._run_beside(stack, name, (sys.executable, "-m", f"benches.freshness.{name}", *words))

    async def _start_load(self, stack: AsyncExitStack) -> None:
        """Start the rest of the fleet, in which happens what happens in any; nothing is lost on purpose."""
        secret = self._folder / "simulator.password"
        write_secret(secret, next(user.password for user in self._users if user.name == SIMULATOR))
        words = {
            "--broker-url": f"amqp://{SIMULATOR}@{LOOPBACK}:{self._broker.port}/",
            "--broker-password-file": str(secret),
            "--hosts": str(self._options.hosts - self._options.watched),
            "--vms": str(self._options.vms),
            "--agent-restart-percent": "0",
            "--loss-percent": "0",
            "--metrics-port": "",
        }
        arguments = [word for option in words.items() for word in option]
        await self._run_beside(stack, "load", (sys.executable, "-m", "vmpulse_simulator", "run", *arguments))

    async def _run_beside(self, stack: AsyncExitStack, name: str, command: tuple[str, ...]) -> None:
        part = ChildProcess(command, self._folder / f"{name}.log", os.environ)
        stack.push_async_callback(part.kill)
        await part.start()
        self._parts[name] = part

    async def _until_answered(self, api: ViewApi) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            self._check("view")
            try:
                await api.fleet()
            except SimulatorError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return

    async def _until_done(self) -> Mapping[str, float]:
        """Wait until all changes were made and the peers have polled; gives the cores that each part took."""
        hosts, options, slowest_s = self._parts["hosts"], self._options, max(self._options.polls)
        ended = asyncio.create_task(hosts.wait())
        allowed_s = START_S + 3 * options.changes / options.rate + options.changes * slowest_s / options.vms
        samples: list[tuple[float, dict[str, float]]] = []
        try:
            async with asyncio.timeout(allowed_s):
                while not ended.done():
                    self._check("view", "readers", "load")
                    words = hosts.last_lines().rpartition("\n")[2]
                    say(words)
                    if words.endswith(CHANGES) and hosts.pid is not None:
                        # The hosts end by themselves, and may just have done so.
                        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                            samples.append((time.monotonic(), self._cpu()))
                    await asyncio.wait({ended}, timeout=TELL_S)
        finally:
            ended.cancel()
        if hosts.died or len(samples) < LEAST_SAMPLES:
            raise SimulatorError(f"the hosts have ended: {hosts.last_lines()}")
        (since, before), (until, after) = samples[0], samples[-1]
        return {name: (used - before[name]) / (until - since) for name, used in after.items()}

    def _check(self, *names: str) -> None:
        """Raise SimulatorError for a part that has ended by itself."""
        for name in names:
            if self._parts[name].died is not None:
                raise SimulatorError(f"{name} has ended: {self._parts[name].last_lines()}")

    def _cpu(self) -> dict[str, float]:
        """CPU seconds of each part so far."""
        pids = {"broker": self._broker.pid} | {name: part.pid for name, part in self._parts.items()}
        return {name: processes.usage(pid).cpu_ns / NS_PER_S for name, pid in pids.items() if pid is not None}

    # --- records ------------------------------------------------------------------------------------------------

    def _records(self, name: str) -> Path:
        return self._folder / f"{name}.records.json"

    def _read(self) -> Records:
        seen: Records = {}
        for name in ("hosts", "view", "readers"):
            seen |= read_down(self._records(name))
        return seen
