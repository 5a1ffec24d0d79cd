"""What a session says of devices: when, of which lives, in which messages."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.agent.situations import A, B, C, down, look_at, started, up
from tests.contract import wirelings
from vmpulse_agent.device_report import DeviceReport
from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample
from vmpulse_agent.ledger import Row
from vmpulse_agent.session import Outgoing, Session
from vmpulse_contract import limits, topology, wire
from vmpulse_contract.devices import DeviceMessage, pack_devices, read_devices
from vmpulse_contract.identity import VmId
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import DeviceStats, DiskStats, DiskUsage

STATS = DeviceStats(disks={"vda": DiskStats(read_ops=1)})


def sampled(session: Session, at: float, lives: Mapping[VmId, int], stats: DeviceStats = STATS) -> None:
    """The devices of these lives, by token, were sampled."""
    sample = DeviceSample(at, {vm: DeviceCounters(token) for vm, token in lives.items()})
    session.devices_sampled(sample, dict.fromkeys(lives, stats), at + 0.1)


def reports(session: Session) -> list[DeviceMessage]:
    """What the session says of devices now."""
    return [read_devices(one.body) for one in session.drain() if one.kind is Kind.DEVICES]


def test_a_report_says_the_newest_sample_of_present_lives() -> None:
    """A report has the VMs that run the life that was sampled, its start, and a number of its own; seq stays."""
    session, _ = started(up(A, 1), up(B, 2), down(C))
    seq = session.seq
    sampled(session, 11.0, {A: 1, B: 2})
    sampled(session, 12.25, {A: 1, B: 7, C: 3})
    assert not session.drain()
    session.report_devices(13.0)
    (said,) = session.drain()
    assert said == Outgoing(Kind.DEVICES, topology.DEVICES, "h1", said.body, 1, topology.DEVICES_EXPIRATION_MS)
    message = read_devices(said.body)
    assert (message.number, message.monotonic_ms, message.epoch) == (1, 12_250, session.epoch)
    assert {vm: record.token for vm, record in message.vms.items()} == {A: 1}
    assert message.vms[A].stats == STATS
    assert session.seq == seq


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
    assert [one.kind for one in session.drain()] == [Kind.ROSTER, Kind.FRAME, Kind.DEVICES]


def test_large_reports_are_cut() -> None:
    """A host whose statistics exceed one message sends several that each fit, with all its VMs once."""
    vms = [VmId(at.to_bytes(16, "big")) for at in range(1, 41)]
    session, _ = started(*(up(vm) for vm in vms))
    usage = tuple(DiskUsage(path=f"/mnt/{at:0250}", total=at) for at in range(200))
    session.report_devices(11.0)
    sampled(session, 12.0, dict.fromkeys(vms, 1), DeviceStats(disks_usage=usage))
    messages = reports(session)
    assert sum(len(wire.write(one.vms)) for one in messages) > 2 * limits.MESSAGE_BYTES.maximum
    assert [one.number for one in messages] == [1, 2, 3]
    assert sorted(vm for one in messages for vm in one.vms) == vms


def test_what_no_reader_takes_costs_its_own_vm_alone() -> None:
    """Statistics beyond a limit are left out and counted; the other VMs' are said."""
    session, _ = started(up(A), up(B), up(C))
    wrong = {
        A: DeviceStats(disks={"x" * 257: DiskStats()}),
        B: DeviceStats(disks={"vda": DiskStats(read_rate=float("nan"))}),
        C: STATS,
    }
    session.report_devices(11.0)
    session.devices_sampled(DeviceSample(12.0, dict.fromkeys(wrong, DeviceCounters(1))), wrong, 12.1)
    (message,) = reports(session)
    assert message.vms.keys() == {C}
    assert session.counters.bodies_refused == 2


@given(st.dictionaries(wirelings.vms, wirelings.devices, min_size=1, max_size=4))
def test_a_report_is_read_as_it_was_sampled(stats: dict[VmId, DeviceStats]) -> None:
    """Whatever was sampled is what a reader gets."""
    report = DeviceReport()
    report.due = True
    report.take(DeviceSample(1.0, dict.fromkeys(stats, DeviceCounters(1))), stats)
    rows = [Row(up(vm), 0.0) for vm in stats]
    (message,) = report.say(5, rows, int)
    read = read_devices(wire.write(pack_devices(message)))
    assert {vm: record.stats for vm, record in read.vms.items()} == stats
