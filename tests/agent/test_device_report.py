"""What a session says of devices: when, of which lives, in which messages."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.agent.situations import A, B, C, down, look_at, started, up
from tests.contract import wirelings
from vmpulse_agent.device_report import DeviceReport, _fit
from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample, DiskCounters, MemoryCounters
from vmpulse_agent.ledger import Row
from vmpulse_agent.session import BALLOON_GAP_S, Outgoing, Session
from vmpulse_contract import limits, topology, wire
from vmpulse_contract.device_columns import pack_columns
from vmpulse_contract.device_door import read_columns
from vmpulse_contract.devices import DeviceMessage, DeviceRecord
from vmpulse_contract.errors import MessageTooBig
from vmpulse_contract.identity import VmId
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import BalloonInfo, DeviceStats, DiskStats, DiskUsage, NetworkStats

COUNTERS = DeviceCounters(0, disks=(DiskCounters("vda", read_ops=1),))
STATS = DeviceStats(disks={"vda": DiskStats(read_ops=1)})


def sampled(session: Session, at: float, lives: Mapping[VmId, int], like: DeviceCounters = COUNTERS) -> None:
    """The devices of these lives, by token, were sampled."""
    sample = DeviceSample(at, {vm: like._replace(token=token) for vm, token in lives.items()})
    session.devices_sampled(sample, at + 0.1)


def read_until(session: Session, at: float, read_bytes: int) -> None:
    """A sample of the first VM, whose disk has read so much."""
    sampled(session, at, {A: 1}, DeviceCounters(0, disks=(DiskCounters("vda", read_bytes=read_bytes),)))


def said_rates(session: Session) -> list[tuple[float | None, ...]]:
    """What each report said of the first VM's disk: the interval, and mean, least and most of its reading."""
    records = [record.stats for message in reports(session) for record in message.vms.values()]
    disks = [(stats.interval, (stats.disks or {})["vda"]) for stats in records]
    return [(interval, disk.read_rate, disk.read_rate_min, disk.read_rate_max) for interval, disk in disks]


def reports(session: Session) -> list[DeviceMessage]:
    """What the session says of devices now."""
    return [read_columns(one.body) for one in session.drain() if one.kind is Kind.DEVICES]


def test_a_report_says_the_newest_sample_of_present_lives() -> None:
    """A report has the VMs that run the life that was sampled, its start, and a number of its own; seq stays."""
    session, _ = started(up(A, 1), up(B, 2), down(C))
    seq = session.seq
    sampled(session, 11.0, {A: 1, B: 2})
    sampled(session, 12.25, {A: 1, B: 7, C: 3})
    assert not session.drain()
    session.report_devices(13.0)
    (said,) = session.drain()
    assert said == Outgoing(Kind.DEVICES, topology.DEVICES, "h1.columns", said.body, 1, topology.DEVICES_EXPIRATION_MS)
    message = read_columns(said.body)
    assert (message.number, message.monotonic_ms, message.epoch) == (1, 12_250, session.epoch)
    assert {vm: record.token for vm, record in message.vms.items()} == {A: 1}
    assert message.vms[A].stats == structs.replace(STATS, interval=1.25)
    assert session.seq == seq


def test_a_vm_that_a_sample_lacks_keeps_what_was_told_of_it_and_its_age() -> None:
    """Passed over, it is in no report; asked, it has its last counters with their own moment, which its rates go by."""
    session, _ = started(up(A), up(B, 2))
    sampled(session, 11.0, {A: 1, B: 2})
    sampled(session, 13.0, {A: 1})
    session.report_devices(13.5)
    assert [set(message.vms) for message in reports(session)] == [{A}]
    assert session.devices.sampled_at(B) == 11.0
    assert session.devices.of(session.ledger.rows[B]) == STATS
    sampled(session, 14.0, {B: 2}, COUNTERS._replace(taken_s=14.25))
    assert session.devices.sampled_at(B) == 14.25
    later = session.devices.of(session.ledger.rows[B])
    assert later is not None
    assert later.interval == 3.25


def test_a_sample_is_said_once() -> None:
    """A report that is due when the last sample has been said waits for the next one."""
    session, _ = started(up(A))
    session.report_devices(11.0)
    assert not session.drain()
    sampled(session, 12.0, {A: 1})
    assert [one.number for one in reports(session)] == [1]
    session.report_devices(13.0)
    assert not session.drain()
    sampled(session, 14.0, {A: 1})
    assert [one.number for one in reports(session)] == [2]


