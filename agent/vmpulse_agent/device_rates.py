"""Rates of devices over an interval: their mean, and their extremes among its samples. Pure arithmetic, no clock.

A *trend* follows one counter over another: bytes over time, or time spent over operations. Its mean is the growth of
the one over the whole interval by that of the other, and never a mean of means; its extremes are those of the spans
between two samples that follow each other. A span in which the lower counter did not grow (no operation) is not one: it
goes into the next. So least <= mean <= most, and a peak that lasts from one sample to the next is never hidden.

What a guest says of its memory is measured by the times of its own reports: over our samples' times, between which it
may not have reported, or more than once, peaks would be invented.

A trend begins anew where a counter fell or the device was away: what grew meanwhile is unknown, and not 0. Counters
of a device that is there but were not given once (somebody else held the monitor) go on: their growth adds up all the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters, MemoryCounters
    from vmpulse_contract.verbs import NetworkStats

MICROSECONDS: Final = 1_000_000
"""Of a second. Times are whole here, so that growth adds up exactly and means stay between extremes."""


class Device(NamedTuple):
    """What has rates: the guest's memory, a disk, a card. Names of disks and cards are apart."""

    kind: str
    name: str = ""


MEMORY: Final = Device("memory")


def disk(name: str) -> Device:
    """Name a disk."""
    return Device("disk", name)


def card(name: str) -> Device:
    """Name a network card."""
    return Device("card", name)


class Point(NamedTuple):
    """Both counters of a trend at one sample: what is measured, and by what."""

    amount: int
    base: int


class Trend(NamedTuple):
    """One rate since its interval began. ``least`` and ``most`` are None until the lower counter has grown.

    ``followed``: there was another sample since, so that no growth is known to be none.
    """

    begun: Point
    last: Point
    least: float | None = None
    most: float | None = None
    followed: bool = False

    @property
    def mean(self) -> float | None:
        """Growth by growth; None while the lower counter has not grown."""
        return None if self.least is None else _ratio(self.begun, self.last)


Key: TypeAlias = tuple[Device, str]
"""A device, and the name of one of its rates in the contract."""


class Interval(NamedTuple):
    """The rates of one life since its interval began. Times in microseconds on the loop's clock."""

    token: int
    begun_us: int
    last_us: int
    trends: Mapping[Key, Trend]


def followed(interval: Interval | None, now: DeviceCounters, at_s: float) -> Interval:
    """Give the interval with one more sample; a new one for another life, or where time went back.

    Another sample of the same microsecond tells nothing new.
    """
    at = round(at_s * MICROSECONDS)
    if interval is not None and interval.token == now.token and at == interval.last_us:
        return interval
    if interval is None or interval.token != now.token or at < interval.last_us:
        return Interval(now.token, at, at, {key: Trend(point, point) for key, point in _points(now, at)})
    known = interval.trends
    grown = {key: _grown(known.get(key), point) for key, point in _points(now, at)}
    return interval._replace(last_us=at, trends=_waiting(known, now) | grown)


def _waiting(trends: Mapping[Key, Trend], now: DeviceCounters) -> dict[Key, Trend]:
    """The trends of devices that are still there: those whose counters were not given now go on at the next sample."""
    there = {MEMORY, *(disk(one.name) for one in now.disks), *(card(nic.name) for nic in now.network)}
    return {key: trend for key, trend in trends.items() if key[0] in there}


def begun_anew(interval: Interval) -> Interval:
    """Give the interval that begins where this one ends."""
    trends = {key: Trend(trend.last, trend.last) for key, trend in interval.trends.items()}
    return interval._replace(begun_us=interval.last_us, trends=trends)


def joined(before: Interval, after: Interval) -> Interval:
    """Give the interval of two of which one began where the other ended; of any others the later one, as it is.

    Over a gap nothing is joined: the interval would claim a time of which it knows no rates.
    """
    if before.token != after.token or before.last_us != after.begun_us:
        return after
    trends = {key: _joined(before.trends.get(key), trend) for key, trend in after.trends.items()}
    return after._replace(begun_us=before.begun_us, trends=trends)


def _grown(trend: Trend | None, now: Point) -> Trend:
    if trend is None or now.amount < trend.last.amount or now.base < trend.last.base:
        return Trend(now, now)
    if now.base == trend.last.base:
        return trend._replace(followed=True)
    span = _ratio(trend.last, now)
    return Trend(trend.begun, now, _least(trend.least, span), _most(trend.most, span), followed=True)


def _joined(before: Trend | None, after: Trend) -> Trend:
    if before is None or before.last != after.begun:
        return after
    least, most = _least(before.least, after.least), _most(before.most, after.most)
    return Trend(before.begun, after.last, least, most, before.followed or after.followed)


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _most(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _ratio(before: Point, now: Point) -> float:
    """Whole numbers divided once, so that a larger ratio never comes out smaller."""
    return (now.amount - before.amount) / (now.base - before.base)


def _points(now: DeviceCounters, at: int) -> Iterator[tuple[Key, Point]]:
    """Give the counters of all rates, where both were given."""
    if now.memory is not None and now.memory.reported is not None:
        yield from _given(MEMORY, _of_memory(now.memory, now.memory.reported), at)
    for one in now.disks:
        yield from _given(disk(one.name), _of_disk(one), at)
    for nic in now.network:
        yield from _given(card(nic.name), _of_card(nic), at)


_Counters: TypeAlias = Mapping[str, tuple[int | None, int | None] | int | None]


def _given(device: Device, counters: _Counters, at: int) -> Iterator[tuple[Key, Point]]:
    """A rate over time is scaled to seconds in whole numbers; a pair has what it is measured by."""
    for name, counter in counters.items():
        if isinstance(counter, tuple):
            amount, base = counter
            if amount is not None and base is not None:
                yield (device, name), Point(amount, base)
        elif counter is not None:
            yield (device, name), Point(counter * MICROSECONDS, at)


def _of_memory(memory: MemoryCounters, reported: int) -> _Counters:
    major, minor = memory.major_faults, memory.minor_faults
    return {
        "swap_in": (memory.swap_in, reported),
        "swap_out": (memory.swap_out, reported),
        "majflt": (major, reported),
        "minflt": (minor, reported),
        "pageflt": (None if major is None or minor is None else major + minor, reported),
    }


def _of_disk(one: DiskCounters) -> _Counters:
    return {
        "read_rate": one.read_bytes,
        "write_rate": one.written_bytes,
        "read_latency": (one.read_time_ns, one.read_ops),
        "write_latency": (one.write_time_ns, one.write_ops),
        "flush_latency": (one.flush_time_ns, one.flush_ops),
    }


def _of_card(nic: NetworkStats) -> _Counters:
    return {"rx_rate": nic.rx, "tx_rate": nic.tx}
