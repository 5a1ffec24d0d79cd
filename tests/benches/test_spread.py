"""How measures are spread."""

from __future__ import annotations

import pytest

from benches.spread import Spread, spread


def test_spread_is_by_nearest_rank() -> None:
    """The median of an even count is the lower one; of few measures the 99th percentile is the largest."""
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0, 1)
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(2.0, 4.0, 4.0, 4)
    assert spread(float(number) for number in range(1, 201)) == Spread(100.0, 198.0, 200.0, 200)


def test_digits_are_the_callers() -> None:
    """Two, unless more are wanted."""
    assert (spread([0.12345]).p50, spread([0.12345], digits=3).p50) == (0.12, 0.123)


def test_nothing_measured_is_an_error() -> None:
    """Not a spread of zeros."""
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])
