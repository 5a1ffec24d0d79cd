"""What a soak has found, as its one line of JSON tells it. No I/O and no clock."""

from __future__ import annotations

from msgspec import Struct


class Peaks(Struct, frozen=True):
    """The most of the first and of the last third of a series, after the warm-up."""

    first: int
    last: int


class Process(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process held.

    ``rss_mib`` after the warm-up and ``rss_end_mib`` are medians over the first and last third of what came then.
    ``slope_percent``: of resident memory in 1,000 ticks; None: too few measures. ``log_bytes_per_hour`` after the
    warm-up. ``history_mib``: what it keeps of the past on purpose and within bounds, at the end; the slope is that of
    the rest, and ``raw_slope_percent`` is with it.
    """

    rss_mib: float
    rss_end_mib: float
    slope_percent: float | None
    open_files: Peaks
    threads: Peaks
    log_bytes_per_hour: int
    history_mib: float = 0.0
    raw_slope_percent: float | None = None


class Queue(Struct, frozen=True):
    """The view's queue: the medians of the first and last third after the warm-up, and the most."""

    first: float
    last: float
    most: int


class Ending(Struct, frozen=True):
    """One process that was told to end by SIGTERM, while everything else went on: how long it took, and its exit code.

    ``drained``: the view saw the last word of its hosts; None for what says none, or when there is no view any more.
    """

    name: str
    seconds: float
    code: int
    drained: bool | None = None


class Readers(Struct, frozen=True, kw_only=True):
    """Those who read the view. ``events`` by type; ``events_missed``: by their numbers; ``streams``: times it began."""

    scrapes: int
    scrapes_failed: int
    events: dict[str, int]
    events_missed: int
    streams: int


class Report(Struct, frozen=True, kw_only=True):
    """What a run has found.

    ``ticks``: looks of a host that was at work all the time, ``judged_ticks`` of them after the warm-up, which is the
    share ``warm_up`` of the run. ``processes`` are ours; ``others``, told and not judged, those that they need.
    ``missed_ticks``: of a hundred that were due, by process, of agents that were at work all the time. ``wrong``: VMs
    and hosts that the view still had wrong ``truth_s`` seconds after all changes stopped. ``gaps``: messages that never
    came to the view. ``happened``: what has been done to VMs and agents. ``judged``: what was held to its bound;
    ``failed``: what was beyond it.
    """

    minutes: float
    tick_s: float
    seed: int
    hosts: int
    vms: int
    domains: int
    warm_up: float
    ticks: int
    judged_ticks: int
    processes: dict[str, Process]
    others: dict[str, Process]
    queue: Queue
    missed_ticks: dict[str, float]
    gaps: int
    rejected: int
    wrong: int
    truth_s: float
    readers: Readers
    endings: tuple[Ending, ...]
    happened: dict[str, int]
    judged: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
