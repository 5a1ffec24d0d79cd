"""Comparisons of the rates of devices, their extremes among them; see field_comparisons.

When the agent took the samples within an interval it does not tell; that they are DEVICE_S apart is its setting. So its
extremes lie between those of all spans of that length, as the log of counters bounds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Final, NamedTuple

from tests.lab.field_comparisons import COMPARISONS, Between, Comparison, Pair, compares
from tests.lab.field_details import DEVICE_S, each
from tests.lab.field_log import LATE_S, SAMPLE_S, Reading
from tests.lab.field_readings import Seen
from tests.lab.lab import Row

RATE_GRAIN: Final = 1.0
"""Rates are rounded to whole numbers."""
INTERVAL_GRAIN_S: Final = 0.001
"""The interval is rounded, and so its rates are a little off over what it says."""
FIRST_S: Final = 1.0
"""The same between the first samples of all, for new VMs are not waited with."""
FIRST_SAMPLES_S: Final = 6 * DEVICE_S
STEP_S: Final = 0.1
"""Spans are tried so far from each other."""
JITTER_S: Final = 0.5
"""Samples come so regularly: one that a busy monitor passed over is taken 0.25 s later."""
EDGE: Final = 4.0
"""What a span's ends cut off the log's readings may make its operations look so much quicker or slower."""

Bounds = tuple[float, float]


class Rate(NamedTuple):
    """What of a rate must be: ``least`` and ``most`` for its extremes."""

    mean: Bounds
    least: Bounds
    most: Bounds

    def pairs(self, record: Row, name: str, extreme: str, grain: float) -> Iterator[Pair]:
        """Compare the mean, or an extreme, which lies on its own side of the mean."""
        suffix = extreme.lstrip("_").lower()
        low, high = {"": self.mean, "min": self.least, "max": self.most}[suffix]
        slack = grain + INTERVAL_GRAIN_S * high
        yield record[f"{name}{extreme}"], Between(low - slack, high + slack)
        if suffix:
            sign = 1 if suffix == "max" else -1
            yield sign * (record[f"{name}{extreme}"] - record[name]), Between(0, float("inf"))


def _span(seen: Seen) -> tuple[float, float]:
    return seen.sampled - seen.devices["interval"], seen.sampled


def _is_first(seen: Seen) -> bool:
    began: float = seen.expected["agent_started"]
    return _span(seen)[0] < began + FIRST_SAMPLES_S


# --- by time --------------------------------------------------------------------------------------------------------


def _by_time(seen: Seen, counter: str) -> Rate:
    begin, end = _span(seen)
    # A single span is the interval itself.
    length, jitter = (DEVICE_S, JITTER_S) if end - begin > 1.5 * DEVICE_S else (end - begin, 0.0)
    if _is_first(seen):
        length, jitter = FIRST_S, JITTER_S
    lows, highs = [], []
    for number in range(int((end - begin - length) / STEP_S + 1e-6) + 1):
        latest = begin + (number + 1) * STEP_S
        # A span that is shorter may lie wholly where this one does only in part.
        low, high = seen.log.growth(seen.vm, counter, latest, latest + length, STEP_S + jitter)
        lows.append(low / (length + jitter))
        highs.append(high / length)
    low, high = seen.log.growth(seen.vm, counter, begin, end)
    mean = low / (end - begin), high / (end - begin)
    return Rate(mean, (min(lows), mean[1]), (mean[0], max(highs)))


def _regular(seen: Seen, counter: str, rate: Rate) -> Rate:
    """Counters of cards are never kept from the agent, so their samples come regularly: each span is known."""
    begin, end = _span(seen)
    count = round((end - begin) / DEVICE_S)
    if _is_first(seen) or not count or abs(end - begin - count * DEVICE_S) > JITTER_S:
        return rate
    length = (end - begin) / count
    jitter = JITTER_S if count > 1 else 0.0
    edges = [begin + number * length + jitter for number in range(count + 1)]
    spans = [seen.log.growth(seen.vm, counter, first, last, 2 * jitter) for first, last in pairwise(edges)]
    least = min(high for _, high in spans) / (length - jitter)
    most = max(low for low, _ in spans) / (length + jitter)
    return rate._replace(least=(rate.least[0], least), most=(most, rate.most[1]))


def _rates(group: str, name: str, counter: str) -> None:
    def comparison(extreme: str) -> Comparison:
        def compare(seen: Seen) -> Iterator[Pair]:
            for device, record in each(group, seen):
                rate = _by_time(seen, f"{device}.{counter}")
                if group == "network":
                    rate = _regular(seen, f"{device}.{counter}", rate)
                yield from rate.pairs(record, name, extreme, RATE_GRAIN)

        return compare

    for extreme in ("", "Min", "Max"):
        compares(group, f"{name}{extreme}")(comparison(extreme))


_rates("disks", "readRate", "rd_bytes")
_rates("disks", "writeRate", "wr_bytes")
_rates("network", "rxRate", "rx")
_rates("network", "txRate", "tx")


# --- by the reports of the balloon driver ---------------------------------------------------------------------------


class Told(NamedTuple):
    """What the guest's balloon driver had counted when it reported, in seconds since 1970."""

    at: int
    amount: int


