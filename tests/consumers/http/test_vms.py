"""The list of VMs and a single VM: fields, filters, orders, pages, and what is refused."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.consumers.http.stocked_view import ALPHA_UUID, Fleet, Guest, guest_id, large_fleet, run_twice, small_fleet
from vmpulse_consumers.http import census
from vmpulse_consumers.http.queries import VmQuery
from vmpulse_consumers.http.vm_list import VmPage, page_of_ids, vm_page
from vmpulse_consumers.http.vm_rows import WITH_SECTIONS_A_PIECE, vm_rows
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.ownership import Vm
from vmpulse_consumers.view.rows import fleet_row, vm_row
from vmpulse_contract.identity import HostId, VmId, vm_text
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.values import VmStatus

API = "/api/v1/vms"
STEADY_FLEET = small_fleet()
STEADY = pytest.mark.asyncio(loop_scope="module")


async def numbers(api: httpx.AsyncClient, query: str) -> list[int]:
    """The VMs that a query gives, in order, by the numbers of small_fleet."""
    reply = await api.get(f"{API}?{query}")
    assert reply.status_code == 200, reply.text
    return [int(vm["id"][-12:], 16) for vm in reply.json()["vms"]]


def decoded(page: Iterator[bytes]) -> VmPage:
    """A page, out of its pieces."""
    return msgspec.json.decode(b"".join(page), type=VmPage)


def written(fleet: Fleet, now: float, vms: list[Vm], *, with_sections: bool = False) -> bytes:
    """The rows of VMs as a list has them, after the view has gone on."""
    rows = vm_rows(census.of(fleet.view, vms, now), {}, with_sections=with_sections)
    fleet.tick()
    return b"[" + b"".join(rows).removeprefix(b",") + b"]"


async def refusal(api: httpx.AsyncClient, path: str, status: int) -> dict[str, str]:
    """The error that a request gets."""
    reply = await api.get(path)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    error: dict[str, str] = reply.json()["error"]
    return error


@STEADY
async def test_row_has_the_agreed_keys(steady_api: httpx.AsyncClient) -> None:
    """A row has the seed's names in camelCase, our measures with their unit, and sections when asked for."""
    reply = (await steady_api.get(f"{API}?text=web-1&sections=true")).json()
    assert {key: reply[key] for key in ("total", "limit", "offset")} == {"total": 1, "limit": 100, "offset": 0}
    row = reply["vms"][0]
    hashes, age = row.pop("hashes"), row.pop("age_s")
    assert 0 <= age < 0.1
    assert hashes.keys() == {"info", "config", "status", "guestDetails"}
    assert row == {
        "id": vm_text(guest_id(1)),
        "host": "alpha",
        "status": "Up",
        "freshness": "fresh",
        "name": "web-1",
        "cpuUser": 50.0,
        "cpuSys": 10.0,
        "memUsage": 10,
        "elapsedTime": 66.0,
        "sections": {
            "info": {"vmName": "web-1", "pid": 4711},
            "status": {"monitorResponse": 0, "username": "alice", "guestIPs": ["192.0.2.11"]},
            "guestDetails": {"appsList": ["kernel-6"], "netIfaces": [{"name": "eth0", "inet": ["192.0.2.11"]}]},
        },
    }


@STEADY
async def test_sections_are_left_out_unless_asked_for(steady_api: httpx.AsyncClient) -> None:
    """Rows of a list have no sections by default."""
    assert all("sections" not in row for row in (await steady_api.get(API)).json()["vms"])


@pytest.mark.parametrize(
    "query, expected",
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("host=beta", [4, 5]),
        ("host=BETA.example.org", [4, 5]),
        (f"host={ALPHA_UUID.upper()}", [1, 2, 3]),
        ("host=nobody", []),
        ("label=zone:b", [4, 5, 6]),
        ("label=zone:b&label=rack:1", [4, 5]),
        ("label=zone:", []),
        ("status=up", [1, 2, 4, 6]),
        ("status=UP&status=down", [1, 2, 3, 4, 6]),
        ("status=paused", [5]),
        ("freshness=fresh", [1, 2, 3, 4, 5, 6]),
        ("freshness=stale&freshness=unknown", []),
        ("text=WEB", [1, 2]),
        ("text=198.51.100", [4, 5]),
        ("text=Alice", [1, 4]),
        ("text=000000000006", [6]),
        ("text=no+such+thing", []),
        ("text=", [1, 2, 3, 4, 5, 6]),
        ("split_brain=true", []),
        ("split_brain=false", [1, 2, 3, 4, 5, 6]),
        ("label=zone:a&status=up&text=web&sort=-mem", [2, 1]),
    ],
)
@STEADY
async def test_filters(steady_api: httpx.AsyncClient, query: str, expected: list[int]) -> None:
    """Each filter lets through what it names, and all of them hold together."""
    assert await numbers(steady_api, query) == expected


