"""Lots that fall the same way for the same seed, on every Python: splitmix64, with eight bytes of state.

A fleet draws from thousands of independent sources: each VM's load is one, and random.Random would keep 2.5 KiB for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

MASK: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15


class Lots:
    """A source of lots. The same *seeds* give the same lots."""

    __slots__ = ("_state",)

    def __init__(self, *seeds: object) -> None:
        self._state = xxhash.xxh3_64_intdigest("/".join(map(str, seeds)).encode())

    def bits(self) -> int:
        """Draw 64 bits."""
        self._state = state = (self._state + GOLDEN) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        return state ^ (state >> 31)

    def share(self) -> float:
        """Draw a number from 0 to below 1."""
        return (self.bits() >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """Draw a number from *low* to below *high*."""
        return low + (high - low) * self.share()

    def below(self, bound: int) -> int:
        """Draw a whole number from 0 to below *bound*."""
        return self.bits() % bound

    def hits(self, probability: float) -> bool:
        """Draw whether something of this probability happens."""
        return self.share() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Draw one of the options."""
        return options[self.bits() % len(options)]

    def weighted(self, options: Sequence[tuple[T, float]]) -> T:
        """Draw one of the options by their weights."""
        mark = self.share() * sum(weight for _, weight in options)
        for option, weight in options:
            mark -= weight
            if mark < 0:
                return option
        return options[-1][0]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """Give the items in a drawn order."""
        deck = list(items)
        for last in range(len(deck) - 1, 0, -1):
            other = self.bits() % (last + 1)
            deck[last], deck[other] = deck[other], deck[last]
        return deck
