"""Says what a large fleet says, at its cadence: frames, changes of sections, rosters and device statistics."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from benches.streamed import amqp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from benches.streamed.fleet import StreamedFleet
    from vmpulse_contract.broker_url import BrokerUrl

STEP_S: Final = 0.01
"""How often what is due is said."""
CHUNK: Final = 100
"""Hosts whose frames are made at once."""
END_S: Final = 5.0


class Rhythm(NamedTuple):
    """How often things are said.

    ``tick_s``: seconds between two frames of a host; ``changes_a_minute``: share of the VMs that change in a minute;
    ``report_s``: seconds between two rosters of a host, and between two of its device statistics.
    """

    tick_s: float = 3.0
    changes_a_minute: float = 0.01
    report_s: float = 300.0

    def faster(self, times: float) -> Rhythm:
        """Everything so many times as often: the same mix."""
        return Rhythm(self.tick_s / times, self.changes_a_minute * times, self.report_s / times)


class Due:
    """Counts what is due of something that happens again and again, evenly, from now on."""

    def __init__(self, a_second: float, now: float, done: int = 0) -> None:
        self.done = done
        self._begun = done
        self._a_second = a_second
        self._since = now

    def take(self, now: float) -> range:
        """Give the numbers of those that are due now."""
        first, self.done = self.done, self._begun + int((now - self._since) * self._a_second)
        return range(first, self.done)


def spoken(fleet: StreamedFleet, hosts: int, rhythm: Rhythm, now: float) -> Callable[[float], Iterator[bytes]]:
    """Give what the first *hosts* hosts of a fleet say from *now* on: called with a time, it gives what is due then."""
    frames = Due(hosts / rhythm.tick_s, now)
    changes = Due(hosts * fleet.vms_per_host * rhythm.changes_a_minute / 60, now)
    # Hosts in an order of their own, so that one that says its frame does not say everything else as well.
    rosters, devices = Due(hosts / rhythm.report_s, now), Due(hosts / rhythm.report_s, now)

    def due(at: float) -> Iterator[bytes]:
        yield from _frames(fleet, hosts, frames.take(at))
        for _ in changes.take(at):
            yield fleet.change(hosts)
        for number in rosters.take(at):
            yield fleet.roster(number * 7 % hosts)
        for number in devices.take(at):
            yield fleet.devices(number * 11 % hosts)

    return due


def _frames(fleet: StreamedFleet, hosts: int, due: range) -> Iterator[bytes]:
    at = due.start
    while at < due.stop:
        tick, first = divmod(at, hosts)
        end = min(first + min(CHUNK, due.stop - at), hosts)
        yield fleet.frames(first, end, tick)
        at += end - first


class Cadence:
    """A thread that says what is due, from entering to leaving the context.

    Args:
        url: the broker; its user may speak for every host.
        fleet: what speaks.
    """

    def __init__(self, url: BrokerUrl, fleet: StreamedFleet) -> None:
        self.late_s = 0.0
        """The longest that anything was said too late, since it was last set to 0: the broker did not take it."""
        self._url = url
        self._fleet = fleet
        self._due: Callable[[float], Iterator[bytes]] | None = None
        self._changed = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cadence", daemon=True)
        self.failed = False

    def speak(self, hosts: int, rhythm: Rhythm) -> None:
        """From now on the first *hosts* hosts speak, so often."""
        with self._changed:
            self._due = spoken(self._fleet, hosts, rhythm, time.monotonic())

    def pause(self) -> None:
        """Nobody speaks from now on; what was begun has been handed to the broker."""
        with self._changed:
            self._due = None

    def __enter__(self) -> Self:
        self._socket = amqp.open_channel(self._url)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        amqp.hang_up(self._socket)
        self._thread.join(END_S)
        self._socket.close()

    def _run(self) -> None:
        step = time.monotonic()
        while not self._end.wait(max(0.0, step - time.monotonic())):
            self.late_s = max(self.late_s, time.monotonic() - step)
            step = max(step + STEP_S, time.monotonic())
            with self._changed:
                try:
                    self._say()
                except OSError:
                    self.failed = not self._end.is_set()
                    return

    def _say(self) -> None:
        if self._due is not None:
            waiting = b"".join(self._due(time.monotonic()))
            if waiting:
                self._socket.sendall(waiting)
