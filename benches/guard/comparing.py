"""What was measured beside what is expected: which figures have become worse. No I/O and no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TOLERANCE: Final = 0.15
RENEW: Final = "python -m benches.guard --renew"


class Figure(Struct, frozen=True):
    """A ratio, or a count that is the same on any machine. ``more_is_better``: else less is."""

    name: str
    value: float
    more_is_better: bool = False


class Compared(Struct, frozen=True, kw_only=True):
    """A figure beside its expectation. ``worse``: by which share, below 0: better; None: none is expected."""

    name: str
    measured: float
    expected: float | None
    worse: float | None

    @property
    def failed(self) -> bool:
        """Whether that is beyond the tolerance, or nothing is expected, so that none is forgotten."""
        return self.worse is None or self.worse > TOLERANCE

    @property
    def outgrown(self) -> bool:
        """Whether it is so much better that its expectation would hide the next loss."""
        return self.worse is not None and self.worse < -TOLERANCE

    @property
    def words(self) -> str:
        """What there is to say of it."""
        if self.worse is None:
            return f"{self.name}: {self.measured:g}, and nothing is expected of it; {RENEW} writes it down"
        found = f"{self.name}: expected {self.expected:g}, measured {self.measured:g}, "
        if self.failed:
            return found + f"worse by {self.worse:.0%}, {TOLERANCE:.0%} allowed; if that is meant to be, {RENEW}"
        if self.outgrown:
            return found + f"better by {-self.worse:.0%}; {RENEW} keeps it so"
        return found + "as expected"


def compared(figures: Iterable[Figure], expected: Mapping[str, float]) -> list[Compared]:
    """Hold each figure against its expectation; expectations of what was not measured say nothing."""
    return [
        Compared(
            name=figure.name,
            measured=figure.value,
            expected=expected.get(figure.name),
            worse=worse_by(figure, expected[figure.name]) if figure.name in expected else None,
        )
        for figure in figures
    ]


def worse_by(figure: Figure, expected: float) -> float:
    """By which share a figure is worse than expected; below 0: it is better."""
    return expected / figure.value - 1 if figure.more_is_better else figure.value / expected - 1


def best(first: Sequence[Figure], again: Sequence[Figure]) -> list[Figure]:
    """Of two measures of the same figures the better ones: what a busy machine adds, it adds to one side only."""
    other = {figure.name: figure for figure in again}
    return [figure if worse_by(figure, other[figure.name].value) <= 0 else other[figure.name] for figure in first]


def worst(first: Sequence[Figure], again: Sequence[Figure]) -> list[Figure]:
    """Of two measures of the same figures the worse ones: an expectation that a lucky run wrote would cry wolf."""
    other = {figure.name: figure for figure in again}
    return [figure if worse_by(figure, other[figure.name].value) >= 0 else other[figure.name] for figure in first]


def renewed(figures: Iterable[Figure], expected: Mapping[str, float]) -> dict[str, float]:
    """Expectations as they were measured, in the order of their names; those of what was not measured stay."""
    return dict(sorted((dict(expected) | {figure.name: figure.value for figure in figures}).items()))
