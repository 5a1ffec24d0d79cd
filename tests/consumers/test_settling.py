"""What a view holds for long is kept off the collector of cyclic garbage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from tests.consumers.http.stocked_view import large_fleet
from vmpulse_consumers.settling import FEWEST, Settling
from vmpulse_consumers.view import View
from vmpulse_contract.identity import VmId


@pytest.fixture(autouse=True)
def _nothing_set_aside() -> Iterator[None]:
    gc.unfreeze()
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_has_grown_by_a_quarter_is_set_aside() -> None:
    """It is set aside once, and again when there is much more of it; full collections then find little to look at."""
    fleet = large_fleet(30, 40)
    settling = Settling(fleet.view)
    assert [settling.look(), settling.look()] == [True, False]
    assert gc.get_freeze_count() > 20 * FEWEST
    assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    vm = next(iter(fleet.view.vms.values()))
    fleet.view.vms.update((VmId(number.to_bytes(16)), vm) for number in range(4 * len(fleet.view.vms)))
    assert [settling.look(), settling.look()] == [True, False]


def test_few_are_left_alone() -> None:
    """What is looked at in a moment is not worth it."""
    assert not Settling(large_fleet(2, 10).view).look()
    assert not Settling(View(0.0)).look()
    assert gc.get_freeze_count() == 0


async def test_full_collections_are_seldom() -> None:
    """As many objects as hundreds of new connections have bring on no full collection."""
    running = asyncio.create_task(Settling(View(0.0)).run())
    await asyncio.sleep(0)
    gc.collect()
    full = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(100_000)]
    running.cancel()
    assert len(kept) == 100_000
    assert gc.get_stats()[2]["collections"] == full
