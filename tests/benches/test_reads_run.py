"""The bench of reads as its user runs it: a tiny fleet, all kinds of readers, and one line of JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.reads.report import GOALS, Report
from tests.benches.running import completed
from tests.conftest import require_broker

TINY = ("--hosts=3", "--vms=20", "--tick=1", "--seconds=3", "--subscribers=20")


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_all_kinds_of_reads_are_measured(tmp_path: Path) -> None:
    """Each figure is there, 20 subscribers miss nothing of what happened, and no process and no file is left."""
    require_broker()
    report = completed(tmp_path, Report, "benches.reads", *TINY)
    assert (report.hosts, report.vms, report.goals) == (3, 20, GOALS)
    assert set(report.stalls) == {"nobody", "scrapes", "lists", "subscribers", "everything"}
    assert all(stall.asked > 100 for stall in report.stalls.values())
    worst = max(stall.loop.max or 0.0 for stall in report.stalls.values())
    assert 0 < report.loop_stall_max_ms == worst
    followed = report.followed
    assert (followed.subscribers, followed.refused, followed.cut) == (20, 0, 0)
    assert followed.events > 0
    assert (report.sse_lost, report.missed_ticks) == (0, 0)
    assert 0 < report.metrics["gzip"].bytes < report.metrics["plain"].bytes
    assert report.metrics["plain"].samples > 60 * 5
    assert 0 < report.vm_ms < report.vms_10000_ms * 10
    assert 0 < report.worst_age_s < 10