@pytest.mark.parametrize(
    "sort, expected",
    [
        ("host", [1, 2, 3, 4, 5, 6]),
        ("-host", [6, 4, 5, 1, 2, 3]),
        ("id", [1, 2, 3, 4, 5, 6]),
        ("-id", [6, 5, 4, 3, 2, 1]),
        ("name", [5, 3, 4, 6, 1, 2]),
        ("-name", [2, 1, 6, 4, 3, 5]),
        ("status", [3, 5, 1, 2, 4, 6]),
        ("-cpu", [4, 1, 2, 6, 5, 3]),
        ("cpu", [5, 6, 2, 1, 4, 3]),
        ("mem", [1, 5, 6, 4, 2, 3]),
        ("-mem", [2, 4, 6, 5, 1, 3]),
        ("elapsed", [1, 2, 4, 5, 6, 3]),
    ],
)
@STEADY
async def test_orders(steady_api: httpx.AsyncClient, sort: str, expected: list[int]) -> None:
    """Each order holds in both directions; unknown values (VM 3 is Down) come last in either."""
    assert await numbers(steady_api, f"sort={sort}") == expected


@pytest.mark.parametrize("query", ["", "&sort=id", "&sort=-cpu&status=up", "&host=beta"])
async def test_vms_that_several_hosts_run(api: httpx.AsyncClient, fleet: Fleet, query: str) -> None:
    """A split brain is said in the VM's row, and can be asked for, until it is over."""
    run_twice(fleet)
    assert await numbers(api, f"split_brain=true{query}") == [1]
    rows = (await api.get(API)).json()["vms"]
    assert [row["id"] for row in rows if row.get("splitBrain")] == [vm_text(guest_id(1))]
    claims = (await api.get(f"{API}/{vm_text(guest_id(1))}")).json()["claims"]
    assert [(claim["host"], claim["active"]) for claim in claims] == [("alpha", True), ("beta", True)]
    fleet.hosts[HostId("beta")].guests.pop()
    fleet.tick()
    assert await numbers(api, f"split_brain=true{query}") == []
    assert all("splitBrain" not in row for row in (await api.get(API)).json()["vms"])


