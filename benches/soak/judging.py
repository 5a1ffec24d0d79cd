"""Which of the findings are beyond what they may be. No I/O and no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from benches.soak.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benches.soak.report import Ending, Process

SLOPE_PERCENT: Final = 1.0
"""Resident memory may grow by so much in 1,000 ticks."""
FEWEST_TICKS: Final = 1000
"""Over fewer ticks growth is told and not judged, for one step of the allocator makes a slope and pools fill; nor are
ticks that were missed, for a few are more than their share."""
FILES_MORE: Final = 2
"""A reader of the API and a question to a host may be at work at once, and were not so early on."""
THREADS_MORE: Final = 2
"""A pool starts its last thread when as much is asked at once for the first time; a leak would go on."""
LOG_BYTES_PER_HOUR: Final = 1 << 20
"""A log that says no more fits in 24 MiB a day."""
MISSED_PERCENT: Final = 1.0
"""Ticks are put off while a machine is too busy to look in time."""
END_S: Final = 2.0
"""So long a program may take from SIGTERM to its end."""


class Claim(NamedTuple):
    """One finding and the most that it may be."""

    name: str
    value: float
    most: float

    @property
    def holds(self) -> bool:
        """Whether it is within its bound."""
        return self.value <= self.most

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.4g}, bound {self.most:g}"


def judged(report: Report) -> Report:
    """Give the report with what was judged, and what of it has failed."""
    everything = list(claims(report))
    failed = tuple(str(claim) for claim in everything if not claim.holds)
    return msgspec.structs.replace(report, judged=tuple(claim.name for claim in everything), failed=failed)


def claims(report: Report) -> Iterator[Claim]:
    """Give all that is claimed of a run; some of it only where there were ticks enough."""
    for name, process in report.processes.items():
        yield from _of_process(name, process, report.judged_ticks)
    # At any moment some of what the hosts say in one tick is on its way.
    yield Claim("queue growth", report.queue.last - report.queue.first, report.hosts)
    if report.judged_ticks >= FEWEST_TICKS:
        for name, percent in report.missed_ticks.items():
            yield Claim(f"{name} missed ticks %", percent, MISSED_PERCENT)
    yield Claim("gaps", report.gaps, 0)
    yield Claim("rejected", report.rejected, 0)
    yield Claim("wrong", report.wrong, 0)
    yield Claim("host.lost", report.readers.events.get("host.lost", 0), 0)
    yield Claim("events missed", report.readers.events_missed, 0)
    yield Claim("scrapes failed", report.readers.scrapes_failed, 0)
    yield Claim("event streams", report.readers.streams, 1)
    for ending in report.endings:
        yield from _of_ending(ending)


def _of_process(name: str, process: Process, ticks: int) -> Iterator[Claim]:
    if process.slope_percent is not None and ticks >= FEWEST_TICKS:
        files, threads = process.open_files, process.threads
        yield Claim(f"{name} memory % per 1,000 ticks", process.slope_percent, SLOPE_PERCENT)
        yield Claim(f"{name} open files growth", files.last - files.first, FILES_MORE)
        yield Claim(f"{name} threads growth", threads.last - threads.first, THREADS_MORE)
    yield Claim(f"{name} log bytes per hour", process.log_bytes_per_hour, LOG_BYTES_PER_HOUR)


def _of_ending(ending: Ending) -> Iterator[Claim]:
    yield Claim(f"{ending.name} seconds to end", ending.seconds, END_S)
    yield Claim(f"{ending.name} exit code", abs(ending.code), 0)
    if ending.drained is not None:
        yield Claim(f"{ending.name} not drained", float(not ending.drained), 0)
