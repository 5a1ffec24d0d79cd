"""The fleet's row, health and readiness, and the errors of paths and methods."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from litestar import get

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import START, Fleet, run_twice, small_fleet
from vmpulse_consumers.http import build_app
from vmpulse_consumers.view import View


async def test_fleet_row_has_the_agreed_keys(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """The fleet's row counts hosts by state and VMs by freshness, with snake_case keys."""
    row = (await api.get("/api/v1/fleet")).json()
    counts = fleet.view.counts
    assert row == {
        "ready": True,
        "not_ready": [],
        "broker_ok": True,
        "hosts": {"unknown": 0, "syncing": 0, "live": 3, "late": 0, "lost": 0, "stopped": 0, "gone": 0},
        "vms": 6,
        "split_brain": 0,
        "freshness": {"fresh": 6, "stale": 0, "unknown": 0},
        "messages": counts.messages.total(),
        "bytes": counts.bytes,
        "gaps": 0,
        "repeats": 0,
        "relists": 3,
        "repairs": counts.repairs,
        "rejected": 0,
        "worst_age_s": row["worst_age_s"],
        "degraded": "",
    }
    assert 0 <= row["worst_age_s"] < 0.1


async def test_fleet_row_follows_a_silent_host(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """A silent host's VMs are stale and then unknown, and the oldest age is theirs while it is heard."""
    for _ in range(3):
        fleet.tick("alpha", "beta")
    row = (await api.get("/api/v1/fleet")).json()
    assert row["freshness"] == {"fresh": 5, "stale": 1, "unknown": 0}
    assert 9 <= row["worst_age_s"] < 9.1
    for _ in range(4):
        fleet.tick("alpha", "beta")
    row = (await api.get("/api/v1/fleet")).json()
    assert row["freshness"] == {"fresh": 5, "stale": 0, "unknown": 1}
    assert row["hosts"]["lost"] == 1
    assert row["worst_age_s"] < 0.1


async def test_fleet_row_says_what_is_wrong(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """VMs that several hosts run are counted, and why the view works worse than it should is said."""
    run_twice(fleet)
    fleet.view.degraded = "its store is full"
    row = (await api.get("/api/v1/fleet")).json()
    assert (row["split_brain"], row["vms"], row["degraded"]) == (1, 6, "its store is full")


async def test_ready_view(api: httpx.AsyncClient) -> None:
    """A view whose hosts are all confirmed is ready, and the process is healthy."""
    assert (await api.get("/healthz")).json() == {"status": "ok"}
    ready = await api.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})


async def test_view_that_has_heard_nothing_is_healthy_and_not_ready() -> None:
    """A new view answers 503 with its reasons, while the process is healthy and its lists are empty."""
    fleet = small_fleet()
    app = build_app(View(START), lambda: START, fleet.events)
    async with served(fleet, app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == [
            "the stream has not been heard yet",
            "hosts have had less than a tick to be heard",
        ]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/v1/vms?sort=-elapsed")).json()["total"] == 0
        assert (await client.get("/api/v1/hosts")).json()["total"] == 0
        fleet = (await client.get("/api/v1/fleet")).json()
        assert (fleet["vms"], fleet["worst_age_s"]) == (0, None)
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    "method, path, status",
    [("GET", "/nowhere", 404), ("GET", "/api/v2/vms", 404), ("POST", "/api/v1/vms", 405), ("DELETE", "/metrics", 405)],
)
async def test_paths_and_methods_that_are_not_served(
    api: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """An unknown path or method gets a JSON error that says what is allowed."""
    reply = await api.request(method, path)
    assert reply.status_code == status
    assert reply.json()["error"]["allowed"]


async def test_bodies_and_long_urls_are_refused(api: httpx.AsyncClient) -> None:
    """A body is refused unread, and so is a URL beyond its bound."""
    assert (await api.request("GET", "/api/v1/vms", content=b"x" * 1_000_000)).status_code == 413
    long = await api.get("/api/v1/vms?text=" + "x" * 3000)
    assert (long.status_code, long.json()["error"]["allowed"]) == (414, "at most 2048 bytes")
    assert (await api.get("/healthz")).status_code == 200


async def test_head_is_get_without_the_body(api: httpx.AsyncClient) -> None:
    """Health checks that ask by HEAD get the status and headers of GET."""
    head, got = await api.head("/api/v1/hosts"), await api.get("/api/v1/hosts")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (await api.head("/nowhere")).status_code == 404


async def test_huge_header_does_not_stop_the_server(api: httpx.AsyncClient) -> None:
    """A request head beyond its bound is refused; the server goes on."""
    assert (await api.get("/healthz", headers={"x-huge": "x" * 50_000})).status_code == 431
    assert (await api.get("/healthz")).status_code == 200


@get("/broken")
async def broken() -> None:
    """A route with a fault of its own."""
    msg = "secret detail"
    raise RuntimeError(msg)


async def test_fault_of_ours_is_logged_and_not_shown(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error is a 500 without its text, whatever the environment says; the log has all of it."""
    monkeypatch.setenv("LITESTAR_DEBUG", "1")
    app = build_app(fleet.view, fleet.clock, fleet.events, more_routes=[broken])
    with caplog.at_level(logging.ERROR):
        async with served(fleet, app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
            reply = await client.get("/broken")
    assert reply.status_code == 500
    assert reply.json()["error"]["where"] == "server"
    assert "secret" not in reply.text
    assert "secret detail" in caplog.text


async def test_replies_that_are_read_together_show_their_own_moments(api: httpx.AsyncClient) -> None:
    """Many requests at once are all answered."""
    replies = await asyncio.gather(*(api.get("/api/v1/vms") for _ in range(50)))
    assert {reply.json()["total"] for reply in replies} == {6}


async def test_description_names_each_route_and_parameter(api: httpx.AsyncClient) -> None:
    """The OpenAPI description has the routes, with the parameters of the lists, and with the row of a VM."""
    schema = (await api.get("/schema/openapi.json")).json()
    assert {"/api/v1/vms", "/api/v1/vms/{vm}", "/api/v1/hosts", "/api/v1/hosts/{host}", "/api/v1/fleet"} <= set(
        schema["paths"]
    )
    changing = {path for path, operations in schema["paths"].items() if operations.keys() != {"get"}}
    assert changing == {"/api/v1/hosts/{host}/forget"}
    page = schema["paths"]["/api/v1/vms"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert page == {"$ref": "#/components/schemas/VmPage"}
    assert "memUsage" in schema["components"]["schemas"]["VmRow"]["properties"]
    parameters = schema["paths"]["/api/v1/vms"]["get"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == [
        "host", "label", "status", "freshness", "split_brain", "text", "sort", "after", "limit", "offset", "sections"
    ]  # fmt: skip
