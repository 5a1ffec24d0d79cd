"""A soak as its user runs it: it finds nothing wrong in a short run, and leaves nothing behind, however it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benches.soak.__main__ import main
from benches.soak.judging import END_S
from benches.soak.report import Report
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker

SMALL = ("benches.soak", "--hosts=4", "--vms=3", "--tick=0.1", "--domains=0")


@pytest.mark.long  # half a minute; what it is put together from has tests of its own
@pytest.mark.broker
@pytest.mark.timeout(120)
def test_a_short_run_finds_nothing_wrong(tmp_path: Path) -> None:
    """The view is true in the end, all readers were served, every program ends in time, and nothing is left."""
    require_broker()
    report = completed(tmp_path, Report, *SMALL, "--minutes=0.15")
    assert (report.hosts, report.vms, report.wrong, report.failed) == (4, 12, 0, ())
    assert report.ticks > 60
    assert set(report.processes) == {"view", "agents-1", "agents-2", "agents-3"}
    assert report.readers.scrapes > 2
    assert report.readers.events["host.stopped"] > 0
    assert [ending.name for ending in report.endings] == [
        "agents-0 restarted",
        "agents-0",
        "view",
        *("agents-1", "agents-2", "agents-3"),
    ]
    assert all(ending.seconds < END_S and ending.code == 0 for ending in report.endings)
    assert "view memory % per 1,000 ticks" not in report.judged


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.long  # the bench of chaos ends in the same way, and is tried each time
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_everything_when_told(tmp_path: Path, number: signal.Signals) -> None:
    """Told to end, it says no verdict and is no success; even a kill leaves no process."""
    require_broker()
    assert_it_ends_when_told(tmp_path, number, "tick", *SMALL, "--minutes=9")


@pytest.mark.parametrize("option", ["--tick=0.01", "--tick=7", "--hosts=1", "--vms=0", "--domains=-1", "--minutes=x"])
def test_a_wrong_command_line_starts_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that is none, or out of its bounds, ends the program with 2 and names the option."""
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err
