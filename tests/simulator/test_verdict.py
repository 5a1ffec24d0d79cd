"""The verdict: asked again until the view has followed, and clean only if nothing is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.simulator.stand import Clock, small_fleet
from vmpulse_agent.hypervisor import Exit
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator import verdict, view_api
from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.truth import Mismatch, Truth, take_truth
from vmpulse_simulator.verdict import Verdict, judge
from vmpulse_simulator.view_api import FleetReport, ViewApi

HOSTS, VMS = 2, 3


class FakeView(ThreadingHTTPServer):
    """Serves rows over real HTTP; ``wrong`` answers come before right ones."""

    daemon_threads = True

    def __init__(self, truth: Truth, clock: Clock) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows = [row_of(vm, truth, clock) for vm in sorted(truth.vms)]
        self.hosts = [
            {
                "host": host,
                "state": "live",
                "epoch": true.epoch,
                "vms": true.vms,
                "tombstones": [{"id": end.vm, "exitReason": end.reason} for end in true.ended],
            }
            for host, true in truth.hosts.items()
        ]
        self.age: float | None = 2.5
        self.wrong = 0
        self.status = 200
        self.paths: list[str] = []

    def answer(self, path: str) -> dict[str, Any] | None:
        """Answer one request; None: there is no such thing."""
        self.paths.append(path)
        parts = urlsplit(path)
        given = parse_qs(parts.query)
        query = {name: int(values[0]) for name, values in given.items() if values[0].isdigit()}
        page = slice(query.get("offset", 0), query.get("offset", 0) + query.get("limit", 0))
        last = parts.path.rpartition("/")[2]
        for host in self.hosts:
            if host["host"] == last:
                return host
        match last:
            case "vms":
                self.wrong -= "after" not in given
                rows = [row | {"status": "Unknown"} for row in self.rows] if self.wrong >= 0 else self.rows
                left = [row for row in rows if "after" not in given or row["id"] > given["after"][0]]
                return {"total": len(rows), "vms": left[page]}
            case "hosts":
                return {"total": len(self.hosts), "hosts": self.hosts[page]}
            case "fleet":
                return {"ready": True, "hosts": {"live": HOSTS}, "worst_age_s": self.age, "news": 1}
            case _:
                return None


class Handler(BaseHTTPRequestHandler):
    """Hands requests to the server."""

    server: FakeView

    def do_GET(self) -> None:
        """Answer as the server says; what it has no answer for is 404."""
        answer = self.server.answer(self.path)
        body = json.dumps(answer).encode()
        self.send_response(self.server.status if answer is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def row_of(vm: str, truth: Truth, clock: Clock) -> dict[str, Any]:
    """The row that says what is true."""
    true = truth.vms[vm]
    return {
        "id": vm,
        "host": true.host,
        "name": true.name,
        "freshness": "fresh",
        "age_s": 2.5,
        "status": true.status,
        "cpuUser": true.cpu_user,
        "cpuSys": true.cpu_sys,
        "memUsage": true.mem_usage,
        "elapsedTime": None if true.started is None else clock() - true.started,
        "hashes": true.hashes,
        "sections": true.sections,
    }


async def true_of(clock: Clock) -> Truth:
    """The truth of a small fleet: its agents run, and one of them saw a life end."""
    fleet = small_fleet(clock, HOSTS, VMS)
    hypervisor = fleet.hypervisors[0]
    await hypervisor.open(lambda _: None)
    await hypervisor.look()
    vm = next(vm for vm in hypervisor.domains if hypervisor.running(vm))
    hypervisor.power_off(vm, Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN))
    hypervisor.power_on(vm)
    clock.now += 1
    await hypervisor.look()
    return await take_truth(fleet, {each.host: 255 for each in fleet.hypervisors})


@contextmanager
def serving(truth: Truth, clock: Clock) -> Iterator[FakeView]:
    """A view that answers on some port."""
    with FakeView(truth, clock) as view:
        thread = threading.Thread(target=view.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield view
        finally:
            view.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once, and page often."""
    monkeypatch.setattr(verdict, "POLL_S", 0.0)
    monkeypatch.setattr(view_api, "PAGE", 2)


