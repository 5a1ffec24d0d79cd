"""Errors in this program that odd data meets: they cost one domain, or one answer, and nobody else anything."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from math import nan
from typing import Any
from uuid import UUID

import libvirt
import pytest

from tests.agent.libvirt_edge.following import Following, following
from vmpulse_agent.errors import HypervisorFault
from vmpulse_agent.libvirt_edge import LibvirtOptions, domain_xml, host_stats, reading
from vmpulse_agent.libvirt_edge.faults import Faults
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus

URI = "test:///default"
ODD = VmId(UUID("6695eb01-f6a4-8304-79aa-97f2502e193f").bytes)
WELL = VmId(bytes(range(16)))
XML = f"""\
<domain type='test'>
  <name>w</name><uuid>{UUID(bytes=WELL)}</uuid><memory>1024</memory><os><type>hvm</type></os>
</domain>
"""
Answer = list[tuple[libvirt.virDomain, dict[str, object]]]


@pytest.fixture
async def follower() -> AsyncIterator[Following]:
    """The edge on a test driver with two domains."""
    async with following(LibvirtOptions(uri=URI)) as opened:
        admin = libvirt.open(URI)
        admin.createXML(XML)
        yield opened
        admin.lookupByUUID(WELL).destroy()
        admin.close()


def mangled(monkeypatch: pytest.MonkeyPatch, **odd: object) -> None:
    """From now on the statistics of one domain say what makes no sense."""
    given = libvirt.virConnect.getAllDomainStats

    def answered(self: libvirt.virConnect, *args: Any, **named: Any) -> Answer:
        return [
            (domain, stats | odd if VmId(domain.UUID()) == ODD else stats)
            for domain, stats in given(self, *args, **named)
        ]

    monkeypatch.setattr(libvirt.virConnect, "getAllDomainStats", answered)


@pytest.mark.parametrize("odd", [{"state.state": nan}, {"cpu.time": nan}])
async def test_a_record_that_cannot_be_made_costs_its_domain(
    follower: Following, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, odd: dict[str, object]
) -> None:
    """It stays as it was and was not asked; the other answers; one traceback, and every fault is counted."""
    before = {domain.vm: domain for domain in (await follower.hypervisor.look()).domains}
    mangled(monkeypatch, **odd)
    for states_only in (False, False, True):
        look = await follower.hypervisor.look(states_only=states_only)
        after = {domain.vm: domain for domain in look.domains}
        assert after[ODD] == before[ODD]._replace(answered=None)
        assert after[WELL].token == before[WELL].token
        assert after[WELL].answered is (None if states_only else True)
        assert not look.partial
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
    assert follower.hypervisor._lanes.look.measure.errors == 3


async def test_a_domain_never_seen_whole_is_there(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it but that it is there."""
    mangled(monkeypatch, **{"state.state": nan})
    seen = await follower.seen(ODD)
    assert seen is not None
    assert (seen.status, seen.token, seen.answered) == (VmStatus.UNKNOWN, 0, None)


async def test_counters_that_cannot_be_taken(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that domain is left out of the sample."""
    mangled(monkeypatch, **{"balloon.current": nan})
    sample = await follower.hypervisor.device_sample()
    assert sample.domains.keys() == {WELL}
    assert follower.hypervisor._lanes.device.measure.errors == 1


Call = Callable[[Following], Any]


@pytest.mark.parametrize(
    "where,what,lane,call",
    [
        (libvirt.virConnect, "getAllDomainStats", "look", lambda f: f.hypervisor.look(states_only=True)),
        (libvirt.virConnect, "getAllDomainStats", "device", lambda f: f.hypervisor.device_sample()),
        (domain_xml, "facts", "read", lambda f: f.hypervisor.read(ODD, frozenset(Section))),
        (reading, "host_facts", "read", lambda f: f.hypervisor.facts()),
        (host_stats, "host_stats", "host", lambda f: f.hypervisor.host_stats()),
    ],
)
async def test_nothing_but_errors_of_the_port_comes_out(  # noqa: PLR0917 - fixtures and one case
    follower: Following, monkeypatch: pytest.MonkeyPatch, where: object, what: str, lane: str, call: Call
) -> None:
    """Whoever asks goes on after a HypervisorError: an error of ours is one, and is counted."""

    def broken(*_: object, **_named: object) -> object:
        raise RecursionError("too deep")

    monkeypatch.setattr(where, what, broken)
    with pytest.raises(HypervisorFault, match="RecursionError: too deep"):
        await call(follower)
    counted = "state" if (what, lane) == ("getAllDomainStats", "look") else lane
    assert getattr(follower.hypervisor._lanes, counted).measure.errors == 1


def test_each_fault_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The same line with other data is the same fault; another line or kind is another."""
    faults = Faults()
    with caplog.at_level(logging.ERROR):
        for number in range(3):
            for raised in (bytes.decode, int):
                with pytest.raises(ValueError, match=r"codec|invalid") as caught:
                    _raising(raised, b"\xff\n" * (number + 1))
                assert "\n" not in str(faults.made("look", caught.value))
    assert len(caplog.records) == 2


def _raising(raised: Callable[[bytes], object], data: bytes) -> None:
    raised(data)
