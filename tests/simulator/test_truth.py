"""The truth: it is what an agent's session publishes, and the comparison finds whatever is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulator.stand import Clock, Stand, pass_tick, small_fleet
from vmpulse_agent.hypervisor import Exit
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator.dynamics import Dynamics, Rates
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.truth import (
    Mismatch,
    Seen,
    Truth,
    compare,
    compare_hosts,
    compare_tombstones,
    take_truth,
)

Row = dict[str, Any]


def never(_index: int, _crash: bool, _away_s: float) -> bool:  # noqa: FBT001 - the shape of a restart
    """Agents are not restarted here."""
    return False


async def settled(fleet: Fleet, clock: Clock) -> tuple[Truth, list[Seen]]:
    """The truth of a busy fleet after it was frozen, and what its sessions say of VMs."""
    truth, stands = await settled_stands(fleet, clock)
    rows: dict[str, Row] = {}
    for stand in stands:
        # A definition that a migration has left behind is another host's claim, which a view would not believe.
        rows.update({row["id"]: row for row in await stand.rows() if row["id"] not in rows or row["status"] != "Down"})
    return truth, [Seen(clock.now, row) for row in rows.values()]


async def settled_stands(fleet: Fleet, clock: Clock) -> tuple[Truth, list[Stand]]:
    """The truth of a busy fleet after it was frozen, and its hosts."""
    stands = [Stand(hypervisor, clock) for hypervisor in fleet.hypervisors]
    for stand in stands:
        await stand.begin()
    dynamics = Dynamics(fleet, never, clock.now, Rates(changes=0.5, power_cycles=0.2, migrations=60))
    for _ in range(20):
        dynamics.advance(clock.now)
        await pass_tick(stands, clock, 1.5)
    dynamics.finish()
    fleet.freeze()
    for _ in range(3):
        await pass_tick(stands, clock)
    return await take_truth(fleet, {stand.hypervisor.host: stand.session.epoch for stand in stands}), stands


async def test_truth_is_what_sessions_publish() -> None:
    """After log-ins, edits, power cycles and migrations, published bytes say just what is true."""
    clock = Clock()
    fleet = small_fleet(clock)
    truth, rows = await settled(fleet, clock)
    assert [str(mismatch) for mismatch in compare(truth, rows)] == []
    assert len(truth.vms) == fleet.vms


async def test_truth_of_a_stopped_vm_has_no_values() -> None:
    """A VM that does not run has no CPU share, no memory and no age."""
    clock = Clock()
    fleet = small_fleet(clock, 1, 3)
    hypervisor = fleet.hypervisors[0]
    vm = next(vm for vm in hypervisor.domains if hypervisor.running(vm))
    hypervisor.power_off(vm, Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN))
    truth = next(each for each in (await take_truth(fleet, {})).vms.values() if each.status == "Down")
    assert (truth.cpu_user, truth.cpu_sys, truth.mem_usage, truth.started) == (None, None, None, None)
    assert set(truth.sections) == {"info"}


def drop_row(rows: list[Row]) -> None:
    """A VM is missing."""
    rows.pop(0)


def add_row(rows: list[Row]) -> None:
    """A VM is one too many."""
    rows.append(rows[0] | {"id": "00000000-0000-0000-0000-000000000000"})


def repeat_row(rows: list[Row]) -> None:
    """A VM is there twice."""
    rows.append(rows[0])


def set_field(name: str, value: object) -> Callable[[list[Row]], None]:
    """A field has another value."""

    def plant(rows: list[Row]) -> None:
        rows[0][name] = value

    return plant


def nudge(name: str, by: float) -> Callable[[list[Row]], None]:
    """A number is off."""

    def plant(rows: list[Row]) -> None:
        rows[0][name] += by

    return plant


def set_in(part: str, name: str, value: object) -> Callable[[list[Row]], None]:
    """A hash or a section has another value; None: it is not there."""

    def plant(rows: list[Row]) -> None:
        if value is None:
            del rows[0][part][name]
        else:
            rows[0][part][name] = value

    return plant


PLANTED = [
    (drop_row, "membership"),
    (add_row, "membership"),
    (repeat_row, "membership"),
    (set_field("host", "host-00009"), "host"),
    (set_field("name", "another"), "name"),
    (set_field("name", None), "name"),
    (set_field("status", "Unknown"), "status"),
    (set_field("freshness", "stale"), "freshness"),
    (set_field("freshness", None), "freshness"),
    (set_field("age_s", 7.1), "age_s"),
    (set_field("age_s", None), "age_s"),
    (set_field("age_s", float("nan")), "age_s"),
    (set_field("repairing", ["status"]), "repairing"),
    (set_field("cpuUser", None), "cpuUser"),
    (nudge("cpuUser", 0.3), "cpuUser"),
    (nudge("cpuSys", -0.3), "cpuSys"),
    (nudge("memUsage", 1), "memUsage"),
    (set_field("memUsage", None), "memUsage"),
    (nudge("elapsedTime", 2.5), "elapsedTime"),
    (nudge("elapsedTime", -2.5), "elapsedTime"),
    (set_field("elapsedTime", None), "elapsedTime"),
    *((set_in("hashes", name, "0" * 16), f"hash of {name}") for name in ("info", "config", "status", "guestDetails")),
    *((set_in("hashes", name, None), f"hash of {name}") for name in ("info", "config", "status", "guestDetails")),
    *((set_in("sections", name, None), f"section {name}") for name in ("info", "status", "guestDetails")),
    *((set_in("sections", name, {"vmName": "x"}), f"section {name}") for name in ("info", "status", "guestDetails")),
    (set_field("sections", None), "section info"),
]


@pytest.mark.parametrize("plant, what", PLANTED)
async def test_planted_mismatch_is_found(plant: Callable[[list[Row]], None], what: str) -> None:
    """Whatever a view could have wrong is told as such, of that VM only."""
    clock = Clock()
    truth, rows = await settled(small_fleet(clock, 1, 4), clock)
    assert compare(truth, rows) == []
    planted: list[Row] = copy.deepcopy([dict(seen.row) for seen in rows])
    plant(planted)
    found = compare(truth, [Seen(clock.now, row) for row in planted])
    assert what in {mismatch.what for mismatch in found}
    assert len({mismatch.subject for mismatch in found}) == 1


async def test_small_differences_are_none() -> None:
    """One step of the wire and a second of age are within what travels."""
    clock = Clock()
    truth, rows = await settled(small_fleet(clock, 1, 4), clock)
    row = dict(rows[0].row)
    nudged = row | {"cpuUser": row["cpuUser"] + 0.1, "elapsedTime": row["elapsedTime"] - 1}
    assert compare(truth, [Seen(clock.now, nudged), *rows[1:]]) == []


HOST_ROW = {"host": "host-00000", "state": "live", "epoch": "00000000000000ff", "vms": 4}


@pytest.mark.parametrize(
    "rows, what",
    [
        ([], "membership"),
        ([HOST_ROW, HOST_ROW], "membership"),
        ([HOST_ROW, HOST_ROW | {"host": "host-00001"}], "membership"),
        ([HOST_ROW | {"state": "late"}], "state"),
        ([HOST_ROW | {"vms": 3}], "VMs"),
        ([HOST_ROW | {"epoch": "00000000000000fe"}], "epoch"),
        ([HOST_ROW | {"epoch": None}], "epoch"),
    ],
)
async def test_wrong_hosts_are_found(rows: list[Row], what: str) -> None:
    """A host that is missing, there twice, not live, of another epoch, short of a VM or one too many is told."""
    truth = await take_truth(small_fleet(Clock(), 1, 4), {"host-00000": 255})
    assert compare_hosts(truth, [HOST_ROW]) == []
    assert [mismatch.what for mismatch in compare_hosts(truth, rows)] == [what]


async def test_host_without_an_agent_is_never_right() -> None:
    """No epoch runs on a host whose agent is away, so whatever epoch a view believes there is wrong."""
    truth = await take_truth(small_fleet(Clock(), 1, 4), {})
    assert [mismatch.what for mismatch in compare_hosts(truth, [HOST_ROW])] == ["epoch"]


async def test_every_life_that_ended_has_its_tombstone() -> None:
    """After all that, rosters tell of just the lives that hypervisors saw end under their agent's eyes."""
    clock = Clock()
    truth, stands = await settled_stands(small_fleet(clock), clock)
    reasons = {end.reason for host in truth.hosts.values() for end in host.ended}
    assert {"migration_succeeded", "migration_failed", "user_shutdown"} <= reasons
    assert compare_hosts(truth, [stand.host_row() for stand in stands]) == []
    for stand in stands:
        host, row = truth.hosts[stand.hypervisor.host], stand.host_row()
        assert compare_tombstones(host, row) == []
        assert len(row["tombstones"]) == len(host.ended)


