"""The ingest bench as its user runs it: it measures each reader, and leaves nothing behind, however it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benches.ingest.__main__ import main
from benches.ingest.empty_reader import Empty
from benches.ingest.readers import Turn
from benches.ingest.report import Report
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker
from vmpulse_consumers.amqp_stream import ACK_EVERY

SMALL = ("benches.ingest", "--hosts=3", "--vms=4", "--ticks=200", "--rounds=2")


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_every_reader_takes_every_message(tmp_path: Path) -> None:
    """The last line is the report; a reader that got less would have ended the run with 1."""
    require_broker()
    report = completed(tmp_path, Report, *SMALL)
    assert (report.hosts, report.vms, report.rounds) == (3, 12, 2)
    assert (report.mix["frame"], report.mix["devices"], report.messages) == (600, 6, sum(report.mix.values()))
    assert set(report.us_per_message) == {"aio-pika", "channel", "view"}
    assert all(0 < cost < 10_000 for cost in report.us_per_message.values())
    assert report.ratio_to_empty_channel > 1
    assert len(report.ratios) == 2


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.long
def test_it_ends_with_everything_when_told(tmp_path: Path) -> None:
    """Told to end, it says no figures and is no success."""
    require_broker()
    assert_it_ends_when_told(tmp_path, signal.SIGTERM, "round 1", *SMALL, "--rounds=900")


async def test_an_empty_reader_acknowledges_every_message_once() -> None:
    """Many at a time, and the rest when it is time to."""
    settled: list[int] = []

    async def acknowledge(message: int) -> None:
        settled.append(message)

    empty = Empty(acknowledge)
    for number in range(ACK_EVERY * 2 + 3):
        await empty.callback(number)
    await empty.settle()
    await empty.settle()
    assert settled == [ACK_EVERY - 1, 2 * ACK_EVERY - 1, 2 * ACK_EVERY + 2]
    assert empty.came == ACK_EVERY * 2 + 3


def test_cost_is_of_one_message() -> None:
    """Microseconds of CPU time."""
    assert Turn(3_000_000, 20).us_per_message == 150.0


@pytest.mark.parametrize("option", ["--hosts=0", "--rounds=x", "--ticks=-1"])
def test_a_wrong_command_line_starts_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that is none, or out of its bounds, ends the program with 2 and names the option."""
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err
