"""Replies of the detail verbs: they always fit, and say what did not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent import answers
from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample, DiskCounters, DomainLook, Look, SectionReading
from vmpulse_agent.session import Session
from vmpulse_contract import deflation, limits, verbs, wire
from vmpulse_contract.errors import NotReady, UnknownVerb, VerbError
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, Section, Status
from vmpulse_contract.stream import HostFacts, Tombstone
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus
from vmpulse_contract.verbs import (
    AnyReply,
    DeviceReply,
    DiskUsage,
    ListReply,
    RosterReply,
    RuntimeReply,
    SectionReply,
    Verb,
)

MOST = limits.VMS_PER_HOST.maximum


def vm_number(number: int) -> VmId:
    """A VM id that sorts by its number."""
    return VmId(number.to_bytes(16, "big"))


def session_of(vms: int, name: str = "vm", apps: int = 0) -> Session:
    """A host with so many running VMs, each with *apps* applications."""
    session = Session(HostId("host"), 9, HostFacts(), 0.0)
    looks = [
        DomainLook(vm_number(n), n + 1, VmStatus.UP, elapsed_ms=n, cpu_time_ns=n, cpu_system_ns=n, mem_usage=50)
        for n in range(vms)
    ]
    session.looked(Look(1.0, looks), 1.0)
    for number in session.drain_unread():
        details = GuestDetails(apps_list=tuple(f"{number.hex()}-{n:04d}" for n in range(apps)))
        session.section_read(
            SectionReading(number, Info(vm_name=name), b"<domain/>", Status(username="u"), details), 1.0
        )
    session.begin(1.0)
    return session


def ask(session: Session, verb: Verb, vms: list[VmId] | None = None, held: answers.Held | None = None) -> AnyReply:
    """Answer as the agent does and read as an asker does; the reply fits on the way."""
    raw = wire.write(answers.answer(session, held or answers.Held(), verb, vms or [], 2.0))
    assert len(raw) <= limits.MESSAGE_BYTES.maximum
    return verbs.read_reply(verb, raw)


@pytest.mark.parametrize("name", ["vm", "n" * 256, "\U0001f600" * 256])
def test_list_and_roster_of_the_largest_host_fit(name: str) -> None:
    """The replies about a whole host fit for 4,096 VMs with 256 tombstones, whatever their names."""
    session = session_of(MOST, name)
    session.tombstones.extend(
        Tombstone(vm_number(n), 1 << 60, ExitCode.ERROR, ExitReason.LIBVIRT_DOMAIN_MISSING, 500) for n in range(256)
    )
    listed = ask(session, Verb.LIST)
    roster = ask(session, Verb.GET_ROSTER)
    runtime = ask(session, Verb.GET_ALL_RUNTIME_STATS)
    assert isinstance(listed, ListReply)
    assert isinstance(runtime, RuntimeReply)
    assert isinstance(roster, RosterReply)
    assert roster.roster is not None
    assert len(listed.vms) == len(runtime.vms) == roster.roster.count == MOST
    assert len(roster.roster.tombstones) == 256
    if name == "vm":
        assert {record.vm_name for record in listed.vms.values()} == {"vm"}


def test_what_does_not_fit_is_remaining() -> None:
    """A reply holds at most 1 MiB; the VMs left out are named, and asking for them until none is left gets all."""
    session = session_of(30, apps=2000)
    wanted, got, rounds = [vm_number(n) for n in range(30)], {}, 0
    while wanted:
        reply = ask(session, Verb.GET_GUEST_DETAILS, wanted)
        assert isinstance(reply, SectionReply)
        assert reply.vms
        assert reply.vms.keys() | set(reply.remaining) == set(wanted)
        assert not reply.vms.keys() & set(reply.remaining)
        assert reply.missing == ()
        got.update(reply.vms)
        wanted, rounds = [VmId(vm) for vm in reply.remaining], rounds + 1
    assert len(got) == 30
    assert rounds > 1


def test_unknown_ids_are_missing() -> None:
    """Ids that the host does not have come back in ``missing``, each once, even as many as may be asked for."""
    session = session_of(2)
    strangers = [vm_number(1000 + n) for n in range(limits.IDS_PER_REQUEST.maximum - 1)]
    for verb in (Verb.GET_STATUS, Verb.GET_ALL_DEVICE_STATS):
        reply = ask(session, verb, [vm_number(0), *strangers])
        assert isinstance(reply, SectionReply | DeviceReply)
        assert list(reply.missing) == strangers
        assert reply.vms.keys() <= {vm_number(0)}
    twice = ask(session, Verb.GET_STATUS, [vm_number(0), vm_number(0), vm_number(99), vm_number(99)])
    assert isinstance(twice, SectionReply)
    assert (set(twice.vms), twice.missing) == ({vm_number(0)}, (vm_number(99),))


def test_device_statistics_keep_to_the_budget() -> None:
    """Device statistics of more VMs than fit leave the rest in ``remaining``."""
    session = session_of(40)
    usage = tuple(DiskUsage(path="/" + "d" * 250, total=1 << 50, used=n) for n in range(150))
    session.devices_sampled(sample_of(session, range(39), DeviceCounters(0, usage=usage)), 1.0)
    reply = ask(session, Verb.GET_ALL_DEVICE_STATS)
    assert isinstance(reply, DeviceReply)
    assert len(reply.vms) + len(reply.remaining) == 39
    assert reply.remaining


def sample_of(session: Session, numbers: range, like: DeviceCounters, at: float = 1.0) -> DeviceSample:
    """A sample, begun at *at*, of the present lives of some VMs."""
    rows = session.ledger.rows
    return DeviceSample(at, {vm_number(n): like._replace(token=rows[vm_number(n)].token) for n in numbers})


def test_device_statistics_are_of_the_present_life_and_say_their_age() -> None:
    """What was sampled of a life that is over is withheld; the rest carries the seconds since its sample."""
    session = session_of(2)
    ended, runs = vm_number(0), vm_number(1)
    session.devices_sampled(sample_of(session, range(2), DeviceCounters(0)), 1.0)
    session.ledger.rows[ended].reincarnate(0)
    reply = answers.answer(session, answers.Held(), Verb.GET_ALL_DEVICE_STATS, [], 3.5)
    assert isinstance(reply, DeviceReply)
    assert {vm: record.stats_age for vm, record in reply.vms.items()} == {runs: 2.5}


def test_device_rates_are_those_since_the_last_report() -> None:
    """A reply has the rates of the interval that goes on; just after a report, those that were reported."""
    session = session_of(1)
    session.connected(0.0)
    for at, read in ((1.0, 0), (11.0, 1000), (21.0, 1000), (31.0, 6000)):
        disk = DiskCounters("vda", read_bytes=read)
        session.devices_sampled(sample_of(session, range(1), DeviceCounters(0, disks=(disk,)), at), at)
        if at == 21.0:
            assert _rates(session) == (20.0, 50.0, 0.0, 100.0)
            session.report_devices(at)
            assert _rates(session) == (20.0, 50.0, 0.0, 100.0)
    assert _rates(session) == (10.0, 500.0, 500.0, 500.0)


def _rates(session: Session) -> tuple[float | None, ...]:
    """What a reply says of the first VM's disk: the interval, and mean, least and most of its reading."""
    reply = ask(session, Verb.GET_ALL_DEVICE_STATS)
    assert isinstance(reply, DeviceReply)
    stats = reply.vms[vm_number(0)]
    disk = (stats.disks or {})["vda"]
    return stats.interval, disk.read_rate, disk.read_rate_min, disk.read_rate_max


