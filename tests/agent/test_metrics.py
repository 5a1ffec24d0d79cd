"""The agent's metrics, as their scrapers parse them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.agent.situations import A, B, C, down, look_at, tell, up
from tests.real_broker import agent_of, at_work, simulated_host
from tests.waiting import eventually
from vmpulse_agent import health
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.errors import HypervisorError, HypervisorTimeout
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.hypervisor import ConnectionBack, ConnectionLost
from vmpulse_agent.libvirt_edge.lanes import lanes
from vmpulse_agent.measures import Calls
from vmpulse_agent.metrics import AgentCollector
from vmpulse_agent.session import Counters
from vmpulse_contract import broker_url, wire
from vmpulse_contract.verbs import Request

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
SUFFIXES = {"counter": "_total", "info": "_info"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def nowhere() -> AmqpLink:
    """A link that is never run."""
    return AmqpLink(broker_url.parse("url", "amqp://h@127.0.0.1:1/"), "test")


def collector_of(agents: Iterable[HostAgent], calls: Calls | None = None) -> AgentCollector:
    """What collects them."""
    return AgentCollector(lambda: agents, nowhere(), calls, time.monotonic)


def samples(collector: AgentCollector) -> Samples:
    """All samples of one scrape, by name and labels, as a scraper reads them."""
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(generate_latest(registry).decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    }


def families(text: str) -> list[Metric]:
    """Parse the format strictly."""
    return list(parse_openmetrics(text))  # type: ignore[no-untyped-call]


def key(metric: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A sample's key."""
    return f"vmpulse_agent_{metric}", frozenset(labels.items())


