"""``vmpulse vms``, ``vm``, ``hosts`` and ``host`` against a served view."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.consumers.cli.running import run, run_on_terminal
from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet, Guest, SimulatedHost, guest_id, large_fleet, run_twice, small_fleet
from vmpulse_contract.identity import vm_text
from vmpulse_contract.stream import HostFacts

pytestmark = pytest.mark.asyncio(loop_scope="module")
VM_1 = vm_text(guest_id(1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[str]:
    """The address of a small fleet's view."""
    async with served(small_fleet()) as url:
        yield url


async def test_vms_are_listed_as_a_table(api: str) -> None:
    """Each VM is a line with its id, name, host, status and values; a pipe gets no colours and nothing is cut."""
    done = await run("vms", api=api)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert done.lines[0].split() == ["ID", "NAME", "HOST", "STATUS", "CPU", "%", "MEM", "%", "UP", "AGE"]
    assert done.lines[1].split()[:7] == [VM_1, "web-1", "alpha", "Up", "60.0", "10", "1m06s"]
    assert done.lines[3].split()[:7] == [vm_text(guest_id(3)), "db-1", "alpha", "Down", "-", "-", "-"]
    assert len(done.lines) == 7


@pytest.mark.parametrize(
    "flags, expected",
    [
        (("--host", "beta"), ["db-2", "cache"]),
        (("--label", "zone:b", "--label", "rack:1"), ["db-2", "cache"]),
        (("--status", "Up", "--status", "paused", "--text", "E"), ["web-1", "Web-2", "db-2", "cache", 'odd "name"\\']),
        (("--freshness", "stale"), []),
        (("--text", "db", "--sort", "-name"), ["db-2", "db-1"]),
        (("--sort", "-cpu", "--limit", "2"), ["db-2", "web-1"]),
        (("--sort=-cpu", "--limit", "1", "--offset", "1"), ["web-1"]),
        (("--host", "alpha", "--all"), ["web-1", "Web-2", "db-1"]),
        (("--split-brain",), []),
    ],
)
async def test_flags_mirror_the_filters(api: str, flags: tuple[str, ...], expected: list[str]) -> None:
    """Each flag is the API's parameter of that name, and --json gives the API's own reply."""
    done = await run("vms", "--json", *flags, api=api)
    assert done.code == 0, done.err
    assert [vm["name"] for vm in json.loads(done.out)["vms"]] == expected


async def test_cut_list_says_so(api: str) -> None:
    """When there are more VMs than shown, stderr says how many, and stdout stays the table."""
    done = await run("vms", "--limit", "2", api=api)
    assert len(done.lines) == 3
    assert done.err == "2 of 6 VMs; --all shows all of them\n"


async def test_all_pages_through_large_fleets() -> None:
    """``--all`` gives each of 1,200 VMs once, over several pages, as one table or one JSON."""
    async with served(large_fleet(30, 40)) as url:
        table = await run("vms", "--all", api=url)
        machine = await run("vms", "--all", "--json", "--sort", "name", api=url)
    assert len({line.split()[0] for line in table.lines[1:]}) == 1200
    reply = json.loads(machine.out)
    assert len({vm["id"] for vm in reply["vms"]}) == reply["total"] == reply["limit"] == 1200


async def test_one_vm_is_shown_with_its_sections(api: str) -> None:
    """``vm ID`` shows values and sections; with --json it is the API's row."""
    done = await run("vm", VM_1, api=api)
    assert done.code == 0, done.err
    shown = dict(line.split(maxsplit=1) for line in done.lines if len(line.split(maxsplit=1)) == 2)
    assert shown["name"] == "web-1"
    assert shown["memory"] == "10.0 %"
    assert shown["username"] == "alice"
    assert shown["guestIPs"] == "192.0.2.11"
    assert shown["netIfaces"] == "name=eth0, inet=192.0.2.11"
    row = json.loads((await run("vm", VM_1, "--json", api=api)).out)
    assert row["claims"][0]["owner"] is True


