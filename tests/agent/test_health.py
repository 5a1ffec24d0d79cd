"""The watchdog is fed by a sampler that advances, and by no other."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.agent.test_metrics import nowhere
from tests.edges.service_manager import listening
from tests.real_broker import agent_of, at_work, simulated_host
from tests.waiting import eventually
from vmpulse_agent import health
from vmpulse_agent.commands import run_command
from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.hypervisor import Look
from vmpulse_edges.sd_notify import Notifier
from vmpulse_simulator.hypervisor import SimulatedHypervisor


class Troubled(SimulatedHypervisor):
    """A host whose looks fail, or never end: what a port must not do (promise A1), so that only a watchdog helps."""

    failing = False
    stuck = False

    async def look(self, *, states_only: bool = False) -> Look:
        """Look, or fail to, or never come back."""
        if self.stuck:
            await asyncio.Event().wait()
        if self.failing:
            raise HypervisorError("not today")
        return await super().look(states_only=states_only)


async def test_stuck_sampler_is_not_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that fail keep the watchdog fed; a look that never ends does not, and the status says so."""
    monkeypatch.setattr(health, "STUCK_LEAST_S", 0.5)
    host = simulated_host("h1")
    hypervisor, link = Troubled(host.host, host.uuid, host.domains.values(), time.monotonic), nowhere()
    agent = agent_of(hypervisor, link, tick_s=0.1)
    with listening() as manager:
        link.reconnects = 1  # so that it counts as settled
        told = run_command._keep_told(Notifier(manager.address, 0.2), agent, link)
        async with at_work(agent.run()), at_work(told):
            await manager.hears("WATCHDOG", 2)
            hypervisor.failing = True
            await eventually(lambda: any("no look has succeeded" in line for line in manager.lines("STATUS")))
            fed = len(manager.lines("WATCHDOG"))
            await manager.hears("WATCHDOG", fed + 2)
            hypervisor.failing, hypervisor.stuck = False, True
            await eventually(lambda: "the sampler has been stuck for 1 s" in manager.lines("STATUS")[-1])
            await eventually(lambda: time.monotonic() > agent.measures.advanced_at + 1)
            last_fed = max(at for at, lines in manager.heard if "WATCHDOG=1" in lines)
            assert last_fed < agent.measures.advanced_at + 0.7