def _told(readings: list[Reading], counters: tuple[str, ...]) -> list[Told]:
    """The reports in some readings, in their order; before its first report the driver gives no counters."""
    names = [f"memory.{counter}" for counter in counters]
    given = [one.values for one in readings if all(name in one.values for name in names)]
    return list(dict.fromkeys(Told(one["memory.last_update"], sum(one[name] for name in names)) for one in given))


def _by_reports(seen: Seen, counters: tuple[str, ...]) -> Rate:
    """Of the reports that the first and the last sample saw; its extremes lie between those of any two reports."""
    begin, end = _span(seen)
    every = _told(seen.log.around(seen.vm, begin, end + SAMPLE_S), counters)
    anew = next((i + 1 for i, (one, other) in enumerate(pairwise(every)) if other.amount < one.amount), 0)
    if anew:
        # The guest has begun to count anew, and the rate is of the time since: when that began is not told.
        firsts = lasts = every = every[anew:]
    else:
        firsts, lasts = (_told(seen.log.around(seen.vm, at, at + SAMPLE_S), counters) for at in (begin, end))
    means = [_between(one, other) for one in firsts for other in lasts if other.at > one.at]
    if not means or set(firsts) & set(lasts):
        # It may not have reported between the two.
        means.append(0.0)
    spans = [_between(one, other) for one, other in combinations(every, 2) if other.at > one.at] or [0.0]
    mean = min(means), max(means)
    return Rate(mean, (min(*spans, *mean), mean[1]), (mean[0], max(*spans, *mean)))


def _between(one: Told, other: Told) -> float:
    return (other.amount - one.amount) / (other.at - one.at)


def _memory_rates(name: str, *counters: str) -> None:
    def comparison(extreme: str) -> Comparison:
        def compare(seen: Seen) -> Iterator[Pair]:
            record, rate = seen.devices["memoryStats"], _by_reports(seen, counters)
            if f"{name}{extreme}" not in record and rate.mean[0] <= 0:
                # Absent where the driver may not have reported twice.
                yield None, None
            else:
                yield from rate.pairs(record, name, extreme, RATE_GRAIN)

        return compare

    for extreme in ("", "_min", "_max"):
        compares("memoryStats", f"{name}{extreme}")(comparison(extreme))


_memory_rates("swap_in", "swap_in")
_memory_rates("swap_out", "swap_out")
_memory_rates("majflt", "major_fault")
_memory_rates("minflt", "minor_fault")
_memory_rates("pageflt", "major_fault", "minor_fault")


# --- by operations --------------------------------------------------------------------------------------------------


def _by_operations(seen: Seen, device: str, spent: str, operations: str) -> Rate:
    """Time by operations over the interval; its extremes lie between those of all readings that follow each other."""
    begin, end = _span(seen)
    spent, operations = f"{device}.{spent}", f"{device}.{operations}"
    readings = [one.values for one in seen.log.around(seen.vm, begin, end + LATE_S)]
    grown = [(last[spent] - one[spent], last[operations] - one[operations]) for one, last in pairwise(readings)]
    each_ns = [time / count for time, count in grown if count] or [0.0]
    low_ns, high_ns = seen.log.growth(seen.vm, spent, begin, end)
    fewest, most = seen.log.growth(seen.vm, operations, begin, end)
    if not fewest:
        # There may have been no operation at all.
        within = 0.0, max(each_ns) * EDGE
        return Rate(within, within, within)
    low, high = min(each_ns) / EDGE, max(each_ns) * EDGE
    return Rate((max(low, low_ns / most), min(high, high_ns / fewest)), (low, high), (low, high))


def _latencies(name: str, spent: str, operations: str) -> None:
    def comparison(extreme: str) -> Comparison:
        def compare(seen: Seen) -> Iterator[Pair]:
            for device, record in each("disks", seen):
                yield from _by_operations(seen, device, spent, operations).pairs(record, name, extreme, RATE_GRAIN)

        return compare

    for extreme in ("", "Min", "Max"):
        compares("disks", f"{name}{extreme}")(comparison(extreme))


_latencies("readLatency", "rd_total_times", "rd_operations")
_latencies("writeLatency", "wr_total_times", "wr_operations")
_latencies("flushLatency", "flush_total_times", "flush_operations")

ALL: Final = COMPARISONS
"""Complete here: the modules that register them build on each other, and this is the last."""
