"""The whole edge on libvirt's test driver: real libvirt, no domain that costs anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from uuid import UUID

import libvirt
import pytest
from blockbuster import blockbuster_ctx

from tests.agent.libvirt_edge.following import Following, following
from vmpulse_agent.errors import HypervisorError, HypervisorUnavailable
from vmpulse_agent.hypervisor import DeviceCounters, Exit, LifecycleChange, SectionsStale
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, LibvirtOptions, domain_xml, reading
from vmpulse_agent.libvirt_edge.events import RawEvent
from vmpulse_agent.libvirt_edge.evidence import Role
from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.guest_pace import Question, Topic
from vmpulse_contract import limits, sections
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import GuestDetails, NetIface, Section, Status
from vmpulse_contract.values import ExitCode, ExitReason, PauseCode, SessionState, VmStatus

URI = "test:///default"
VM = VmId(UUID("6695eb01-f6a4-8304-79aa-97f2502e193f").bytes)
NEW, OTHER = VmId(bytes(range(16))), VmId(bytes(range(1, 17)))
NEW_XML = f"""\
<domain type='test'>
  <name>new</name><uuid>{UUID(bytes=NEW)}</uuid><memory>1024</memory><os><type>hvm</type></os>
</domain>
"""


@pytest.fixture
async def follower() -> AsyncIterator[Following]:
    """The edge on a fresh test driver with its one domain, "test". Nothing in it may block the loop (promise A1)."""
    with blockbuster_ctx("vmpulse_agent"):
        async with following(LibvirtOptions(uri=URI)) as opened:
            yield opened


@pytest.fixture
async def driver(follower: Following) -> AsyncIterator[libvirt.virConnect]:
    """Somebody else's connection to the same driver, after ours: it is the admin who does things."""
    assert follower.events == []
    connection = await asyncio.to_thread(libvirt.open, URI)
    yield connection
    await asyncio.to_thread(connection.close)


async def test_look_and_facts(follower: Following) -> None:
    """The domain is seen; what this driver cannot give is absent, and it did answer."""
    facts = await follower.hypervisor.facts()
    assert (facts.host_uuid, facts.hypervisor_version) == (None, "TEST 0.0.2")
    domain = await follower.seen(VM)
    assert domain is not None
    assert (domain.status, domain.answered, domain.cpu_time_ns, domain.elapsed_ms) == (VmStatus.UP, True, None, None)
    assert domain.token != 0


async def test_every_change_is_announced_and_seen(follower: Following, driver: libvirt.virConnect) -> None:
    """Suspend, resume, destroy, start, define, undefine: an event, and the next look agrees."""
    first = await follower.seen(VM)
    domain = await asyncio.to_thread(driver.lookupByUUID, VM)
    await asyncio.to_thread(domain.suspend)
    await follower.change(VM, LifecycleChange.SUSPENDED)
    assert await follower.status(VM) == "Paused"
    await asyncio.to_thread(domain.resume)
    await follower.change(VM, LifecycleChange.RESUMED)
    assert await follower.status(VM) == "Up"
    await asyncio.to_thread(domain.destroy)
    event = await follower.change(VM, LifecycleChange.STOPPED)
    down = await follower.seen(VM)
    assert down is not None
    assert event.exit == down.exit == Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)
    assert (down.token, down.status) == (0, VmStatus.DOWN)
    await asyncio.to_thread(domain.create)
    await follower.change(VM, LifecycleChange.STARTED)
    again = await follower.seen(VM)
    assert first is not None
    assert again is not None
    assert again.token not in {0, first.token}


async def test_define_and_undefine(follower: Following, driver: libvirt.virConnect) -> None:
    """A definition is a VM that is down; without it there is none."""
    domain = await asyncio.to_thread(driver.defineXML, NEW_XML)
    await follower.change(NEW, LifecycleChange.DEFINED)
    await follower.until(lambda e: e == SectionsStale(NEW, frozenset({Section.INFO, Section.CONFIG})))
    assert await follower.status(NEW) == "Down"
    await asyncio.to_thread(domain.undefine)
    await follower.change(NEW, LifecycleChange.UNDEFINED)
    assert await follower.seen(NEW) is None


