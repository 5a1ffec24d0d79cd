"""Metrics of agents in Prometheus' formats: one collector for one agent, or for many over one link.

Nothing is kept up to date for a scrape: it reads what sessions, link and hypervisor count anyway. Scrapes run in
threads of their own, so only single values and copies of lists are read. docs/metrics.md says what each metric means.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from vmpulse_agent.measures import CALL_BOUNDS, LOOP_BOUNDS, MENDED, TICK_BOUNDS, Calls, LoopMeasure
from vmpulse_contract.errors import VERB_ERRORS
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb

if TYPE_CHECKING:
    from vmpulse_agent.amqp_link import AmqpLink
    from vmpulse_agent.host_agent import HostAgent

Key: TypeAlias = tuple[str, str]
Tally: TypeAlias = Mapping[Key, float]
"""Counters of hosts by metric and label's value."""

PREFIX: Final = "vmpulse_agent_"
TICK: Final = "tick_seconds"
LABELLED: Final = {
    "published": (
        "Messages published, by kind.",
        "kind",
        (Kind.FRAME, Kind.ROSTER, Kind.ROSTER_CHANGE, Kind.CHANGE, Kind.DEVICES),
    ),
    "looks": ("Looks at the hypervisor.", "result", ("taken", "late", "failed")),
    "section_flaps": (
        "Sections that read as they were before their last change.",
        "section",
        tuple(section.label for section in Section),
    ),
    "requests": ("Requests answered.", "verb", (*Verb, "unknown")),
    "requests_failed": ("Requests answered with an error.", "code", tuple(VERB_ERRORS)),
}
PLAIN: Final = {
    "published_bytes": "Bytes of the bodies published.",
    "frames_withheld": "Ticks whose frame nobody could be told of.",
    "changes_coalesced": "Changes of a section that went into one that was waiting.",
    "bodies_refused": "Section bodies that could not travel.",
}


