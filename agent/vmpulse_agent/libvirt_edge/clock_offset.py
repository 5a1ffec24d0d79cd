"""How far a guest's clock is off, said so that it does not flap.

A guest under NTP writes its clock every few minutes, each time a second more or less. So what is said is rounded to 5
s, and stays until the truth is 5 s or more away from it; real offsets, such as time zones, are multiples of 5 s. After
a change what is said is within 2.5 s of the truth, so writes within 2 s of each other change it at most once.
"""

from __future__ import annotations

from typing import Final

GRID_S: Final = 5


def steady(told: int | None, offset: int) -> int:
    """What to say of an offset, seconds, after *told* was said; None: nothing has been said yet."""
    if told is not None and abs(offset - told) < GRID_S:
        return told
    return (2 * offset + GRID_S) // (2 * GRID_S) * GRID_S
