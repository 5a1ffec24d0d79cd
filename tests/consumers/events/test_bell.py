"""The bell that wakes readers of events."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from vmpulse_consumers.events import teller
from vmpulse_consumers.events.teller import Bell

MANY = 4 * teller.WOKEN + 1


async def test_many_are_woken_some_at_a_time() -> None:
    """All who wait are woken by one ring, but in one turn of the loop no more than so many."""
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait(60.0)) for _ in range(MANY)]
    await asyncio.sleep(0)
    bell.ring()
    woken = [0]
    while woken[-1] < MANY:
        await asyncio.sleep(0)
        woken.append(sum(task.done() for task in waiting))
        assert len(woken) < 4 * MANY
    assert max(now - before for before, now in itertools.pairwise(woken)) <= teller.WOKEN


async def test_who_waits_again_is_woken_by_the_next_ring_only() -> None:
    """A ring is for those who waited then; rings in a row wake everybody once."""
    bell = Bell()
    first = [asyncio.create_task(bell.wait(60.0)) for _ in range(MANY)]
    await asyncio.sleep(0)
    bell.ring()
    later = asyncio.create_task(bell.wait(60.0))
    await asyncio.gather(*first)
    assert not later.done()
    bell.ring()
    bell.ring()
    await later


@pytest.mark.timeout(10)
async def test_nobody_waits_longer_than_told() -> None:
    """Without a ring a wait ends in time; one that was given up is in nobody's way."""
    bell = Bell()
    given_up = [asyncio.create_task(bell.wait(60.0)) for _ in range(MANY)]
    await asyncio.sleep(0)
    bell.ring()
    for task in given_up:
        task.cancel()
    await bell.wait(0.01)
    waiting = asyncio.create_task(bell.wait(60.0))
    await asyncio.sleep(0)
    bell.ring()
    await waiting