async def test_sections(follower: Following, driver: libvirt.virConnect) -> None:
    """Each section as wanted; the pause code comes and goes."""
    reading = await follower.hypervisor.read(VM, frozenset(Section))
    assert reading.info is not None
    assert (reading.info.vm_name, reading.info.vm_type, reading.info.pid) == ("test", "test", None)
    assert (reading.status, reading.guest_details) == (Status(), GuestDetails())
    assert reading.config is not None
    assert reading.config.startswith(b'<domain type="test"><name>test</name>')
    assert sections.encode(reading.info)
    domain = await asyncio.to_thread(driver.lookupByUUID, VM)
    await asyncio.to_thread(domain.suspend)
    paused = await follower.hypervisor.read(VM, frozenset({Section.STATUS}))
    assert paused.status == Status(pause_code=PauseCode.NOERR)
    assert (paused.info, paused.config, paused.guest_details) == (None, None, None)


async def test_config_is_the_definition(follower: Following, driver: libvirt.virConnect) -> None:
    """The same bytes up and down; others after a redefinition, of which an event tells."""
    wanted = frozenset({Section.CONFIG})
    up = (await follower.hypervisor.read(VM, wanted)).config
    domain = await asyncio.to_thread(driver.lookupByUUID, VM)
    await asyncio.to_thread(domain.destroy)
    assert (await follower.hypervisor.read(VM, wanted)).config == up
    xml = await asyncio.to_thread(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE)
    changed = xml.replace("<on_crash>destroy", "<on_crash>restart")
    await asyncio.to_thread(driver.defineXML, changed)
    await follower.until(lambda event: isinstance(event, SectionsStale) and Section.CONFIG in event.sections)
    assert (await follower.hypervisor.read(VM, wanted)).config != up


