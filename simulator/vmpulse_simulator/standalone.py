"""A fleet alone: simulated hosts with the real agent, for a broker and readers that are already there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from vmpulse_agent.host_agent import Timing
from vmpulse_simulator.dynamics import Dynamics
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents

if TYPE_CHECKING:
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_simulator.settings import RunSettings


async def run_fleet(settings: RunSettings, broker: BrokerUrl) -> int:
    """Run the fleet until cancelled. Raises AgentError if the broker cannot be used."""
    fleet = Fleet(settings.hosts, settings.vms, settings.seed, time.monotonic)
    agents = FleetAgents(fleet, broker, timing=Timing(tick_s=settings.tick), loss=settings.loss_percent / 100)
    agents.publisher.losing = True
    dynamics = Dynamics(fleet, agents.restart, time.monotonic(), settings.rates)
    async with asyncio.TaskGroup() as group:
        group.create_task(agents.run())
        while True:
            dynamics.advance(time.monotonic())
            await asyncio.sleep(max(0.0, dynamics.next_at() - time.monotonic()))
