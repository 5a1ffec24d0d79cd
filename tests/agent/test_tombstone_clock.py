"""Tombstones over restarts whose wall clock jumps: what is told stays in order and in the past."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent import tombstone_file
from vmpulse_agent.tombstone_file import TombstoneFile
from vmpulse_contract.stream import Tombstone
from vmpulse_contract.values import ExitCode, ExitReason

DAY_S = 86_400
START_S = 1_800_000_000
STONE = Tombstone(b"v" * 16, 7, ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN, 0)


class WallClock:
    """Whatever somebody has set it to."""

    def __init__(self) -> None:
        self.now = float(START_S)

    def time(self) -> float:
        """Seconds since 1970."""
        return self.now


def restarted(stones: list[Tombstone], clock: WallClock, ran_ms: int, jump_s: int) -> list[Tombstone]:
    """What the next agent is given of what one that ran so long has kept."""
    with TemporaryDirectory() as folder, patch.object(tombstone_file, "time", clock):
        TombstoneFile(Path(folder)).write(stones, ran_ms)
        clock.now += jump_s
        return TombstoneFile(Path(folder)).read()


@given(
    ends=st.lists(st.integers(-3_600_000, 600_000), min_size=1, max_size=5),
    jumps=st.lists(st.integers(-30 * DAY_S, 30 * DAY_S), max_size=5),
    ran_ms=st.integers(600_000, 700_000),
)
def test_wall_clocks_that_jump_change_no_order(ends: list[int], jumps: list[int], ran_ms: int) -> None:
    """Over any jumps all lives have ended before the epoch began, in the order in which they did, and none is lost."""
    clock = WallClock()
    stones = [
        Tombstone(b"v" * 16, n, ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN, at) for n, at in enumerate(sorted(ends))
    ]
    for jump_s in jumps:
        found = restarted(stones, clock, ran_ms, jump_s)
        assert [stone.token for stone in found] == [stone.token for stone in stones]
        assert all(stone.ended_ms < 0 for stone in found)
        assert [stone.ended_ms for stone in found] == sorted(stone.ended_ms for stone in found)
        stones = found


@given(st.integers(0, 600_000), st.integers(0, 3600))
def test_a_wall_clock_that_goes_on_changes_nothing(ended_ms: int, away_s: int) -> None:
    """Without a jump a life has ended as long ago as it has."""
    (found,) = restarted([msgspec.structs.replace(STONE, ended_ms=ended_ms)], WallClock(), 600_000, away_s)
    assert found == msgspec.structs.replace(found, ended_ms=min(-1, ended_ms - 600_000 - away_s * 1000))
