"""Looking at all domains while some of their monitors hang (promise A1).

A bulk call blocks in the first monitor that hangs, for as long as it does, and cannot be stopped. With NOWAIT it passes
over domains that some other call holds; so a call that is stuck also guards its domain, and a domain costs at most one
thread. The rules:

- As long as nothing is stuck, one call asks all domains.
- A call that is late is looked into: only if some monitor has been busy with one command for long, or if it is late
  beyond hope, is it given up, and every domain is asked by a *probe*, a call of its own. What does not answer soon is a
  *suspect*, for as long as its probe goes on; that is also how it is noticed when it comes back.
- While anything is stuck, one call asks those that have answered, and probes ask the rest but the suspects. Where no
  probe is left, domains are not asked. Their states are known all the same: these take no monitor.
- A list of all domains waits for each domain's lock, which libvirt holds while it destroys one: for some 10 s if that
  hangs. While there is no list, those that were not silent before are asked by themselves; that look is *partial*.
- A domain that a call passed over, as another call was just asking it, is asked again by a probe.
- A survey that nobody could wait for goes on, and is handed to who asks next; no other is begun meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from itertools import count
from types import MappingProxyType
from typing import Final, NamedTuple

from vmpulse_agent.errors import HypervisorError, HypervisorFault, HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.libvirt_edge import bulk
from vmpulse_agent.libvirt_edge.bulk import Found, Seen
from vmpulse_agent.libvirt_edge.connection import Connection
from vmpulse_agent.libvirt_edge.handles import Askers, Handles
from vmpulse_agent.libvirt_edge.lanes import Lanes
from vmpulse_agent.libvirt_edge.monitors import Monitors, life_of
from vmpulse_agent.libvirt_edge.stats import Moment
from vmpulse_agent.libvirt_edge.tokens import Life, Lives
from vmpulse_contract.identity import VmId

TURN_SHARE: Final = 0.2
PATIENCE_SHARE: Final = 0.1
PROBE_SHARE: Final = 0.3
BLOCKED_SHARE: Final = 0.05
LIST_SHARE: Final = 0.1
"""Of the look deadline: waiting for a turn, for all domains together before their monitors are looked into, for each
alone, for each whose process is stopped anyway, and for a list, which takes no monitor; together they stay within it.
What the well ones wait for a hung one is the second of these and the fourth: 0.3 s at a tick of 3 s.
"""
USUAL: Final = 2.0
PATIENCE_MOST_SHARE: Final = 0.3
"""Monitors are not looked into before a call for all has taken so many times as long as the last good one, but never
later than this share: where looks are slow by nature, on a big host, that would cost a call for each domain each time.
"""
BEYOND_HOPE: Final = 4
"""Look deadlines after which a call is stuck, whatever libvirt says of the monitors: it tells nothing of migrations."""


class Survey(NamedTuple):
    """All domains at one moment. ``answered`` as in DomainLook, for all of them; ``partial`` as in Look.

    ``faults``: domains that are there besides, and whose records met an error in this program.
    """

    moment: Moment
    seen: Mapping[VmId, Seen]
    answered: Mapping[VmId, bool | None]
    partial: bool = False
    faults: Mapping[VmId, Exception] = MappingProxyType({})


class Surveyor:
    """Looks at all domains. All methods belong to the event loop."""

    def __init__(self, connection: Connection, lanes: Lanes, lives: Lives, askers: Askers) -> None:
        self._connection = connection
        self._lanes = lanes
        self._lives = lives
        self._askers = askers
        self._monitors = Monitors()
        self._deadline_s = connection.options.look_deadline_s
        self._patience_s = PATIENCE_SHARE * self._deadline_s
        self._usual_s = 0.0
        self._calls = count()
        self._one = asyncio.Lock()
        self._bulk = asyncio.Lock()
        self._flight: asyncio.Task[Survey] | None = None
        self._answering: frozenset[VmId] = frozenset()
        self._not_silent: dict[VmId, Life] = {}

    def trusted(self) -> frozenset[VmId] | None:
        """Whom it is safe to ask together with others; None: everybody."""
        return self._answering if self._lanes.stuck else None

    async def states(self) -> Survey:
        """Look at the states alone, without waiting for any other call. Raises HypervisorError."""
        moment = Moment.now()
        found = await self._listed(bulk.states)
        answered = {vm: None if seen.record.active else True for vm, seen in found.seen.items()}
        return Survey(moment, found.seen, answered, faults=found.faults)

    async def whole(self) -> Survey:
        """Look at the states and ask the monitors. Raises HypervisorError."""
        try:
            async with asyncio.timeout(self._deadline_s), self._one:
                return await self._landed()
        except TimeoutError:
            msg = f"look: no answer within {self._deadline_s:g} s; it goes on"
            raise HypervisorTimeout(msg) from None

    def gave(self, vm: VmId, token: int) -> bool:
        """Whether the monitor of this life has ever given what only it can."""
        return self._monitors.gave(vm, token)

    def forget(self, lives: Lives) -> None:
        """The connection was lost, or is being closed: what is under way is of no use. *lives* are found anew."""
        self._lives = lives
        if self._flight is not None:
            self._flight.cancel()
            self._flight = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One bulk call at a time, if that is soon: two at once pass over each other's domains as busy."""
        try:
            async with asyncio.timeout(TURN_SHARE * self._deadline_s):
                await self._bulk.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._bulk.release()

    async def _landed(self) -> Survey:
        flight = self._flight
        if flight is None or (flight.done() and (flight.cancelled() or flight.exception() is not None)):
            flight = self._flight = asyncio.create_task(self._survey())
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if not flight.cancelled():
                raise
            # Whoever waits was not cancelled: it has only lost its answer, and must live on.
            raise HypervisorUnavailable("look: the connection was lost meanwhile") from None
        finally:
            if flight.done() and self._flight is flight:
                self._flight = None

    async def _survey(self) -> Survey:
        async with self.turn():
            moment, found = Moment.now(), await self._together()
            if isinstance(found, Survey):
                return found
            if found is None:
                moment, found = Moment.now(), await self._listed(bulk.states_and_blocked)
            found = await self._complete(found)
        return self._judged(moment, found)

    # --- all together ---------------------------------------------------------------------------------------------

    async def _together(self) -> Found | Survey | None:
        """One call for all who are trusted; None if it is stuck, and a partial survey if there is no list either."""
        part = None if self._lanes.state.free else await self._part()
        if part is not None or not self._lanes.look.free:
            return part
        return await self._asked_together(self.trusted())

    async def _asked_together(self, only: Collection[VmId] | None) -> Found | Survey | None:
        hopeless_s, lives = BEYOND_HOPE * self._deadline_s, self._lives

        def work(handles: Handles) -> Found:
            with self._askers.one(handles) as connection:
                return bulk.look(connection, handles, lives, only)

        began = asyncio.get_running_loop().time()
        call = asyncio.create_task(self._connection.call(self._lanes.look, next(self._calls), work, hopeless_s))
        try:
            pause = max(self._patience_s, min(USUAL * self._usual_s, PATIENCE_MOST_SHARE * self._deadline_s))
            while not (await asyncio.wait({call}, timeout=pause))[0]:
                stuck = await self._stuck(only)
                if stuck is None and (part := await self._part()) is not None and not call.done():
                    return part
                if stuck:
                    return None
                pause *= 2
            found = call.result()
        except (HypervisorTimeout, HypervisorFault, HypervisorUnavailable):
            # Asked one by one, who cannot be understood costs no other anything; and states are listed without any
            # further connection, if it was that which was not let in.
            return None
        else:
            self._usual_s = asyncio.get_running_loop().time() - began
            return found
        finally:
            if not call.done():
                # Given up, its lane counts it as overdue; that must have happened before anybody asks.
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

    async def _stuck(self, only: Collection[VmId] | None) -> bool | None:
        """Whether some monitor hangs, rather than all of them being slow; None if not even a list is to be had."""

        def work(handles: Handles) -> int:
            return bulk.longest_wait_ms(handles, only)

        try:
            waited_ms = await self._connection.call(
                self._lanes.state, next(self._calls), work, LIST_SHARE * self._deadline_s
            )
        except HypervisorTimeout:
            return None
        return waited_ms >= 1000 * self._patience_s / 2

    async def _part(self) -> Survey | None:
        """Those that were not silent before, asked by themselves; None if they do not answer either."""
        moment, known, lives = Moment.now(), self._not_silent, self._lives
        deadline_s = PROBE_SHARE * self._deadline_s
        until = time.monotonic() + deadline_s

        def work(handles: Handles) -> Found:
            with self._askers.one(handles) as connection:
                return bulk.part(connection, handles, lives, known, until)

        try:
            # Both threads for looks may be waiting for a list. By its key one at a time: a daemon may hang as a whole.
            found = await self._connection.call(self._lanes.probe, "part", work, deadline_s)
        except HypervisorError:
            return None
        return Survey(moment, found.seen, {vm: self._answered(vm, found) for vm in found.seen}, partial=True)

    async def _listed(self, read: Callable[[Handles, Lives], Found]) -> Found:
        lives = self._lives

        def work(handles: Handles) -> Found:
            return read(handles, lives)

        return await self._connection.call(self._lanes.state, next(self._calls), work, self._deadline_s)

    # --- one by one -----------------------------------------------------------------------------------------------

    async def _complete(self, found: Found) -> Found:
        """Ask each active domain that was not asked, or passed over, except suspects."""
        rest = [
            vm
            for vm, seen in found.seen.items()
            if seen.record.active
            and (vm not in found.asked or self._monitors.passed_over(seen))
            and not self._suspected(vm)
        ]
        probed = await self._probe_each([vm for vm in rest if vm not in found.blocked], PROBE_SHARE)
        # Those that will hardly answer come last, and nobody waits for them: each of them may cost a thread.
        probed |= await self._probe_each([vm for vm in rest if vm in found.blocked], BLOCKED_SHARE)
        return found._replace(seen={**found.seen, **probed}, asked=found.asked | probed.keys())

    async def _probe_each(self, vms: Collection[VmId], share: float) -> dict[VmId, Seen]:
        if not vms or not self._lanes.probe.free:
            return {}
        seen = await asyncio.gather(*(self._probe(vm, share * self._deadline_s) for vm in vms))
        return {vm: one for vm, one in zip(vms, seen, strict=True) if one is not None}

    async def _probe(self, vm: VmId, deadline_s: float) -> Seen | None:
        lives = self._lives

        def work(handles: Handles) -> Seen | None:
            with self._askers.one(handles) as connection:
                return bulk.probe(connection, handles, lives, vm)

        try:
            return await self._connection.call(self._lanes.probe, ("probe", vm), work, deadline_s)
        except HypervisorError:
            # It hangs, it has just ended, it cannot be understood, or no thread was left for it.
            return None

    def _suspected(self, vm: VmId) -> bool:
        return self._lanes.probe.busy(("probe", vm))

    # --- who answered ---------------------------------------------------------------------------------------------

    def _judged(self, moment: Moment, found: Found) -> Survey:
        answered = {vm: self._answered(vm, found) for vm in found.seen}
        self._monitors.keep_only({life_of(seen) for seen in found.seen.values() if seen.record.active})
        self._answering = frozenset(vm for vm, answer in answered.items() if answer)
        self._not_silent = {
            vm: seen.life for vm, seen in found.seen.items() if seen.life is not None and answered[vm] is not False
        }
        return Survey(moment, found.seen, answered, faults=found.faults)

    def _answered(self, vm: VmId, found: Found) -> bool | None:
        seen = found.seen[vm]
        if not (seen.record.active and self._connection.has_monitors):
            # A driver without monitors never fails to ask one.
            return True
        if vm in found.asked:
            return self._monitors.answered(seen, stuck=self._lanes.stuck)
        return False if self._suspected(vm) else None
