"""Chaos as its user runs it: it breaks something, finds the view right, and leaves nothing behind, however it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benches.chaos.plan import Kind, Plan
from benches.chaos.report import Report
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker

SMALL = ("benches.chaos", "--hosts=4", "--vms=5")
SHORT_S = 2.0


def short_seed(kind: Kind) -> int:
    """A seed by which the first fault of this kind is soon over."""
    return next(seed for seed in range(100) if Plan(seed, 4, [kind]).next_round()[0].lasts_s < SHORT_S)


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_killed_view_comes_to_say_the_truth_again(tmp_path: Path) -> None:
    """The last line is the report, of which nothing is wrong, and no process and no file is left."""
    require_broker()
    kind = Kind.VIEW_KILLED
    report = completed(tmp_path, Report, *SMALL, f"--seed={short_seed(kind)}", "--seconds=0.1", f"--only={kind}")
    assert report.faults == {"view_killed": 1}
    assert (report.hosts, report.vms, report.rounds, report.clean) == (4, 20, 1, True)
    assert set(report.rss_mb) == {"broker", "view", "agents-0", "agents-1", "agents-2", "agents-3"}
    assert report.time_to_truth_s is not None


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_it_ends_with_everything_when_told(tmp_path: Path, number: signal.Signals) -> None:
    """Told to end, it says no verdict and is no success; even a kill leaves no process."""
    require_broker()
    assert_it_ends_when_told(tmp_path, number, "round 1", *SMALL, "--seconds=600")
