"""The publishing side of vmpulse: broker, real agents and view on fleet time. Started by the bench as a program.

A RabbitMQ of its own, the simulator's hosts with the real agent and a connection each, and a view. Between them and the
broker are relays that count. The fleet's clock begins at the wall's pace, until all hosts are live, for a broker that
takes hundreds of connections at once needs its time; then it runs ahead.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benches.program import EXIT_TOLD, EXIT_WRONG
from benches.wire.amqp_meter import AmqpMeter, Breakdown
from benches.wire.clock import FleetClock, FleetLoop, LeadingSelector
from benches.wire.floor import floor_of
from benches.wire.link_per_host import LinkPerHost
from benches.wire.outcome import FleetOutcome, Link
from benches.wire.peers.world import rates
from benches.wire.progress import say
from benches.wire.reader import Reading
from benches.wire.relay import LOOPBACK, Relay, Watch
from vmpulse_agent.errors import AgentError
from vmpulse_contract import broker_url
from vmpulse_contract.rights import SIMULATOR, VIEW, simulator_rights, view_rights
from vmpulse_contract.topology import Kind
from vmpulse_simulator.broker_files import with_passwords
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.dynamics import Dynamics
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents
from vmpulse_simulator.private_broker import PrivateBroker
from vmpulse_simulator.signals import run_until_told
from vmpulse_simulator.view_process import write_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_S: Final = 120.0
"""Seconds of fleet time, which then passes as the wall's, until every host has to be live."""
POLL_S: Final = 0.2
SAY_S: Final = 60.0
FLOOR_HOSTS: Final = 25
"""The frames of so many hosts are compressed: zstd takes its time."""
READER_END_S: Final = 20.0


class FleetRun:
    """A run.

    Args:
        options: of the command line.
        clock: fleet time.
        selector: lets it pass.
    """

    def __init__(self, options: argparse.Namespace, clock: FleetClock, selector: LeadingSelector) -> None:
        self._options = options
        self._folder: Path = options.folder
        self._clock = clock
        self._selector = selector
        rights = {SIMULATOR: simulator_rights(), VIEW: view_rights()}
        self._users = {user.name: user for user in with_passwords(rights)}
        self._broker = PrivateBroker(root=self._folder, users=self._users.values())
        self._fleet = Fleet(options.hosts, options.vms, options.seed, clock.now)
        self._agents_told, self._view_told = Breakdown(), Breakdown()
        self._frames: list[bytes] = []
        self._connections = 0

    async def run(self) -> FleetOutcome:
        """Run it. Raises SimulatorError or AgentError if a part cannot run."""
        async with AsyncExitStack() as stack:
            say("vmpulse: starting RabbitMQ, a view and the hosts ...")
            await stack.enter_async_context(self._broker)
            agents_relay = await stack.enter_async_context(Relay(self._broker.port, self._watch_agent))
            view_relay = await stack.enter_async_context(Relay(self._broker.port, self._watch_view))
            reader = self._reader(view_relay.port)
            await reader.start()
            stack.push_async_callback(reader.end)
            # The view declares the exchanges; its first message comes after that.
            await self._until(lambda: self._view_told.messages > 0)
            url = broker_url.parse("broker_url", self._broker.url(SIMULATOR))._replace(port=agents_relay.port)
            link = LinkPerHost(url)
            agents = FleetAgents(self._fleet, url, link=link)
            began = self._clock.now()
            working = asyncio.create_task(agents.run())
            stack.push_async_callback(end, working)
            await self._until((self._folder / "ready").exists)
            dynamics = await self._let_things_happen(agents, working, began)
            links = [
                Link.counted(agents_relay.traffic, self._agents_told),
                Link.counted(view_relay.traffic, self._view_told),
            ]
            seconds = self._clock.now() - began
            await reader.end(READER_END_S)
        return FleetOutcome(
            seconds=seconds,
            agents=links[0],
            view=links[1],
            reading=msgspec.json.decode((self._folder / "reading.json").read_bytes(), type=Reading),
            floor=floor_of(self._frames),
            happened=dynamics.happened,
            stalls=link.stalls,
        )

    async def _let_things_happen(self, agents: FleetAgents, working: asyncio.Task[None], began: float) -> Dynamics:
        dynamics = Dynamics(self._fleet, agents.restart, self._clock.now(), rates(self._options.churn))
        self._selector.speed = self._options.speed
        ends, told, started = began + self._options.minutes * 60, began, time.monotonic()
        while (now := self._clock.now()) < ends:
            dynamics.advance(now)
            if now >= told + SAY_S:
                told = now
                say(f"vmpulse: minute {(now - began) / 60:.0f} after {time.monotonic() - started:.0f} s")
            await asyncio.wait({working}, timeout=max(0.0, min(dynamics.next_at(), ends) - now))
            if working.done():
                working.result()
        self._selector.speed = 1.0
        return dynamics

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(START_S):
            while not condition():  # noqa: ASYNC110 - another process makes it true
                await asyncio.sleep(POLL_S)

    # --- parts --------------------------------------------------------------------------------------------------

    def _reader(self, port: int) -> ChildProcess:
        password = self._folder / "view.password"
        write_secret(password, self._users[VIEW].password)
        address = f"amqp://{VIEW}@{LOOPBACK}:{port}/"
        files = {"password-file": password, "clock": self._options.clock}
        files |= {"ready": self._folder / "ready", "result": self._folder / "reading.json"}
        command = [sys.executable, "-m", "benches.wire.reader", "--broker-url", address]
        command += ["--hosts", str(self._options.hosts), *(f"--{name}={file}" for name, file in files.items())]
        return ChildProcess(command, self._folder / "reader.log", dict(os.environ))

    def _watch_agent(self) -> tuple[Watch, Watch]:
        """Count an agent's connection; of some agents the frames are kept too."""
        kept = self._connections % max(1, self._options.hosts // FLOOR_HOSTS) == 0
        self._connections += 1
        up = AmqpMeter(self._agents_told, self._keep if kept else None)
        return up.watch, AmqpMeter(self._agents_told).watch

    def _watch_view(self) -> tuple[Watch, Watch]:
        return AmqpMeter(self._view_told).watch, AmqpMeter(self._view_told).watch

    def _keep(self, kind: str, body: bytes) -> None:
        if kind == Kind.FRAME:
            self._frames.append(body)


async def end(task: asyncio.Task[None]) -> None:
    """End a part that is still at work, and pass over how it ended: that was told before."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def measure(options: argparse.Namespace, clock: FleetClock, selector: LeadingSelector) -> int:
    """Run, and leave the outcome in the folder."""
    outcome = await FleetRun(options, clock, selector).run()
    (options.folder / "fleet.json").write_bytes(msgspec.json.encode(outcome))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.wire.fleet_run")
    for name in ("hosts", "vms", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("minutes", "speed", "churn"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    options.clock = options.folder / "clock"
    clock = FleetClock.begun(options.clock)
    selector = LeadingSelector(clock, 1.0)
    try:
        return run_until_told(
            measure(options, clock, selector), code=EXIT_TOLD, loop_factory=lambda: FleetLoop(clock, selector)
        )
    except (SimulatorError, AgentError, TimeoutError) as error:
        say(f"vmpulse: {error!s:.2000}" if str(error) else "vmpulse: a part did not come up in time")
        return EXIT_WRONG


if __name__ == "__main__":
    sys.exit(main())
