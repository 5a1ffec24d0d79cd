"""The warm-up bench as its user runs it: a tiny fleet, a cold and a warm start, and one line of JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.warmup.report import Report
from tests.benches.running import bench, completed
from tests.conftest import require_broker
from tests.programs import wait_until_none

TINY = ("--hosts=3", "--vms=4", "--tick=1", "--rounds=1", "--large-hosts=0")
BOTH = (*TINY[:-1], "--large-hosts=5", "--large-tick=1")


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_cold_and_a_warm_start_are_measured(tmp_path: Path) -> None:
    """Cold each host is asked for its roster and three sections, warm for its roster; both kinds of fleet answer."""
    require_broker()
    for fleet in completed(tmp_path, Report, "benches.warmup", *BOTH).fleets:
        (cold,), (warm,) = fleet.cold, fleet.warm
        assert cold.requests == dict.fromkeys(("getRoster", "getConfInfo", "getStatus", "getGuestDetails"), fleet.hosts)
        assert (warm.requests, fleet.asked_twice) == ({"getRoster": fleet.hosts}, 0)
        assert 0 < warm.bytes < cold.bytes
        for start in (cold, warm):
            assert 0 < start.connected_s < start.confirmed_s <= start.done_s
            assert 0 < start.http_s <= start.shown_s <= start.done_s
        assert (fleet.cold_s, fleet.warm_s, fleet.bytes_cold) == (cold.ready_s, warm.ready_s, cold.bytes)


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_view_that_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    """Where the whole fleet is not shown in time, the bench ends with 1, says so, and has no result."""
    require_broker()
    with bench(tmp_path, "benches.warmup", *TINY, "--latest=0.1") as program:
        out, err = program.communicate()
    assert (program.returncode, out) == (1, "")
    assert "the view does not show the whole fleet after" in err
    assert wait_until_none(tmp_path) == []


def test_the_command_line_is_checked(tmp_path: Path) -> None:
    """What is no number of hosts is refused before anything is started."""
    for hosts in ("many", "0"):
        with bench(tmp_path, "benches.warmup", f"--hosts={hosts}") as program:
            program.communicate(timeout=30)
        assert program.returncode == 2
    assert list(tmp_path.iterdir()) == []