async def test_metadata_makes_config_stale(follower: Following, driver: libvirt.virConnect) -> None:
    """Metadata is configuration."""
    domain = await asyncio.to_thread(driver.lookupByUUID, VM)
    kind = libvirt.VIR_DOMAIN_METADATA_TITLE
    await asyncio.to_thread(domain.setMetadata, kind, "a title", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    await follower.until(lambda event: event == SectionsStale(VM, frozenset({Section.CONFIG})))
    config = (await follower.hypervisor.read(VM, frozenset({Section.CONFIG}))).config
    assert config is not None
    assert b"<title>a title</title>" in config


async def test_what_the_guest_says(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once it has answered, kept while it does not, gone when its agent is; no reading asks it."""
    hypervisor = follower.hypervisor
    connected = True
    facts = domain_xml.facts
    monkeypatch.setattr(domain_xml, "facts", lambda *a: facts(*a)._replace(agent_connected=connected))
    monkeypatch.setattr(LibvirtHypervisor, "asks_guests", True)
    early = await hypervisor.read(VM, frozenset(Section))
    assert (early.status, early.guest_details) == (None, None)
    await hypervisor.settle()
    await follower.until(lambda event: event == SectionsStale(VM, frozenset({Section.STATUS, Section.GUEST_DETAILS})))
    silent = await hypervisor.read(VM, frozenset(Section))
    assert (silent.status, silent.guest_details) == (Status(), None)
    said = GuestFacts((NetIface(name="eth0", inet=("192.0.2.7",)),), ("anna",))
    hypervisor._guests._answered(Question(VM, frozenset({Topic.USERS}), 1), said)
    await follower.until(lambda event: event == SectionsStale(VM, frozenset({Section.STATUS, Section.GUEST_DETAILS})))
    first = await hypervisor.read(VM, frozenset(Section))
    assert first.status == Status(username="anna", session=SessionState.USER_LOGGED_ON, guest_ips=("192.0.2.7",))
    assert first.guest_details == GuestDetails(net_ifaces=(NetIface(name="eth0", inet=("192.0.2.7",)),))
    connected = False
    third = await hypervisor.read(VM, frozenset(Section))
    assert (third.status, third.guest_details) == (Status(), GuestDetails())


async def test_guests_that_may_not_be_asked(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for them: what is known without them is told at once."""
    facts = domain_xml.facts
    monkeypatch.setattr(domain_xml, "facts", lambda *a: facts(*a)._replace(agent_connected=True))
    found = await follower.hypervisor.read(VM, frozenset(Section))
    assert (found.status, found.guest_details) == (Status(), GuestDetails())


async def test_a_role_in_a_migration_is_verified(follower: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that failed has no event: its job is asked for, and the next look is right."""
    monkeypatch.setattr(reading, "role", lambda *_: Role.NONE)
    follower.hypervisor._evidence.about(VM).role = Role.SOURCE
    assert await follower.status(VM) == "Migration Source"
    while await follower.status(VM) != "Up":
        await asyncio.sleep(0.001)


async def test_who_is_gone_is_forgotten_however_often_others_are_heard_of(follower: Following) -> None:
    """Only a domain that was heard of since the look began is spared: it may have come since."""
    hypervisor = follower.hypervisor
    for vm in (NEW, OTHER):
        hypervisor._evidence.about(vm).role = Role.NONE
    looking = asyncio.create_task(hypervisor.look())
    while not hypervisor._surveyor._bulk.locked():
        await asyncio.sleep(0)
    hypervisor._heard(RawEvent(libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE, OTHER, (3,)))
    await looking
    assert (hypervisor._evidence.of(NEW).role, hypervisor._evidence.of(OTHER).role) == (None, Role.NONE)
    await hypervisor.look()
    assert hypervisor._evidence.of(OTHER).role is None


async def test_a_domain_that_is_gone_cannot_be_read(follower: Following) -> None:
    """One clear line."""
    with pytest.raises(HypervisorError, match="read: Domain not found"):
        await follower.hypervisor.read(NEW, frozenset(Section))


async def test_device_sample_and_host_stats(follower: Following) -> None:
    """A driver without device statistics has domains without devices; the host's own numbers are there."""
    domain = await follower.seen(VM)
    assert domain is not None
    sample = await follower.hypervisor.device_sample()
    assert sample.domains == {VM: DeviceCounters(domain.token, taken_s=sample.started)}
    await follower.hypervisor.host_stats()
    stats = await follower.hypervisor.host_stats()
    assert (stats.vm_count, stats.vm_active, stats.vm_migrating) == (None, None, None)
    assert stats.mem_total


async def test_states_alone(follower: Following) -> None:
    """No monitor is asked, and everything else is as in any look."""
    (whole,) = (await follower.hypervisor.look()).domains
    (states,) = (await follower.hypervisor.look(states_only=True)).domains
    assert states == whole._replace(answered=None)


async def test_a_configuration_too_big_to_be_told(
    follower: Following, driver: libvirt.virConnect, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused and said once; everything else is read."""
    bulk = "x" * limits.BODY_BYTES.maximum
    await asyncio.to_thread(driver.defineXML, NEW_XML.replace("<memory>", f"<description>{bulk}</description><memory>"))
    for _ in range(2):
        reading = await follower.hypervisor.read(NEW, frozenset(Section))
        assert (reading.config, reading.info and reading.info.vm_name) == (None, "new")
    (said,) = caplog.records
    assert "at most 917504 can be told" in said.getMessage()


async def test_forty_domains_in_one_look(follower: Following, driver: libvirt.virConnect) -> None:
    """All of them, active and inactive."""
    for n in range(40):
        xml = NEW_XML.replace(str(UUID(bytes=NEW)), str(UUID(int=n + 1))).replace("new", f"new{n}")
        domain = await asyncio.to_thread(driver.defineXML, xml)
        if n % 2:
            await asyncio.to_thread(domain.create)
    look = await follower.hypervisor.look()
    assert len(look.domains) == len({domain.vm for domain in look.domains}) == 41
    active = [domain.token for domain in look.domains if domain.token]
    assert len(active) == len(set(active)) == 21


async def test_nothing_is_told_after_close(follower: Following, driver: libvirt.virConnect) -> None:
    """And closing twice is closing once."""
    await follower.hypervisor.close()
    await follower.hypervisor.close()
    domain = await asyncio.to_thread(driver.lookupByUUID, VM)
    await asyncio.to_thread(domain.suspend)
    with pytest.raises(HypervisorUnavailable, match="closed"):
        await follower.hypervisor.look()
    assert follower.events == []


@pytest.mark.parametrize(
    "uri,remedy",
    [
        ("qemu+unix:///system?socket=/nonexistent/libvirt-sock", "there is no /nonexistent/libvirt-sock; install"),
        ("qemu+unix:///system?socket=/etc/passwd", "nobody listens on its socket"),
        ("test:///nonexistent/file.xml", "cannot connect to libvirt at test:///nonexistent"),
        ("no uri at all", "cannot connect to libvirt at no uri"),
    ],
)
async def test_no_connection_says_how_to_mend_it(uri: str, remedy: str) -> None:
    """One line with a remedy, and no thread is left behind."""
    hypervisor = LibvirtHypervisor(LibvirtOptions(uri=uri))
    with pytest.raises(HypervisorUnavailable, match=remedy) as caught:
        await hypervisor.open(lambda _: None)
    assert "\n" not in str(caught.value)
    for thread in threading.enumerate():
        if thread.name.startswith("libvirt-"):
            await asyncio.to_thread(thread.join, 5.0)
            assert not thread.is_alive()
