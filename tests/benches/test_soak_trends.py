"""What a soak calls growth, on series by hand."""

from __future__ import annotations

import pytest

from benches.soak.trends import per_hour, settled, slope_percent, thirds
from vmpulse_simulator.lots import Lots

TICKS = [float(tick) for tick in range(0, 2000, 5)]


def test_a_slope_is_percent_of_the_first_in_a_thousand_ticks() -> None:
    """What grows from 50 by 1 in 1,000 ticks grows by 2 percent of its first third's median."""
    assert slope_percent(TICKS, [50 + tick / 1000 for tick in TICKS]) == pytest.approx(2.0, rel=0.01)


def test_what_stays_has_no_slope() -> None:
    """Measures that are always the same, or waver around the same, have a slope of nothing or next to it."""
    lots = Lots(3)
    assert slope_percent(TICKS, [50.0] * len(TICKS)) == 0
    assert abs(slope_percent(TICKS, [lots.between(49.0, 51.0) for _ in TICKS]) or 0.0) < 0.2


@pytest.mark.parametrize("peak", [10.0, 200.0])
def test_peaks_bend_no_slope(peak: float) -> None:
    """One measure in ten that is far too high changes nothing of a slope of 0."""
    assert slope_percent(TICKS, [50 + (peak if number % 10 == 0 else 0) for number in range(len(TICKS))]) == 0


def test_one_early_step_is_no_slope() -> None:
    """An allocator that takes an arena in the first quarter and keeps it has a slope of 0."""
    assert slope_percent(TICKS, [50.0 if tick < 400 else 52.0 for tick in TICKS]) == 0


def test_step_after_step_is_a_slope() -> None:
    """What grows by steps, one each 250 ticks, has the slope of the line through them."""
    assert slope_percent(TICKS, [50 + tick // 250 for tick in TICKS]) == pytest.approx(8.0, rel=0.1)


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [0.0, 0.0, 0.0]])
def test_of_too_little_no_slope_is_told(values: list[float]) -> None:
    """Two measures make no slope, and nothing grows in percent of 0."""
    assert slope_percent(TICKS[: len(values)], values) is None


def test_measures_of_one_moment_make_no_slope() -> None:
    """Where no tick has passed nothing can be told; pairs of one moment among others are left out."""
    assert slope_percent([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]) is None
    assert slope_percent([0.0, 0.0, 1000.0], [100.0, 100.0, 110.0]) == pytest.approx(10.0)


def test_the_first_share_does_not_count() -> None:
    """What is left after the warm-up is the rest, all of it for a share of nothing."""
    assert settled([1, 2, 3, 4, 5], 0.25) == [2, 3, 4, 5]
    assert settled([1, 2, 3, 4], 0.0) == [1, 2, 3, 4]


def test_thirds_are_never_empty() -> None:
    """The first and the last third of even one value have that value."""
    assert thirds([7]) == ([7], [7])
    assert thirds([1, 2, 3, 4, 5, 6, 7]) == ([1, 2], [6, 7])


def test_a_rate_is_by_the_hour() -> None:
    """A log that grows by 100 bytes in a minute grows by 6,000 in an hour; in no time nothing is told."""
    assert per_hour(1000, 1100, 60) == 6000
    assert per_hour(1000, 1100, 0) == 0
