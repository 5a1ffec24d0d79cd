"""Holding a simulated fleet still, so that a view can be compared with it, and letting it go on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from vmpulse_simulator.truth import take_truth

if TYPE_CHECKING:
    from vmpulse_simulator.dynamics import Dynamics
    from vmpulse_simulator.fleet import Fleet
    from vmpulse_simulator.fleet_agents import FleetAgents
    from vmpulse_simulator.truth import Truth

AGENTS_BACK_S: Final = 30.0
"""How long agents that are away are waited for; with a broker that answers they take a moment."""


async def freeze(fleet: Fleet, agents: FleetAgents, dynamics: Dynamics) -> Truth:
    """Lose nothing more, bring everything to its end that is under way, and take the truth, which then stays."""
    agents.publisher.losing = False
    dynamics.finish()
    fleet.freeze()
    with contextlib.suppress(TimeoutError):
        # A host whose agent is not back has no epoch in the truth, and so is a mismatch.
        async with asyncio.timeout(AGENTS_BACK_S):
            await agents.finish_restarts()
    return await take_truth(fleet, agents.epochs())


def thaw(fleet: Fleet, agents: FleetAgents, dynamics: Dynamics, now: float) -> None:
    """Let things happen again from *now* on."""
    fleet.thaw()
    dynamics.go_on(now)
    agents.publisher.losing = True
