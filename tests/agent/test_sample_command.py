"""``vmpulse-agent sample``: what would travel, as JSON, without a broker."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

from tests.real_broker import ended, running_vm, simulated_host
from vmpulse_agent.commands.sample_command import observed
from vmpulse_agent.session import Session
from vmpulse_contract.identity import vm_text
from vmpulse_contract.stream import HostFacts

AGENT = "vmpulse_agent"
URI = ("--uri", "test:///default", "--host", "h1")
VM = "6695eb01-f6a4-8304-79aa-97f2502e193f"


async def test_two_looks_a_tick_apart() -> None:
    """After two looks the frame has CPU shares, its columns are in layout order, and bodies go with their hashes."""
    hypervisor = simulated_host("h1", vms=6)
    session = Session(hypervisor.host, 5, HostFacts(), hypervisor.clock())
    sample = await observed(session, hypervisor, 1.0, None)
    vm = running_vm(hypervisor)
    place = sorted(hypervisor.domains).index(vm)
    shown = sample["vms"][vm_text(vm)]
    assert sample["host"] == "h1"
    assert sample["facts"]["hostUuid"] == hypervisor.uuid
    assert sample["frame"]["count"] == len(sample["vms"]) == 6
    assert sample["frame"]["bytes"] > 40
    assert sample["frame"]["cpuUser"][place] == shown["cpuUser"] * 10
    assert shown["status"] == "Up"
    assert sample["frame"]["status"][place] == 1
    assert set(shown["hashes"]) == {"info", "config", "status", "guestDetails"}
    assert set(shown["sections"]) == {"info", "status", "guestDetails"}
    assert shown["sections"]["info"]["vmName"]
    assert sample["unread"] == []


async def test_one_look_at_one_vm() -> None:
    """``--once`` does not wait and has no CPU shares; ``--vm`` leaves the frame whole and shows one VM's part."""
    hypervisor = simulated_host("h1")
    vm = running_vm(hypervisor)
    sample = await observed(Session(hypervisor.host, 5, HostFacts(), hypervisor.clock()), hypervisor, 0.0, vm)
    assert list(sample["vms"]) == [vm_text(vm)]
    assert "cpuUser" not in sample["vms"][vm_text(vm)]
    assert sample["frame"]["count"] == 3


async def test_program_prints_one_line_of_json() -> None:
    """On libvirt's test driver the program prints one line of JSON and ends with 0."""
    done = await ended(AGENT, "sample", *URI, "--once")
    assert (done.code, done.err) == (0, "")
    sample = json.loads(done.out)
    assert sample["facts"]["hypervisorVersion"].startswith("TEST ")
    assert sample["vms"][VM]["sections"]["info"]["vmName"] == "test"


async def test_program_says_what_is_wrong(tmp_path: Path) -> None:
    """A VM that is not there and a libvirt that is away are 1, an id that is none is 2: one line each."""
    other = str(UUID(int=7))
    missing = tmp_path / "none"
    for code, words, arguments in (
        (1, f"the hypervisor has no VM {other}", (*URI, "--once", "--vm", other)),
        (1, f"there is no {missing}", ("--host", "h1", "--uri", f"qemu+unix:///system?socket={missing}")),
        (2, "VM id 'x' is not allowed", (*URI, "--vm", "x")),
    ):
        done = await ended(AGENT, "sample", *arguments)
        assert (done.code, done.out, len(done.lines)) == (code, "", 1)
        assert words in done.err
        assert done.err.startswith("vmpulse-agent: ")
