"""Rates over an interval: exact means, no hidden peak, nothing invented."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.device_rates import Interval, Trend, begun_anew, disk, followed, joined
from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters

READ: Final = (disk("vda"), "read_rate")
LATENCY: Final = (disk("vda"), "read_latency")
STEPS: Final = st.lists(
    st.tuples(st.integers(1, 30_000_000), st.integers(0, 1 << 40), st.integers(0, 3)), min_size=1, max_size=12
)
"""Microseconds until a sample, what was read meanwhile, in how many operations."""
EXACT: Final = 1e-12


def samples(steps: list[tuple[int, int, int]], token: int = 1) -> list[tuple[float, DeviceCounters]]:
    """Samples of a disk that reads so, from the first one at 5 s on."""
    at, read, operations = 5_000_000, 1000, 0
    found = [_sample(at, read, operations, token)]
    for later, more, made in steps:
        # Time is spent by operations alone.
        at, read, operations = at + later, read + more, operations + made
        found.append(_sample(at, read, operations, token))
    return found


def _sample(at_us: int, read: int, operations: int, token: int) -> tuple[float, DeviceCounters]:
    one = DiskCounters("vda", read_ops=operations, read_bytes=read, read_time_ns=operations * 7)
    return at_us / 1e6, DeviceCounters(token, disks=(one,))


def over(readings: list[tuple[float, DeviceCounters]], interval: Interval | None = None) -> Interval:
    """The interval after these samples."""
    for at, counters in readings:
        interval = followed(interval, counters, at)
    assert interval is not None
    return interval


@given(STEPS)
def test_the_mean_is_growth_by_length_and_no_peak_is_hidden(steps: list[tuple[int, int, int]]) -> None:
    """The mean is the whole growth by the whole time; the extremes are those of the spans; none is negative."""
    interval = over(samples(steps))
    trend = interval.trends[READ]
    rates = [Fraction(more * 1_000_000, later) for later, more, _ in steps]
    length = sum(later for later, _, _ in steps)
    assert interval.last_us - interval.begun_us == length
    assert trend.mean is not None
    assert trend.least is not None
    assert trend.most is not None
    assert trend.mean == pytest.approx(float(Fraction(sum(s[1] for s in steps) * 1_000_000, length)), rel=EXACT)
    assert (trend.least, trend.most) == (float(min(rates)), float(max(rates)))
    assert 0 <= trend.least <= trend.mean <= trend.most


@given(STEPS)
def test_latencies_are_those_of_the_operations_made(steps: list[tuple[int, int, int]]) -> None:
    """Whatever the spans, operations that took 7 ns each have a latency of 7 ns; without any there is none."""
    trend = over(samples(steps)).trends[LATENCY]
    made = sum(operations for _, _, operations in steps)
    assert (trend.least, trend.mean, trend.most) == ((7.0, 7.0, 7.0) if made else (None, None, None))
    assert trend.followed


@given(STEPS, st.integers(0, 12))
def test_intervals_follow_each_other_without_a_gap(steps: list[tuple[int, int, int]], cut: int) -> None:
    """An interval that begins anew goes on where the last one ended; both joined are as if there had been one."""
    readings = samples(steps)
    first = over(readings[: cut + 1])
    second = over(readings[cut + 1 :], begun_anew(first))
    assert second.begun_us == first.last_us
    assert joined(first, second) == over(readings)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=8))
def test_a_counter_that_falls_begins_anew(reads: list[int]) -> None:
    """What grew before a fall, and over it, is not in any rate: the interval of that rate is what came since."""
    readings = [_sample(at * 1_000_000, read, 0, 1) for at, read in enumerate(reads)]
    trend = over(readings).trends[READ]
    fallen = [at for at, (before, after) in enumerate(pairwise(reads), start=1) if after < before]
    since = reads[fallen[-1] if fallen else 0 :]
    if len(since) == 1:
        assert (trend.least, trend.mean, trend.most) == (None, None, None)
    else:
        assert trend.mean == pytest.approx((since[-1] - since[0]) / (len(since) - 1), rel=EXACT)


@given(STEPS, STEPS)
def test_another_life_begins_anew(old: list[tuple[int, int, int]], new: list[tuple[int, int, int]]) -> None:
    """A new start token: nothing of the life before is in the rates, not even of one that is joined to it."""
    before, after = over(samples(old, token=1)), over(samples(new, token=2))
    assert over(samples(new, token=2), before) == after
    assert joined(before, after) == after


def test_a_device_that_was_away_begins_anew() -> None:
    """A disk that was away for a sample may be another one of the same name: no growth is taken over the gap."""
    first, *_, last = samples([(30_000_000, 1 << 30, 1), (30_000_000, 1 << 30, 1)])
    away = (35.0, DeviceCounters(1))
    interval = over([first, away, last])
    assert interval.trends[READ].mean is None
    assert interval.last_us - interval.begun_us == 60_000_000


def test_a_sample_without_counters_takes_no_growth_away() -> None:
    """A disk that is there while its counters are not given, for its monitor is taken, has one rate over the gap."""
    first, *_, last = samples([(30_000_000, 1 << 30, 1), (30_000_000, 1 << 30, 1)])
    silent = (35.0, DeviceCounters(1, disks=(DiskCounters(name=READ[0].name),)))
    trend = over([first, silent, last]).trends[READ]
    assert trend == over([first, last]).trends[READ]
    assert trend.mean is not None


def test_intervals_with_a_gap_are_not_joined() -> None:
    """What lies between two intervals is in no rate, so the later one stays as it is."""
    readings = samples([(15_000_000, 1 << 30, 1), (15_000_000, 5, 1), (15_000_000, 5, 1)])
    first, last = over(readings[:2]), over(readings[2:])
    assert joined(first, last) == last
    assert joined(last, first) == first


def test_a_second_sample_of_the_same_moment_changes_nothing() -> None:
    """Two samples of one moment have no time between them, so they say nothing of rates."""
    (at, counters), (_, later) = samples([(1, 5, 1)])
    once = over([(at, counters)])
    assert over([(at, later)], once) is once
    assert once.trends[READ] == Trend(once.trends[READ].begun, once.trends[READ].begun)
