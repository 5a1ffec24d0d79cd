"""Asking guests on libvirt's test driver, which has none: what they say, and whether they may be asked, is put in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from blockbuster import blockbuster_ctx

from tests.agent.libvirt_edge.following import Following, following
from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.hypervisor import SectionsStale
from vmpulse_agent.libvirt_edge import LibvirtOptions, domain_xml, guest_pace
from vmpulse_agent.libvirt_edge.connection import Connection
from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.guest_asking import GuestAsking
from vmpulse_agent.libvirt_edge.guest_memory import GuestMemory
from vmpulse_agent.libvirt_edge.guest_pace import Question
from vmpulse_agent.libvirt_edge.handles import Handles
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import GuestDetails, NetIface, Section, Status

VM = VmId(UUID("6695eb01-f6a4-8304-79aa-97f2502e193f").bytes)
SAID = GuestFacts((NetIface(name="eth0", inet=("192.0.2.7",)),), ("anna",))
STALE = SectionsStale(VM, frozenset({Section.STATUS, Section.GUEST_DETAILS}))


@pytest.fixture
async def follower(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Following]:
    """The edge on a domain whose agent is connected, and may be asked."""
    facts = domain_xml.facts
    monkeypatch.setattr(domain_xml, "facts", lambda *a: facts(*a)._replace(agent_connected=True))
    monkeypatch.setattr(Connection, "asks_guests", True)
    with blockbuster_ctx("vmpulse_agent"):
        async with following(LibvirtOptions(uri="test:///default")) as opened:
            yield opened


def guests_say(monkeypatch: pytest.MonkeyPatch, *answers: GuestFacts | Exception) -> list[Question]:
    """Guests say one thing after the other, the last one for ever. Gives what they are asked, as it grows."""
    asked: list[Question] = []

    def ask_one(_self: GuestAsking, _handles: Handles, question: Question) -> GuestFacts:
        asked.append(question)
        said = answers[min(len(asked), len(answers)) - 1]
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(GuestAsking, "_ask_one", ask_one)
    return asked


async def test_a_guest_that_trips_us_up_is_asked_again(
    follower: Following, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that nobody has thought of is a failure of this guest, told with its traceback; no place is lost."""
    monkeypatch.setattr(guest_pace, "EAGER_RETRY_S", 0.05)
    asked = guests_say(monkeypatch, RecursionError("odd"), SAID)
    await follower.hypervisor.read(VM, frozenset(Section))
    await follower.until(lambda event: event == STALE)
    await follower.until(lambda event: event == STALE)
    assert len(asked) == 2
    assert (await follower.hypervisor.read(VM, frozenset(Section))).guest_details == GuestDetails(
        net_ifaces=SAID.interfaces
    )
    assert "RecursionError: odd" in caplog.text
    assert "Traceback" in caplog.text


async def test_what_guests_said_is_absent_while_they_may_not_be_asked(
    follower: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users and addresses as well as details and file systems, although they are remembered."""
    guests_say(monkeypatch, SAID._replace(usage=()))
    await follower.hypervisor.read(VM, frozenset(Section))
    await follower.until(lambda event: event == STALE)
    told = (await follower.hypervisor.read(VM, frozenset(Section))).status
    assert told is not None
    assert told.username == "anna"
    assert (await follower.hypervisor.device_sample()).domains[VM].usage == ()
    monkeypatch.setattr(Connection, "asks_guests", False)
    reading = await follower.hypervisor.read(VM, frozenset(Section))
    assert (reading.status, reading.guest_details) == (Status(), GuestDetails())
    assert (await follower.hypervisor.device_sample()).domains[VM].usage is None


async def test_a_guest_that_says_no_more_is_told_no_more(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its answers are too old it is announced, and read as absent; its next answer is announced again."""
    for name in ("EAGER_AGAIN_S", "EAGER_RETRY_S"):
        monkeypatch.setattr(guest_pace, name, 0.1)
    lapse = GuestMemory.lapse
    monkeypatch.setattr(GuestMemory, "lapse", lambda self, now: lapse(self, now + 299.8))
    asked = guests_say(monkeypatch, SAID, *[HypervisorError("silent")] * 4, SAID)
    await follower.hypervisor.read(VM, frozenset(Section))
    await follower.until(lambda event: event == STALE)
    await follower.until(lambda event: event == STALE)
    assert len(asked) < 6
    told = (await follower.hypervisor.read(VM, frozenset(Section))).status
    assert told == Status(guest_ips=("192.0.2.7",))
    await follower.until(lambda event: event == STALE)
    told = (await follower.hypervisor.read(VM, frozenset(Section))).status
    assert told is not None
    assert told.username == "anna"


async def test_nothing_is_polled_while_no_guest_may_be_asked(
    follower: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps until the connection is back."""
    asked = guests_say(monkeypatch, SAID)
    monkeypatch.setattr(Connection, "asks_guests", False)
    guests = follower.hypervisor._guests
    assert guests._begin_due() is None
    await follower.hypervisor.read(VM, frozenset(Section))
    await asyncio.sleep(0)
    assert asked == []
    monkeypatch.setattr(Connection, "asks_guests", True)
    follower.hypervisor._back()
    await follower.until(lambda event: event == STALE)
    assert [question.vm for question in asked] == [VM]


async def test_a_lost_connection_is_no_failure_of_a_guest(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails because libvirt went away is asked soon again, once it is back."""
    question = Question(VM, frozenset({guest_pace.Topic.USERS}), 1)
    guests = follower.hypervisor._guests
    guests_say(monkeypatch, SAID)
    await follower.hypervisor.read(VM, frozenset(Section))
    await follower.until(lambda event: event == STALE)
    monkeypatch.setattr(Connection, "asks_guests", False)
    failure = HypervisorError("client socket is closed")
    guests._failed(question, failure)
    assert guests._pace._guests[VM].standing is guest_pace.Standing.PROVEN
    monkeypatch.setattr(Connection, "asks_guests", True)
    guests._failed(question, failure)
    assert guests._pace._guests[VM].standing is guest_pace.Standing.SUSPECT
