"""Some agents that come and go, as in a fleet that is being upgraded: told to end, away for a while, started again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from benches.chaos.faults import started_again
from benches.chaos.plan import Fault, Kind
from benches.soak.endings import ended, said_goodbye, worst
from benches.soak.waiting import happens

if TYPE_CHECKING:
    from benches.chaos.stand import Stand
    from benches.soak.report import Ending
    from vmpulse_simulator.view_api import ViewApi

GROUP: Final = 0
"""The group of agents that comes and goes."""
EVERY_TICKS: Final = 60.0
AWAY_TICKS: Final = 4.0


class Restarts:
    """Restarts one group of a stand's agents again and again.

    Args:
        stand: the stand.
        api: the view's.
    """

    def __init__(self, stand: Stand, api: ViewApi) -> None:
        self.endings: list[Ending] = []
        self._stand = stand
        self._api = api

    async def run(self, enough: asyncio.Event) -> None:
        """Go on until it is enough; all agents are there then."""
        while not await happens(enough, EVERY_TICKS * self._stand.tick_s):
            await self._restart()

    def worst(self) -> Ending | None:
        """What was worst about all the ends; None: there were none."""
        return worst(f"agents-{GROUP} restarted", self.endings) if self.endings else None

    async def _restart(self) -> None:
        stand, fault = self._stand, Fault(Kind.AGENTS_STOPPED, 0.0, AWAY_TICKS * self._stand.tick_s, (GROUP,))
        at, hosts = stand.clock(), {str(each.host) for each in stand.hosts(fault.groups)}
        self.endings.append(await ended("", stand.agents[GROUP], lambda: said_goodbye(self._api, hosts)))
        start = started_again(stand, fault, at)
        await asyncio.sleep(fault.lasts_s)
        await start()
