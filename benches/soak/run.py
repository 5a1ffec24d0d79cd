"""A run: everything at work for so many minutes, measured; then held against the truth, and ended under load."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from benches.chaos.comparing import differences
from benches.chaos.rounds import beside
from benches.chaos.stand import NotReady
from benches.soak import readers
from benches.soak.domains import HOST
from benches.soak.endings import ended, said_goodbye
from benches.soak.fleet_part import FleetPart
from benches.soak.judging import judged
from benches.soak.measuring import AGENT, VIEW, Measuring
from benches.soak.readers import EventReader, Scraper
from benches.soak.report import Report
from benches.soak.restarts import GROUP, Restarts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benches.chaos.stand import Stand
    from benches.soak.queue_depth import QueueDepth
    from benches.soak.real_host import RealHost
    from benches.soak.report import Ending
    from vmpulse_simulator.child_process import ChildProcess
    from vmpulse_simulator.truth import Mismatch

WARM_UP: Final = 0.25
"""The first share of a run: what was measured then does not count."""
READY_S: Final = 60.0
TRUTH_S: Final = 60.0
"""So long the view may take to be right when changes have stopped; a few ticks do."""
POLL_S: Final = 0.5
SHOWN: Final = 20
LIVE: Final = "live"
GAPS: Final = "vmpulse_gaps_total"
REJECTED: Final = "vmpulse_rejected_total"
LOAD_S: Final = 5.0
"""After the comparison things go on happening for so long before the first program is told to end."""


class Options(NamedTuple):
    """What the command line asks for."""

    minutes: float
    tick: float
    seed: int
    hosts: int
    vms: int
    domains: int


class Soak:
    """One run on a stand that is ready, to be run once.

    Args:
        options: of the command line.
        stand: the broker, the view and the simulated hosts.
        real: the host that is real, with an agent that has been started; None: there is none.
        depth: of the view's queue.
    """

    def __init__(self, options: Options, stand: Stand, real: RealHost | None, depth: QueueDepth) -> None:
        self._options = options
        self._stand = stand
        self._real = real
        self._depth = depth
        self._api = FleetPart(stand.api.url, stand.clock)
        self._scraper = Scraper(f"{stand.api.url}/metrics")
        self._reader = EventReader(f"{stand.api.url}/api/v1/events")
        self._restarts = Restarts(stand, self._api)

    async def run(self) -> Report:
        """Run to the end. Raises SimulatorError if a part fails."""
        await self._until_live()
        async with AsyncExitStack() as stack:
            works = (self._scraper.run(), self._reader.run(), self._stand.motion.run())
            always = [await stack.enter_async_context(beside(work)) for work in works]
            measuring = Measuring(self._stand, self._real, self._depth, self._reader, self._seconds)
            before = await measuring.mark()
            self._stand.motion.go_on()
            await self._work(measuring, always)
            missed = measuring.missed(before, await measuring.mark())
            found, truth_s = await self._until_true()
            report = self._report(measuring, missed, len({mismatch.subject for mismatch in found}), truth_s)
            endings = await self._end_all()
        return judged(msgspec.structs.replace(report, endings=(*report.endings, *endings)))

    @property
    def _seconds(self) -> float:
        return self._options.minutes * 60.0

    # --- at work ------------------------------------------------------------------------------------------------

    async def _until_live(self) -> None:
        """Wait until the view sees the real host live. Raises NotReady."""
        deadline = self._stand.clock() + READY_S
        while self._real is not None and (await self._api.host(HOST)).get("state") != LIVE:
            if self._stand.clock() > deadline:
                raise NotReady(f"{HOST} is not live after {READY_S:.0f} s; its agent's log is {self._real.agent.log}")
            await asyncio.sleep(POLL_S)

    async def _work(self, measuring: Measuring, always: Sequence[asyncio.Task[None]]) -> None:
        """Let everything go on for the run's time; nothing is under way to any agent or domain afterwards."""
        enough = asyncio.Event()
        async with (
            beside(measuring.run()) as measured,
            beside(self._restarts.run(enough)) as restarting,
            beside(self._live(enough)) as living,
        ):
            everybody = {measured, restarting, living, *always}
            done, _ = await asyncio.wait(everybody, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            enough.set()
            await asyncio.gather(restarting, living)

    async def _live(self, enough: asyncio.Event) -> None:
        if self._real is None:
            await enough.wait()
        else:
            await self._real.live(enough)

    # --- the truth ----------------------------------------------------------------------------------------------

    async def _until_true(self) -> tuple[list[Mismatch], float]:
        """Hold everything still until the view says the truth; gives what is wrong in the end, and the seconds."""
        self._stand.motion.hold_still()
        began = self._stand.clock()
        found = await self._differences()
        while found and self._stand.clock() < began + TRUTH_S:
            await asyncio.sleep(POLL_S)
            found = await self._differences()
        for mismatch in found[:SHOWN]:
            sys.stderr.write(f"MISMATCH {mismatch}\n")
        return found, round(self._stand.clock() - began, 1)

    async def _differences(self) -> list[Mismatch]:
        found, _ = await differences(await self._stand.truth(), self._api, complete=True)
        if self._real is not None:
            found += await self._real.differences(await self._api.rows_of_real_host())
        return found

    # --- the end ------------------------------------------------------------------------------------------------

    async def _end_all(self) -> list[Ending]:
        """End one program after the other while the rest goes on."""
        stand, enough = self._stand, asyncio.Event()
        stand.motion.go_on()
        async with beside(self._live(enough)) as living:
            await asyncio.sleep(LOAD_S)
            endings = [await self._end_with_goodbye(AGENT, self._real.agent, [HOST])] if self._real else []
            hosts = [str(each.host) for each in stand.hosts([GROUP])]
            endings.append(await self._end_with_goodbye(f"agents-{GROUP}", stand.agents[GROUP], hosts))
            endings.append(await ended(VIEW, stand.view))
            for group, child in enumerate(stand.agents):
                if group != GROUP:
                    endings.append(await ended(f"agents-{group}", child))
            enough.set()
            await living
        return endings

    async def _end_with_goodbye(self, name: str, child: ChildProcess, hosts: Sequence[str]) -> Ending:
        return await ended(name, child, lambda: said_goodbye(self._api, hosts))

    def _report(self, measuring: Measuring, missed: dict[str, float], wrong: int, truth_s: float) -> Report:
        fleet, options, worst = self._stand.motion, self._options, self._restarts.worst()
        gauges, ours = measuring.gauges, measuring.ours()
        happened = msgspec.structs.asdict(fleet.happened) | {"agent_restarts": len(self._restarts.endings)}
        return Report(
            minutes=options.minutes,
            tick_s=options.tick,
            seed=options.seed,
            hosts=options.hosts,
            vms=fleet.fleet.vms,
            domains=options.domains,
            warm_up=WARM_UP,
            ticks=int(measuring.span(0.0)),
            judged_ticks=int(measuring.span(WARM_UP)),
            processes={name: gauges.report(name, WARM_UP) for name in ours},
            others={name: gauges.report(name, WARM_UP) for name in gauges.samples if name not in ours},
            queue=self._depth.report(WARM_UP),
            missed_ticks=missed,
            gaps=int(self._scraper.metrics[GAPS]),
            rejected=int(self._scraper.metrics[REJECTED]),
            wrong=wrong,
            truth_s=truth_s,
            readers=readers.told(self._scraper, self._reader),
            endings=() if worst is None else (worst,),
            happened=happened | (dict(self._real.domains.happened) if self._real else {}),
        )
