"""A run: round after round faults begin and heal, and the view is waited for until it says the truth again."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from benches.chaos.comparing import differences
from benches.chaos.faults import EFFECTS
from benches.chaos.judging import DOUBLE_OWNER, WRONG_DOWN, WRONG_LOST, Wrong
from benches.chaos.plan import TABLE, Fault, Part, Plan
from benches.chaos.report import Report
from benches.chaos.stand import TICK_S
from benches.chaos.watching import Watching
from benches.spread import spread
from vmpulse_simulator.view_api import FleetReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence

    from benches.chaos.plan import Kind
    from benches.chaos.stand import Stand
    from vmpulse_simulator.truth import Mismatch

TRUTH_S: Final = 60.0
"""So long the view may take from healing to the truth: the longest back-offs of an agent (15 s) and of the view's
requests (15 s), and its patience with those that come back (30 s)."""
POLL_S: Final = 0.5
SHOWN: Final = 20
"""Mismatches that are listed in each round; the rest is counted."""


class Run:
    """One run on a stand that is ready, to be run once.

    Args:
        stand: the stand.
        seed: decides which faults come when.
        seconds: faults begin for so long; the last one is seen through to its end.
        kinds: the faults that are drawn; none given: all.
    """

    def __init__(self, stand: Stand, seed: int, seconds: float, kinds: Iterable[Kind] = ()) -> None:
        self._stand = stand
        self._seed = seed
        self._seconds = seconds
        self._plan = Plan(seed, len(stand.groups), frozenset(kinds))
        self._began = stand.clock()
        self._watching = Watching(stand, seed, self._began, self._tell_wrong)
        self._faults: Counter[str] = Counter()
        self._round: Sequence[Fault] = ()
        self._times: list[float] = []
        self._mismatched = 0
        self._seen = FleetReport()

    async def run(self) -> Report:
        """Run to the end. Raises SimulatorError if a part of the stand fails."""
        async with (
            beside(self._stand.motion.run()) as moving,
            beside(self._watching.run()) as watching,
            beside(self._all_rounds()) as rounds,
        ):
            done, _ = await asyncio.wait({moving, watching, rounds}, return_when=asyncio.FIRST_COMPLETED)
            try:
                for task in done:
                    task.result()
            except BaseExceptionGroup as group:
                # The faults of a round begin and heal in a task group; the user wants what failed.
                raise group.exceptions[0] from group
        return self._report()

    # --- rounds -------------------------------------------------------------------------------------------------

    async def _all_rounds(self) -> None:
        while self._stand.clock() < self._began + self._seconds:
            await self._one_round()

    async def _one_round(self) -> None:
        self._round = self._plan.next_round()
        self._watching.round += 1
        self._say(f"round {self._watching.round}: {' with '.join(map(str, self._round))}")
        self._stand.motion.go_on()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hold_loads())
            for fault in self._round:
                group.create_task(self._suffer(fault))
        self._stand.motion.hold_still()
        healed = self._stand.clock()
        self._watching.judge.healed(healed)
        await self._until_true(healed)

    async def _suffer(self, fault: Fault) -> None:
        await asyncio.sleep(fault.begins_s)
        if Part.AGENTS in TABLE[fault.kind].parts:
            hosts = (str(each.host) for each in self._stand.hosts(fault.groups))
            self._watching.judge.broken(hosts, self._stand.clock())
        heal = await EFFECTS[fault.kind](self._stand, fault)
        self._faults[fault.kind] += 1
        await asyncio.sleep(fault.lasts_s)
        await heal()

    async def _hold_loads(self) -> None:
        """Shares of CPU are means over a tick: those that are seen after the healing are to be of one truth."""
        await asyncio.sleep(max(fault.ends_s for fault in self._round) - TICK_S)
        self._stand.motion.hold_loads()

    async def _until_true(self, healed: float) -> None:
        """Compare until the view says the truth, or its time is over."""
        found = await self._differences(complete=False)
        while found and self._stand.clock() < healed + TRUTH_S:
            await asyncio.sleep(POLL_S)
            found = await self._differences(complete=False)
        self._times.append(self._stand.clock() - healed)
        if found:
            self._tell_mismatches(await self._differences(complete=True) or found)
            return
        seen = self._seen
        self._say(
            f"  healed at {healed - self._began:.1f} s, the truth {self._times[-1]:.1f} s later; the view so far: "
            f"{seen.gaps} gaps, {seen.relists} relists, {seen.repairs} repairs"
        )

    async def _differences(self, *, complete: bool) -> list[Mismatch]:
        """Compare. The VMs are not even asked for while hosts are wrong, unless all is to be told."""
        found, report = await differences(await self._stand.truth(), self._stand.api, complete=complete)
        self._seen = report or self._seen
        return found

    # --- telling ------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{self._stand.clock() - self._began:6.1f} s  {text}\n")
        sys.stderr.flush()

    def _tell_wrong(self, wrong: Wrong) -> None:
        self._say(f"WRONG {wrong}; round {self._watching.round}: {self._now()}")

    def _now(self) -> str:
        return " with ".join(map(str, self._round))

    def _tell_mismatches(self, found: Sequence[Mismatch]) -> None:
        vms = {mismatch.subject for mismatch in found} & self._stand.motion.fates.places.keys()
        self._mismatched += len(vms)
        self._say(f"MISMATCH {len(vms)} VMs are wrong {TRUTH_S:.0f} s after {self._now()}")
        for mismatch in found[:SHOWN]:
            self._say(f"  {mismatch}")
        if len(found) > SHOWN:
            self._say(f"  ... and {len(found) - SHOWN:,} more")

    def _report(self) -> Report:
        watching = self._watching
        return Report(
            seed=self._seed,
            seconds=round(self._stand.clock() - self._began, 1),
            hosts=len(self._stand.motion.fleet.hypervisors),
            vms=self._stand.motion.fleet.vms,
            rounds=watching.round,
            faults=dict(sorted(self._faults.items())),
            mismatched_vms=self._mismatched,
            wrong_down=watching.count(WRONG_DOWN),
            wrong_lost=watching.count(WRONG_LOST),
            double_owner=watching.count(DOUBLE_OWNER),
            time_to_truth_s=spread(self._times) if self._times else None,
            polls=watching.polls,
            rss_mb=watching.resident.now,
            peak_rss_mb=watching.resident.peak,
        )


@contextlib.asynccontextmanager
async def beside(work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Let something go on for as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
