"""A connection that mends itself: calls with deadlines, loss and return announced, reconnecting for ever.

Everything but the callbacks belongs to one event loop; libvirt's own threads reach it through call_soon_threadsafe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple, TypeVar

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorRefused, HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.libvirt_edge import addresses, complaints
from vmpulse_agent.libvirt_edge.event_thread import EVENTS
from vmpulse_agent.libvirt_edge.events import RawEvent
from vmpulse_agent.libvirt_edge.faults import Faults
from vmpulse_agent.libvirt_edge.handles import GRANT_SHARE, Handles, Held, Plan, open_handles
from vmpulse_agent.libvirt_edge.options import LibvirtOptions
from vmpulse_agent.libvirt_edge.slots import Openings
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_agent.measures import CallMeasure

T = TypeVar("T")
log = logging.getLogger(__name__)

OPEN_SHARE: Final = 0.25
"""Of the look deadline: how long a call waits for a connection of its own. Shorter than any call for one domain waits
(surveys.PROBE_SHARE), so that who is not let in is not taken for one whose monitor hangs.
"""


class Listener(NamedTuple):
    """Whom to tell, in the loop. ``lost`` and ``back`` alternate; events come only in between.

    ``granted``: guest agents may be asked now, which had been refused.
    """

    event: Callable[[RawEvent], None]
    lost: Callable[[str], None]
    back: Callable[[], None]
    granted: Callable[[], None]


class Connection:
    """The way to one libvirt."""

    def __init__(
        self, options: LibvirtOptions, listener: Listener, askers: int, measure: CallMeasure | None = None
    ) -> None:
        self.options = options
        self.faults = Faults()
        self._askers = askers
        self._listener = listener
        # An opening may never end: where the peer has vanished amid a handshake there are no keepalives yet.
        self._lane = Lane("connect", 2, measure)
        # Apart, so that openings that are stuck do not keep us from letting go.
        self._release = Lane("release", 2, measure)
        shown, wait_s = addresses.shown(options.uri), OPEN_SHARE * options.look_deadline_s
        self._openings, self._guest_openings = Openings(shown, wait_s), Openings(shown, wait_s)
        self._held: Held | None = None
        self._stillborn: tuple[int, str] | None = None
        self._why = "not opened"
        self._generation = 0
        self._mending: asyncio.Task[None] | None = None
        """Reconnects, or asks again for what was refused."""
        self._letting_go: set[asyncio.Task[None]] = set()
        self._open = False

    async def open(self) -> None:
        """Connect. Raises HypervisorUnavailable, HypervisorTimeout; then nothing is left behind."""
        EVENTS.acquire()
        self._open = True
        try:
            self._have(await self._connect())
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
        if self._mending is not None:
            self._mending.cancel()
        held, self._held, self._why = self._held, None, "closed"
        if held is not None:
            self._let_go(held)
        if self._letting_go:
            await asyncio.wait(self._letting_go)
        # The last rounds of libvirt's loop take a moment, and that is not ours to spend.
        with contextlib.suppress(HypervisorError):
            await self._release.run("release", EVENTS.release, self.options.connect_deadline_s)
        self._lane.close()
        self._release.close()

    @property
    def has_monitors(self) -> bool:
        """Whether there are monitors to ask: some drivers give nothing but the state."""
        return self._held is None or self._held.handles.look_groups != libvirt.VIR_DOMAIN_STATS_STATE

    @property
    def asks_guests(self) -> bool:
        """Whether there is a connection that guest agents can be asked through."""
        return self._held is not None and self._held.handles.access.granted

    @property
    def refused(self) -> str | None:
        """Why guest agents cannot be asked, although the setting allows it; None: nothing is amiss."""
        return None if self._held is None else self._held.handles.access.refused

    async def call(
        self,
        lane: Lane,
        key: Hashable,
        work: Callable[[Handles], T],
        deadline_s: float,
        discard: Callable[[T], None] | None = None,
    ) -> T:
        """Do *work* in a lane with what is open now; *discard* gets what comes too late (see Lane.run).

        Raises HypervisorError, whatever libvirt said and whatever *work* raised.
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
        except HypervisorError:
            raise
        except Exception as error:
            raise self.faults.made(lane.name, error) from error

    async def _connect(self) -> Held:
        self._generation += 1
        generation, loop = self._generation, asyncio.get_running_loop()

        def post(deliver: Callable[..., None], *details: object) -> None:
            # A closed loop wants no events.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver, generation, *details)

        def work() -> Held:
            return open_handles(
                Plan(
                    self.options,
                    lambda event: post(self._heard, event),
                    lambda why: post(self._lose, why),
                    self._askers,
                    self._openings,
                    self._guest_openings,
                )
            )

        held = await self._lane.run(("open", generation), work, self.options.connect_deadline_s, discard=self._let_go)
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
        if self._mending is not None:
            self._mending.cancel()
        self._mending = asyncio.create_task(self._reconnect())
        self._let_go(held)
        self._listener.lost(why)

    async def _reconnect(self) -> None:
        """Try for ever, each time after a random part of a growing pause: a fleet must not come back in step.

        A socket on this machine is tried often, so that libvirt is seen within a tick of its return: who is not there
        costs nothing. Whoever never answers holds the lane's two threads at most; then it is waited until one ends.
        """
        pause, local = self.options.retry_first_s, addresses.is_unix(self.options.uri)
        most = min(self.options.retry_local_s, self.options.retry_most_s) if local else self.options.retry_most_s
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
            try:
                held = await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, giving up would be worse
                self._note(error)
                refused = isinstance(error, HypervisorRefused)
                pause = min(2 * pause, self.options.retry_refused_s if refused else most)
                continue
            self._have(held)
            self._listener.back()
            return

    def _note(self, error: Exception) -> None:
        """Take down why there is no connection; what nobody foresaw is told once, with where it came from."""
        why, self._why = self._why, str(error) or repr(error)
        if not isinstance(error, HypervisorError) and self._why != why:
            log.error("connecting to libvirt failed, it is tried again", exc_info=error)

    def _have(self, held: Held) -> None:
        self._held = held
        if held.handles.access.refused is not None:
            self._mending = asyncio.create_task(self._ask_again(held))

    async def _ask_again(self, held: Held) -> None:
        """Ask for read-write access now and then, beside everything else: a refusal may pass, as when polkit starts."""
        access, deadline_s = held.handles.access, self.options.connect_deadline_s

        def work() -> None:
            held.use(lambda _: access.find_out(GRANT_SHARE * deadline_s))

        while not access.granted:
            await asyncio.sleep(self.options.retry_refused_s * random.uniform(0.5, 1.0))  # noqa: S311 - as above
            try:
                await self._lane.run(("grant", self._generation), work, deadline_s)
            except HypervisorError as error:
                log.debug("read-write access was not asked for: %s", error)
            except Exception:
                # Without this task nobody would ever ask again; whatever went wrong may pass as a refusal does.
                log.exception("asking for read-write access failed, it is tried again")
        self._listener.granted()

    def _let_go(self, held: Held) -> None:
        task = asyncio.create_task(self._close_quietly(held))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def _close_quietly(self, held: Held) -> None:
        with contextlib.suppress(HypervisorError):
            await self._release.run(("close", id(held)), held.close, self.options.connect_deadline_s)
