"""How long a link waits before it connects again."""

from __future__ import annotations

import random

from vmpulse_agent.backoff import MOST_S, SPREAD_S, Backoff

LASTED_S = MOST_S + 0.1


class Lowest(random.Random):
    """Draws the least that there is."""

    def uniform(self, a: float, b: float) -> float:
        """Give the first."""
        return min(a, b)


class Highest(random.Random):
    """Draws the most that there is."""

    def uniform(self, a: float, b: float) -> float:
        """Give the second."""
        return max(a, b)


def test_pauses_grow_to_their_bound() -> None:
    """Each attempt that fails makes the next pause twice as long at most, and a quarter of that at least."""
    slowest, quickest = Backoff(Highest()), Backoff(Lowest())
    most = [slowest.pause_s(0.1) for _ in range(8)]
    assert most == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert [quickest.pause_s(0.1) for _ in range(8)] == [pause / 4 for pause in most]


def test_a_connection_that_had_lasted_is_renewed_within_its_spread() -> None:
    """At any moment of it, and if that fails pauses begin anew: a fleet may have lost its connections together."""
    for lots, pause, following in ((Highest(), SPREAD_S, 0.5), (Lowest(), 0.0, 0.125)):
        backoff = Backoff(lots)
        for _ in range(5):
            backoff.pause_s(0.1)
        assert (backoff.pause_s(LASTED_S), backoff.pause_s(0.1)) == (pause, following)


def test_a_broker_that_takes_us_and_throws_us_out_is_not_stormed() -> None:
    """A connection that was soon over makes the next pause longer, as a failed attempt does."""
    backoff = Backoff(Highest())
    assert [backoff.pause_s(MOST_S) for _ in range(3)] == [0.5, 1.0, 2.0]


def test_who_loses_a_connection_is_back_before_it_is_late() -> None:
    """A tick before, the pause and half a second to connect are no more than two ticks and a second."""
    assert 3.0 + SPREAD_S + 0.5 <= 2 * 3.0 + 1.0
