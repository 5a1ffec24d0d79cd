"""The real agents of a simulated fleet: one for each host, all over one broker link, restarted now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_contract.stream import HostFacts, Tombstone
from vmpulse_simulator.lossy_publisher import LossyPublisher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_agent.host_agent import Publisher
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_simulator.fleet import Fleet
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

log = logging.getLogger(__name__)

AGENT_VERSION: Final = "simulated"
CONNECTION: Final = "vmpulse-simulator"
READY_POLL_S: Final = 0.05


class HostLife:
    """One host and its agents, one after the other; keeps the tombstones from one to the next.

    Args:
        hypervisor: outlives the agents.
        publisher: the broker link.
        timing: of each agent.
        labels: what the host is labelled with.
    """

    def __init__(
        self, hypervisor: SimulatedHypervisor, publisher: Publisher, timing: Timing, labels: dict[str, str]
    ) -> None:
        self.hypervisor = hypervisor
        self.agent: HostAgent | None = None
        self._publisher = publisher
        self._timing = timing
        self._labels = labels
        self._tombstones: Sequence[Tombstone] = ()
        self._tombstones_at = 0.0
        """When the clock on which the kept tombstones ended stood at 0."""

    async def run(self) -> None:
        """Start a new agent, with a new epoch, and let it work until cancelled."""
        self.agent = agent = HostAgent(
            self.hypervisor.host,
            self.hypervisor,
            self._publisher,
            facts=self._facts(),
            timing=self._timing,
            tombstones=self._kept_tombstones(),
            phase_s=self._timing.tick_s,
            on_tombstones=self._keep,
        )
        try:
            await agent.run()
        finally:
            self.agent = None

    def crash(self) -> None:
        """Silence the present agent, as if it had been killed; cancel ``run`` next."""
        if self.agent is not None:
            self.agent.crash()

    def _facts(self) -> HostFacts:
        return HostFacts(
            tick_ms=int(self._timing.tick_s * 1000),
            fqdn=f"{self.hypervisor.host}.simulated.example",
            agent_version=AGENT_VERSION,
            labels=self._labels,
        )

    def _keep(self, tombstones: Sequence[Tombstone], monotonic_ms: int) -> None:
        self._tombstones = tombstones
        self._tombstones_at = self.hypervisor.clock() - monotonic_ms / 1000

    def _kept_tombstones(self) -> list[Tombstone]:
        """Put the kept tombstones on the clock of an epoch that begins now."""
        shift = int((self.hypervisor.clock() - self._tombstones_at) * 1000)
        return [msgspec.structs.replace(kept, ended_ms=kept.ended_ms - shift) for kept in self._tombstones]


class FleetAgents:
    """The agents of a whole fleet.

    Args:
        fleet: the hosts.
        url: the broker; its user may speak for every host (tag ``impersonator``).
        timing: of each agent.
        loss: share of the messages that is lost while ``publisher.losing``.
        link: another one than a connection for all hosts, which declares the exchanges.
    """

    def __init__(
        self,
        fleet: Fleet,
        url: BrokerUrl,
        *,
        timing: Timing | None = None,
        loss: float = 0.0,
        link: AmqpLink | None = None,
    ) -> None:
        self.link = link or AmqpLink(url, CONNECTION, declare=True)
        self.publisher = LossyPublisher(self.link, fleet.seed, loss)
        timing = timing or Timing()
        self.lives = [
            HostLife(hypervisor, self.publisher, timing, {"cluster": f"cluster-{index // 20:02d}"})
            for index, hypervisor in enumerate(fleet.hypervisors)
        ]
        self._stagger_s = timing.tick_s / (len(self.lives) or 1)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._restarts: dict[int, asyncio.Task[None]] = {}
        self._hurry = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Run all agents until cancelled, which they end with a goodbye. Raises what link or agents cannot mend."""
        self._failed = asyncio.get_running_loop().create_future()
        link = asyncio.create_task(self.link.run())
        try:
            for index in range(len(self.lives)):
                self._start(index)
                # Spread over a tick, and so they stay: a fleet must not publish in one burst.
                await asyncio.wait({link, self._failed}, timeout=self._stagger_s, return_when=asyncio.FIRST_COMPLETED)
                if link.done() or self._failed.done():
                    break
            done, _ = await asyncio.wait({link, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            await self._end_all()
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    def restart(self, index: int, crash: bool, away_s: float) -> bool:  # noqa: FBT001 - the shape dynamics calls
        """Begin to restart a host's agent; it stays away for so long. False: it is being restarted already."""
        if index in self._restarts or index not in self._tasks:
            return False
        task = asyncio.create_task(self._restart(index, away_s, crash=crash))
        self._restarts[index] = task
        task.add_done_callback(lambda _: self._restarts.pop(index))
        return True

    async def finish_restarts(self) -> None:
        """Bring every agent back at once that is away, and wait until all of them speak again.

        Whoever gives up waiting leaves the restarts alone.
        """
        self._hurry.set()
        try:
            if self._restarts:
                await asyncio.wait(list(self._restarts.values()))
        finally:
            self._hurry.clear()
        while len(self.epochs()) < len(self.lives):  # noqa: ASYNC110 - agents announce that to the broker only
            await asyncio.sleep(READY_POLL_S)

    def epochs(self) -> dict[str, int]:
        """The live epoch of each host that has begun to speak."""
        return {str(agent.host): agent.session.epoch for agent in self.at_work() if agent.session.ready}

    def at_work(self) -> list[HostAgent]:
        """The agents that are there now. May be called from any thread."""
        return [agent for life in self.lives if (agent := life.agent) is not None]

    # --- one agent ----------------------------------------------------------------------------------------------

    def _start(self, index: int) -> None:
        task = asyncio.create_task(self.lives[index].run())
        task.add_done_callback(self._ended)
        self._tasks[index] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An agent ends because it is cancelled; anything else ends the fleet."""
        if task.cancelled() or self._failed is None or self._failed.done():
            return
        error = task.exception()
        if error is not None:
            self._failed.set_exception(error)

    async def _restart(self, index: int, away_s: float, *, crash: bool) -> None:
        if crash:
            self.lives[index].crash()
        await self._end(self._tasks[index])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), away_s)
        self._start(index)

    async def _end_all(self) -> None:
        for restart in list(self._restarts.values()):
            restart.cancel()
        await asyncio.gather(*self._restarts.values(), return_exceptions=True)
        await asyncio.gather(*(self._end(task) for task in self._tasks.values()))

    @staticmethod
    async def _end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