def test_a_report_due_without_a_broker_is_made_up_for() -> None:
    """However many reports fell due while the broker was away, the newest sample is said once on reconnect."""
    session, _ = started(up(A))
    session.disconnected()
    for at in (11.0, 12.0, 13.0):
        sampled(session, at, {A: 1})
        session.report_devices(at + 0.5)
    session.connected(20.0)
    assert [one.monotonic_ms for one in reports(session)] == [13_000]
    session.tick(23.0)
    assert not reports(session)


def test_a_report_waits_for_the_roster_that_says_whose_life_it_is() -> None:
    """While a roster is put off, so are device statistics: a reader would not know the life that they are of."""
    session, receiver = started(up(A))
    for token in range(2, 6):
        look_at(session, 11.0 + token / 100, up(A, token))
    receiver.hear(session.drain())
    sampled(session, 11.06, {A: 5})
    session.report_devices(11.07)
    assert not session.drain()
    session.wake(12.0)
    assert [one.kind for one in session.drain()] == [Kind.ROSTER_CHANGE, Kind.FRAME, Kind.DEVICES]


def test_large_reports_are_cut() -> None:
    """A host whose statistics exceed one message sends several that each fit, with all its VMs once."""
    vms = [VmId(at.to_bytes(16, "big")) for at in range(1, 41)]
    session, _ = started(*(up(vm) for vm in vms))
    usage = tuple(DiskUsage(path=f"/mnt/{at:0250}", total=at) for at in range(200))
    session.report_devices(11.0)
    sampled(session, 12.0, dict.fromkeys(vms, 1), DeviceCounters(0, usage=usage))
    messages = reports(session)
    assert sum(len(wire.write(one.vms)) for one in messages) > 2 * limits.MESSAGE_BYTES.maximum
    assert [one.number for one in messages] == [1, 2, 3]
    assert sorted(vm for one in messages for vm in one.vms) == vms


def test_what_no_reader_takes_costs_its_own_vm_alone() -> None:
    """Statistics beyond a limit are left out and counted; the other VMs' are said."""
    session, _ = started(up(A), up(B), up(C))
    wrong = {
        A: DeviceCounters(1, disks=(DiskCounters("x" * 257),)),
        B: DeviceCounters(1, network=(NetworkStats(name="vnet0", sample_time=float("nan")),)),
        C: COUNTERS._replace(token=1),
    }
    session.report_devices(11.0)
    session.devices_sampled(DeviceSample(12.0, wrong), 12.1)
    (message,) = reports(session)
    assert message.vms.keys() == {C}
    assert session.counters.bodies_refused == 2


def test_each_report_is_over_the_time_since_the_one_before() -> None:
    """An interval ends where it is said, and the next begins there: a peak is in one report, growth in none twice."""
    session, _ = started(up(A))
    for at, read in ((10.0, 0), (40.0, 300), (41.0, 5300), (70.0, 5300)):
        read_until(session, at, read)
    session.report_devices(70.5)
    assert said_rates(session) == [(60.0, 88.0, 0.0, 5000.0)]
    session.report_devices(80.0)
    read_until(session, 100.0, 5600)
    assert said_rates(session) == [(30.0, 10.0, 10.0, 10.0)]


def test_an_interval_grows_while_the_broker_is_away() -> None:
    """Reports that fell due without a broker end no interval: the one on reconnect has the peak of all that time."""
    session, _ = started(up(A))
    read_until(session, 10.0, 0)
    session.disconnected()
    for at, read in ((40.0, 9000), (70.0, 9000), (100.0, 9000)):
        read_until(session, at, read)
        session.report_devices(at + 0.5)
    session.connected(120.0)
    assert said_rates(session) == [(90.0, 100.0, 0.0, 300.0)]


