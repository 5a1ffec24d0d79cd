"""Forgetting hosts: which ones, by whom, and what follows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import ALPHA_UUID, Fleet, guest_id, run_twice
from vmpulse_consumers.http import build_app
from vmpulse_contract.identity import HostId, vm_text

API = "/api/v1/hosts"


@pytest.fixture
async def api(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    """The fleet's API, of a program that tells what happens as soon as it was told of it."""
    app = build_app(
        fleet.view,
        fleet.clock,
        fleet.events,
        applied=lambda: fleet.events.teller.tell(fleet.view.drain_events()),
    )
    async with (
        served(fleet, app) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


def lose(fleet: Fleet, name: str) -> None:
    """Let a host fall silent until it is lost."""
    others = [host for host in fleet.hosts if host != name]
    for _ in range(7):
        fleet.tick(*others)


async def test_a_lost_host_is_forgotten_with_its_vms(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """A host that is lost is gone at once, and with it the VMs that no other host lists."""
    lose(fleet, "alpha")
    reply = await api.post(f"{API}/alpha/forget")
    assert (reply.status_code, reply.json()) == (200, {"host": "alpha", "state": "gone", "vms": 3})
    assert (await api.get(f"{API}/alpha")).status_code == 404
    listed = (await api.get("/api/v1/vms?sort=id")).json()["vms"]
    assert [vm["id"] for vm in listed] == [vm_text(guest_id(number)) for number in (4, 5, 6)]


async def test_what_follows_is_told_at_once(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """The events of a host that is forgotten do not wait for the view's next tick."""
    lose(fleet, "gamma")
    fleet.events.teller.tell(fleet.view.drain_events())
    await api.post(f"{API}/gamma/forget")
    told = fleet.events.teller.told
    assert (told["host.gone"], told["vm.gone"]) == (1, 1)


async def test_a_vm_that_another_host_lists_stays(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """Only the claims of the host are forgotten, and a split brain with them."""
    run_twice(fleet)
    lose(fleet, "beta")
    assert (await api.post(f"{API}/beta/forget")).json()["vms"] == 3
    vm = (await api.get(f"/api/v1/vms/{vm_text(guest_id(1))}")).json()
    assert (vm["host"], vm["status"], "splitBrain" in vm) == ("alpha", "Up", False)


@pytest.mark.parametrize("name", ["ALPHA.example.org", ALPHA_UUID])
async def test_a_host_may_be_named_as_elsewhere(api: httpx.AsyncClient, fleet: Fleet, name: str) -> None:
    """FQDN and UUID forget the same host as its id."""
    lose(fleet, "alpha")
    assert (await api.post(f"{API}/{name}/forget")).json()["host"] == "alpha"


@pytest.mark.parametrize("silent_ticks, state", [(0, "live"), (3, "late")])
async def test_a_host_that_is_heard_is_refused(
    api: httpx.AsyncClient, fleet: Fleet, silent_ticks: int, state: str
) -> None:
    """A host that is live or late is not forgotten; the error says which may be, and nothing has changed."""
    for _ in range(silent_ticks):
        fleet.tick("alpha", "beta")
    reply = await api.post(f"{API}/gamma/forget")
    assert reply.status_code == 409
    error = reply.json()["error"]
    assert error["what"] == f"host gamma is {state} and cannot be forgotten"
    assert "stop its agent" in error["allowed"]
    assert (await api.get(f"{API}/gamma")).json()["vms"] == 1


async def test_an_unknown_host_is_a_404(api: httpx.AsyncClient) -> None:
    """A name that means no host is a 404 that says what names there are."""
    reply = await api.post(f"{API}/nobody/forget")
    assert reply.status_code == 404
    assert "FQDN" in reply.json()["error"]["allowed"]


async def test_a_host_that_speaks_again_is_met_anew(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """To be forgotten is no ban: a host that comes back is live with all its VMs."""
    lose(fleet, "gamma")
    await api.post(f"{API}/gamma/forget")
    fleet.tick()
    fleet.tick()
    host = (await api.get(f"{API}/gamma")).json()
    assert (host["state"], host["vms"]) == ("live", 1)


@pytest.mark.parametrize("origin", ["http://example.org", "null", "http://{host}"])
async def test_a_page_in_a_browser_forgets_nothing(api: httpx.AsyncClient, fleet: Fleet, origin: str) -> None:
    """A request with an Origin is refused, even with ours: a page's own name may resolve to our address."""
    lose(fleet, "gamma")
    reply = await api.post(f"{API}/gamma/forget", headers={"origin": origin.format(host=api.base_url.netloc.decode())})
    assert (reply.status_code, reply.json()["error"]["where"]) == (403, "header Origin")
    assert HostId("gamma") in fleet.view.hosts


async def test_a_page_cannot_ask_a_browser_for_leave(api: httpx.AsyncClient) -> None:
    """What browsers ask before they send unusual requests of other origins is answered with no permission."""
    headers = {"origin": "http://example.org", "access-control-request-method": "POST"}
    reply = await api.options(f"{API}/gamma/forget", headers=headers)
    assert not [name for name in reply.headers if name.startswith("access-control-")]


async def test_other_requests_forget_nothing(api: httpx.AsyncClient, fleet: Fleet) -> None:
    """Another method, a parameter or a body is refused, and the host is still there."""
    lose(fleet, "gamma")
    assert (await api.get(f"{API}/gamma/forget")).status_code == 405
    assert (await api.post(f"{API}/gamma/forget?now=1")).status_code == 400
    assert (await api.post(f"{API}/gamma/forget", json={})).status_code == 413
    assert HostId("gamma") in fleet.view.hosts
