"""``vmpulse watch --raw`` and ``vmpulse replay`` as their users run them, and views of two names on one fleet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.real_broker import (
    address,
    agent_at_work,
    ended,
    running_vm,
    simulated_host,
    started,
    unique,
    view_at_work,
)
from tests.waiting import eventually
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.rows import VmRow, vm_row
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

PROGRAM: Final = "vmpulse_consumers"
NO_RIGHTS: Final = """\
rabbit_auth_backend_internal:add_user(<<"test.nobody">>, <<"secret">>, <<"test">>),
rabbit_auth_backend_internal:set_permissions(<<"test.nobody">>, <<"/">>, <<"^$">>, <<"^$">>, <<"^$">>, <<"test">>).
"""


async def program(*arguments: str) -> asyncio.subprocess.Process:
    """The program ``vmpulse``, its output kept."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vmpulse_consumers", *arguments, stdout=pipe, stderr=pipe
    )


def picture(view: ViewService, vms: list[VmId]) -> list[VmRow]:
    """What a view says of some VMs, but for their age and the values that change with each tick."""
    volatile = ("age_s", "elapsed_time", "cpu_user", "cpu_sys", "mem_usage")
    return [
        type(row)(**{name: getattr(row, name) for name in row.__struct_fields__ if name not in volatile})
        for row in (
            vm_row(view.view, view.clock(), view.view.vms[vm], with_sections=True, with_claims=True) for vm in vms
        )
    ]


def whole(view: ViewService, vms: list[VmId]) -> bool:
    """Whether a view has all these VMs, with nothing to be repaired."""
    rows = [vm_row(view.view, view.clock(), view.view.vms[vm]) for vm in vms if vm in view.view.vms]
    return len(rows) == len(vms) and all(row.freshness == "fresh" and not row.repairing for row in rows)


def rename(hypervisor: SimulatedHypervisor, name: str) -> None:
    """Give a running VM another name."""
    vm = running_vm(hypervisor)
    hypervisor.domains[vm].name = name
    hypervisor.changed(vm, Section.INFO)


async def test_two_views_of_different_names_end_equal(broker: PrivateBroker) -> None:
    """Whenever each came and whatever it missed, both say the same of every VM."""
    hypervisors = [simulated_host(unique(f"twin-{seed}"), seed=seed) for seed in (1, 2)]
    vms = [vm for hypervisor in hypervisors for vm in hypervisor.domains]
    async with (
        agent_at_work(hypervisors[0], address(broker)),
        view_at_work(broker) as first,
        agent_at_work(hypervisors[1], address(broker)),
    ):
        await eventually(lambda: whole(first, vms))
        rename(hypervisors[0], "renamed-before")
        async with view_at_work(broker) as second:
            await eventually(lambda: whole(second, vms))
            rename(hypervisors[1], "renamed-after")
            named = {"renamed-before", "renamed-after"}
            for view in (first, second):
                await eventually(lambda view=view: named <= {row.name for row in picture(view, vms)})  # type: ignore[misc]
            assert picture(first, vms) == picture(second, vms)


async def test_a_capture_beside_a_view_rebuilds_what_it_says(broker: PrivateBroker, tmp_path: Path) -> None:
    """Captured until SIGINT and replayed, every VM is as the view has it, and the state is the captured one."""
    hypervisor, path = simulated_host(unique("captured")), tmp_path / "fault.capture"
    vms = list(hypervisor.domains)
    async with view_at_work(broker) as view, agent_at_work(hypervisor, address(broker)):
        await eventually(lambda: whole(view, vms))
        watching = await program("watch", "--raw", str(path), "--broker-url", broker.url())
        assert watching.stderr is not None
        line = await asyncio.wait_for(watching.stderr.readline(), 15)
        while b"1 hosts, 3 VMs" not in line:
            line = await asyncio.wait_for(watching.stderr.readline(), 15)
        rename(hypervisor, "renamed-meanwhile")
        await eventually(lambda: "renamed-meanwhile" in {row.name for row in picture(view, vms)})
        await asyncio.wait_for(watching.stderr.readline(), 15)
        watching.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(watching.wait(), 10) == 0
        rest = await watching.stderr.read()
        assert b"rebuilds this view" in rest
        replaying = await program("replay", str(path), "--json")
        out, said = await asyncio.wait_for(replaying.communicate(), 15)
        assert (replaying.returncode, b"and this is the captured view" in said) == (0, True)
        shown = {row["id"]: row for row in json.loads(out)["vms"]}
        for row in picture(view, vms):
            assert (shown[row.id]["name"], shown[row.id]["status"], shown[row.id]["hashes"]) == (
                row.name,
                row.status,
                row.hashes,
            )
        tables = await program("replay", str(path), "--until", "1000")
        out, _ = await asyncio.wait_for(tables.communicate(), 15)
        assert b"renamed-meanwhile" in out
        with contextlib.suppress(ProcessLookupError):
            watching.kill()


def watch(broker: PrivateBroker, path: Path) -> tuple[str, ...]:
    """The command line that captures to a file."""
    return ("watch", "--raw", str(path), "--broker-url", broker.url())


async def test_a_full_disk_ends_the_capture_with_what_it_has(broker: PrivateBroker, tmp_path: Path) -> None:
    """One line says so with the remedy, the exit code is 1, and what was written is replayed."""
    hypervisor, path = simulated_host(unique("full")), tmp_path / "full.capture"
    async with agent_at_work(hypervisor, address(broker)), started(PROGRAM, *watch(broker, path)) as (watching, err):
        resource.prlimit(watching.pid, resource.RLIMIT_FSIZE, (4000, 4000))
        assert await asyncio.wait_for(watching.wait(), 30) == 1
        lines = err.read_text(encoding="utf-8").splitlines()
    remedy = f"make room or name a file elsewhere; `vmpulse replay {path}` reads what it has so far"
    assert lines[-1] == f"vmpulse: {path} cannot be written: File too large; {remedy}"
    assert not any("Traceback" in line or "rebuilds this view" in line for line in lines)
    assert path.stat().st_size == 4000
    done = await ended(PROGRAM, "replay", str(path))
    assert done.code == 0
    assert done.lines[-1].endswith(
        "the end of the capture was not reached: whether this is the captured view is not known"
    )


async def test_a_capture_that_the_broker_refuses_leaves_no_file(broker: PrivateBroker, tmp_path: Path) -> None:
    """A wrong password, and a user without rights: one line, and the name is free for the next attempt."""
    broker.ctl("eval", NO_RIGHTS)
    for user in ("test.admin:wrong", "test.nobody:secret"):
        path = tmp_path / "refused.capture"
        url = f"amqp://{user}@127.0.0.1:{broker.port}/"
        done = await ended(PROGRAM, "watch", "--raw", str(path), "--broker-url", url)
        assert (done.code, len(done.lines)) == (1, 1), done.err
        assert "refuse" in done.err
        assert not path.exists()
