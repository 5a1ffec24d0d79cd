"""The metrics, as their scrapers parse them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet, guest_id, large_fleet, run_twice
from vmpulse_consumers.http import build_app, exposition
from vmpulse_consumers.http.series import Snapshot
from vmpulse_consumers.view.host import Host
from vmpulse_contract.errors import WrongSender
from vmpulse_contract.identity import HostId, vm_text

DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(api: httpx.AsyncClient) -> Samples:
    """All samples of one scrape, by name and labels."""
    reply = await api.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(reply.text)
        for sample in family.samples
    }


def key(metric: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A sample's key."""
    return metric, frozenset(labels.items())


async def test_each_vm_has_its_values(api: httpx.AsyncClient) -> None:
    """Ratios are of one CPU and of the memory; values carry only the VM; the rest is in the info metric."""
    found, vm = await scrape(api), vm_text(guest_id(4))
    assert found[key("vmpulse_vm_cpu_user_ratio", vm=vm)] == 2.0
    assert found[key("vmpulse_vm_cpu_sys_ratio", vm=vm)] == 0.015
    assert found[key("vmpulse_vm_memory_usage_ratio", vm=vm)] == 0.7
    assert 0 <= found[key("vmpulse_vm_age_seconds", vm=vm)] < 0.1
    assert found[key("vmpulse_vm_info", vm=vm, name="db-2", host="beta")] == 1
    assert found[key("vmpulse_vm_info", vm=vm_text(guest_id(6)), name='odd "name"\\', host="gamma")] == 1


async def test_each_vm_has_one_status(api: httpx.AsyncClient) -> None:
    """Of the twelve statuses a VM has a sample for the one that holds."""
    found = await scrape(api)
    statuses = {labels for name, labels in found if name == "vmpulse_vm_status"}
    assert len(statuses) == 6
    assert frozenset({("vm", vm_text(guest_id(5))), ("status", "Paused")}) in statuses
    assert frozenset({("vm", vm_text(guest_id(3))), ("status", "Down")}) in statuses


async def test_unknown_values_have_no_samples(api: httpx.AsyncClient) -> None:
    """A Down VM has an age and a status, and no CPU or memory sample."""
    found, down = await scrape(api), vm_text(guest_id(3))
    assert key("vmpulse_vm_age_seconds", vm=down) in found
    assert key("vmpulse_vm_cpu_user_ratio", vm=down) not in found
    assert key("vmpulse_vm_memory_usage_ratio", vm=down) not in found