@pytest.mark.parametrize("sampled_since", [False, True])
def test_what_a_lost_report_said_is_in_the_next(*, sampled_since: bool) -> None:
    """A report that never came to the broker ends no interval either, whether there was a sample since or not."""
    session, _ = started(up(A))
    for at, read in ((10.0, 0), (40.0, 9000)):
        read_until(session, at, read)
    session.report_devices(40.5)
    (lost,) = reports(session)
    if sampled_since:
        read_until(session, 50.0, 9000)
    session.devices_lost(lost.number, 55.0)
    read_until(session, 70.0, 9000)
    told = said_rates(session)
    if sampled_since:
        # Said at once of the sample that was there; what follows is over the time since that.
        assert told == [(40.0, 225.0, 0.0, 300.0)]
    else:
        assert told == [(60.0, 150.0, 0.0, 300.0)]


def test_a_life_that_ends_ends_its_interval() -> None:
    """What a life has done is not in the rates of the next; a sample without the VM, whose monitor hangs, ends none."""
    session, _ = started(up(A))
    read_until(session, 10.0, 0)
    sampled(session, 40.0, {})
    read_until(session, 70.0, 6000)
    session.report_devices(70.5)
    assert said_rates(session) == [(60.0, 100.0, 100.0, 100.0)]
    look_at(session, 80.0, up(A, 2))
    sampled(session, 81.0, {A: 2}, DeviceCounters(0, disks=(DiskCounters("vda", read_bytes=9000),)))
    session.drain()
    session.report_devices(82.0)
    assert said_rates(session) == [(None, None, None, None)]


def test_intervals_are_kept_of_present_lives_alone() -> None:
    """Nothing stays of a VM that has left its host."""
    session, _ = started(up(A), up(B))
    sampled(session, 11.0, {A: 1, B: 1})
    session.report_devices(11.5)
    look_at(session, 12.0, up(B))
    sampled(session, 13.0, {B: 1})
    assert session.devices._intervals.keys() == {B}


def test_what_a_report_said_outlives_the_next_report() -> None:
    """A report whose fate is learnt only when the next ones are on their way is still made up for by one of them."""
    session, _ = started(up(A))
    numbers = []
    for at, read in ((10.0, 0), (40.0, 9000), (70.0, 9000)):
        read_until(session, at, read)
        session.report_devices(at + 0.5)
        numbers += [message.number for message in reports(session)]
    for number in numbers[1:]:
        session.devices_lost(number, 71.0)
    read_until(session, 100.0, 9000)
    assert said_rates(session) == [(90.0, 100.0, 0.0, 300.0)]


def test_a_failed_sample_makes_a_longer_span() -> None:
    """A VM whose monitor does not answer for long has an exact mean over all of it, and one span for its extremes."""
    session, _ = started(up(A))
    read_until(session, 10.0, 0)
    read_until(session, 40.0, 300)
    for at in (70.0, 100.0, 130.0):
        sampled(session, at, {A: 1}, DeviceCounters(0, disks=(DiskCounters("vda"),)))
    read_until(session, 160.0, 12300)
    session.report_devices(160.5)
    assert said_rates(session) == [(150.0, 82.0, 10.0, 100.0)]


NAMES = st.sampled_from(["vda", "vnet0", "\N{SNOWMAN}"])
NUMBERS = st.none() | st.integers(0, 1 << 60)


@st.composite
def counters(draw: st.DrawFn) -> DeviceCounters:
    """What may be sampled of a life."""
    memory = MemoryCounters(draw(NUMBERS), swap_in=draw(NUMBERS), minor_faults=draw(NUMBERS), reported=draw(NUMBERS))
    disk = DiskCounters(draw(NAMES), draw(NUMBERS), read_bytes=draw(NUMBERS), read_time_ns=draw(NUMBERS))
    card = NetworkStats(name=draw(NAMES), rx=draw(NUMBERS))
    return DeviceCounters(1, memory, draw(st.none() | wirelings.balloons), (disk,), (card,))


@given(st.lists(st.dictionaries(st.sampled_from([A, B, C]), counters(), min_size=1), min_size=1, max_size=3))
def test_a_report_is_read_as_it_was_sampled(samples: list[dict[VmId, DeviceCounters]]) -> None:
    """Whatever was sampled is what a reader gets, and what the host itself has to say of it."""
    report = DeviceReport()
    rows = {vm: Row(up(vm), 0.0) for sample in samples for vm in sample}
    for at, sample in enumerate(samples):
        report.take(DeviceSample(float(at), sample), rows)
    report.due = True
    (message,) = report.say(5, rows.values(), int)
    read = read_columns(wire.write(pack_columns(message)))
    assert read.vms.keys() == samples[-1].keys()
    assert {vm: record.stats for vm, record in read.vms.items()} == {vm: report.of(rows[VmId(vm)]) for vm in read.vms}


