"""``vmpulse call`` as a program on a real broker: what it prints, and what its exit code says."""

from __future__ import annotations

import json

import pytest

from tests.real_broker import Program, address, agent_at_work, ended, running_vm, simulated_host, tapped, unique
from tests.waiting import eventually
from vmpulse_contract.identity import vm_text
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

STRANGER = "00000000-0000-4000-8000-000000000000"


async def call(broker: PrivateBroker, *arguments: str) -> Program:
    """Run the command."""
    return await ended("vmpulse_consumers", "call", *arguments, VMPULSE_BROKER_URL=broker.url())


async def test_call_prints_the_answer_as_json(broker: PrivateBroker) -> None:
    """The answer of a live host is printed as JSON, with ids and bodies in words, and unknown VMs named."""
    hypervisor = simulated_host(unique("called"))
    vm = running_vm(hypervisor)
    async with tapped(broker) as tap, agent_at_work(hypervisor, address(broker)) as agent:
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        done = await call(broker, hypervisor.host, Verb.GET_STATUS, vm_text(vm), STRANGER)
        assert (done.code, done.err) == (0, "")
        answer = json.loads(done.out)
        assert answer["epoch"] == f"{agent.session.epoch:016x}"
        assert answer["vms"].keys() == {vm_text(vm)}
        assert answer["vms"][vm_text(vm)]["status"]["monitorResponse"] == 0
        assert answer["missing"] == [STRANGER]
        roster = await call(broker, hypervisor.host, Verb.GET_ROSTER, "--json")
        assert {row["vm"] for row in json.loads(roster.out)["roster"]["vms"]} == {
            vm_text(vm) for vm in hypervisor.domains
        }
        assert roster.out.count("\n") == 1


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
