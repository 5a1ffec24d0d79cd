"""How some measures are spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable


class Spread(Struct, frozen=True):
    """Median, 99th percentile and greatest of ``count`` measures, by nearest rank; in their unit."""

    p50: float
    p99: float
    max: float
    count: int


def spread(measures: Iterable[float], digits: int = 2) -> Spread:
    """Tell how measures are spread. Raises ValueError where there are none."""
    ranked = sorted(measures)
    if not ranked:
        raise ValueError("nothing was measured")
    p50, p99, most = (round(ranked[math.ceil(share * len(ranked)) - 1], digits) for share in (0.5, 0.99, 1.0))
    return Spread(p50, p99, most, len(ranked))