async def test_missing_or_wrong_tombstone_is_its_vms_mismatch() -> None:
    """A tombstone that is not there, or gives another reason, is told of the VM whose life ended."""
    clock = Clock()
    truth, stands = await settled_stands(small_fleet(clock), clock)
    row, host = stands[0].host_row(), truth.hosts[stands[0].hypervisor.host]
    first, *others = row["tombstones"]
    for stones in (others, [first | {"exitReason": "unknown"}, *others], [first | {"id": "another"}, *others]):
        (mismatch,) = compare_tombstones(host, row | {"tombstones": stones})
        assert (mismatch.subject, mismatch.what) == (first["id"], "tombstone")
    assert len(compare_tombstones(host, {})) == len(host.ended)


async def test_life_that_no_agent_saw_end_needs_no_tombstone() -> None:
    """What ends while no agent looks, nobody can tell of; so nobody has to."""
    clock = Clock()
    fleet = small_fleet(clock, 1, 4)
    hypervisor = fleet.hypervisors[0]
    vm = next(vm for vm in hypervisor.domains if hypervisor.running(vm))
    await hypervisor.open(lambda _: None)
    await hypervisor.look()
    await hypervisor.close()
    hypervisor.power_off(vm, Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN))
    clock.now += 1
    await hypervisor.open(lambda _: None)
    await hypervisor.look()
    assert (await take_truth(fleet, {})).hosts["host-00000"].ended == ()


def test_mismatch_reads_as_a_sentence() -> None:
    """Mismatches are listed for people."""
    assert str(Mismatch("vm", "status", "Up", "Down")) == "vm: status is 'Down', in truth 'Up'"
