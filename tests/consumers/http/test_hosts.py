"""The list of hosts and a single host."""

from __future__ import annotations

import httpx
import pytest

from tests.consumers.http.stocked_view import ALPHA_UUID, Fleet, guest_id
from vmpulse_contract.identity import vm_text

API = "/api/v1/hosts"
STEADY = pytest.mark.asyncio(loop_scope="module")


@STEADY
async def test_row_has_the_agreed_keys(steady_api: httpx.AsyncClient) -> None:
    """A row has the host's facts in camelCase and our measures with their unit."""
    reply = (await steady_api.get(f"{API}?text=alpha")).json()
    assert {key: reply[key] for key in ("total", "limit", "offset")} == {"total": 1, "limit": 100, "offset": 0}
    row = reply["hosts"][0]
    assert {row.pop("silent_s") < 1, row.pop("age_s") < 1, row.pop("since_s") > 2, row.pop("seq") > 2} == {True}
    assert row == {
        "host": "alpha",
        "state": "live",
        "vms": 3,
        "active": 2,
        "epoch": f"{1:016x}",
        "fqdn": "alpha.example.org",
        "hostUuid": ALPHA_UUID,
        "agentVersion": "1.2",
        "labels": {"zone": "a", "rack": "1"},
        "stats": {
            "cpuUser": 25.5,
            "cpuSys": 10.0,
            "cpuIdle": 64.5,
            "cpuLoad": 3.25,
            "cpuCount": 16,
            "memTotal": 65_536,
            "memUsed": 16_384,
            "memFree": 49_152,
            "swapTotal": 1024,
            "swapFree": 1000,
            "vmCount": 3,
            "vmActive": 2,
            "vmMigrating": 0,
        },
    }


@STEADY
async def test_of_a_host_that_tells_nothing_the_vms_are_counted(steady_api: httpx.AsyncClient) -> None:
    """What a host does not know of itself is absent; how many VMs it has is known all the same."""
    beta = (await steady_api.get(f"{API}/beta")).json()
    assert beta["stats"] == {"vmCount": 2, "vmActive": 2, "vmMigrating": 0}


async def test_a_lost_host_has_no_statistics(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """While a host is not heard, its last statistics are not said of it any more."""
    for _ in range(7):
        fleet.tick("beta", "gamma")
    assert "stats" not in (await api.get(f"{API}/alpha")).json()
    fleet.tick()
    assert (await api.get(f"{API}/alpha")).json()["stats"]["cpuUser"] == 25.5


@STEADY
@pytest.mark.parametrize(
    "query, expected",
    [
        ("", ["alpha", "beta", "gamma"]),
        ("state=live", ["alpha", "beta", "gamma"]),
        ("state=lost&state=late", []),
        ("label=zone:b", ["beta", "gamma"]),
        ("label=zone:b&label=rack:1", ["beta"]),
        ("text=EXAMPLE.org", ["alpha", "beta"]),
        ("sort=-host", ["gamma", "beta", "alpha"]),
        ("sort=vms", ["gamma", "beta", "alpha"]),
        ("sort=-vms&limit=1&offset=1", ["beta"]),
        ("limit=10000", ["alpha", "beta", "gamma"]),
    ],
)
async def test_filters_and_orders(steady_api: httpx.AsyncClient, query: str, expected: list[str]) -> None:
    """Filters let through what they name, in the order asked for."""
    reply = await steady_api.get(f"{API}?{query}")
    assert [host["host"] for host in reply.json()["hosts"]] == expected


@STEADY
@pytest.mark.parametrize("query", ["state=dead", "limit=10001", "sort=cpu", "label=x", "host=alpha"])
async def test_bad_parameters_are_refused(steady_api: httpx.AsyncClient, query: str) -> None:
    """A bad parameter is a 400 that says what is allowed."""
    reply = await steady_api.get(f"{API}?{query}")
    assert reply.status_code == 400
    assert reply.json()["error"]["allowed"]


@STEADY
@pytest.mark.parametrize("name", ["alpha", "ALPHA.example.org", ALPHA_UUID])
async def test_host_goes_by_any_of_its_names(steady_api: httpx.AsyncClient, name: str) -> None:
    """Id, FQDN and UUID give the same host, with the VMs that it lists."""
    host = (await steady_api.get(f"{API}/{name}")).json()
    assert host["host"] == "alpha"
    assert host["listedVms"] == [
        {"id": vm_text(guest_id(1)), "name": "web-1", "status": "Up", "owner": True},
        {"id": vm_text(guest_id(2)), "name": "Web-2", "status": "Up", "owner": True},
        {"id": vm_text(guest_id(3)), "name": "db-1", "status": "Down", "owner": True},
    ]
    assert host["tombstones"] == []


@STEADY
async def test_unknown_host_is_a_404(steady_api: httpx.AsyncClient) -> None:
    """A name that means no host is a 404 that says what names there are."""
    reply = await steady_api.get(f"{API}/nobody")
    assert reply.status_code == 404
    assert "FQDN" in reply.json()["error"]["allowed"]


async def test_ended_lives_are_shown(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """A VM that is gone leaves a tombstone with its reason and how long ago it was."""
    beta = next(host for name, host in fleet.hosts.items() if name == "beta")
    del beta.guests[0]
    fleet.tick()
    fleet.tick()
    (ended,) = (await api.get(f"{API}/beta")).json()["tombstones"]
    assert 3 <= ended.pop("ended_s") < 3.1
    assert ended == {"id": vm_text(guest_id(4)), "exitCode": "unknown", "exitReason": "libvirt_domain_missing"}
