"""``vmpulse call`` as a program on a real broker: what it prints, and what its exit code says."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import ADMIN
from tests.real_broker import Program, address, agent_at_work, ended, running_vm, simulated_host, tapped, unique
from tests.waiting import eventually
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.hypervisor import Exit
from vmpulse_contract.identity import vm_text
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

STRANGER = "00000000-0000-4000-8000-000000000000"
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
CLI = "engine.cli"
SECRET = "a-secret-of-the-cli"
USER = """\
rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{secret}">>, <<"test">>),
rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, {rights}, <<"test">>).
"""
REMOVE = 'rabbit_auth_backend_internal:delete_user(<<"{user}">>, <<"test">>).'


async def call(broker: PrivateBroker, *arguments: str) -> Program:
    """Run the command."""
    return await ended("vmpulse_consumers", "call", *arguments, VMPULSE_BROKER_URL=broker.url())


@pytest.fixture
async def called(broker: PrivateBroker) -> AsyncIterator[tuple[SimulatedHypervisor, HostAgent]]:
    """A host whose agent answers."""
    hypervisor = simulated_host(unique("called"))
    async with tapped(broker) as tap, agent_at_work(hypervisor, address(broker)) as agent:
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        yield hypervisor, agent


async def test_json_is_one_line_in_words(broker: PrivateBroker, called: tuple[SimulatedHypervisor, HostAgent]) -> None:
    """With --json an answer is one line of JSON: ids, hashes and bodies in words, and unknown VMs named."""
    hypervisor, agent = called
    vm = running_vm(hypervisor)
    done = await call(broker, hypervisor.host, Verb.GET_STATUS, vm_text(vm), STRANGER, "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    answer = json.loads(done.out)
    assert answer["epoch"] == f"{agent.session.epoch:016x}"
    assert answer["vms"].keys() == {vm_text(vm)}
    assert answer["vms"][vm_text(vm)]["status"]["monitorResponse"] == 0
    assert answer["missing"] == [STRANGER]
    roster = await call(broker, hypervisor.host, Verb.GET_ROSTER, "--json")
    assert {row["vm"] for row in json.loads(roster.out)["roster"]["vms"]} == {vm_text(vm) for vm in hypervisor.domains}


async def test_numbers_of_the_wire_are_shown_as_words(
    broker: PrivateBroker, called: tuple[SimulatedHypervisor, HostAgent]
) -> None:
    """Statuses are VDSM's labels, and exit codes and reasons names: no reader has to know the wire's numbers."""
    hypervisor, agent = called
    vm = running_vm(hypervisor)
    listed = await call(broker, hypervisor.host, Verb.LIST, "--json")
    assert json.loads(listed.out)["vms"][vm_text(vm)]["status"] == "Up"
    runtime = await call(broker, hypervisor.host, Verb.GET_ALL_RUNTIME_STATS, "--json")
    record = json.loads(runtime.out)["vms"][vm_text(vm)]
    assert record["status"] == "Up"
    assert re.fullmatch("[0-9a-f]{16}", record["hashes"]["info"])
    hypervisor.power_off(vm, Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION))
    await eventually(lambda: agent.session.tombstones)
    roster = await call(broker, hypervisor.host, Verb.GET_ROSTER, "--json")
    (stone,) = json.loads(roster.out)["roster"]["tombstones"]
    assert (stone["vm"], stone["exitCode"], stone["exitReason"]) == (vm_text(vm), "error", "lost_qemu_connection")


@pytest.mark.parametrize(
    "verb, expected",
    [
        (Verb.LIST, "^{vm} +{name} +Up$"),
        (Verb.GET_ALL_RUNTIME_STATS, r"^{vm} +Up +[\d.-]+ +[\d.-]+ +[\d-]+ +\w+ +[\d.]+s$"),
        (Verb.GET_CONF_INFO, "^vmName +{name}$"),
        (Verb.GET_STATUS, "^monitorResponse +0$"),
        (Verb.GET_GUEST_DETAILS, "^{vm}$"),
        (Verb.GET_CONFIG, "^ *<uuid>{vm}</uuid>$"),
        (Verb.GET_HOST_STATS, r"^cpuCount +\d+$"),
        (Verb.GET_ALL_DEVICE_STATS, "^{vm}$"),
        (Verb.GET_ROSTER, "^{vm} +[0-9a-f]{{16}} +.*info=[0-9a-f]{{16}}"),
    ],
)
async def test_people_get_tables(
    broker: PrivateBroker, called: tuple[SimulatedHypervisor, HostAgent], verb: Verb, expected: str
) -> None:
    """Without --json every verb's answer is text in lines, none with blanks at its end, and XML is XML."""
    hypervisor, _ = called
    vm = running_vm(hypervisor)
    done = await call(broker, hypervisor.host, verb)
    assert (done.code, done.err) == (0, "")
    pattern = expected.format(vm=vm_text(vm), name=re.escape(hypervisor.domains[vm].name))
    assert re.search(pattern, done.out, re.MULTILINE), done.out
    assert not re.search(" $", done.out, re.MULTILINE)


async def test_unknown_host_is_one_line(broker: PrivateBroker) -> None:
    """A host that nobody answers for ends the program with 1 and one line that says what to check."""
    done = await call(broker, "nobody-there", Verb.LIST)
    assert (done.code, done.out) == (1, "")
    (line,) = done.lines
    assert "no live agent answers for host nobody-there" in line


