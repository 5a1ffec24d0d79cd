"""Intervals of what was said, came or got lost, in any order: rates are always those of exactly the time they claim."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.device_intervals import UNSETTLED, VmIntervals
from vmpulse_agent.device_rates import Interval, disk
from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters

READ: Final = (disk("vda"), "read_rate")
SECOND: Final = 1_000_000
Step = tuple[str, int, int]
"""``sample`` (seconds since the last, bytes read meanwhile), ``say``, or the end (``told``, ``lost``) of one of those
on their way.
"""
SAMPLES: Final = st.tuples(st.just("sample"), st.sampled_from([0, 1, 15, 90]), st.sampled_from([0, 150, 10**6, 10**9]))
SAYS: Final = st.tuples(st.just("say"), st.just(0), st.just(0))
LOSSES: Final = st.tuples(st.just("lost"), st.integers(0, 7), st.just(0))
ENDS: Final = st.tuples(st.sampled_from(["told", "lost"]), st.integers(0, 7), st.just(0))


class Spoken:
    """A VM that is sampled and spoken of: what each message said, which came, and what truly was read."""

    def __init__(self, *steps: Step) -> None:
        self.reads = {0: 0}
        """By the sample's second."""
        self.intervals = VmIntervals(self._counters(), 0.0)
        self.said: dict[int, Interval] = {}
        self.on_their_way: list[int] = []
        self.came: list[Interval] = []
        for step in steps:
            self.take(*step)

    def _counters(self) -> DeviceCounters:
        return DeviceCounters(1, disks=(DiskCounters("vda", read_bytes=self.reads[max(self.reads)]),))

    def take(self, step: str, number: int = 0, more: int = 0) -> None:
        """Do one step; an end of nothing is none."""
        if step == "sample":
            at = max(self.reads)
            self.reads[at + number] = self.reads[at] + (more if number else 0)
            self.intervals.follow(self._counters(), float(at + number))
        elif step == "say":
            message = len(self.said) + 1
            self.said[message] = self.intervals.newest
            self.on_their_way.append(message)
            self.intervals.said(message)
        elif self.on_their_way:
            message = self.on_their_way.pop(number % len(self.on_their_way))
            getattr(self.intervals, step)(message)
            self.came += [self.said[message]] if step == "told" else []

    def settle(self, end: str) -> None:
        """End whatever is on its way, then sample and say once more; that comes."""
        while self.on_their_way:
            self.take(end)
        self.take("sample", 15, 150)
        self.take("say")
        self.take("told")

    def true_rates(self, interval: Interval) -> list[float]:
        """Of each span between two samples of the interval."""
        moments = [at for at in self.reads if interval.begun_us <= at * SECOND <= interval.last_us]
        assert {interval.begun_us, interval.last_us} <= {at * SECOND for at in moments}
        return [(self.reads[later] - self.reads[at]) / (later - at) for at, later in pairwise(moments)]

    def true_mean(self, interval: Interval) -> float:
        """The growth over the interval by its length."""
        begun, last = interval.begun_us // SECOND, interval.last_us // SECOND
        return (self.reads[last] - self.reads[begun]) / (last - begun)


@given(st.lists(SAMPLES | SAYS | ENDS, max_size=60))
def test_rates_are_always_those_of_their_interval(steps: list[Step]) -> None:
    """In any order of saying, coming and losing no message hides a peak of the time that it claims, nor invents one."""
    spoken = Spoken(*steps)
    spoken.settle("told")
    for interval in spoken.said.values():
        trend, rates = interval.trends[READ], spoken.true_rates(interval)
        assert (trend.least, trend.most) == ((min(rates), max(rates)) if rates else (None, None))
        assert trend.mean == (pytest.approx(spoken.true_mean(interval)) if rates else None)


@given(st.lists(SAMPLES | SAYS | ENDS, max_size=60))
def test_no_time_is_told_twice(steps: list[Step]) -> None:
    """Of what has come no two intervals overlap, but for messages that say the same sample again."""
    spoken = Spoken(*steps)
    spoken.settle("lost")
    ends = {interval.last_us: interval for interval in spoken.came if interval.begun_us < interval.last_us}
    for before, after in pairwise(ends[last] for last in sorted(ends)):
        assert before.last_us <= after.begun_us


@given(st.lists(SAMPLES | SAYS | LOSSES, max_size=40))
def test_while_all_is_lost_nothing_is_forgotten(steps: list[Step]) -> None:
    """In whatever order messages are lost, the first that comes is over all the time since the first sample."""
    spoken = Spoken(*steps[: 2 * UNSETTLED])
    spoken.settle("lost")
    (came,) = spoken.came
    if len(spoken.said) <= UNSETTLED:
        assert came.begun_us == 0


def test_what_another_message_brings_is_not_lost() -> None:
    """A balloon's record repeats what a report said: only when both are lost is it said again."""
    twice: list[Step] = [("sample", 15, 150), ("say", 0, 0), ("say", 0, 0), ("lost", 0, 0)]
    for end, begun in (("told", 15), ("lost", 0)):
        spoken = Spoken(*twice, ("sample", 15, 150), (end, 0, 0))
        assert spoken.intervals.newest.begun_us == begun * SECOND


def test_what_a_later_message_has_passed_by_is_left_out() -> None:
    """A report that is lost while the next one comes is not told, and no later interval claims its time."""
    busy: list[Step] = [("sample", 15, 10**9), ("say", 0, 0), ("sample", 15, 150), ("say", 0, 0), ("sample", 15, 150)]
    for ends in ([("lost", 0, 0), ("told", 0, 0)], [("told", 1, 0), ("lost", 0, 0)]):
        spoken = Spoken(*busy, *ends)
        newest = spoken.intervals.newest
        assert (newest.begun_us, newest.last_us, newest.trends[READ].most) == (30 * SECOND, 45 * SECOND, 10.0)


def test_what_is_not_settled_is_bounded() -> None:
    """A link that never says what became of messages costs a VM no more than so many intervals."""
    spoken = Spoken(*[("sample", 15, 150), ("say", 0, 0)] * (3 * UNSETTLED))
    assert len(spoken.intervals._unsettled) == UNSETTLED
    spoken.settle("lost")
    assert spoken.came[0].begun_us == 2 * UNSETTLED * 15 * SECOND


def test_what_was_said_before_time_went_back_goes_nowhere() -> None:
    """A moment that comes twice joins nothing: the time before it would be told twice."""
    spoken = Spoken(("sample", 15, 150), ("say", 0, 0))
    for at in (10.0, 15.0):
        spoken.intervals.follow(DeviceCounters(1), at)
    spoken.take("say")
    spoken.intervals.follow(DeviceCounters(1), 30.0)
    spoken.take("lost", 0)
    assert spoken.intervals.newest.begun_us == 15 * SECOND


def test_another_life_takes_nothing_over() -> None:
    """What is lost of a life that is over goes nowhere."""
    spoken = Spoken(("sample", 15, 10**9), ("say", 0, 0))
    spoken.intervals.follow(DeviceCounters(2), 15.0)
    before = spoken.intervals.newest
    spoken.take("lost")
    assert spoken.intervals.newest == before
