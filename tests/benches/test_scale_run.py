"""The scale bench as its user runs it, and what it concludes from what it has seen."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benches.scale.__main__ import main
from benches.scale.report import Report, Stage, missed, percentile
from benches.scale.watched_view import BINS, ages
from tests.benches.running import assert_it_ends_when_told, completed
from tests.conftest import require_broker
from vmpulse_consumers.view import View
from vmpulse_consumers.view.host import Host
from vmpulse_contract.identity import host_id

SMALL = (
    *("benches.scale", "--hosts=6", "--vms=3", "--small=2", "--ladder=4"),
    *("--seconds=3", "--stage-seconds=1", "--settled=0.5"),
)


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_small_fleet_grows_and_holds(tmp_path: Path) -> None:
    """No tick is missed, ages are those of the cadence, and the sizes are the wanted ones, in order."""
    require_broker()
    report = completed(tmp_path, Report, *SMALL)
    assert [stage.hosts for stage in report.stages] == [2, 2, 4, 6]
    assert [stage.tick_s for stage in report.stages] == [1.0, 3.0, 3.0, 3.0]
    assert (report.hosts, report.vms, report.largest_held) == (6, 18, 6)
    assert (report.missed_ticks, report.seconds >= 3) == (0, True)
    assert report.age_p50_s is not None
    assert report.age_p99_s is not None
    assert 0 < report.age_p50_s <= report.age_p99_s < 6
    assert report.stages[-1].messages >= 4


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.long
def test_it_ends_with_everything_when_told(tmp_path: Path) -> None:
    """Told to end, it says no figures and is no success."""
    require_broker()
    assert_it_ends_when_told(tmp_path, signal.SIGTERM, '"hosts":2', *SMALL, "--seconds=900")


def test_a_percentile_is_the_end_of_its_bin() -> None:
    """Over all looks together; what is beyond the last bin counts too, and nothing counted is no age."""
    assert percentile([[9, 0, 0], [0, 90, 0], [0, 0, 1]], 0.5) == 0.2
    assert percentile([[9, 0, 0], [0, 90, 0], [0, 0, 1]], 0.99) == 0.2
    assert percentile([[9, 0, 0], [0, 90, 0], [0, 0, 1]], 1.0) == 0.3
    assert percentile([[0, 0]], 0.99) is None


def test_ages_are_of_values_and_not_of_frames_alone() -> None:
    """A VM whose values were old in the frame is as much older; one that nobody has heard of is as old as can be."""
    view = View(0.0)
    host = Host(host_id("h1"), view.runtime.allocate(3), 0.0)
    view.runtime.stats_age[host.block.start : host.block.start + 3] = np.array([0, 25, 0xFFFF_FFFF])
    assert ages(view, [host], 10.0)[-1] == 3
    host.offset, host.offset_at, host.frame_ms = 5.0, 10.0, 3950
    counted = ages(view, [host], 10.0)
    assert [at for at, count in enumerate(counted) if count] == [10, 35]
    assert len(counted) == BINS


def test_goals_are_named_that_were_missed() -> None:
    """Each by its key; a fleet that did not become as large as wanted is one."""
    stage = Stage(
        hosts=10,
        vms=400,
        seconds=60.0,
        tick_s=3.0,
        messages=200,
        missed_ticks=0,
        age_p50_s=1.6,
        age_p99_s=3.0,
        backlog_max=0,
        view_us_per_message=100.0,
        cpu={"view": 0.8},
        asked=0,
        events=0,
        load_late_s=0.0,
    )
    good = Report(
        hosts=10,
        vms=400,
        seconds=60.0,
        missed_ticks=0,
        age_p50_s=1.6,
        age_p99_s=3.0,
        backlog_max=0,
        view_us_per_message=100.0,
        bytes_per_vm=1500,
        runtime_bytes_per_vm=20.0,
        cost_growth=1.1,
        cost_growth_per_tick=0.9,
        small_hosts=2,
        largest_held=10,
        meeting_s=1.0,
        load_average=0.1,
        stages=[stage],
        goals_missed=(),
    )
    assert missed(good, 10) == ()
    assert missed(good, 20) == ("hosts",)
    bad = msgspec.structs.replace(
        good, missed_ticks=1, age_p99_s=None, bytes_per_vm=1537, runtime_bytes_per_vm=65, cost_growth=1.11
    )
    assert missed(bad, 10) == ("missed_ticks", "age_p99_s", "bytes_per_vm", "runtime_bytes_per_vm", "cost_growth")
    assert stage.holds
    assert stage.us_per_vm_tick == pytest.approx(6000)
    assert not msgspec.structs.replace(stage, missed_ticks=1).holds
    assert not msgspec.structs.replace(stage, age_p99_s=6.1).holds


@pytest.mark.parametrize("option", ["--hosts=0", "--ladder=1,x", "--seconds=x"])
def test_a_wrong_command_line_starts_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that is none, or out of its bounds, ends the program with 2 and names the option."""
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err