@pytest.mark.parametrize(
    "arguments, named",
    [
        (("a-host", "getLost"), "VERB"),
        (("A Host", "list"), "HOST"),
        (("a-host", "getStatus", "no-uuid"), "VM"),
        (("a-host", "list", STRANGER), "VM"),
    ],
)
async def test_wrong_arguments_are_named_before_anybody_connects(arguments: tuple[str, ...], named: str) -> None:
    """What is typed wrong ends the program with 2 and one line that names it and what is allowed."""
    done = await ended("vmpulse_consumers", "call", *arguments, VMPULSE_BROKER_URL="amqp://engine.cli@127.0.0.1:1/")
    assert (done.code, done.out) == (2, "")
    (line,) = done.lines
    assert line.startswith(f"vmpulse: setting {named}: ")
    assert "allowed: " in line


async def test_refused_password_is_one_line(broker: PrivateBroker) -> None:
    """A wrong password ends the program with 1 and one line that does not show it."""
    url = str(address(broker)).replace("@", ":wrong-secret@")
    done = await ended("vmpulse_consumers", "call", "a-host", "list", VMPULSE_BROKER_URL=url)
    assert done.code == 1
    (line,) = done.lines
    assert "check its password" in line
    assert "wrong-secret" not in line


async def test_missing_broker_is_one_line_at_once(nobody: str) -> None:
    """Where no broker listens, nothing is tried again and nothing of the client's log shows; exit code 1."""
    began = time.monotonic()
    done = await ended("vmpulse_consumers", "call", "a-host", "list", VMPULSE_BROKER_URL=nobody)
    assert time.monotonic() - began < 5
    assert (done.code, done.out) == (1, "")
    (line,) = done.lines
    assert line.startswith("vmpulse: no broker answers at ")


@pytest.fixture
def nobody() -> Iterator[str]:
    """A broker address that nobody listens at, and nobody else can come to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"amqp://engine.cli@127.0.0.1:{held.getsockname()[1]}/"


@pytest.fixture
def fresh_vhost(broker: PrivateBroker) -> Iterator[str]:
    """A virtual host in which nobody has declared anything."""
    name = unique("fresh")
    broker.ctl("add_vhost", name)
    broker.ctl("set_permissions", "-p", name, ADMIN.name, ".*", ".*", ".*")
    yield name
    broker.ctl("delete_vhost", name)


async def test_fresh_broker_is_told_as_one_and_left_so(broker: PrivateBroker, fresh_vhost: str) -> None:
    """Where no view has ever run, one line says so; the question itself declares nothing that would stay."""
    url = broker.url() + fresh_vhost
    done = await ended("vmpulse_consumers", "call", "a-host", "list", VMPULSE_BROKER_URL=url)
    assert (done.code, done.out) == (1, "")
    (line,) = done.lines
    assert "has no exchange vmpulse.rpc: start the view once" in line
    assert "vmpulse." not in broker.ctl("list_exchanges", "-q", "-p", fresh_vhost, "name")
    assert "vmpulse." not in broker.ctl("list_queues", "-q", "-p", fresh_vhost, "name")


def documented_rights() -> list[str]:
    """What docs/operating.md gives to the user engine.cli: configure, write, read."""
    block = OPERATING.read_text(encoding="utf-8").split(f"set_permissions -p / {CLI} \\\n")[1].split("\n\n")[0]
    return re.findall("'([^']*)'", block)


def without_one_word(rights: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The same rights with one word of one pattern taken out, and which."""
    for at, pattern in enumerate(rights):
        words = re.fullmatch(r"\^vmpulse\\\.\(?(.*?)\)?\$", pattern)
        assert words is not None
        alternatives = words[1].split("|")
        for word in alternatives:
            left = [other for other in alternatives if other != word]
            less = rf"^vmpulse\.({'|'.join(left)})$" if left else "^$"
            yield f"{('configure', 'write', 'read')[at]} {word}", [*rights[:at], less, *rights[at + 1 :]]


@pytest.mark.timeout(60)
async def test_documented_rights_are_enough_and_needed(
    broker: PrivateBroker, called: tuple[SimulatedHypervisor, HostAgent]
) -> None:
    """With the rights of docs/operating.md a call is answered; with any word of them taken out it is refused."""
    hypervisor, _ = called
    rights = documented_rights()
    assert len(rights) == 3
    assert (await called_with(broker, hypervisor.host, rights)).code == 0
    for word, fewer in without_one_word(rights):
        done = await called_with(broker, hypervisor.host, fewer)
        assert (done.code, len(done.lines)) == (1, 1), word
        assert "ACCESS_REFUSED" in done.err, word


async def called_with(broker: PrivateBroker, host: str, rights: list[str]) -> Program:
    """Ask a host as an engine user who has only *rights*."""
    user = unique("engine.cli")
    quoted = ", ".join(f'<<"{pattern}">>' for pattern in rights).replace("\\", "\\\\")
    await asyncio.to_thread(broker.ctl, "eval", USER.format(user=user, secret=SECRET, vhost="/", rights=quoted))
    try:
        url = f"amqp://{user}:{SECRET}@{broker.host}:{broker.port}/"
        return await ended("vmpulse_consumers", "call", host, "list", VMPULSE_BROKER_URL=url)
    finally:
        await asyncio.to_thread(broker.ctl, "eval", REMOVE.format(user=user))
