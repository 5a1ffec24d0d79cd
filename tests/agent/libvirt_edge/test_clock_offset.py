"""A guest's clock under NTP: near the truth, and not flapping."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.libvirt_edge.clock_offset import GRID_S, steady

offsets = st.integers(-(10**7), 10**7)


def told(first: int | None, truths: list[int]) -> list[int]:
    """What is said after each write of the clock."""
    said: list[int] = []
    for truth in truths:
        first = steady(first, truth)
        said.append(first)
    return said


@given(st.none() | offsets, st.lists(offsets, min_size=1))
def test_near_the_truth(first: int | None, truths: list[int]) -> None:
    """What is said is always within the grid of the truth, and on it once it has changed."""
    for said, truth in zip(told(first, truths), truths, strict=True):
        assert abs(said - truth) < GRID_S
        assert said == first or said % GRID_S == 0


@given(st.none() | offsets, offsets, st.lists(st.integers(0, 2), min_size=1))
def test_jitter_changes_it_once(first: int | None, truth: int, jitter: list[int]) -> None:
    """A second more or less, at whatever offset and after whatever was said: it settles at the first write."""
    said = told(first, [truth + wobble for wobble in jitter])
    assert sum(one != other for one, other in pairwise(said)) <= 1


def test_time_zones_are_exact() -> None:
    """Offsets that people choose are told as they are."""
    assert [steady(None, offset) for offset in (0, 3600, -20700, 45900, -1, 3)] == [0, 3600, -20700, 45900, 0, 5]
