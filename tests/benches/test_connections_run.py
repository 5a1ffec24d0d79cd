"""The bench of connections as its user runs it, with a few agents."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benches.connections.run import Report
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker

SMALL = ("benches.connections", "--connections=6", "--processes=2", "--tick=1")


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_agents_come_back_after_their_broker_was_killed(tmp_path: Path) -> None:
    """Each is held in peace, and back some time after the broker; nothing is left of the run."""
    require_broker()
    report = completed(tmp_path, Report, *SMALL, "--hold=2", "--away=0.5")
    assert (report.connections, report.processes, report.rpc_queues) == (6, 2, 6)
    for found in (report.killed, report.closed):
        assert (found.lost_in_hold, found.not_back, sum(found.handshakes_by_second)) == (0, 0, 6)
        assert 1 <= found.handshakes_per_s_max <= 6
    assert report.heartbeats_missed == 0
    assert 0 < report.broker_start_s < report.away_s < report.publish_gap_s.max
    assert report.closed.reconnect_s.max < report.closed.publish_gap_s.max < report.killed.publish_gap_s.max
    assert report.broker_rss_mb.keys() == {"empty", "held", "after", "peak"}


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.long
def test_it_ends_with_everything_when_told(tmp_path: Path) -> None:
    """Even a kill leaves no process."""
    require_broker()
    assert_it_ends_when_told(tmp_path, signal.SIGKILL, "nothing is touched", *SMALL, "--hold=600")
