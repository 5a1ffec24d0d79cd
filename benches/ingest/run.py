"""One run: broker, view and empty readers come up, and the same messages go to each of them by turns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING, Final

from benches import processes
from benches.ingest.readers import EmptyReader, Reader, Turn, ViewReader, drained
from benches.ingest.report import RATIO_GOAL, Report
from benches.program import progress
from benches.soak.queue_depth import watcher
from benches.streamed import amqp
from benches.streamed.answering import Answering
from benches.streamed.batch import Batch, batch_of
from benches.streamed.cadence import Cadence, Rhythm
from benches.streamed.fleet import StreamedFleet
from benches.streamed.templates import templates
from vmpulse_contract import broker_url
from vmpulse_contract.rights import IMPERSONATOR, SIMULATOR, VIEW, Rights, view_rights
from vmpulse_simulator.broker_files import free_port_numbers, with_passwords
from vmpulse_simulator.errors import SimulatorError, ViewUnreachable
from vmpulse_simulator.private_broker import PrivateBroker
from vmpulse_simulator.view_api import LOOPBACK, ViewApi
from vmpulse_simulator.view_process import ViewProcess

if TYPE_CHECKING:
    import argparse
    import socket
    from pathlib import Path

    from vmpulse_contract.broker_url import BrokerUrl

say = progress("ingest")
SEED: Final = 1
READY_S: Final = 120.0
LOOK_S: Final = 0.5
SETTLED_S: Final = 2.0
"""Nothing asked for so long: the view holds what there is."""
ANYTHING: Final = Rights(".*", ".*", ".*", tags=(IMPERSONATOR,))
"""The load speaks for all hosts, and to readers that are none of ours."""


class Ingest:
    """A run.

    Args:
        folder: for everything that is written.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        rights = {SIMULATOR: ANYTHING, VIEW: view_rights()}
        users = with_passwords(rights)
        self._broker = PrivateBroker(root=folder, users=[*users, watcher()])
        self._view_password = users[1].password
        (self._port,) = free_port_numbers(1)
        self._api = ViewApi(f"http://{LOOPBACK}:{self._port}", time.monotonic)
        self._turns: dict[str, list[Turn]] = {}
        self._load = round(os.getloadavg()[0], 2)
        self._batch = Batch([], {})

    async def run(self) -> Report:
        """Run it. Raises SimulatorError if a part cannot run, or a reader did not get every message."""
        options = self._options
        say(f"making the messages of {options.hosts} hosts x {options.vms} VMs ...")
        made = await templates(options.hosts, options.vms, SEED)
        fleet = StreamedFleet(made, options.hosts, time.monotonic, SEED)
        async with AsyncExitStack() as stack:
            say("starting RabbitMQ, the view and two readers that do nothing ...")
            await stack.enter_async_context(self._broker)
            url = broker_url.parse("broker_url", self._broker.url(SIMULATOR))
            readers = await self._readers(stack)
            await self._meet(fleet, url, stack)
            opened = stack.enter_context(contextlib.closing(amqp.open_channel(url)))
            for number in range(options.rounds):
                await self._round(number, fleet, readers, opened)
        return self._report(fleet)

    async def _readers(self, stack: AsyncExitStack) -> tuple[Reader, ...]:
        address = f"amqp://{VIEW}@{LOOPBACK}:{self._broker.port}/"
        view = ViewProcess(address, self._view_password, self._port, self._folder)
        await stack.enter_async_context(view)
        empty = [
            EmptyReader(name, self._broker, SIMULATOR, self._folder, below=below)
            for name, below in (("aio-pika", False), ("channel", True))
        ]
        for reader in empty:
            await reader.start()
            stack.push_async_callback(reader.child.kill)
        return (*empty, ViewReader(view, self._api))

    async def _meet(self, fleet: StreamedFleet, url: BrokerUrl, stack: AsyncExitStack) -> None:
        """Have the view meet all hosts and ask for all that they have announced."""
        hosts = len(fleet.names)
        answering = stack.enter_context(Answering(url, fleet))
        with Cadence(url, fleet) as cadence:
            cadence.speak(hosts, Rhythm(changes_a_minute=0.0))
            deadline = time.monotonic() + READY_S
            while time.monotonic() < deadline:
                await asyncio.sleep(LOOK_S)
                with contextlib.suppress(ViewUnreachable):
                    report = await self._api.fleet()
                    if report.ready and report.live() == hosts and answering.idle_s() > SETTLED_S:
                        return
        raise SimulatorError(f"the view did not see {hosts} hosts live within {READY_S:.0f} s")

    # --- turns --------------------------------------------------------------------------------------------------

    async def _round(
        self, number: int, fleet: StreamedFleet, readers: tuple[Reader, ...], opened: socket.socket
    ) -> None:
        """Send one batch to each reader; before each other reader's turn hosts tell the view that they are there."""
        hosts = len(fleet.names)
        view, alive = readers[-1], [fleet.frames(0, hosts, number) for _ in readers]
        self._batch = batch = batch_of(fleet, self._options.ticks, Rhythm())
        for reader, signs in zip(readers, alive, strict=True):
            await asyncio.to_thread(opened.sendall, signs)
            await drained(self._broker, view)
            turn = await self._turn(reader, batch, opened)
            self._turns.setdefault(reader.name, []).append(turn)
        told = ", ".join(f"{name} {turns[-1].us_per_message:.1f}" for name, turns in self._turns.items())
        say(f"round {number + 1} of {self._options.rounds}: us per message: {told}")

    async def _turn(self, reader: Reader, batch: Batch, opened: socket.socket) -> Turn:
        messages = [part.replace(b"vmpulse.", reader.prefix.encode()) for part in batch.parts]
        counted = await reader.count()
        before = processes.usage(reader.pid)
        await asyncio.to_thread(opened.sendall, b"".join(messages))
        await drained(self._broker, reader)
        used = processes.usage(reader.pid).since(before)
        taken = await reader.count() - counted
        if taken != batch.messages:
            raise SimulatorError(f"{reader.name} got {taken} of {batch.messages} messages: the machine is too busy")
        return Turn(used.cpu_ns, taken)

    def _report(self, fleet: StreamedFleet) -> Report:
        each = {name: [turn.us_per_message for turn in turns] for name, turns in self._turns.items()}
        above, below = (
            [view / empty for view, empty in zip(each["view"], each[name], strict=True)]
            for name in ("aio-pika", "channel")
        )
        ratio = round(median(above), 3)
        return Report(
            hosts=len(fleet.names),
            vms=fleet.vms,
            rounds=self._options.rounds,
            messages=self._batch.messages,
            mix={str(kind): count for kind, count in self._batch.mix.items()},
            us_per_message={name: round(median(values), 1) for name, values in each.items()},
            ratio_to_empty_callback=ratio,
            ratio_to_empty_channel=round(median(below), 3),
            ratios=[round(value, 3) for value in above],
            load_average=self._load,
            goals_missed=("ratio_to_empty_callback",) if ratio > RATIO_GOAL else (),
        )