def test_replies_speak_of_what_was_announced() -> None:
    """A change that is read but not said yet is not in any reply: no reply runs ahead of the stream."""
    session = session_of(1)
    vm = vm_number(0)
    session.section_read(SectionReading(vm, status=Status(username="later")), 1.5)
    before = ask(session, Verb.GET_STATUS)
    assert isinstance(before, SectionReply)
    assert b"later" not in before.vms[vm].body
    assert before.vms[vm].hash == session.ledger.rows[vm].announced[Section.STATUS]
    session.connected(1.6)
    after = ask(session, Verb.GET_STATUS)
    assert isinstance(after, SectionReply)
    assert b"later" in after.vms[vm].body
    assert after.as_of == session.seq > before.as_of


def test_before_the_first_look_there_is_nothing_to_say() -> None:
    """An agent that has not looked yet says so rather than that there are no VMs."""
    fresh = Session(HostId("host"), 9, HostFacts(), 0.0)
    for verb in Verb:
        with pytest.raises(NotReady):
            answers.answer(fresh, answers.Held(), verb, [], 1.0)


def test_failure_travels_as_its_own_error() -> None:
    """An error reaches the asker as the same error, its words cut to what texts may be."""
    raw = answers.failure(session_of(1), UnknownVerb("x" * 5000))
    with pytest.raises(VerbError) as told:
        verbs.read_reply(Verb.LIST, raw)
    assert type(told.value) is UnknownVerb
    assert len(str(told.value)) == limits.TEXT_CHARACTERS.maximum


@given(st.binary(max_size=300))
def test_a_reply_is_deflated_where_that_makes_it_smaller(body: bytes) -> None:
    """What is deflated is smaller and inflates to the reply; the rest, and all for who did not ask, stays as it is."""
    sent = answers.encoded(body, deflate=True)
    assert deflation.decoded(*sent, "reply") == body
    assert (sent.encoding is not None) == (len(sent.body) < len(body))
    assert answers.encoded(body * 9, deflate=False) == (body * 9, None)
    assert answers.encoded(b"same" * 99, deflate=True).encoding == "deflate"
