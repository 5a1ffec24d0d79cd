"""One run: a broker, a fleet of agents with a connection each, a while in peace, and then the broker is killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import aio_pika
from msgspec import Struct

from benches import processes
from benches.chaos.resident import Resident
from benches.connections.agents import SPARE_FILES, allow_files
from benches.connections.fleet import NS_PER_S, STARTS_PER_S, AgentProcesses, say
from benches.connections.report import Outage, Outcome, outcome
from benches.spread import Spread
from vmpulse_agent.backoff import MOST_S
from vmpulse_contract import topology
from vmpulse_contract.rights import SIMULATOR, simulator_rights
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

BROKER_FILES_PER_HOST: Final = 2
BACK_S: Final = 180.0
"""Beyond this the fleet will not come back at all: the longest back-off is 15 s."""
NOTICED_S: Final = 3.0
"""Until every agent has noticed that its connection is closed, and has told."""
MISSED: Final = "missed heartbeats from client"


class Report(Struct, frozen=True, kw_only=True):
    """The outcome of a run.

    - ``hold_s``: the time in peace, in which ``killed.lost_in_hold`` connections ended; in the whole run the broker
      missed the heartbeats of ``heartbeats_missed`` connections.
    - ``reconnect_p50_s``, ``reconnect_p99_s``, ``publish_gap_s``: those of ``killed``: the broker was killed.
    - ``closed``: the broker closed all connections and stayed, as one that fails over to another node does.
    - ``away_s``: from the kill until the broker answered again; of that it took ``broker_start_s`` to start.
    - ``broker_rss_mb``: of the broker, empty, with all connections, after they came back, and the most it ever held.
    - ``broker_cpu``, ``agents_cpu``: cores that they took in peace.
    - ``rpc_queues``: that the broker has when all are back.
    - ``load``: the machine's load average of a minute when the run began.
    """

    connections: int
    processes: int
    vms: int
    tick_s: float
    hold_s: float
    heartbeats_missed: int
    away_s: float
    broker_start_s: float
    reconnect_p50_s: float
    reconnect_p99_s: float
    broker_rss_mb: dict[str, float]
    broker_cpu: float
    agents_cpu: float
    rpc_queues: int
    publish_gap_s: Spread
    handshakes_per_s_max: int
    stampede: bool
    killed: Outcome
    closed: Outcome
    load: float

    @property
    def measured(self) -> bool:
        """Whether the figures are of a fleet that came back as a whole."""
        return not self.killed.not_back and not self.closed.not_back and self.rpc_queues == self.connections


class Run:
    """A run.

    Args:
        folder: for everything that is written.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._user = BrokerUser(SIMULATOR, secrets.token_urlsafe(16), simulator_rights())
        self._broker = PrivateBroker(root=folder, users=[self._user])
        self._resident = Resident()
        self._rss: dict[str, float] = {}
        self._agents = AgentProcesses(folder, options)
        self._load = os.getloadavg()[0]

    async def run(self) -> Report:
        """Run it. Raises SimulatorError if a part cannot run, or the fleet does not come up."""
        options = self._options
        allow_files(BROKER_FILES_PER_HOST * options.connections + SPARE_FILES)
        async with AsyncExitStack() as stack:
            say("starting RabbitMQ ...")
            await stack.enter_async_context(self._broker)
            await self._declare()
            self._note_memory("empty")
            say(f"connecting {options.connections} agents ...")
            await self._agents.start(stack, self._broker.port, self._user.password)
            await self._agents.until_serving(options.connections / STARTS_PER_S + BACK_S)
            held_from, cpu = await self._hold()
            killed, broker_start_s = await self._kill(held_from)
            settled = await self._until_settled(killed)
            # A connection that lasted less counts as a failed attempt: its link would wait as after the kill.
            await asyncio.sleep(MOST_S)
            self._note_memory("after")
            closed = await self._close_all(settled)
            await self._until_settled(closed)
            queues = await asyncio.to_thread(self._broker.ctl, "list_queues", "name")
            await self._agents.end()
            return self._report((killed._replace(until=closed.lost), closed), broker_start_s, cpu, queues)

    # --- parts --------------------------------------------------------------------------------------------------

    async def _declare(self) -> None:
        """Declare the exchanges, which agents may not, and see that they outlive the kill."""
        async with await aio_pika.connect(self._broker.url()) as connection:
            channel = await connection.channel()
            for exchange in topology.EXCHANGES:
                await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        await asyncio.to_thread(self._broker.flush)

    async def _hold(self) -> tuple[float, tuple[float, float]]:
        """Touch nothing for a while; gives since when, and the cores that broker and agents took."""
        hold_s = self._options.hold
        await asyncio.sleep(2 * self._options.tick)
        say(f"all are connected; nothing is touched for {hold_s:.0f} s ...")
        since, before = time.monotonic(), self._cpu()
        await asyncio.sleep(hold_s)
        broker, agents = (now - then for now, then in zip(self._cpu(), before, strict=True))
        self._note_memory("held")
        return since, (broker / hold_s, agents / hold_s)

    async def _kill(self, held_from: float) -> tuple[Outage, float]:
        """Kill the broker and start it again; gives when, and how long the start took."""
        say("the broker is killed ...")
        killed = time.monotonic()
        await asyncio.to_thread(self._broker.kill)
        await asyncio.sleep(self._options.away)
        began = time.monotonic()
        await asyncio.to_thread(self._broker.start, BACK_S)
        answers = time.monotonic()
        say(f"it answers again after {answers - killed:.1f} s")
        return Outage(held_from, killed, answers), answers - began

    async def _close_all(self, held_from: float) -> Outage:
        """Have the broker close all connections at once; it goes on."""
        say("the broker closes all connections ...")
        since = time.monotonic()
        await asyncio.to_thread(self._broker.ctl, "close_all_connections", "bench")
        await asyncio.sleep(NOTICED_S)
        return Outage(held_from, since, since)

    async def _until_settled(self, outage: Outage) -> float:
        """Wait until all are back and have said something since; gives when that was."""
        await self._agents.until_serving(BACK_S)
        say(f"all are back {time.monotonic() - outage.answers:.1f} s after the broker")
        await asyncio.sleep(2 * self._options.tick)
        return time.monotonic()

    # --- measuring ----------------------------------------------------------------------------------------------

    def _cpu(self) -> tuple[float, float]:
        """CPU seconds of the broker and of all agents so far."""
        broker = 0.0 if self._broker.pid is None else processes.usage(self._broker.pid).cpu_ns / NS_PER_S
        return broker, self._agents.cpu_s()

    def _note_memory(self, moment: str) -> None:
        if self._broker.pid is not None:
            self._resident.sample({"broker": self._broker.pid})
        self._rss[moment] = self._resident.now["broker"]

    def _report(self, outages: tuple[Outage, Outage], start_s: float, cpu: tuple[float, float], queues: str) -> Report:
        notes, options, outage = self._agents.notes(), self._options, outages[0]
        try:
            killed, closed = (outcome(notes, each) for each in outages)
        except ValueError as error:
            raise SimulatorError(f"there is nothing to report: {error}") from error
        return Report(
            connections=options.connections,
            processes=options.processes,
            vms=options.vms,
            tick_s=options.tick,
            hold_s=options.hold,
            heartbeats_missed=self._broker.log.read_text(encoding="utf-8", errors="replace").count(MISSED),
            away_s=round(outage.answers - outage.lost, 1),
            broker_start_s=round(start_s, 1),
            reconnect_p50_s=killed.reconnect_s.p50,
            reconnect_p99_s=killed.reconnect_s.p99,
            broker_rss_mb=self._rss | {"peak": self._resident.peak["broker"]},
            broker_cpu=round(cpu[0], 2),
            agents_cpu=round(cpu[1], 2),
            rpc_queues=queues.count(topology.RPC),
            publish_gap_s=killed.publish_gap_s,
            handshakes_per_s_max=killed.handshakes_per_s_max,
            stampede=killed.stampede,
            killed=killed,
            closed=closed,
            load=round(self._load, 2),
        )
