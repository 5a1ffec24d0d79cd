"""What processes hold, measured again and again from outside: memory, open files, threads, and what they log."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from benches import processes
from benches.soak import trends
from benches.soak.report import Peaks, Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Sample(NamedTuple):
    """One process at one moment. ``at``: seconds; ``ticks``: how many there had been.

    ``history_mib``: of its memory, what it keeps of the past on purpose, up to a bound of its own.
    """

    at: float
    ticks: float
    rss_mib: float
    open_files: int
    threads: int
    log_bytes: int
    history_mib: float = 0.0


class Source(NamedTuple):
    """Where to measure a process; without a log for those whose words are not ours. ``history_mib``: see `Sample`."""

    pid: int
    log: Path | None = None
    history_mib: float = 0.0


class Gauges:
    """The samples of all processes, by name."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = {}

    def measure(self, sources: Mapping[str, Source], at: float, ticks: float) -> None:
        """Take a sample of each."""
        for name, (pid, log, history_mib) in sources.items():
            held = processes.memory(pid)
            size = log.stat().st_size if log is not None else 0
            files, threads = processes.open_files(pid), int(held["threads"])
            sample = Sample(at, ticks, held["rss_mib"], files, threads, size, history_mib)
            self.samples.setdefault(name, []).append(sample)

    def report(self, name: str, warm_up: float) -> Process:
        """Tell what a process held after the warm-up, a share of the samples. Raises KeyError for one unmeasured."""
        return told(trends.settled(self.samples[name], warm_up))

    def line(self) -> str:
        """What each holds now, in MiB, for people."""
        return ", ".join(f"{name} {samples[-1].rss_mib:.1f}" for name, samples in self.samples.items())


def told(samples: Sequence[Sample]) -> Process:
    """Tell what a process held in a run of samples, one at least."""
    memory = [sample.rss_mib for sample in samples]
    begin, end = map(statistics.median, trends.thirds(memory))
    ticks = [sample.ticks for sample in samples]
    first, last = samples[0], samples[-1]
    return Process(
        rss_mib=round(begin, 1),
        rss_end_mib=round(end, 1),
        slope_percent=_slope(ticks, [sample.rss_mib - sample.history_mib for sample in samples]),
        history_mib=round(last.history_mib, 1),
        raw_slope_percent=_slope(ticks, memory) if last.history_mib else None,
        open_files=_peaks([sample.open_files for sample in samples]),
        threads=_peaks([sample.threads for sample in samples]),
        log_bytes_per_hour=round(trends.per_hour(first.log_bytes, last.log_bytes, last.at - first.at)),
    )


def _slope(ticks: Sequence[float], values: Sequence[float]) -> float | None:
    slope = trends.slope_percent(ticks, values)
    return None if slope is None else round(slope, 3)


def _peaks(values: Sequence[int]) -> Peaks:
    first, last = trends.thirds(values)
    return Peaks(max(first), max(last))
