"""Asks the view again and again what it says, has it judged, and notes what the processes hold."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from benches.chaos.judging import Judge, Wrong
from benches.chaos.resident import Resident
from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.lots import Lots
from vmpulse_simulator.truth import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benches.chaos.stand import Stand

POLL_S: Final = 0.5
CLAIMED: Final = 3
"""VMs whose claims are asked for each time, besides those that are on the move."""


class Watching:
    """Watches the view of a stand.

    Args:
        stand: the stand.
        seed: decides which VMs are asked for by themselves.
        zero: when the run began.
        tell: called with everything that is wrong, once in each round.
    """

    def __init__(self, stand: Stand, seed: int, zero: float, tell: Callable[[Wrong], None]) -> None:
        self.judge = Judge(stand.motion.fates, zero)
        self.resident = Resident()
        self.wrong: set[tuple[int, str, str]] = set()
        """Round, rule and subject of everything that was wrong."""
        self.round = 0
        self.polls = 0
        """How often the view answered to everything."""
        self._stand = stand
        self._lots = Lots(seed, "claims")
        self._tell = tell
        self._view: int | None = None

    def count(self, rule: str) -> int:
        """How much was wrong by a rule; what stays wrong counts once in each round."""
        return sum(broken == rule for _, broken, _ in self.wrong)

    async def run(self) -> None:
        """Watch until cancelled. Raises ProgramDied if a program has ended by itself."""
        while True:
            self._stand.check()
            self.resident.sample(self._stand.pids())
            with contextlib.suppress(ViewUnreachable):  # then it says nothing, which is never wrong
                await self._look()
            await asyncio.sleep(POLL_S)

    async def _look(self) -> None:
        began = self._stand.clock()
        if self._is_another_view():
            self.judge.view_ended()
        hosts = await self._stand.api.hosts()
        vms = [Seen(began, seen.row) async for page in self._stand.api.vms(sections=False) for seen in page]
        claims = {vm: await self._stand.api.vm(vm) for vm in self._chosen()}
        if self._is_another_view():
            self.judge.view_ended()
            return  # what was heard is of two views
        self.polls += 1
        self._take(self.judge.hosts(hosts, began))
        self._take(self.judge.vms(vms))
        for vm, row in claims.items():
            self._take(self.judge.claims(vm, row))

    def _is_another_view(self) -> bool:
        before, self._view = self._view, self._stand.view.pid
        return before != self._view

    def _chosen(self) -> list[str]:
        fates = self._stand.motion.fates
        everything = sorted(fates.places)
        return sorted({*fates.moving(), *(self._lots.choice(everything) for _ in range(CLAIMED))})

    def _take(self, found: Iterable[Wrong]) -> None:
        for wrong in found:
            key = (self.round, wrong.rule, wrong.subject)
            if key not in self.wrong:
                self.wrong.add(key)
                self._tell(wrong)
