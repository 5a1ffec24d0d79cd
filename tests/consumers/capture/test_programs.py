"""``vmpulse watch --raw`` and ``vmpulse replay`` on a real broker, and views of two names on one fleet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.real_broker import address, agent_at_work, running_vm, simulated_host, unique, view_at_work
from tests.waiting import eventually
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.rows import VmRow, vm_row
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker


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


@pytest.mark.parametrize(
    "arguments,words,code",
    [
        (("watch", "--raw", "{there}"), "is there already; name a file that is not", 1),
        (("watch", "--raw", "x", "--type", "vm.gone"), "nothing beside --raw", 2),
        (("replay", "{missing}"), "cannot be read", 1),
        (("replay", "{there}"), "it is no capture", 1),
    ],
)
async def test_what_cannot_be_done_is_said_with_the_remedy(
    tmp_path: Path, arguments: tuple[str, ...], words: str, code: int
) -> None:
    """One line on stderr, and the exit code that goes with it."""
    there = tmp_path / "there"
    there.write_bytes(b"\x01")
    places = {"there": str(there), "missing": str(tmp_path / "missing")}
    done = await program(*(argument.format(**places) for argument in arguments))
    _, said = await asyncio.wait_for(done.communicate(), 15)
    assert (words in said.decode(), done.returncode) == (True, code), said
