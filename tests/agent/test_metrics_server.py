"""The agent's HTTP address: metrics, health, and strangers."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from tests.agent.test_metrics import families, nowhere
from tests.real_broker import agent_of, simulated_host
from tests.waiting import eventually
from vmpulse_agent import health, metrics_server
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.errors import PortTaken
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.metrics_server import CONNECTIONS, MetricsServer
from vmpulse_contract.identity import HostId


@pytest.fixture
async def agent() -> HostAgent:
    """An agent that has just looked."""
    agent = agent_of(simulated_host("h1"), nowhere())
    agent.session.looked(await agent.hypervisor.look(), time.monotonic())
    agent.session.begin(time.monotonic())
    return agent


@pytest.fixture
def server(agent: HostAgent, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsServer]:
    """Its server, which ends soon."""
    monkeypatch.setattr(metrics_server, "POLL_S", 0.02)
    with MetricsServer("127.0.0.1", 0, lambda: [agent], link_of(agent)) as started:
        yield started


def link_of(agent: HostAgent) -> AmqpLink:
    """The agent's link."""
    assert isinstance(agent.publisher, AmqpLink)
    return agent.publisher


async def get(server: MetricsServer, path: str, **headers: str) -> httpx.Response:
    """Fetch one page."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=5) as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain; version=x.y", "*/*"])
async def test_any_preference_gets_metrics(server: MetricsServer, accept: str) -> None:
    """Whatever a scraper says of its preferences, it gets metrics; one that prefers OpenMetrics gets that."""
    reply = await get(server, "/metrics", accept=accept)
    assert reply.status_code == 200
    assert "vmpulse_agent_vms{" in reply.text
    assert "process_cpu_seconds_total" in reply.text
    if "openmetrics" in accept:
        assert {family.name for family in families(reply.text)} >= {"vmpulse_agent_vms", "vmpulse_agent_tick_seconds"}


async def test_healthz_says_why_not(server: MetricsServer, agent: HostAgent) -> None:
    """All well is 200 and ``ok``; a broker or hypervisor that is away, or a stuck sampler, is 503 and a line each."""
    reply = await get(server, "/healthz")
    assert (reply.status_code, reply.text) == (200, "ok\n")
    now = time.monotonic()
    link_of(agent).away_since = now - 30
    agent.measures.away_since, agent.measures.away_why = now - 20, "the daemon\nhas closed"
    agent.measures.advanced_at = now - 60
    reply = await get(server, "/healthz")
    assert reply.status_code == 503
    broker, stuck, away = reply.text.splitlines()
    assert broker.startswith("broker: no connection to amqp://h@127.0.0.1:1/ for 30 s")
    assert stuck == "host h1: the sampler has been stuck for 60 s"
    assert away == "host h1: the hypervisor has been away for 20 s: the daemon has closed"


async def test_failing_looks_are_not_a_stuck_sampler(agent: HostAgent) -> None:
    """Looks that fail tick by tick leave the sampler alive, and are a reason of their own."""
    now = time.monotonic()
    later = now + 60
    agent.measures.advanced_at = later
    assert health.advancing(agent, later)
    assert health.reasons([agent], link_of(agent), later) == ["host h1: no look has succeeded for 60 s"]


async def test_reasons_of_a_fleet_are_bounded() -> None:
    """Of many hosts in trouble the first are named; one host that starts does not make a fleet unwell."""
    agents = [agent_of(simulated_host(f"h{number}"), nowhere()) for number in range(30)]
    now, link = time.monotonic(), nowhere()
    assert health.reasons(agents, link, now) == ["starting: no first look is in, or the broker has not admitted us yet"]
    agents[0].session.begin(now)
    assert health.reasons(agents, link, now) == []
    for agent in agents:
        agent.measures.away_since = now
    shown = health.reasons(agents, link, now)
    assert len(shown) == health.REASONS_SHOWN + 1
    assert shown[-1] == "and 10 more"


async def test_blocked_broker_is_a_reason(agent: HostAgent) -> None:
    """A broker that is connected and takes nothing is named in health and status line, and its time is counted."""
    link = link_of(agent)
    await link.attach(agent)
    flow = link._flows[HostId("h1")]
    flow.up, flow.admitted = True, True
    now = time.monotonic()
    flow.in_flight[1] = now - 60
    link._judge(flow, now)
    assert health.reasons([agent], link, now) == ["broker: connected, but it takes nothing from h1"]
    assert "takes nothing from h1" in health.status_line([agent], link, now)
    assert link.blocked_s(now + 4) == pytest.approx(4)
    link._down()
    assert link.blocked_hosts() == []
    assert link.counters.blocked_s > 0


async def test_blocked_time_never_falls(agent: HostAgent) -> None:
    """Read by another thread while it ends and begins again and again, it only grows; a host that goes leaves its."""
    link = link_of(agent)
    await link.attach(agent)
    flow, told, done = link._flows[HostId("h1")], [0.0], threading.Event()

    def scrape() -> None:
        while not done.is_set():
            told.append(link.blocked_s(time.monotonic()))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    scraping = threading.Thread(target=scrape)
    try:
        scraping.start()
        for _ in range(3000):
            flow.blocked_since = time.monotonic()
            link._unblock(flow)
    finally:
        done.set()
        scraping.join()
        sys.setswitchinterval(interval)
    assert all(earlier <= later for earlier, later in pairwise(told))
    flow.blocked_since = time.monotonic() - 60
    await link.detach(agent)
    assert link.counters.blocked_s >= 60


@pytest.mark.parametrize("path", ["/", "/metrics/x", "/favicon.ico"])
async def test_other_paths_are_not_found(server: MetricsServer, path: str) -> None:
    """There are two pages, and the answer to any other names them."""
    reply = await get(server, path)
    assert (reply.status_code, reply.text) == (404, "here are /metrics and /healthz\n")


async def test_taken_port_is_one_clear_error(server: MetricsServer) -> None:
    """A port that is in use, or an address that is not ours, raises one line with the remedy."""
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(PortTaken, match=f"127.0.0.1:{port}: Address already in use; stop the program .* metrics_port"):
        MetricsServer("127.0.0.1", port, list, nowhere())
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1:0: Cannot assign requested address"):
        MetricsServer("192.0.2.1", 0, list, nowhere())


async def test_silent_strangers_are_hung_up_on(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and says nothing holds one of a few places for a limited time; the agent's loop notices nothing."""
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    strangers = [socket.create_connection(address) for _ in range(CONNECTIONS)]
    try:
        await eventually(lambda: len(server._server._open) == CONNECTIONS)
        with pytest.raises(httpx.TransportError):
            await get(server, "/healthz")
        monkeypatch.setattr(metrics_server, "REQUEST_S", 0.0)
        for stranger in strangers:
            stranger.settimeout(5)
            assert await asyncio.to_thread(stranger.recv, 1) == b""
        monkeypatch.undo()
        await eventually(lambda: not server._server._open)
        assert (await get(server, "/healthz")).status_code == 200
    finally:
        for stranger in strangers:
            stranger.close()


async def test_faults_of_ours_cost_one_reply(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that cannot be made is 500 and a line in the log; the next one is served."""

    def broken(*_: object) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(health, "reasons", broken)
    assert (await get(server, "/healthz")).status_code == 500
    assert "was not answered" in caplog.text
    assert (await get(server, "/metrics")).status_code == 200
