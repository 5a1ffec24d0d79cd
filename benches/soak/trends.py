"""Whether measures grow: a slope that single steps do not bend, and thirds held against each other. No I/O."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

PER_TICKS: Final = 1000.0
FEWEST: Final = 3
"""Of fewer measures than this nothing is said."""


def settled(measures: Sequence[T], share: float) -> Sequence[T]:
    """Give what is left without the first share (0 to 1): caches fill, pools start their threads, arenas are taken."""
    return measures[int(len(measures) * share) :]


def slope_percent(ticks: Sequence[float], values: Sequence[float]) -> float | None:
    """Tell by how much values grow in 1,000 ticks, in percent of what they were at first. None: there are too few.

    The slope is Theil and Sen's: the median of the slopes of all pairs. An allocator takes and gives memory in steps,
    and a single one of those must not look like growth, nor hide it.

    Args:
        ticks: when each value was measured, in ticks; ascending.
        values: as many.
    """
    if len(values) < FEWEST:
        return None
    first = statistics.median(thirds(values)[0])
    at, measured = np.asarray(ticks, float), np.asarray(values, float)
    slopes = _slopes(at, measured)
    if not len(slopes) or not first:
        return None
    return float(np.median(slopes)) * PER_TICKS / first * 100.0


def _slopes(at: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope of every pair of measures that are not of the same moment."""
    later, earlier = np.tril_indices(len(at), -1)
    apart = at[later] - at[earlier]
    rise = measured[later] - measured[earlier]
    kept = apart > 0
    return np.divide(rise[kept], apart[kept])


def thirds(values: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Give the first and the last third, each of one value at least."""
    size = max(1, len(values) // 3)
    return values[:size], values[-size:]


def per_hour(first: float, last: float, seconds: float) -> float:
    """What something that only grows adds in an hour, by two measures so many seconds apart."""
    return (last - first) * 3600.0 / seconds if seconds > 0 else 0.0
