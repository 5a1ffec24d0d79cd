"""Turns the view's events into fleet events, keeps them, and wakes those who tell them on."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from vmpulse_consumers.events.description import Description, describe
from vmpulse_consumers.events.log import Entry, EventLog
from vmpulse_contract import fleet
from vmpulse_contract.fleet import CloudEvent, EventType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_consumers.view.events import Event


SLICE: Final = 500
"""Events told in one go, some 5 ms."""
PACE_S: Final = 0.025
"""Between two slices: 20,000 events a second are more than a fleet makes for long, and readers can follow."""
WOKEN: Final = 25
"""Who waits for news is woken so many at a time: to send them to as many streams takes some 3 ms."""
MOST: Final = 400_000
"""Events that may wait to be told, some 80 MB."""


class Bell:
    """Wakes all who wait, some at a time: hundreds at once would keep waiting whatever else the loop has to do."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self._rung: deque[asyncio.Future[None]] = deque()

    def ring(self) -> None:
        """Wake them, in this turn of the loop and the next ones."""
        if not self._waiting:
            return
        idle = not self._rung
        self._rung.extend(self._waiting)
        self._waiting.clear()
        if idle:
            self._wake_some()

    def _wake_some(self) -> None:
        for _ in range(min(WOKEN, len(self._rung))):
            _wake(self._rung.popleft())
        if self._rung:
            self._rung[0].get_loop().call_soon(self._wake_some)

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so long. Nothing rung after the call is missed."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        self._waiting.add(waiting)
        timer = loop.call_later(seconds, _wake, waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            self._waiting.discard(waiting)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Published:
    """How far the broker has confirmed events; whoever publishes them keeps it.

    ``upto`` is the number of the last one that needs no further publishing, ``events`` counts those confirmed,
    ``refused`` those that it refused since some queue was full, ``skipped`` those that were no longer kept when their
    turn came.
    """

    def __init__(self) -> None:
        self.upto = 0
        self.events = 0
        self.refused = 0
        self.skipped = 0


class Teller:
    """Tells what happens in one view.

    Args:
        view: the view's name.
        log: where events are kept.
    """

    def __init__(self, view: str, log: EventLog) -> None:
        self.view = view
        self.log = log
        self.bell = Bell()
        self.told: Counter[str] = Counter()
        """Events so far, by type."""
        self.published = Published()
        self._encoder = msgspec.json.Encoder()
        # Texts are kept by the ten thousand: one that was encoded by itself leaves a gap of some 300 bytes behind it in
        # memory, for it was made in a larger piece. A copy takes what it needs.
        self._scratch = bytearray()

    @property
    def begun(self) -> bool:
        """Whether the view has told everybody to relist: until then its lists are not complete."""
        return EventType.FLEET_RELIST in self.told

    @property
    def unpublished(self) -> int:
        """How many events the broker has not confirmed yet."""
        return self.log.last - self.published.upto

    def tell(self, events: Iterable[Event]) -> None:
        """Keep the events that are to be told, stamped with the wall clock, and wake the readers."""
        time = _now()
        for event in events:
            described = describe(event, self.view)
            if described is not None:
                self.told[described.type] += 1
                text = self._text(self.log.token(self.log.last + 1), described, time)
                self.log.append(Entry(described.type, described.hosts, described.vm, text))
        self.bell.ring()

    def relist(self, after: int, reason: str) -> bytes:
        """The word to one reader that it read everything anew and go on after number *after*."""
        described = Description(EventType.FLEET_RELIST, self.view, fleet.EventData(reason=reason))
        return self._text(self.log.relist_id(after), described, _now())

    def _text(self, number: str, described: Description, time: str) -> bytes:
        event = CloudEvent(
            id=number,
            source=fleet.source(self.view),
            type=described.type,
            subject=described.subject,
            time=time,
            data=described.data,
        )
        self._encoder.encode_into(event, self._scratch)
        return bytes(self._scratch)


class Backlog:
    """Has events told slice by slice, so that those who read them and all others get their turn in between.

    A fleet of 240,000 VMs that is lost in one tick is told within 14 s. What waits is what the view has just made,
    about 200 bytes for each event, and at most MOST of them: what exceeds that is told at once, at the cost of whoever
    brings it.
    """

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._waiting: deque[Event] = deque()
        self._some = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events have not been told yet."""
        return len(self._waiting)

    def tell(self, events: list[Event]) -> None:
        """Have events told, after those that were brought before; a few of them at once, if nothing waits."""
        self._waiting.extend(events)
        while len(self._waiting) > MOST:
            self._slice()
        if len(events) == len(self._waiting) <= SLICE:
            self._slice()
        if self._waiting:
            self._some.set()

    async def run(self) -> None:
        """Tell what waits, for ever."""
        while True:
            await self._some.wait()
            while self._waiting:
                self._slice()
                await asyncio.sleep(PACE_S)
            self._some.clear()

    def _slice(self) -> None:
        count = min(SLICE, len(self._waiting))
        self._teller.tell([self._waiting.popleft() for _ in range(count)])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
