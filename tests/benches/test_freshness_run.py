"""The bench of freshness as its user runs it, with a few hosts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benches.freshness.report import Report
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker

SMALL = ("benches.freshness", "--hosts=4", "--vms=10", "--watched=2")


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_changes_are_timed_on_their_way(tmp_path: Path) -> None:
    """Everybody sees every change, the stages follow on each other, and polling takes about half its period."""
    require_broker()
    report = completed(tmp_path, Report, *SMALL, "--changes=12", "--polls", "2", "3")
    assert (report.changes, report.hosts, report.vms, report.watched_hosts) == (12, 4, 10, 2)
    told = (report.view_ms, report.worker_ms, report.sse_ms, report.bare_amqp_ms, *report.stages_ms.values())
    assert {its.count for its in told} == {12}
    assert 0 < report.stages_ms["agent"].p50 < report.view_ms.p50 < report.worker_ms.p50
    assert {name: its.count for name, its in report.polled_ms.items()} == {"polled each 2 s": 12, "polled each 3 s": 12}
    assert all(report.view_ms.p50 < its.max <= 4000 for its in report.polled_ms.values())
    assert report.cpu.keys() == {"broker", "view", "readers", "load", "hosts"}


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.long
def test_it_ends_with_everything_when_told(tmp_path: Path) -> None:
    """Even a kill leaves no process."""
    require_broker()
    assert_it_ends_when_told(tmp_path, signal.SIGKILL, "hosts live", *SMALL)