async def test_age_orders_by_the_hosts_frames(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """VMs of a host that has not published for a tick are the oldest."""
    fleet.tick("alpha", "gamma")
    assert (await numbers(api, "sort=-age"))[:2] == [4, 5]
    assert (await numbers(api, "sort=age"))[-2:] == [4, 5]


@STEADY
async def test_pages_make_up_the_whole_list(steady_api: httpx.AsyncClient) -> None:
    """Pages follow each other without gap or overlap, and each tells the total."""
    pages = [(await steady_api.get(f"{API}?limit=4&offset={offset}")).json() for offset in (0, 4, 8)]
    assert [len(page["vms"]) for page in pages] == [4, 2, 0]
    assert {page["total"] for page in pages} == {6}
    assert [vm["name"] for page in pages for vm in page["vms"]][:3] == ["web-1", "Web-2", "db-1"]


@pytest.mark.parametrize("sort", ["id", "-id"])
@pytest.mark.parametrize("filters", ["", "&status=up", "&host=beta", "&text=e"])
async def test_pages_by_id_miss_nothing_while_others_leave(
    api: httpx.AsyncClient, fleet: Fleet, sort: str, filters: str
) -> None:
    """Read after the last VM of the page before, each VM that stays comes once, though that one leaves."""
    wanted = await numbers(api, f"sort={sort}{filters}")
    found = await numbers(api, f"sort={sort}&limit=2{filters}")
    left = guest_id(found[-1])
    for host in fleet.hosts.values():
        host.guests[:] = [guest for guest in host.guests if guest.vm != left]
    fleet.tick()
    while page := await numbers(api, f"sort={sort}&limit=1&after={vm_text(guest_id(found[-1]))}{filters}"):
        found += page
    assert found == wanted
    assert await numbers(api, f"sort={sort}&limit=2&offset=1{filters}") == wanted[2:4]


@given(
    # Ids that agree in their first half, or in all but the last bit, and others.
    halves=st.sets(st.tuples(*[st.sampled_from([0, 1, 1 << 63, (1 << 64) - 1]) | st.integers(0, 7)] * 2), max_size=20),
    limit=st.integers(1, 4),
    offset=st.integers(0, 3),
    descending=st.booleans(),
)
def test_any_ids_come_in_their_order(halves: set[tuple[int, int]], limit: int, offset: int, descending: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever the ids are, pages that follow each other are the sorted list."""
    ids = [VmId(high.to_bytes(8, "big") + low.to_bytes(8, "big")) for high, low in halves]
    wanted, sort = sorted(ids, reverse=descending)[offset:], "-id" if descending else "id"
    found = page_of_ids(ids, VmQuery(sort=sort, limit=limit, offset=offset))
    while page := page_of_ids(ids, VmQuery(sort=sort, limit=limit, after=vm_text(found[-1]))) if found else []:
        found += page
    assert found == wanted


@pytest.mark.parametrize(
    "query, where, allowed",
    [
        ("host=", "parameter host", "a host's id, FQDN or UUID"),
        ("nosuch=1", "query", "host, label, status"),
        ("limit=0", "parameter limit", "1 to 10000"),
        ("limit=10001", "parameter limit", "1 to 10000"),
        ("limit=many", "parameter limit", "1 to 10000"),
        ("limit=", "parameter limit", "1 to 10000"),
        ("offset=-1", "parameter offset", "0 to"),
        ("sort=color", "parameter sort", "name, host, status, age"),
        ("sort=CPU", "parameter sort", "name, host, status, age"),
        ("sort=--cpu", "parameter sort", "name, host, status, age"),
        ("status=up&status=happy", "parameter status", "Powering up"),
        ("freshness=old", "parameter freshness", "fresh, stale, unknown"),
        ("label=zone", "parameter label", "key:value"),
        ("label=:a", "parameter label", "key:value"),
        ("split_brain=perhaps", "parameter split_brain", "true, false"),
        ("limit=1001&sections=true", "parameter limit", "1 to 1000 with sections"),
        ("sections=perhaps", "parameter sections", "true, false"),
        ("sort=id&after=web-1", "parameter after", "a UUID"),
        (f"after={vm_text(guest_id(1))}", "parameter after", "with sort=id"),
        (f"sort=-cpu&after={vm_text(guest_id(1))}", "parameter after", "with sort=id"),
        ("limit=1&limit=2", "parameter limit", "once"),
        ("text=%ff", "query", "UTF-8"),
        ("text=" + "x" * 300, "parameter text", "256 characters"),
        ("&".join(["status=up"] * 70), "query", "64 parameters"),
    ],
)
@STEADY
async def test_bad_parameters_are_refused(steady_api: httpx.AsyncClient, query: str, where: str, allowed: str) -> None:
    """A bad parameter is a 400 that says where it stands and what is allowed, and repeats little of it."""
    error = await refusal(steady_api, f"{API}?{query}", 400)
    assert error["where"] == where
    assert allowed in error["allowed"]
    assert len(error["what"]) < 150


async def test_one_vm_shows_its_claims(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """A VM that two hosts list has one owner; its row shows both claims, and the lists name it once."""
    gamma = fleet.hosts[next(host for host in fleet.hosts if host == "gamma")]
    gamma.guests.append(Guest(guest_id(4), "db-2"))
    fleet.tick()
    row: dict[str, Any] = (await api.get(f"{API}/{vm_text(guest_id(4)).upper()}")).json()
    assert row["host"] == "gamma"
    assert {(claim["host"], claim["hostState"], claim["owner"]) for claim in row["claims"]} == {
        ("beta", "live", False),
        ("gamma", "live", True),
    }
    assert row["sections"]["info"]["vmName"] == "db-2"
    assert await numbers(api, "") == [1, 2, 3, 5, 4, 6]
    assert await numbers(api, "host=beta") == [5]


@given(st.lists(st.tuples(*[st.sampled_from([ABSENT, 1, 2**64 - 1])] * 8), min_size=6, max_size=6))
def test_any_hashes_are_written_as_rows_say_them(hashes: list[tuple[int, ...]]) -> None:
    """Whichever hashes are absent or not held, a page and rows say the same of them."""
    fleet = STEADY_FLEET
    vms = list(fleet.view.vms.values())
    for vm, pairs in zip(vms, hashes, strict=True):
        assert vm.owner is not None
        row = vm.owner.index[vm.id]
        columns = slice(row * WIDTH, (row + 1) * WIDTH)
        vm.owner.announced[columns], vm.owner.held[columns] = array("Q", pairs[:WIDTH]), array("Q", pairs[WIDTH:])
    rows = [vm_row(fleet.view, fleet.now, vm) for vm in vms]
    pieces = vm_rows(census.of(fleet.view, vms, fleet.now), {})
    assert b"[" + b"".join(pieces).removeprefix(b",") + b"]" == msgspec.json.encode(rows)


async def test_many_lists_at_once(api: httpx.AsyncClient) -> None:
    """Lists that are read at the same time are each whole, with the length that the page allows."""
    paths = [f"{API}?sections=true", f"{API}?limit=4", f"{API}?sort=-id&limit=10000", f"{API}?host=nobody"]
    pages = [reply.json() for reply in await asyncio.gather(*(api.get(path) for path in paths * 10))]
    assert [len(page["vms"]) for page in pages] == [6, 4, 6, 0] * 10
    assert [page["total"] for page in pages] == [6, 6, 6, 0] * 10


@STEADY
async def test_unknown_and_malformed_ids(steady_api: httpx.AsyncClient) -> None:
    """A VM that nobody lists is a 404, what is no UUID a 400; both say what is allowed."""
    assert "GET /api/v1/vms" in (await refusal(steady_api, f"{API}/{vm_text(guest_id(99))}", 404))["allowed"]
    assert "UUID" in (await refusal(steady_api, f"{API}/web-1", 400))["allowed"]
    assert (await refusal(steady_api, f"{API}/{vm_text(guest_id(1))}?x=1", 400))["where"] == "query"


async def test_vms_of_a_lost_host_are_unknown(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """A host that falls silent turns its VMs stale, then Unknown, and its filters follow; the others stay fresh."""
    fleet.tick("alpha", "beta")
    fleet.tick("alpha", "beta")
    assert await numbers(api, "freshness=stale") == []
    fleet.tick("alpha", "beta")
    assert await numbers(api, "freshness=stale") == [6]
    for _ in range(4):
        fleet.tick("alpha", "beta")
    assert await numbers(api, "freshness=unknown") == [6]
    assert await numbers(api, "status=unknown") == [6]
    assert await numbers(api, "freshness=fresh") == [1, 2, 3, 4, 5]


def test_arrays_and_rows_say_the_same() -> None:
    """With late, lost and shared hosts, what the arrays say of each VM is what its row says."""
    fleet = large_fleet(8, 20)
    hosts = list(fleet.hosts)
    fleet.hosts[hosts[1]].guests.append(Guest(guest_id(3), "moved", cpu_user=33.0))
    fleet.tick()
    for last in (hosts[2:], hosts[2:], hosts[3:], hosts[4:], hosts[4:], hosts[4:]):
        fleet.tick(*last, hosts[1])
    view, now = fleet.view, fleet.now
    found = census.take(view, view.hosts.values(), now)
    arrays = [found.cpu_user(), found.cpu_sys(), found.mem_usage(), found.elapsed(), found.age()]
    rows = [vm_row(view, now, view.vms[vm]) for vm in found.vms]
    assert {row.freshness for row in rows} == set(census.FRESHNESS)
    assert sorted(found.vms) == sorted(view.vms)
    assert [found.hosts[host].id for host in found.host.tolist()] == [row.host for row in rows]
    assert [VmStatus(code).label for code in found.status().tolist()] == [row.status for row in rows]
    assert [census.FRESHNESS[code] for code in found.freshness().tolist()] == [row.freshness for row in rows]
    for at, row in enumerate(rows):
        values = [None if array[at] != array[at] else round(float(array[at]), 3) for array in arrays]
        assert values == [row.cpu_user, row.cpu_sys, row.mem_usage, row.elapsed_time, row.age_s]
    counted = fleet_row(view, now).freshness
    assert counted == {kind.value: sum(row.freshness is kind for row in rows) for kind in census.FRESHNESS}
    vms = [view.vms[vm] for vm in found.vms]
    assert written(fleet, now, vms) == msgspec.json.encode(rows)
    now = fleet.now
    whole = [vm_row(view, now, vm, with_sections=True) for vm in vms]
    assert len(whole) > WITH_SECTIONS_A_PIECE
    assert written(fleet, now, vms, with_sections=True) == msgspec.json.encode(whole)


def test_order_holds_over_a_large_fleet() -> None:
    """160 VMs that differ in CPU come in descending order of what their rows show."""
    fleet = large_fleet(4, 40)
    page = decoded(vm_page(fleet.view, fleet.now, VmQuery(sort="-cpu", limit=1000)))
    cpu = [(row.cpu_user or 0) + (row.cpu_sys or 0) for row in page.vms]
    assert len(cpu) == 160
    assert cpu == sorted(cpu, reverse=True)


def test_a_page_and_rows_say_the_same() -> None:
    """Rows of a page are those that are given one by one, with sections, with hashes that are absent or not held."""
    fleet = small_fleet()
    run_twice(fleet)
    alpha, beta, gamma = fleet.view.hosts.values()
    alpha.announced[Section.CONFIG] = beta.announced[Section.STATUS] = ABSENT
    beta.held[WIDTH + Section.GUEST_DETAILS] = 7
    gamma.offset = None
    vms, now = list(fleet.view.vms.values()), fleet.now + 1.2345
    rows = [vm_row(fleet.view, now, vm, with_sections=True) for vm in vms]
    assert written(fleet, now, vms, with_sections=True) == msgspec.json.encode(rows)
    assert {row.repairing for row in rows} == {(), ("guestDetails",)}
    assert {len(row.hashes) for row in rows} == {3, 4}
    assert {row.split_brain for row in rows} == {True, False}
