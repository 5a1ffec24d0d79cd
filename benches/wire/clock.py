"""Fleet time: a clock that runs ahead of the wall's, and event loops whose timers follow it.

Agents, broker link and view read their event loop's clock and no other. So a loop with another clock is all it takes to
run the real ones through 23 minutes in a fraction of that: the timers of looks, reports, refreshes, heartbeats and acks
come as often in fleet time as they would in life. Fleet time passes only while the loop of the fleet has nothing to do,
some times as fast as the wall's; so no look is ever late for want of CPU, and the broker, which lives on the wall's
time, has time to answer.
"""

from __future__ import annotations

import asyncio
import mmap
import selectors
import struct
import time
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path


DOUBLE: Final = struct.Struct("<d")
BEGINS_AT: Final = 1000.0
"""Seconds; any number does, but 0 would read as "never" here and there."""
SHORT_S: Final = 0.001
"""epoll waits for whole milliseconds; anything shorter is slept, or each timer would cost one."""
ROUND_S: Final = 1e-6
"""A round of the loop takes so long at least. asyncio's timers may come a nanosecond early; whoever then waits for the
rest of it would, with a clock that stands still, be woken for ever."""


class FleetClock:
    """Seconds of fleet time, in a file that the processes of a run share: one writes, the others follow.

    Args:
        file: where it is kept; made by `begun`.
    """

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), DOUBLE.size)

    @classmethod
    def begun(cls, file: Path) -> Self:
        """Begin a clock."""
        file.write_bytes(DOUBLE.pack(BEGINS_AT))
        return cls(file)

    def now(self) -> float:
        """What the time is."""
        (now,) = DOUBLE.unpack_from(self._memory)
        return float(now)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        DOUBLE.pack_into(self._memory, 0, self.now() + seconds)


class LeadingSelector(selectors.DefaultSelector):
    """Waits for what a loop waits for, and lets fleet time pass meanwhile.

    Args:
        clock: the time.
        speed: seconds of fleet time in one of waiting.
    """

    def __init__(self, clock: FleetClock, speed: float) -> None:
        super().__init__()
        self._clock = clock
        self.speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait; *timeout* is in fleet time, and passes exactly where nothing happens before."""
        self._clock.advance(ROUND_S)
        if timeout is not None and timeout <= 0:
            return super().select(0)
        began = time.monotonic()
        wait = None if timeout is None else timeout / self.speed
        if wait is not None and wait < SHORT_S:
            time.sleep(wait)
            found = super().select(0)
        else:
            found = super().select(wait)
        waited = (time.monotonic() - began) * self.speed
        self._clock.advance(waited if timeout is None else min(waited, timeout) if found else timeout)
        return found


class FollowingSelector(selectors.DefaultSelector):
    """Waits as long as a clock that another process advances will take, by its pace so far.

    Args:
        clock: the time.
    """

    def __init__(self, clock: FleetClock) -> None:
        super().__init__()
        self._clock = clock
        self._began, self._began_at = time.monotonic(), clock.now()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait; *timeout* is in fleet time. A wait that turns out too short is begun again by the loop."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        passed, took = self._clock.now() - self._began_at, time.monotonic() - self._began
        pace = passed / took if passed > 0 and took > 0 else 1.0
        return super().select(max(SHORT_S, timeout / pace))


class FleetLoop(asyncio.SelectorEventLoop):
    """An event loop that lives on fleet time.

    Args:
        clock: the time.
        selector: waits for it; it leads the clock or follows it.
    """

    def __init__(self, clock: FleetClock, selector: LeadingSelector | FollowingSelector) -> None:
        self._fleet_clock = clock
        super().__init__(selector)

    def time(self) -> float:
        """Seconds of fleet time."""
        return self._fleet_clock.now()
