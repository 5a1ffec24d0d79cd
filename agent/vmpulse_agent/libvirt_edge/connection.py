"""A connection that mends itself: calls with deadlines, loss and return announced, reconnecting for ever.

Everything but the callbacks belongs to one event loop; libvirt's own threads reach it through call_soon_threadsafe.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorRefused, HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.libvirt_edge import addresses, complaints
from vmpulse_agent.libvirt_edge.event_thread import EVENTS
from vmpulse_agent.libvirt_edge.events import RawEvent
from vmpulse_agent.libvirt_edge.handles import Handles, Held, open_handles
from vmpulse_agent.libvirt_edge.options import LibvirtOptions
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_agent.measures import CallMeasure

T = TypeVar("T")


class Listener(NamedTuple):
    """Whom to tell, in the loop. ``lost`` and ``back`` alternate; events come only in between."""

    event: Callable[[RawEvent], None]
    lost: Callable[[str], None]
    back: Callable[[], None]


class Connection:
    """The way to one libvirt."""

    def __init__(
        self, options: LibvirtOptions, listener: Listener, askers: int, measure: CallMeasure | None = None
    ) -> None:
        self.options = options
        self._askers = askers
        self._listener = listener
        # Two, so that an opening that is stuck does not keep us from letting go.
        self._lane = Lane("connect", 2, measure)
        self._held: Held | None = None
        self._stillborn: tuple[int, str] | None = None
        self._why = "not opened"
        self._generation = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._letting_go: set[asyncio.Task[None]] = set()
        self._open = False

    async def open(self) -> None:
        """Connect. Raises HypervisorUnavailable, HypervisorTimeout; then nothing is left behind."""
        EVENTS.acquire()
        self._open = True
        try:
            self._held = await self._connect()
        except BaseException as error:
            await self.close()
            if isinstance(error, HypervisorTimeout):
                raise complaints.silent(self.options.uri, self.options.connect_deadline_s) from error
            raise

    async def close(self) -> None:
        """Let go of everything; bounded by the connect deadline. May be called twice."""
        if not self._open:
            return
        self._open = False
        self._generation += 1
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        held, self._held, self._why = self._held, None, "closed"
        if held is not None:
            self._let_go(held)
        if self._letting_go:
            await asyncio.wait(self._letting_go)
        # The last rounds of libvirt's loop take a moment, and that is not ours to spend.
        with contextlib.suppress(HypervisorError):
            await self._lane.run("release", EVENTS.release, self.options.connect_deadline_s)
        self._lane.close()

    @property
    def has_monitors(self) -> bool:
        """Whether there are monitors to ask: some drivers give nothing but the state."""
        return self._held is None or self._held.handles.look_groups != libvirt.VIR_DOMAIN_STATS_STATE

    @property
    def asks_guests(self) -> bool:
        """Whether there is a connection that guest agents can be asked through."""
        return self._held is not None and bool(self._held.handles.guests)

    @property
    def refused(self) -> str | None:
        """Why guest agents cannot be asked, although the setting allows it; None: nothing is amiss."""
        return None if self._held is None else self._held.handles.refused

    async def call(
        self,
        lane: Lane,
        key: Hashable,
        work: Callable[[Handles], T],
        deadline_s: float,
        discard: Callable[[T], None] | None = None,
    ) -> T:
        """Do *work* in a lane with what is open now; *discard* gets what comes too late (see Lane.run).

        Raises HypervisorError, whatever libvirt said.
        """
        held, generation = self._held, self._generation
        if held is None:
            msg = f"no connection to libvirt at {addresses.shown(self.options.uri)}: {self._why}"
            raise HypervisorUnavailable(msg)
        try:
            return await lane.run(key, lambda: held.use(work), deadline_s, discard)
        except libvirt.libvirtError as error:
            complaint = complaints.failed(lane.name, error)
            if not held.handles.alive():
                self._lose(generation, str(complaint))
            raise complaint from error

    async def _connect(self) -> Held:
        self._generation += 1
        generation, loop = self._generation, asyncio.get_running_loop()

        def post(deliver: Callable[..., None], *details: object) -> None:
            # A closed loop wants no events.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver, generation, *details)

        def work() -> Held:
            return open_handles(
                self.options,
                lambda event: post(self._heard, event),
                lambda why: post(self._lose, why),
                self._askers,
            )

        held = await self._lane.run("open", work, self.options.connect_deadline_s, discard=self._let_go)
        if self._stillborn is not None and self._stillborn[0] == generation:
            self._let_go(held)
            raise HypervisorUnavailable(self._stillborn[1])
        return held

    def _heard(self, generation: int, event: RawEvent) -> None:
        if self._held is not None and generation == self._generation:
            self._listener.event(event)

    def _lose(self, generation: int, why: str) -> None:
        if not self._open or generation != self._generation:
            return
        if self._held is None:
            # It broke before it was handed over; whoever is opening it finds this note.
            self._stillborn = (generation, why)
            return
        held, self._held, self._why = self._held, None, why
        self._generation += 1
        self._listener.lost(why)
        self._let_go(held)
        self._reconnecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        """Try for ever, each time after a random part of a growing pause: a fleet must not come back in step.

        A socket on this machine is tried often, so that libvirt is seen within a tick of its return: who is not there
        costs nothing, and one that hangs holds two threads at most.
        """
        pause, local = self.options.retry_first_s, addresses.is_unix(self.options.uri)
        most = min(self.options.retry_local_s, self.options.retry_most_s) if local else self.options.retry_most_s
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
            try:
                self._held = await self._connect()
            except HypervisorError as error:
                self._why = str(error)
                refused = isinstance(error, HypervisorRefused)
                pause = min(2 * pause, self.options.retry_refused_s if refused else most)
                continue
            self._listener.back()
            return

    def _let_go(self, held: Held) -> None:
        task = asyncio.create_task(self._close_quietly(held))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def _close_quietly(self, held: Held) -> None:
        with contextlib.suppress(HypervisorError):
            await self._lane.run(("close", id(held)), held.close, self.options.connect_deadline_s)
