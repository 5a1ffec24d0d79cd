"""What a soak lets pass, and what not, by reports made by hand."""

from __future__ import annotations

import msgspec
import pytest

from benches.soak.endings import worst
from benches.soak.gauges import Sample, told
from benches.soak.judging import END_S, FEWEST_TICKS, LOG_BYTES_PER_HOUR, MISSED_PERCENT, SLOPE_PERCENT, judged
from benches.soak.report import Ending, Peaks, Process, Queue, Readers, Report

WELL = Process(
    rss_mib=50.0,
    rss_end_mib=50.2,
    slope_percent=0.4,
    open_files=Peaks(20, 20),
    threads=Peaks(5, 5),
    log_bytes_per_hour=1000,
)
READERS = Readers(scrapes=100, scrapes_failed=0, events={"vm.status": 3}, events_missed=0, streams=1)
ENDED = Ending("view", 0.2, 0)


def report(process: Process = WELL, readers: Readers = READERS, ending: Ending = ENDED) -> Report:
    """A report of a long run in which nothing else is wrong."""
    return Report(
        minutes=20.0,
        tick_s=0.5,
        seed=1,
        hosts=20,
        vms=200,
        domains=4,
        warm_up=0.25,
        ticks=2400,
        judged_ticks=1800,
        processes={"view": process},
        others={},
        queue=Queue(3, 4, 40),
        missed_ticks={"agent": 0.1},
        gaps=0,
        rejected=0,
        wrong=0,
        truth_s=2.0,
        readers=readers,
        endings=(ending,),
        happened={},
    )


def failed(report: Report) -> list[str]:
    """The names of what fails of a report."""
    return [failure.partition(":")[0] for failure in judged(report).failed]


def test_a_run_in_which_nothing_is_wrong_fails_in_nothing() -> None:
    """Whatever is within its bound holds, and all that was held to one is named."""
    found = judged(report())
    assert found.failed == ()
    assert {"view memory % per 1,000 ticks", "queue growth", "wrong", "view seconds to end"} <= set(found.judged)


@pytest.mark.parametrize(
    "what, change",
    [
        ("view memory % per 1,000 ticks", {"slope_percent": SLOPE_PERCENT + 0.01}),
        ("view open files growth", {"open_files": Peaks(20, 23)}),
        ("view threads growth", {"threads": Peaks(5, 8)}),
        ("view log bytes per hour", {"log_bytes_per_hour": LOG_BYTES_PER_HOUR + 1}),
    ],
)
def test_a_process_that_grows_fails(what: str, change: dict[str, object]) -> None:
    """Each growth beyond its bound fails by its name, and nothing else does."""
    assert failed(report(msgspec.structs.replace(WELL, **change))) == [what]


def test_growth_is_not_judged_over_few_ticks() -> None:
    """A run of a minute tells growth and missed ticks and does not judge them; the log is judged all the same."""
    grown = msgspec.structs.replace(WELL, slope_percent=9.0, threads=Peaks(2, 9), log_bytes_per_hour=1 << 30)
    short = msgspec.structs.replace(report(grown), judged_ticks=FEWEST_TICKS - 1, missed_ticks={"agent": 3.0})
    assert failed(short) == ["view log bytes per hour"]
    assert "view threads growth" not in judged(short).judged
    assert len(failed(msgspec.structs.replace(short, judged_ticks=FEWEST_TICKS))) == 4


@pytest.mark.parametrize(
    "what, change",
    [
        ("queue growth", {"queue": Queue(3, 24, 40)}),
        ("agent missed ticks %", {"missed_ticks": {"agent": MISSED_PERCENT + 0.01}}),
        ("gaps", {"gaps": 1}),
        ("rejected", {"rejected": 1}),
        ("wrong", {"wrong": 1}),
    ],
)
def test_each_fault_of_the_whole_fails(what: str, change: dict[str, object]) -> None:
    """A queue that grows by more than the hosts say in a tick, ticks that are missed, and any fault of the view."""
    assert failed(msgspec.structs.replace(report(), **change)) == [what]


@pytest.mark.parametrize(
    "what, change",
    [
        ("host.lost", {"events": {"host.lost": 1}}),
        ("events missed", {"events_missed": 1}),
        ("scrapes failed", {"scrapes_failed": 1}),
        ("event streams", {"streams": 2}),
    ],
)
def test_readers_are_never_let_down(what: str, change: dict[str, object]) -> None:
    """A host that is lost, an event or a scrape that does not come, or a stream that ends, fails."""
    assert failed(report(readers=msgspec.structs.replace(READERS, **change))) == [what]


@pytest.mark.parametrize(
    "what, ending",
    [
        ("view seconds to end", Ending("view", END_S + 0.1, 0)),
        ("view exit code", Ending("view", 0.1, 1)),
        ("view exit code", Ending("view", 0.1, -9)),
        ("view not drained", Ending("view", 0.1, 0, drained=False)),
    ],
)
def test_who_ends_badly_fails(what: str, ending: Ending) -> None:
    """An end that takes too long, has another exit code than 0, or leaves last words unheard, fails."""
    assert failed(report(ending=ending)) == [what]


def test_of_many_ends_the_worst_is_told() -> None:
    """The slowest, the farthest exit code, and whether any was not drained, of all together."""
    ends = [Ending("", 0.1, 0, drained=True), Ending("", 0.3, 0, drained=True), Ending("", 0.2, -9, drained=False)]
    assert worst("all", ends) == Ending("all", 0.3, -9, drained=False)
    assert worst("all", ends[:2]) == Ending("all", 0.3, 0, drained=True)


def test_what_is_kept_of_the_past_is_no_growth() -> None:
    """Memory that grows as the bounded history does has a slope of 0 without it, and its own with it."""
    kept = [number / 100 for number in range(0, 200, 5)]
    samples = [Sample(each, each * 1000, 50 + each, 20, 5, 0, each) for each in kept]
    found = told(samples)
    assert found.slope_percent == pytest.approx(0.0)
    assert found.raw_slope_percent == pytest.approx(2.0, rel=0.02)


def test_what_was_measured_is_told_by_thirds() -> None:
    """Memory by medians, open files and threads by peaks, and the log by the hour, of a minute of samples."""
    samples = [Sample(10.0 * each, 20.0 * each, 50.0 + each % 2, 20 + (each == 5), 5, 100 * each) for each in range(7)]
    assert told(samples) == Process(
        rss_mib=50.5,
        rss_end_mib=50.5,
        slope_percent=0.0,
        open_files=Peaks(20, 21),
        threads=Peaks(5, 5),
        log_bytes_per_hour=36_000,
    )
