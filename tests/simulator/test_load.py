"""Loads: their counters are exactly the integral of their rates."""

from __future__ import annotations

import pytest

from vmpulse_simulator.load import STEP_S, Load
from vmpulse_simulator.lots import Lots


def new_load(vcpus: int = 4, seed: int = 1, *, saturated: bool | None = None) -> Load:
    """A load that began an hour before second 5000."""
    return Load(vcpus, Lots(seed), started=1400.0, now=5000.0, saturated=saturated)


def test_counters_before_the_walk_follow_from_the_first_rates() -> None:
    """A VM that has run for an hour has an hour of CPU time behind it."""
    load = new_load()
    assert load.cpu_system_ns == pytest.approx(load.system * 1e6 * 3600, abs=1)
    assert load.cpu_time_ns == pytest.approx((load.user + load.system) * 1e6 * 3600, abs=1)


def test_frozen_rates_are_what_two_readings_give() -> None:
    """The growth of the counters over any span of a frozen load is the rate, to the nanosecond."""
    load = new_load()
    load.freeze(5100.0)
    before = load.cpu_time_ns, load.cpu_system_ns
    load.advance(5107.0)
    assert load.cpu_time_ns - before[0] == pytest.approx((load.user + load.system) * 7e6, abs=2)
    assert load.cpu_system_ns - before[1] == pytest.approx(load.system * 7e6, abs=2)


def test_walk_does_not_depend_on_how_often_it_is_looked_at() -> None:
    """Two loads of one seed agree, looked at once or at every turn."""
    often, once = new_load(seed=5), new_load(seed=5)
    for tenth in range(1, 3000):
        often.advance(5000.0 + tenth / 10)
    once.advance(5299.9)
    assert (often.user, often.system, often.memory) == (once.user, once.system, once.memory)
    assert often.cpu_time_ns == pytest.approx(once.cpu_time_ns, abs=1000)


@pytest.mark.parametrize("vcpus", [1, 64])
def test_rates_stay_within_the_cpus(vcpus: int) -> None:
    """No walk leaves what the CPUs and the memory can give, and it does move."""
    load, seen = new_load(vcpus), set()
    for step in range(2000):
        load.advance(5000.0 + step * STEP_S)
        assert load.system >= 0
        assert load.user >= 0
        assert load.user + load.system <= vcpus * 1000
        assert 1 <= load.memory <= 99
        seen.add(load.user)
    assert len(seen) > 10


def test_load_that_is_handed_over_walks_on_and_counts_anew() -> None:
    """The heir does what the load would have done, from counters at 0; the one it came from stands still."""
    unmoved, left = new_load(seed=5), new_load(seed=5)
    heir, burnt = left.hand_over(5100.0), left.cpu_time_ns
    unmoved.advance(5200.0)
    heir.advance(5200.0)
    left.advance(5200.0)
    assert (heir.user, heir.system, heir.memory) == (unmoved.user, unmoved.system, unmoved.memory)
    assert heir.cpu_time_ns == pytest.approx(unmoved.cpu_time_ns - burnt, abs=1000)
    assert (left.user, left.system, left.cpu_time_ns) == (0, 0, burnt)


def test_saturated_load_fills_every_cpu() -> None:
    """64 busy CPUs are 6,400 percent."""
    load = new_load(64, saturated=True)
    assert load.user + load.system == 64_000