def balloon_sampled(session: Session, at: float, lives: Mapping[VmId, int], kib: int) -> None:
    """The balloons of these lives had so many KiB."""
    balloon = BalloonInfo(balloon_cur=kib, balloon_target=kib, balloon_max=1024, balloon_min=0, ballooning_enabled=True)
    sampled(session, at, lives, COUNTERS._replace(balloon=balloon))


def said_balloons(session: Session) -> list[dict[VmId, int | None]]:
    """The balloons in each message that the session says now."""
    return [
        {VmId(vm): one.stats.balloon_info.balloon_cur for vm, one in message.vms.items() if one.stats.balloon_info}
        for message in reports(session)
    ]


def test_a_balloon_is_said_at_once() -> None:
    """A change is said without waiting for a report, of its VM alone; after three they wait and are said together."""
    session, _ = started(up(A), up(B))
    balloon_sampled(session, 12.0, {A: 1, B: 1}, 1000)
    for kib in (900, 890, 880):
        session.balloon_changed(A, kib, 13.0)
        assert said_balloons(session) == [{A: kib}]
    session.balloon_changed(A, 800, 14.0)
    session.balloon_changed(B, 700, 15.0)
    session.balloon_changed(A, 600, 16.0)
    assert said_balloons(session) == []
    due = session.wake_at()
    assert due == 13.0 + BALLOON_GAP_S
    session.wake(due)
    assert said_balloons(session) == [{A: 600, B: 700}]
    assert session.wake_at() is None


def test_a_balloon_outlives_an_older_sample() -> None:
    """A sample that began before the change says the old size, and one that began after it knows better."""
    session, _ = started(up(A))
    balloon_sampled(session, 12.0, {A: 1}, 1000)
    session.balloon_changed(A, 900, 13.2)
    assert said_balloons(session) == [{A: 900}]
    for at, kib in ((13.1, 900), (14.0, 1000)):
        balloon_sampled(session, at, {A: 1}, 1000)
        session.report_devices(at + 0.2)
        assert said_balloons(session) == [{A: kib}]


def test_a_balloon_of_another_life_is_not_said() -> None:
    """A VM that no sample has shown, or that has begun another life since, waits for its next sample."""
    session, _ = started(up(A), up(B))
    session.balloon_changed(A, 900, 11.0)
    assert (said_balloons(session), session.wake_at()) == ([], None)
    balloon_sampled(session, 12.0, {A: 7}, 1000)
    session.balloon_changed(A, 900, 13.0)
    assert said_balloons(session) == []


def test_a_balloon_outlives_a_sample_without_its_vm() -> None:
    """A busy VM that the newest sample lacks keeps its announced balloon, and a new one is said at once."""
    session, _ = started(up(A), up(B))
    balloon_sampled(session, 12.0, {A: 1, B: 1}, 1000)
    session.balloon_changed(A, 900, 13.0)
    assert said_balloons(session) == [{A: 900}]
    balloon_sampled(session, 14.0, {B: 1}, 1000)
    stats = session.devices.of(session.ledger.rows[A])
    assert stats is not None
    assert stats.balloon_info is not None
    assert stats.balloon_info.balloon_cur == 900
    session.balloon_changed(A, 800, 15.0)
    assert said_balloons(session) == [{A: 800}]


def test_too_many_for_one_message_fit_all_the_same() -> None:
    """They are cut by their weight, and not packed one by one to find out that each is fine."""
    lots = Random(1)  # noqa: S311 - values, no secrets
    cards = [
        NetworkStats(name=f"vnet{number}", rx=lots.getrandbits(60), tx=lots.getrandbits(60))
        for number in range(10 * limits.VMS_PER_HOST.maximum)
    ]
    records = {
        number.to_bytes(16): DeviceRecord(
            1, DeviceStats(network={card.name: card for card in cards[number :: limits.VMS_PER_HOST.maximum]})
        )
        for number in range(limits.VMS_PER_HOST.maximum)
    }
    with pytest.raises(MessageTooBig):
        pack_columns(DeviceMessage(wire.VERSION, 1, 1, 0, records))
    assert _fit(records)