class AgentCollector(Collector):
    """Adds up what agents count.

    An agent that is gone keeps its share of the counters, so that they never fall while others go on; the simulator
    restarts its agents. One that comes and goes between two scrapes is not counted.

    Args:
        agents: gives those that are at work now.
        link: the broker link that they share.
        calls: what calls to the hypervisor have cost, where that is measured.
        clock: seconds, the clock of the agents' event loop.
        loop: how long that loop was blocked, where that is measured.
    """

    def __init__(
        self,
        agents: Callable[[], Iterable[HostAgent]],
        link: AmqpLink,
        calls: Calls | None,
        clock: Callable[[], float],
        loop: LoopMeasure | None = None,
    ) -> None:
        self._agents = agents
        self._link = link
        self._calls = calls or Calls()
        self._clock = clock
        self._loop = loop or LoopMeasure()
        self._lock = threading.Lock()
        self._present: list[HostAgent] = []
        self._gone: defaultdict[Key, float] = defaultdict(float)

    def collect(self) -> Iterable[Metric]:
        """Give the metrics as of now."""
        hosts, tally = self._tallied()
        now = self._clock()
        yield InfoMetricFamily(f"{PREFIX}build", "The program that answers.", {"version": version("vmpulse")})
        yield from _host_gauges(hosts, now)
        yield _histogram(TICK, "From the start of a tick's look to its frame.", TICK_BOUNDS, tally)
        yield from _counters(tally)
        yield from self._of_the_link(now)
        yield from self._of_calls()
        yield from _of_the_loop(self._loop)

    def _tallied(self) -> tuple[list[HostAgent], Tally]:
        with self._lock:
            hosts = list(self._agents())
            for agent in set(self._present).difference(hosts):
                _add(self._gone, agent)
            self._present = hosts
            total = defaultdict(float, self._gone)
        for agent in hosts:
            _add(total, agent)
        return hosts, total

    def _of_the_link(self, now: float) -> Iterator[Metric]:
        link, counters = self._link, self._link.counters
        yield _gauge("broker_up", "Whether there is a connection to the broker.", link.connected)
        confirms = CounterMetricFamily(f"{PREFIX}confirms", "What the broker said to messages.", labels=["result"])
        confirms.add_metric(["taken"], counters.confirmed)
        confirms.add_metric(["refused"], counters.refused)
        yield confirms
        yield _counter("messages_lost", "Messages not confirmed when a connection ended.", counters.lost)
        yield _counter("reconnects", "Times that the agent set out to connect again.", link.reconnects)
        yield _counter(
            "broker_blocked_seconds", "Seconds in which the connected broker took nothing.", link.blocked_s(now)
        )

    def _of_calls(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(f"{PREFIX}libvirt_call_seconds", "Calls to libvirt.", labels=["call"])
        errors = CounterMetricFamily(f"{PREFIX}libvirt_call_errors", "Calls that failed.", labels=["call"])
        unanswered = CounterMetricFamily(
            f"{PREFIX}libvirt_calls_unanswered", "Calls that no answer came to in time.", labels=["call"]
        )
        for name, measure in sorted(self._calls.by_name.items()):
            counts = list(measure.durations.counts)
            seconds.add_metric([name], _buckets(CALL_BOUNDS, counts), measure.durations.total_s)
            errors.add_metric([name], measure.errors)
            unanswered.add_metric([name], measure.unanswered)
        mended = CounterMetricFamily(f"{PREFIX}input_mended", "Input that had to be mended.", labels=["kind"])
        for kind in MENDED:
            mended.add_metric([kind], self._calls.mended.by_kind[kind])
        yield from (seconds, errors, unanswered, mended)


def _add(total: defaultdict[Key, float], agent: HostAgent) -> None:
    for key, value in _tally(agent):
        total[key] += value


def _tally(agent: HostAgent) -> Iterator[tuple[Key, float]]:
    """What one agent has counted since its start."""
    counted, measures = agent.session.counters, agent.measures
    yield ("published", Kind.FRAME), counted.frames
    yield ("published", Kind.ROSTER), counted.rosters
    yield ("published", Kind.ROSTER_CHANGE), counted.roster_changes
    yield ("published", Kind.CHANGE), counted.changes
    yield ("published", Kind.DEVICES), counted.devices
    yield ("published_bytes", ""), counted.bytes_published
    yield ("frames_withheld", ""), counted.frames_withheld
    yield ("changes_coalesced", ""), counted.coalesced
    yield ("bodies_refused", ""), counted.bodies_refused
    for section in Section:
        yield ("section_flaps", section.label), counted.flaps[section]
    yield ("looks", "taken"), counted.looks
    yield ("looks", "late"), counted.looks_late
    yield ("looks", "failed"), counted.looks_failed
    for name, by in (("requests", measures.requests), ("requests_failed", measures.requests_failed)):
        for label, value in list(by.items()):
            yield (name, label), value
    for bucket, value in enumerate(list(measures.ticks.counts)):
        yield (TICK, str(bucket)), value
    yield (TICK, "sum"), measures.ticks.total_s


def _host_gauges(hosts: list[HostAgent], now: float) -> Iterator[Metric]:
    rows = [row for agent in hosts for row in list(agent.session.ledger.order)]
    active = sum(row.token != 0 for row in rows)
    vms = GaugeMetricFamily(f"{PREFIX}vms", "VMs, by whether they run.", labels=["state"])
    vms.add_metric(["active"], active)
    vms.add_metric(["inactive"], len(rows) - active)
    yield vms
    yield _gauge("hosts", "Hosts that this process speaks for.", len(hosts))
    yield _gauge(
        "hung_vms", "VMs whose monitor does not answer now.", sum(row.silent_since is not None for row in rows)
    )
    yield _gauge("vms_refused", "VMs that nobody is told of.", sum(a.session.counters.vms_refused for a in hosts))
    yield _gauge("changes_unconfirmed", "Changes not confirmed yet.", sum(a.session.changes.unconfirmed for a in hosts))
    away = any(agent.measures.away_since is not None for agent in hosts)
    yield _gauge("hypervisor_up", "Whether there is a connection to the hypervisor.", not away)
    ages = [now - agent.session.looked_at for agent in hosts if agent.session.ready]
    age = GaugeMetricFamily(f"{PREFIX}look_age_seconds", "Seconds since the last good look began.")
    if ages:
        age.add_metric([], max(ages))
    yield age


def _of_the_loop(loop: LoopMeasure) -> Iterator[Metric]:
    blocked = HistogramMetricFamily(f"{PREFIX}loop_blocked_seconds", "Rounds of the event loop, less waits for a CPU.")
    blocked.add_metric([], _buckets(LOOP_BOUNDS, list(loop.blocked.counts)), loop.blocked.total_s)
    yield blocked
    yield _gauge("loop_blocked_seconds_max", "The longest of these rounds.", loop.blocked_most_s)
    yield _counter(
        "loop_starved_seconds", "Seconds that the event loop was ready to run without a CPU.", loop.starved_s
    )
    yield _gauge("loop_starved_seconds_max", "The longest such wait in one round.", loop.starved_most_s)


def _counters(tally: Tally) -> Iterator[Metric]:
    for name, (words, label, expected) in LABELLED.items():
        family = CounterMetricFamily(PREFIX + name, words, labels=[label])
        # What has not happened is 0, so that rates begin with the first event.
        for value in expected:
            family.add_metric([str(value)], tally.get((name, value), 0))
        yield family
    for name, words in PLAIN.items():
        yield _counter(name, words, tally.get((name, ""), 0))


def _histogram(name: str, words: str, bounds: tuple[float, ...], tally: Tally) -> Metric:
    counts = [tally.get((name, str(bucket)), 0) for bucket in range(len(bounds) + 1)]
    family = HistogramMetricFamily(PREFIX + name, words)
    family.add_metric([], _buckets(bounds, counts), tally.get((name, "sum"), 0.0))
    return family


def _buckets(bounds: tuple[float, ...], counts: Iterable[float]) -> list[tuple[str, float]]:
    """Add the buckets up, as Prometheus wants them."""
    return list(zip((*map(str, bounds), "+Inf"), accumulate(counts), strict=True))


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, words, float(value))


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, words, value)