async def test_a_vm_that_two_hosts_run_is_shown() -> None:
    """``vms --split-brain`` lists it alone; ``vm ID`` says so, with what each host claims."""
    fleet = small_fleet()
    run_twice(fleet)
    async with served(fleet) as url:
        listed, done = await run("vms", "--split-brain", api=url), await run("vm", VM_1, api=url)
    assert [line.split()[0] for line in listed.lines[1:]] == [VM_1]
    assert "split brain  yes" in done.lines
    assert [line.split() for line in done.lines[-2:]] == [["alpha", "live", "Up", "no"], ["beta", "live", "Up", "yes"]]


async def test_devices_of_a_vm_are_shown(api: str) -> None:
    """``vm ID --devices`` shows disks and cards, and rates in a table; with --json it is the API's reply."""
    done = await run("vm", VM_1, "--devices", api=api)
    assert done.code == 0, done.err
    lines = {" ".join(line.split()) for line in done.lines}
    assert {"host alpha", "interval 30.0", "disks vda readOps=7, readBytes=7340032"} <= lines
    assert "network vnet0 name=vnet0, rx=1500" in lines
    assert "disks vda readRate 244,668 69,905 419,430 B/s" in lines
    assert json.loads((await run("vm", VM_1, "--devices", "--json", api=api)).out)["deviceStats"]["disks"]


@pytest.mark.parametrize(
    "arguments", [("vms",), ("vm", VM_1), ("vm", VM_1, "--devices"), ("hosts",), ("host", "alpha")]
)
async def test_pipes_get_no_padding(api: str, arguments: tuple[str, ...]) -> None:
    """No line that goes into a pipe or a file ends with blanks."""
    done = await run(*arguments, api=api)
    assert done.code == 0, done.err
    assert done.lines == done.out.splitlines()


async def test_hosts_are_listed_as_a_table(api: str) -> None:
    """Each host is a line with its state and counts."""
    done = await run("hosts", "--sort", "-vms", api=api)
    assert done.code == 0, done.err
    assert [line.split()[:6] for line in done.lines[1:]] == [
        ["alpha", "live", "3", "2", "35.5", "25"],
        ["beta", "live", "2", "2", "-", "-"],
        ["gamma", "live", "1", "1", "-", "-"],
    ]
    names = json.loads((await run("hosts", "--json", "--all", "--label", "zone:b", "--state", "live", api=api)).out)
    assert [host["host"] for host in names["hosts"]] == ["beta", "gamma"]


async def test_one_host_is_shown_with_its_vms(api: str) -> None:
    """``host`` takes an FQDN, and shows facts and VMs."""
    done = await run("host", "alpha.example.org", api=api)
    assert done.code == 0, done.err
    assert "zone=a, rack=1" in done.out
    shown = dict(line.split("  ", 1) for line in done.lines if "  " in line)
    assert [shown[name].strip() for name in ("cpu user", "load", "memory", "swap")] == [
        "25.5 %",
        "3.25",
        "16384 of 65536 MiB",
        "24 of 1024 MiB",
    ]
    assert [line.split()[:3] for line in done.lines if line.startswith(VM_1)] == [[VM_1, "web-1", "Up"]]


async def test_names_cannot_steer_the_terminal() -> None:
    """Control characters, markup and line breaks in a name are shown as what they are."""
    guest = Guest(guest_id(1), "\x1b[2J[red]x\nfake line")
    fleet = Fleet([SimulatedHost("alpha", HostFacts(), [guest])])
    async with served(fleet) as url:
        listed, shown = await run("vms", api=url), await run("vm", VM_1, api=url)
    assert "\x1b" not in listed.out + shown.out
    assert len(listed.lines) == 2
    assert "[2J[red]x\N{REPLACEMENT CHARACTER}fake line" in listed.out


async def test_tables_fit_the_terminal(api: str) -> None:
    """On a terminal of 80 columns there are colours, ids and numbers are whole, and no line is longer."""
    lines = await run_on_terminal("vms", api=api, columns=80)
    assert any("\x1b[" in line for line in lines)
    plain = [
        "".join(part.partition("m")[2] if at else part for at, part in enumerate(line.split("\x1b["))) for line in lines
    ]
    assert max(map(len, plain)) <= 80
    assert plain[1].split() == [VM_1, "web-1", "alpha", "Up", "60.0", "10", "0.0s"]
    assert len(plain) == 7
