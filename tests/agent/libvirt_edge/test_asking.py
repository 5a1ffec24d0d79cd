"""Whatever an engine asks an agent: nothing changes at its hypervisor, here libvirt's test driver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import libvirt
import pytest

from tests.agent.test_host_agent import Catcher
from tests.real_broker import at_work
from tests.waiting import eventually
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, LibvirtOptions
from vmpulse_contract import verbs, wire
from vmpulse_contract.errors import UnknownVerb
from vmpulse_contract.identity import HostId
from vmpulse_contract.stream import HostFacts
from vmpulse_contract.verbs import Request, Verb

URI = "test:///default"
DEEDS = [name for name in vars(libvirt.virDomain) if not name.startswith("_")]
"""Whatever libvirt can do to a domain, by the names of its methods."""


@pytest.fixture
def driver() -> Iterator[libvirt.virConnect]:
    """An administrator's connection, by which domains are compared."""
    with closing(libvirt.open(URI)) as connection:
        yield connection


def picture(driver: libvirt.virConnect) -> dict[bytes, tuple[object, ...]]:
    """What each domain is, in full."""
    secure = libvirt.VIR_DOMAIN_XML_SECURE
    found = driver.listAllDomains(0)
    return {domain.UUID(): (domain.ID(), domain.state(), domain.XMLDesc(secure)) for domain in found}


async def test_no_verb_changes_anything(driver: libvirt.virConnect) -> None:
    """All verbs, for all VMs and for each, and every deed of libvirt's as a verb: answered or unknown, and no deed."""
    before = picture(driver)
    hypervisor = LibvirtHypervisor(LibvirtOptions(uri=URI))
    agent = HostAgent(HostId("h001"), hypervisor, Catcher(), facts=HostFacts(), timing=Timing(tick_s=0.2, device_s=0.2))
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.ready and agent.held.host, what="the first look")
        for vms in ((), tuple(before)):
            body = wire.write(Request(vms=vms))
            for verb in Verb:
                verbs.read_reply(verb, (await agent.answer(verb, body, "engine.cli")).body)
            for deed in DEEDS:
                with pytest.raises(UnknownVerb):
                    verbs.read_reply(Verb.LIST, (await agent.answer(deed, body, "engine.cli")).body)
    assert await asyncio.to_thread(picture, driver) == before
    assert before
    assert {"destroy", "shutdown", "migrate3", "setMemory"} <= {*DEEDS}
