"""A fleet alone: simulated hosts with the real agent, for a broker and readers that are already there.

It runs until it is cancelled. Told by SIGUSR1, it holds still, compares a view with its truth, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from vmpulse_agent.host_agent import Timing
from vmpulse_agent.metrics_server import MetricsServer
from vmpulse_simulator.dynamics import Dynamics
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents
from vmpulse_simulator.freezing import freeze, thaw
from vmpulse_simulator.summary import summarize, with_verdict
from vmpulse_simulator.verdict import judge
from vmpulse_simulator.view_api import ViewApi

if TYPE_CHECKING:
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_simulator.dynamics import Happened
    from vmpulse_simulator.settings import RunSettings
    from vmpulse_simulator.verdict import Verdict

log = logging.getLogger(__name__)

ASKING: Final = signal.SIGUSR1


class Standalone:
    """One fleet from its start until it is cancelled.

    Args:
        settings: what to run; its ``api`` is the address of a view, or empty.
        broker: where to.
    """

    def __init__(self, settings: RunSettings, broker: BrokerUrl) -> None:
        self._settings = settings
        self._clock = time.monotonic
        self._fleet = Fleet(settings.hosts, settings.vms, settings.seed, self._clock)
        self._agents = FleetAgents(
            self._fleet, broker, timing=Timing(tick_s=settings.tick), loss=settings.loss_percent / 100
        )
        self._started = self._clock()
        self._dynamics = Dynamics(self._fleet, self._agents.restart, self._started, settings.rates)
        self._asked = asyncio.Event()

    @property
    def happened(self) -> Happened:
        """What has happened so far."""
        return self._dynamics.happened

    def epochs(self) -> dict[str, int]:
        """The live epoch of each host that has begun to speak."""
        return self._agents.epochs()

    async def run(self) -> int:
        """Run the fleet until cancelled. Raises AgentError if broker or port of the metrics cannot be used."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            self._serve_metrics(stack)
            # Afterwards as before: whoever asks while the agents say goodbye must not end that.
            stack.callback(signal.signal, ASKING, signal.getsignal(ASKING))
            loop.add_signal_handler(ASKING, self._asked.set)
            stack.callback(loop.remove_signal_handler, ASKING)
            self._agents.publisher.losing = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._agents.run())
                while True:
                    await self._until_asked()
                    await self._answer()

    def _serve_metrics(self, stack: contextlib.ExitStack) -> None:
        host, port = self._settings.metrics_host, self._settings.metrics_port
        if port != "":
            stack.enter_context(MetricsServer(host, port, self._agents.at_work, self._agents.link))

    async def _until_asked(self) -> None:
        """Let things happen until somebody wants to know."""
        while not self._asked.is_set():
            self._dynamics.advance(self._clock())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), max(0.0, self._dynamics.next_at() - self._clock()))
        self._asked.clear()

    async def _answer(self) -> None:
        """Compare the view with the truth, and tell what came of it."""
        if not self._settings.api:
            log.warning(
                "SIGUSR1: there is no view to compare with; set api (--api or VMPULSE_SIMULATOR_API) to http://HOST:PORT"
            )
            return
        truth = await freeze(self._fleet, self._agents, self._dynamics)
        self._tell(await judge(truth, ViewApi(self._settings.api, self._clock), self._clock))
        thaw(self._fleet, self._agents, self._dynamics, self._clock())

    def _tell(self, verdict: Verdict) -> None:
        traffic, ticks = self._agents.publisher.traffic, (self._clock() - self._started) / self._settings.tick
        summary = summarize(
            verdict,
            traffic,
            self._dynamics.happened,
            hosts=self._settings.hosts,
            vms=self._fleet.vms,
            bytes_per_vm_tick=traffic.bytes / (self._fleet.vms * ticks),
        )
        for line in verdict.lines():
            sys.stderr.write(f"{line}\n")
        sys.stdout.write(msgspec.json.encode(with_verdict(summary, verdict)).decode() + "\n")
        sys.stdout.flush()
