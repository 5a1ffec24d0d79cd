"""The wire bench as its user runs it: what it says adds up, and nothing is left behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benches.wire.__main__ import main
from benches.wire.peers.__main__ import PEERS
from benches.wire.report import AGENTS, EVENTS, VIEW, Report
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker

SMALL = ("benches.wire", "--hosts=3", "--vms=4", "--measured-hosts=1", "--speed=10")


@pytest.mark.long  # make bench-check runs as much of it
@pytest.mark.broker
@pytest.mark.timeout(120)
def test_a_short_run(tmp_path: Path) -> None:
    """Every peer has its figures; vmpulse's parts add up to its bytes; the view missed nothing; and nothing is left."""
    require_broker()
    report = completed(tmp_path, Report, *SMALL, "--minutes=0.5")
    assert set(report.ratios) == set(PEERS)
    assert set(report.bytes) == {*PEERS, AGENTS, VIEW, EVENTS}
    assert set(report.freshness) == set(report.reader_cpu_s_per_minute) == {*PEERS, VIEW}
    assert report.scaled_from_hosts == dict.fromkeys(PEERS, 1)
    assert all(count > 0 for count in (*report.bytes.values(), *report.messages.values()))
    for peer, ratio in report.ratios.items():
        assert ratio == pytest.approx(report.bytes[peer] / report.bytes[VIEW], abs=0.006)
    in_parts = sum(p.bodies + p.methods + p.properties + p.framing for p in report.vmpulse_parts.values())
    # What is not in a part is at most an AMQP frame that was not through yet when the counting ended.
    assert 0 <= report.bytes[VIEW] - (in_parts + report.acks + report.heartbeats + report.set_up) < 4096
    # Ticks of 3 s for half a minute, and more where a status changes.
    assert report.vmpulse_parts["frame"].messages >= 3 * 9
    assert report.messages[VIEW] == sum(part.messages for part in report.vmpulse_parts.values())
    # A machine that is too busy for this pace says so by stalls, and only then may a view have missed anything.
    assert (report.live, report.gaps if not report.stalls else 0) == (3, 0)
    assert 1.0 < report.freshness[VIEW].mean_s < 2.5
    assert report.ratio_to_entropy_floor > 1.0
    assert {name for name in report.goals_missed if name != "ratio_to_entropy_floor"} <= set(PEERS)


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_it_ends_with_everything_when_told(tmp_path: Path, number: signal.Signals) -> None:
    """Told to end, it says no figures and is no success; even a kill leaves no process."""
    require_broker()
    assert_it_ends_when_told(tmp_path, number, "starting RabbitMQ", *SMALL, "--minutes=99")


@pytest.mark.parametrize(
    "option",
    [
        "--hosts=0",
        "--vms=0",
        "--minutes=0.1",
        "--measured-hosts=251",
        "--measured-hosts=0",
        "--speed=0.5",
        "--churn=-1",
    ],
)
def test_a_wrong_command_line_starts_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number out of its bounds ends the program with 2 and names the option."""
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err