async def test_each_metric_of_the_agent_is_documented() -> None:
    """Each metric has its row in docs/metrics.md with its type and labels, and each row there is of a metric."""
    calls = Calls()
    lanes(calls)
    agent = agent_of(simulated_host("h"), nowhere())
    page = DOCUMENTED.read_text(encoding="utf-8").partition("\n## The agent\n")[2]
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `vmpulse_agent_")]
    documented = {(row[0].strip(" `"), row[1].split()[0], row[2].strip(" `")) for row in rows}
    found = set()
    for family in collector_of([agent], calls).collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found.add((family.name + SUFFIXES.get(family.type, ""), family.type, "".join(labels)))
    assert found == documented


async def test_vms_are_counted_by_what_they_do() -> None:
    """Active, inactive and hung VMs are counted, and the age of the last good look grows."""
    agent = agent_of(simulated_host("h"), nowhere())
    session = agent.session
    now = session.started
    look_at(session, now, up(A), up(B)._replace(answered=False), down(C))
    session.begin(now)
    found = samples(collector_of([agent]))
    assert found[key("vms", state="active")] == 2
    assert found[key("vms", state="inactive")] == 1
    assert found[key("hung_vms")] == 1
    assert found[key("looks_total", result="taken")] == 1
    assert 0 <= found[key("look_age_seconds")] < 1
    assert found[key("hypervisor_up")] == 1
    assert found[key("broker_up")] == 0
    assert found[key("hosts")] == 1
    look_at(session, now + 1, up(A), up(B), down(C))
    assert samples(collector_of([agent]))[key("hung_vms")] == 0


async def test_what_was_counted_and_timed_is_told_as_it_is() -> None:
    """Each counter has its own sample, and each duration its bucket and its share of the sum, in seconds."""
    agent, calls = agent_of(simulated_host("h"), nowhere()), Calls()
    session = agent.session
    now = session.started
    look_at(session, now, up(A), up(B))
    session.connected(now)
    session.begin(now)
    for vm in (A, B):
        tell(session, vm, 7, now)
    session.counters = Counters(looks=11, looks_late=12, looks_failed=13, coalesced=14, frames=15, rosters=16)
    session.counters.roster_changes = 20
    session.counters.changes, session.counters.devices, session.counters.bytes_published = 17, 18, 19
    for seconds in (0.004, 0.005, 0.3, 7.0):
        agent.measures.ticks.add(seconds)
    for seconds in (0.002, 11.0):
        calls.of("look").durations.add(seconds)
    found = samples(collector_of([agent], calls))
    assert [found[key("looks_total", result=result)] for result in ("taken", "late", "failed")] == [11, 12, 13]
    kinds = ("frame", "roster", "rosterChange", "change", "devices")
    assert [found[key("published_total", kind=kind)] for kind in kinds] == [15, 16, 20, 17, 18]
    assert [found[key(name)] for name in ("changes_coalesced_total", "published_bytes_total")] == [14, 19]
    assert found[key("changes_unconfirmed")] == 2
    below = {"0.005": 2, "0.01": 2, "0.25": 2, "0.5": 3, "5.0": 3, "+Inf": 4}
    assert {le: found[key("tick_seconds_bucket", le=le)] for le in below} == below
    assert found[key("tick_seconds_sum")] == pytest.approx(7.309)
    below = {"0.001": 0, "0.005": 1, "10.0": 1, "+Inf": 2}
    assert {le: found[key("libvirt_call_seconds_bucket", le=le, call="look")] for le in below} == below
    assert found[key("libvirt_call_seconds_sum", call="look")] == pytest.approx(11.002)


async def test_what_a_host_does_is_counted() -> None:
    """Ticks are timed, frames that nobody can be told of are counted, and so are answers by verb and error."""
    hypervisor = simulated_host("h")
    agent = agent_of(hypervisor, nowhere(), tick_s=0.1)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.counters.frames_withheld >= 2)
        await agent.answer("list", wire.write(Request()), "engine.view")
        await agent.answer("list", b"junk", "engine.view")
        await agent.answer("nonsense", b"", "engine.view")
        found = samples(collector_of([agent]))
    assert found[key("frames_withheld_total")] >= 2
    assert found[key("tick_seconds_count")] >= 2
    assert found[key("tick_seconds_bucket", le="+Inf")] == found[key("tick_seconds_count")]
    assert found[key("tick_seconds_bucket", le="0.005")] <= found[key("tick_seconds_bucket", le="5.0")]
    assert found[key("requests_total", verb="list")] == 2
    assert found[key("requests_total", verb="unknown")] == 1
    assert found[key("requests_failed_total", code="bad_request")] == 1
    assert found[key("requests_failed_total", code="unknown_verb")] == 1
    assert found[key("requests_total", verb="getConfig")] == 0


async def test_hypervisor_that_is_away_is_told() -> None:
    """While the hypervisor is away that is shown, and why; when it is back it is up."""
    hypervisor = simulated_host("h")
    agent = agent_of(hypervisor, nowhere(), tick_s=0.1)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.ready)
        hypervisor._announce(ConnectionLost("the daemon has closed"))
        assert samples(collector_of([agent]))[key("hypervisor_up")] == 0
        (reason,) = health.reasons([agent], nowhere(), time.monotonic())
        assert reason == "host h: the hypervisor has been away for 0 s: the daemon has closed"
        hypervisor._announce(ConnectionBack())
        assert samples(collector_of([agent]))[key("hypervisor_up")] == 1


async def test_counters_never_fall_when_an_agent_goes() -> None:
    """The simulator's hosts come and go: what one that is gone has counted stays counted, once."""
    first, second = (agent_of(simulated_host(name), nowhere()) for name in ("a", "b"))
    first.session.counters.frames, second.session.counters.frames = 5, 7
    present = [first, second]
    collector = collector_of(present)
    frames = key("published_total", kind="frame")
    assert samples(collector)[frames] == 12
    present.remove(first)
    assert samples(collector)[frames] == 12
    assert samples(collector)[frames] == 12
    assert samples(collector)[key("hosts")] == 1


async def test_calls_are_measured_by_lane() -> None:
    """Calls to libvirt are timed by name; those that fail, and those without an answer in time, are counted."""

    def fail() -> None:
        raise HypervisorError("no")

    calls, release = Calls(), threading.Event()
    lane = lanes(calls).read
    await lane.run("well", lambda: None, 5)
    with pytest.raises(HypervisorError):
        await lane.run("badly", fail, 5)
    with pytest.raises(HypervisorTimeout):
        await lane.run("stuck", release.wait, 0.01)
    with pytest.raises(HypervisorTimeout, match="all of its 1 threads"):
        await lane.run("next", lambda: None, 5)
    release.set()
    await asyncio.sleep(0)
    lane.close()
    found = samples(collector_of([], calls))
    assert found[key("libvirt_call_seconds_count", call="read")] == 3
    assert found[key("libvirt_call_errors_total", call="read")] == 1
    assert found[key("libvirt_calls_unanswered_total", call="read")] == 2
    assert found[key("libvirt_call_seconds_count", call="guest")] == 0
