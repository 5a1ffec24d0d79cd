"""How old values are at a reader, over all values and all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct

if TYPE_CHECKING:
    from numpy.typing import NDArray

BIN_S: Final = 0.05
BINS: Final = 20_000
"""Up to 1,000 s; whatever is older counts as that old in the percentile."""


class Freshness(Struct, frozen=True):
    """Age of a value at the reader, in seconds: mean, and what 99 of 100 do not exceed."""

    mean_s: float
    p99_s: float


class Ages:
    """Adds up ages that were seen at moments spread evenly over time."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self._sum = 0.0

    def add(self, ages: NDArray[np.float64]) -> None:
        """Add the ages of all values at one moment."""
        bins = np.minimum(ages / BIN_S, BINS - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=BINS)
        self._sum += float(ages.sum())

    def freshness(self) -> Freshness:
        """What they come to; the percentile is rounded up to a bin."""
        total = int(self._counts.sum())
        assert total, "no age was seen"
        rank = int(np.searchsorted(np.cumsum(self._counts), 0.99 * total))
        return Freshness(round(self._sum / total, 3), round((rank + 1) * BIN_S, 2))