async def judged(view: FakeView, truth: Truth, clock: Clock, within_s: float = 20.0) -> Verdict:
    """The verdict on a view."""
    return await judge(truth, ViewApi(f"http://127.0.0.1:{view.server_port}", clock), clock, within_s)


async def test_view_that_is_right_is_clean_after_every_page() -> None:
    """All pages are asked for, and a view that says the truth is clean."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        found = await judged(view, truth, clock)
        assert found.clean
        assert list(found.lines()) == []
        assert sum("/vms" in path for path in view.paths) == HOSTS * VMS // 2 + 1


async def test_view_is_asked_until_it_has_followed() -> None:
    """A view that is wrong at first is asked again."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        view.wrong = 3
        assert (await judged(view, truth, clock)).clean


async def test_view_that_stays_wrong_is_told_so() -> None:
    """When the time is over, what is wrong is listed and counted by VM."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        view.wrong = 1 << 30
        found = await judged(view, truth, clock, within_s=0.0)
        assert not found.clean
        assert found.mismatched_vms == HOSTS * VMS
        assert len(list(found.lines())) == HOSTS * VMS


@pytest.mark.parametrize("age", [None, 7.5])
async def test_old_or_unknown_age_is_not_clean(age: float | None) -> None:
    """Being right is not enough: nothing may be old."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        view.age = age
        found = await judged(view, truth, clock, within_s=0.0)
        assert not found.clean
        assert "worst age" in next(found.lines())


async def test_one_vm_of_unknown_age_makes_the_worst_age_unknown() -> None:
    """A view may know the worst of the ages it knows; where one is unknown, that is not the worst age."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        del view.rows[-1]["age_s"]
        found = await judged(view, truth, clock, within_s=0.0)
    assert (found.clean, found.worst_age_s, found.mismatched_vms) == (False, None, 1)
    assert any("the worst age is unknown" in line for line in found.lines())


@pytest.mark.parametrize(
    "fault", [{"state": "late"}, {"epoch": "00000000000000fe"}, {"vms": VMS + 1}, {"host": "host-00009"}]
)
async def test_wrong_host_alone_is_not_clean(fault: dict[str, Any]) -> None:
    """However right its VMs are, a host that is wrong makes the demo fail."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        view.hosts[1] |= fault
        found = await judged(view, truth, clock, within_s=0.0)
    assert (found.clean, found.vms) == (False, ())
    assert {mismatch.subject for mismatch in found.hosts} <= {"host-00001", "host-00009"}


@pytest.mark.parametrize("known", [True, False])
async def test_lost_tombstone_is_not_clean(known: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A life that ended without a tombstone is a mismatch of its VM, even where the view has lost the whole host."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        fault: dict[str, Any] = {"tombstones": []} if known else {"host": "host-00009"}
        view.hosts[0] |= fault
        found = await judged(view, truth, clock, within_s=0.0)
    assert [mismatch.what for mismatch in found.vms] == ["tombstone"]
    assert (found.clean, found.mismatched_vms) == (False, 1)


async def test_view_that_does_not_answer_has_everything_wrong() -> None:
    """No answer, or an error, is not the same as nothing to say against it."""
    clock = Clock()
    truth = await true_of(clock)
    with serving(truth, clock) as view:
        view.status = 500
        found = await judged(view, truth, clock, within_s=0.0)
        with pytest.raises(ViewUnreachable, match="status 500"):
            await ViewApi(f"http://127.0.0.1:{view.server_port}", clock).fleet()
    assert not found.clean
    assert found.mismatched_vms == HOSTS * VMS
    with pytest.raises(ViewUnreachable, match="refused"):
        await ViewApi(f"http://127.0.0.1:{view.server_port}", clock).fleet()


def test_many_mismatches_are_listed_only_at_first() -> None:
    """A view that has everything wrong does not fill the screen."""
    many = tuple(Mismatch(str(number), "status", "Up", "Down") for number in range(1000))
    assert len(list(Verdict(FleetReport(worst_age_s=1.0), many, ()).lines())) == verdict.SHOWN + 1
