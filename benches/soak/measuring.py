"""Measures all programs of a run again and again, and counts the ticks that they make."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from benches.chaos.stand import ProgramDied
from benches.soak import trends
from benches.soak.gauges import Gauges, Source
from benches.soak.restarts import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benches.chaos.stand import Stand
    from benches.soak.queue_depth import QueueDepth
    from benches.soak.readers import EventReader
    from benches.soak.real_host import RealHost

SAMPLES: Final = 600
"""So many at most in a run."""
TELL_S: Final = 10.0
VIEW: Final = "view"
AGENT: Final = "agent"


class Mark(NamedTuple):
    """How many ticks programs had made at one moment, by program."""

    at: float
    ticks: dict[str, float]


class Measuring:
    """Measures from its making on; all programs have to run.

    Args:
        stand: the broker, the view and the simulated hosts.
        real: the host that is real, if there is one.
        depth: of the view's queue.
        reader: of events, who knows how many the view keeps.
        seconds: how long the run is.
    """

    def __init__(
        self, stand: Stand, real: RealHost | None, depth: QueueDepth, reader: EventReader, seconds: float
    ) -> None:
        self.gauges = Gauges()
        self._stand = stand
        self._real = real
        self._depth = depth
        self._reader = reader
        self._every_s = max(stand.tick_s, seconds / SAMPLES)
        self._began = stand.clock()
        self._looks = self._mean_looks(self._steady())

    async def run(self) -> None:
        """Measure until cancelled. Raises ProgramDied if a program has ended by itself."""
        tell_at = self._began
        while True:
            self._check()
            now = self._stand.clock()
            try:
                self.gauges.measure(self._sources(), now, self.ticks())
            except OSError as error:
                raise ProgramDied(f"a program ended while it was measured: {error}") from error
            await self._depth.measure()
            if now >= tell_at:
                tell_at = now + TELL_S
                self._tell(now)
            await asyncio.sleep(self._every_s)

    def ticks(self) -> float:
        """How many ticks there were, as the agents count that are at work all the time."""
        return self._mean_looks(self._steady()) - self._looks

    def ours(self) -> list[str]:
        """The programs that are ours, and that run from the begin to the end."""
        steady = [f"agents-{group}" for group in self._steady()]
        return [VIEW, *([AGENT] if self._real else []), *steady]

    def span(self, share: float) -> float:
        """How many ticks there were between the first and the last measures, without the first share of these."""
        samples = trends.settled(self.gauges.samples[VIEW], share)
        return samples[-1].ticks - samples[0].ticks

    async def mark(self) -> Mark:
        """Count now. Raises ScrapeFailed."""
        ticks = {f"agents-{group}": self._mean_looks([group]) for group in self._steady()}
        if self._real is not None:
            ticks[AGENT] = await self._real.ticks()
        return Mark(self._stand.clock(), ticks)

    def missed(self, before: Mark, after: Mark) -> dict[str, float]:
        """Of a hundred ticks that were due between two marks, those that were not made, by program."""
        due = (after.at - before.at) / self._stand.tick_s
        made = {name: after.ticks[name] - ticks for name, ticks in before.ticks.items()}
        return {name: round(max(0.0, 1 - ticks / due) * 100, 2) for name, ticks in made.items()}

    def _steady(self) -> list[int]:
        return [group for group in range(len(self._stand.groups)) if group != GROUP]

    def _mean_looks(self, groups: Iterable[int]) -> float:
        looks = self._stand.looks(groups).values()
        return sum(looks) / len(looks)

    def _check(self) -> None:
        self._stand.check()
        agent = self._real.agent if self._real is not None else None
        if agent is not None and agent.died is not None:
            raise ProgramDied(f"vmpulse-agent ended with status {agent.died}; its log is {agent.log}")

    def _sources(self) -> dict[str, Source]:
        """Everybody that runs now and has always run."""
        stand = self._stand
        logs = {VIEW: stand.view.log} | {f"agents-{group}": stand.agents[group].log for group in self._steady()}
        sources = {name: Source(pid, logs.get(name)) for name, pid in stand.pids().items() if name != f"agents-{GROUP}"}
        sources[VIEW] = sources[VIEW]._replace(history_mib=self._reader.history_mib)
        real = self._real
        if real is not None and real.agent.pid is not None and real.domains.hypervisor.daemon_pid is not None:
            sources[AGENT] = Source(real.agent.pid, real.agent.log)
            sources["libvirtd"] = Source(real.domains.hypervisor.daemon_pid)
        return sources

    def _tell(self, now: float) -> None:
        events, waiting = self._reader.events.total(), self._depth.depths[-1]
        words = f"tick {self.ticks():.0f}: MiB {self.gauges.line()}; {waiting} in the queue, {events} events"
        sys.stderr.write(f"{now - self._began:6.0f} s  {words}\n")
        sys.stderr.flush()