async def test_values_of_a_lost_host_are_not_repeated(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """While a host is not heard its VMs are Unknown, without values, and their age goes on."""
    for _ in range(7):
        fleet.tick("alpha", "beta")
    found, vm = await scrape(api), vm_text(guest_id(6))
    assert found[key("vmpulse_vm_status", vm=vm, status="Unknown")] == 1
    assert key("vmpulse_vm_cpu_user_ratio", vm=vm) not in found
    assert 21 <= found[key("vmpulse_vm_age_seconds", vm=vm)] < 21.1
    assert 21 <= found[key("vmpulse_host_age_seconds", host="gamma")] < 21.1
    assert found[key("vmpulse_hosts", state="lost")] == 1
    assert found[key("vmpulse_vms", freshness="unknown")] == 1


async def test_each_host_has_its_values(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """A host's ratios are of all its CPUs, sizes in bytes; one that does not tell, or is not heard, has no samples."""
    found = await scrape(api)
    values = {
        "cpus": 16,
        "cpu_user_ratio": 0.255,
        "cpu_sys_ratio": 0.1,
        "load": 3.25,
        "memory_size_bytes": 1 << 36,
        "memory_used_bytes": 1 << 34,
        "swap_size_bytes": 1 << 30,
        "swap_used_bytes": 24 << 20,
    }
    for name, value in values.items():
        assert found[key(f"vmpulse_host_{name}", host="alpha")] == value
        assert key(f"vmpulse_host_{name}", host="beta") not in found
    for _ in range(7):
        fleet.tick("beta", "gamma")
    assert not [name for name, labels in await scrape(api) if name == "vmpulse_host_cpus"]


async def test_stream_and_view_are_counted(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """Counters say what the view counts, with 0 for what has not happened."""
    with pytest.raises(WrongSender):
        fleet.view.receive("vmpulse.runtime", "alpha", "beta", b"", fleet.now)
    found, counts = await scrape(api), fleet.view.counts
    assert found[key("vmpulse_messages_total", kind="frame")] == counts.messages["frame"]
    assert found[key("vmpulse_messages_total", kind="goodbye")] == 0
    assert found[key("vmpulse_received_bytes_total")] == counts.bytes
    assert found[key("vmpulse_relists_total")] == 3
    assert found[key("vmpulse_repairs_total")] == counts.repairs
    assert found[key("vmpulse_rejected_total", reason="sender")] == 1
    assert found[key("vmpulse_rejected_total", reason="hash")] == 0
    assert found[key("vmpulse_requests_failed_total", code="no_answer")] == 0
    assert found[key("vmpulse_broker_up")] == found[key("vmpulse_view_ready")] == 1
    assert found[key("vmpulse_hosts", state="live")] == 3
    assert found[key("vmpulse_vms", freshness="fresh")] == 6


async def test_what_an_operator_has_to_look_into(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """VMs that several hosts run, a view that is degraded, floods and rivals each have a metric, 0 when all is well."""
    metrics = {"split_brain_vms", "view_degraded", "over_budget_total", "crowded_total", "rivals_total"}
    metrics |= {"requests_held_back_total", "requests_waiting", "requests_in_flight"}
    found = await scrape(api)
    assert {found[key(f"vmpulse_{name}")] for name in metrics} == {0}
    run_twice(fleet)
    view = fleet.view
    view.degraded = "its store is full"
    view.counts.over_budget, view.counts.crowded, view.counts.rivals, view.counts.held_back = 7, 5, 2, 3
    for host in view.hosts.values():
        view.asking.relist(host)
    assert len(view.drain_requests(fleet.now)) == 3
    view.asking.relist(Host(HostId("delta"), view.runtime.allocate(0), fleet.now))
    found = await scrape(api)
    assert {name: found[key(f"vmpulse_{name}")] for name in metrics} == {
        "split_brain_vms": 1,
        "view_degraded": 1,
        "over_budget_total": 7,
        "crowded_total": 5,
        "rivals_total": 2,
        "requests_held_back_total": 3,
        "requests_waiting": 1,
        "requests_in_flight": 3,
    }


async def test_openmetrics_says_the_same(api: httpx.AsyncClient) -> None:
    """A scraper that prefers OpenMetrics gets a valid text of that format with the same samples."""
    reply = await api.get("/metrics", headers=OPENMETRICS)
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_openmetrics(reply.text))  # type: ignore[no-untyped-call]
    samples = {(sample.name, frozenset(sample.labels.items())) for family in families for sample in family.samples}
    assert samples == set(await scrape(api))
    assert {family.type for family in families if family.name == "vmpulse_vm"} == {"info"}


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "text/plain; version=x.y",
        "text/plain; version=",
        "*/*",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
    ],
)
async def test_any_preference_gets_a_format(api: httpx.AsyncClient, accept: str) -> None:
    """Whatever a scraper says of its preferences, it gets metrics."""
    reply = await api.get("/metrics", headers={"accept": accept})
    assert reply.status_code == 200
    assert "vmpulse_vm_info{" in reply.text


async def test_large_replies_are_compressed_where_that_is_accepted(api: httpx.AsyncClient) -> None:
    """A scraper that takes gzip gets it beyond a small size, and one that does not gets plain text."""
    small = await api.get("/metrics")
    large = large_fleet(10, 20)
    async with served(large) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        packed = await client.get("/metrics", headers={"accept-encoding": "gzip"})
        plain = await client.get("/metrics", headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in small.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text


async def test_scrapers_of_one_tick_share_what_was_written(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """Values are written once a tick, whoever asks; ages and what the view says of itself go on meanwhile."""
    vm = vm_text(guest_id(4))
    cpu, age = key("vmpulse_vm_cpu_user_ratio", vm=vm), key("vmpulse_vm_age_seconds", vm=vm)
    host_age, degraded = key("vmpulse_host_age_seconds", host="beta"), key("vmpulse_view_degraded")
    first = await scrape(api)
    fleet.view.runtime.cpu_user[:], fleet.view.degraded = 10, "its store is full"
    fleet.now += 0.9
    second = await scrape(api)
    assert (second[cpu], second[degraded]) == (first[cpu], 1)
    assert [second[at] - first[at] for at in (age, host_age)] == pytest.approx([0.9, 0.9], abs=0.002)
    fleet.now += 0.2
    third = await scrape(api)
    assert (third[cpu], third[cpu] != first[cpu]) == (0.01, True)
    assert third[age] - first[age] == pytest.approx(1.1, abs=0.002)


async def test_scrapers_at_once_get_the_same() -> None:
    """However many ask at once, in whichever format and with whichever compression, all get the whole text."""
    large = large_fleet(10, 20)
    wants: list[dict[str, str]] = [{"accept-encoding": packing} for packing in ("gzip", "identity")]
    wants += [want | OPENMETRICS for want in wants]
    async with served(large) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        replies = await asyncio.gather(*(client.get("/metrics", headers=want) for want in wants * 5))
    texts = {(reply.headers["content-type"], reply.text) for reply in replies}
    assert len(texts) == 2
    assert len({reply.headers.get("content-encoding") for reply in replies}) == 2
    plain, openmetrics = sorted((text for _, text in texts), key=lambda text: text.endswith("# EOF\n"))
    assert len(list(parse_text(plain))) == len(list(parse_openmetrics(openmetrics)))  # type: ignore[no-untyped-call]


async def test_what_was_written_is_let_go(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that nobody scrapes keeps no text for scrapers."""
    monkeypatch.setattr(exposition, "SHARED_S", 0.01)
    fleet.now += 0.123  # as no other test has it
    expositions = exposition.Expositions(fleet.view, fleet.clock)
    reply = await expositions.reply(b"# TYPE a counter\n", packed=False)
    assert reply.body.startswith(b"# HELP vmpulse_vm_info")
    async with asyncio.timeout(10):
        while any(isinstance(each, Snapshot) and each.now == fleet.now for each in gc.get_objects()):
            await asyncio.sleep(0.01)


async def test_other_parts_add_their_own_metrics(fleet: Fleet) -> None:
    """What is registered in the registry handed over stands beside the view's metrics."""
    registry = CollectorRegistry()
    Counter("vmpulse_test_things", "Things.", registry=registry).inc(2)
    app = build_app(fleet.view, fleet.clock, fleet.events, registry=registry)
    async with served(fleet, app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        found = await scrape(client)
    assert found[key("vmpulse_test_things_total")] == 2
    assert found[key("vmpulse_hosts", state="live")] == 3


async def test_each_metric_is_documented(api: httpx.AsyncClient) -> None:
    """Each metric has its row in docs/metrics.md, and each row there is of a metric."""
    page = DOCUMENTED.read_text(encoding="utf-8").partition("\n## The agent\n")[0]
    rows = [line for line in page.splitlines() if line.startswith("| `vmpulse_")]
    assert {row.split("`")[1] for row in rows} == {name for name, _ in await scrape(api)}
