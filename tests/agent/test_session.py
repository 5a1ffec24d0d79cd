"""The session: whoever hears all that it says knows all that it announced, at any moment and in few words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.agent.receiver import Message, Receiver
from vmpulse_agent.hypervisor import DomainLook, Exit, LifecycleChange, LifecycleEvent, Look, SectionReading
from vmpulse_agent.session import ROSTER_PERIOD_S, URGENT_BURST, URGENT_GAP_S, ChangeKey, Policy, Session
from vmpulse_contract import limits, sections
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, Section, Status
from vmpulse_contract.stream import ChangeEvent, Goodbye, HostFacts
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

EPOCH = 77
A, B, C = (VmId(bytes([letter]) * 16) for letter in b"ABC")
MIGRATED = Exit(ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED)
SHUT_DOWN = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)
UNEXPLAINED = (ExitCode.UNKNOWN, ExitReason.LIBVIRT_DOMAIN_MISSING)


def _up(vm: VmId, token: int = 1, status: VmStatus = VmStatus.UP) -> DomainLook:
    return DomainLook(vm, token, status, 1000, 0, 0, 50)


def _down(vm: VmId, remembered: Exit | None = None) -> DomainLook:
    return DomainLook(vm, 0, VmStatus.DOWN, exit=remembered)


def _new(policy: Policy | None = None) -> tuple[Session, Receiver]:
    return Session(HostId("h1"), EPOCH, HostFacts(), 0.0, policy), Receiver(EPOCH)


def _look(session: Session, at: float, *domains: DomainLook) -> None:
    session.looked(Look(at, domains), at)


def _started(*domains: DomainLook, policy: Policy | None = None) -> tuple[Session, Receiver]:
    """A session at 10 s that has said its first roster and frame."""
    session, receiver = _new(policy)
    _look(session, 9.0, *domains)
    for look in domains:
        session.section_read(SectionReading(look.vm, info=Info(pid=1), status=Status()), 9.5)
    session.connected(9.6)
    session.begin(10.0)
    receiver.hear(session.drain())
    session.drain_unread()
    return session, receiver


def _kinds(messages: Sequence[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


def _tell(session: Session, vm: VmId, pid: int, now: float) -> None:
    session.section_read(SectionReading(vm, info=Info(pid=pid)), now)


def _pids(messages: Sequence[Message]) -> list[int | None]:
    """What the change events of info said, in order."""
    told = []
    for message in messages:
        if isinstance(message, ChangeEvent) and message.body is not None:
            info = sections.decode(Section.INFO, message.body)
            assert isinstance(info, Info)
            told.append(info.pid)
    return told


def test_start_announces_by_roster_alone() -> None:
    """All that was read before the beginning is in the first roster, and costs no change event."""
    _, receiver = _started(_up(A), _up(B))
    assert _kinds(receiver.heard) == ["Roster", "Frame"]
    for announced in receiver.hashes.values():
        assert announced[Section.INFO] == sections.section_hash(Section.INFO, sections.encode(Info(pid=1)))


def test_nothing_before_begin() -> None:
    """Nothing is said before the beginning, and the session is not ready to answer."""
    session, _ = _new()
    session.connected(0.0)
    _look(session, 1.0, _up(A))
    session.tick(1.0)
    assert session.drain() == []
    assert session.wake_at() is None
    assert not session.ready


def test_later_start_sends_change_events() -> None:
    """A VM that starts later is announced by roster, its sections by change events, with bodies, as they are read."""
    session, receiver = _started(_up(A))
    _look(session, 12.0, _up(A), _up(B))
    assert session.drain_unread() == [B]
    _tell(session, B, 7, 12.1)
    heard = receiver.hear(session.drain())
    assert _kinds(heard)[0] == "Roster"
    assert _pids(heard) == [7]
    assert all(event.previous == sections.ABSENT for event in heard if isinstance(event, ChangeEvent))


def test_order_within_a_drain() -> None:
    """What is put off together comes in order: roster, change events, frame."""
    session, receiver = _started(_up(A))
    session.disconnected()
    _look(session, 12.0, _up(A), _up(B))
    _tell(session, B, 7, 12.1)
    session.connected(13.0)
    assert _kinds(receiver.hear(session.drain())) == ["Roster", "ChangeEvent", "Frame"]


def test_damping() -> None:
    """A section that flaps is told once per interval, and its last state at the interval's end."""
    session, receiver = _started(_up(A), policy=Policy(damping_s=3.0))
    for step in range(26):
        _tell(session, A, 100 + step, 11.0 + step / 10)
    heard = receiver.hear(session.drain())
    assert _pids(heard) == [100]
    assert session.wake_at() == 14.0
    session.wake(13.99)
    assert session.drain() == []
    session.wake(14.0)
    assert _pids(receiver.hear(session.drain())) == [125]


def test_there_and_back_sends_nothing() -> None:
    """A section that changes and changes back within the interval is not told."""
    session, receiver = _started(_up(A))
    _tell(session, A, 2, 11.0)
    receiver.hear(session.drain())
    _tell(session, A, 3, 11.5)
    _tell(session, A, 2, 12.0)
    session.wake(20.0)
    assert session.drain() == []
    assert session.wake_at() is None


def test_repeated_readings_send_nothing() -> None:
    """Reading what was announced says nothing."""
    session, _ = _started(_up(A))
    _tell(session, A, 1, 11.0)
    assert session.drain() == []


def test_big_bodies_are_not_pushed() -> None:
    """A body beyond the limit for pushing is announced by its hash alone, and so is the configuration."""
    session, receiver = _started(_up(A))
    apps = tuple(f"{number:04}{'x' * 200}" for number in range(400))
    session.section_read(SectionReading(A, config=b"<domain/>", guest_details=GuestDetails(apps_list=apps)), 11.0)
    heard = receiver.hear(session.drain())
    assert [(event.section, event.body) for event in heard if isinstance(event, ChangeEvent)] == [
        (Section.CONFIG, None),
        (Section.GUEST_DETAILS, None),
    ]


@pytest.mark.parametrize("text", ["x" * 257, "\ud800"])
def test_text_that_cannot_travel_costs_its_section_only(text: str) -> None:
    """A guest's text beyond the limits, or not Unicode at all, is counted; the rest of the VM is told."""
    session, receiver = _started(_up(A))
    session.section_read(SectionReading(A, info=Info(pid=5), status=Status(username=text)), 11.0)
    assert _pids(receiver.hear(session.drain())) == [5]
    assert session.counters.bodies_refused == 1


def test_reconnect_says_unconfirmed_changes_again() -> None:
    """After a lost connection the roster, every change that was not confirmed, and a frame are said again."""
    session, receiver = _started(_up(A), _up(B))
    _tell(session, A, 2, 11.0)
    _tell(session, B, 3, 11.0)
    first, second = session.drain()
    receiver.hear([first, second])
    assert first.change is not None
    session.confirmed(first.change, first.seq)
    assert session.unconfirmed == 1
    session.disconnected()
    session.connected(12.0)
    heard = receiver.hear(session.drain())
    assert _kinds(heard) == ["Roster", "ChangeEvent", "Frame"]
    assert _pids(heard) == [3]


def test_reconnect_says_what_changed_meanwhile() -> None:
    """What changed while the broker was away is said once, in its last state, on reconnect."""
    session, receiver = _started(_up(A))
    session.disconnected()
    for pid in range(2, 50):
        _tell(session, A, pid, 11.0 + pid)
        session.tick(11.0 + pid)
        assert session.drain() == []
        assert session.wake_at() is None
    session.connected(100.0)
    heard = receiver.hear(session.drain())
    assert _kinds(heard) == ["Roster", "ChangeEvent", "Frame"]
    assert _pids(heard) == [49]


def test_memory_is_bounded_without_a_broker() -> None:
    """However long the broker is away, what is kept grows with the VMs and not with the time."""
    session, _ = _started(_up(A))
    session.disconnected()
    for step in range(500):
        now = 11.0 + step
        vm = VmId(step.to_bytes(16, "little"))
        _look(session, now, _up(A, token=step + 1), _up(vm))
        session.lifecycle(LifecycleEvent(vm, LifecycleChange.STOPPED, SHUT_DOWN), now)
        session.lifecycle(LifecycleEvent(VmId(b"?" * 12 + step.to_bytes(4, "little")), LifecycleChange.STOPPED), now)
        for one in session.drain_unread():
            _tell(session, one, step, now)
        session.tick(now)
    assert len(session.tombstones) == limits.TOMBSTONES_PER_HOST.maximum
    kept = (session._outgoing, session._damped, session._told, session._unconfirmed, session._exits, session._statuses)
    assert sum(map(len, kept)) < 24


def test_disconnect_before_the_drain_leaves_a_gap() -> None:
    """What was said and never handed out is said again under a new number, for a reply may have named the old one."""
    session, receiver = _started(_up(A))
    _tell(session, A, 2, 11.0)
    named = session.seq
    session.disconnected()
    assert session.drain() == []
    session.connected(12.0)
    assert _pids(receiver.hear(session.drain(), gaps=True)) == [2]
    assert session.seq > named


def test_stale_confirms_are_ignored() -> None:
    """A confirm of an older event leaves the newer one unconfirmed."""
    session, _ = _started(_up(A))
    _tell(session, A, 2, 11.0)
    (first,) = session.drain()
    _tell(session, A, 3, 15.0)
    (second,) = session.drain()
    assert first.change is not None
    session.confirmed(first.change, first.seq)
    assert session.unconfirmed == 1
    session.confirmed(first.change, second.seq)
    assert session.unconfirmed == 0


@pytest.mark.parametrize("reread", [False, True])
def test_refused_changes_are_said_again(*, reread: bool) -> None:
    """A change that the broker refused is said again, damped, also if the section is read again meanwhile."""
    session, receiver = _started(_up(A), policy=Policy(damping_s=3.0))
    _tell(session, A, 2, 11.0)
    (lost,) = session.drain()
    receiver.hear([lost])
    assert lost.change is not None
    session.refused(lost.change, lost.seq, 11.5)
    if reread:
        _tell(session, A, 2, 12.0)
    assert session.wake_at() == 14.5
    session.wake(14.5)
    assert _pids(receiver.hear(session.drain())) == [2]


def test_empty_looks() -> None:
    """An empty list is believed at the third good look in a row; a failed look between starts the count anew."""
    session, receiver = _started(_up(A))
    _look(session, 12.0)
    session.look_failed(13.0)
    _look(session, 15.0)
    _look(session, 18.0)
    session.tick(18.0)
    assert _kinds(receiver.hear(session.drain())) == ["Frame"]
    assert list(receiver.hashes) == [A]
    _look(session, 21.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == []


def test_empty_looks_in_a_hurry() -> None:
    """Any number of empty looks within a moment see one and the same trouble, and are not believed."""
    session, receiver = _started(_up(A))
    for step in range(10):
        _look(session, 12.0 + step / 50)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


@pytest.mark.parametrize("then", [LifecycleChange.STARTED, None])
def test_an_old_end_explains_nothing(then: LifecycleChange | None) -> None:
    """An announced end that was followed by a start, or by a look that still shows the VM, explains no empty list."""
    session, receiver = _started(_up(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, SHUT_DOWN), 11.5)
    if then is not None:
        session.lifecycle(LifecycleEvent(A, then), 11.6)
    else:
        _look(session, 11.7, _up(A))
    _look(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


def test_a_stop_of_an_inactive_vm_explains_nothing() -> None:
    """A late stop event of a VM that is Down already does not make it vanish with an empty list."""
    session, receiver = _started(_down(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, SHUT_DOWN), 11.9)
    _look(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


def test_a_change_of_a_vm_that_left_is_not_said_again() -> None:
    """An unconfirmed change whose VM is gone is forgotten; the reconnect says what is left."""
    session, receiver = _started(_up(A), _up(B))
    _tell(session, A, 7, 11.0)
    receiver.hear(session.drain())
    assert session.unconfirmed == 1
    _look(session, 12.0, _up(B))
    receiver.hear(session.drain())
    session.disconnected()
    session.connected(13.0)
    assert "ChangeEvent" not in _kinds(receiver.hear(session.drain()))
    assert session.unconfirmed == 0


def test_nobody_is_hung_while_the_hypervisor_is_away() -> None:
    """Looks that fail, or that ask no monitor, are no evidence against any VM's monitor."""
    session, receiver = _started(_up(A), policy=Policy(unresponsive_after_s=60.0))
    _tell(session, A, 1, 11.0)
    for step in range(40):
        session.look_failed(12.0 + 3 * step)
    _look(session, 140.0, _up(A)._replace(answered=None))
    receiver.hear(session.drain())
    assert session.ledger.rows[A].monitor_response == 0


def test_a_slow_look_still_gives_its_values() -> None:
    """A whole look that was overtaken by a look at states gives its values, and neither status nor membership."""
    session, receiver = _started(_up(A), _up(B))
    _look(session, 13.0, _up(A, status=VmStatus.PAUSED)._replace(answered=None), _up(B)._replace(answered=None))
    _look(session, 12.0, _up(A)._replace(mem_usage=77))
    session.tick(13.0)
    receiver.hear(session.drain())
    assert receiver.column("status") == [VmStatus.PAUSED, VmStatus.UP]
    assert receiver.column("mem_usage") == [77, 50]
    assert list(receiver.hashes) == [A, B]


def test_vms_beyond_the_limit() -> None:
    """A host with too many VMs keeps telling of those it told of; newcomers are counted, and nobody has ended."""
    most = limits.VMS_PER_HOST.maximum
    known = [_up(VmId((number + 1000).to_bytes(16, "big"))) for number in range(most)]
    session, receiver = _started(*known)
    _look(session, 12.0, _up(VmId(b"\0" * 16)), *known)
    receiver.hear(session.drain())
    assert session.counters.vms_refused == 1
    assert len(session.ledger) == most
    assert not session.tombstones


def test_empty_looks_in_a_row() -> None:
    """A look that shows something starts the count of empty looks anew."""
    session, receiver = _started(_up(A))
    for at in (12.0, 13.0, 15.0, 16.0):
        _look(session, at, *([_up(A)] if at == 15.0 else []))
        if at == 13.0:
            _look(session, 14.0, _up(A))
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


@pytest.mark.parametrize("explained", [[A], [A, B]])
def test_explained_empty_looks(explained: list[VmId]) -> None:
    """An empty list is believed at once when events explain the end of every VM, and not when of some only."""
    session, receiver = _started(_up(A), _down(B))
    for vm in explained:
        change = LifecycleChange.STOPPED if vm == A else LifecycleChange.UNDEFINED
        session.lifecycle(LifecycleEvent(vm, change, SHUT_DOWN), 12.0)
    _look(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == ([] if len(explained) == 2 else [A, B])


def test_undefining_a_running_vm_explains_nothing() -> None:
    """A running domain that is undefined runs on: an empty list after that is not believed."""
    session, receiver = _started(_up(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.UNDEFINED), 11.9)
    _look(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


def test_failed_looks_leave_the_roster_alone() -> None:
    """However many looks fail, no VM leaves; only ages grow."""
    session, receiver = _started(_up(A), _up(B))
    before = receiver.roster
    for step in range(10):
        session.look_failed(12.0 + step)
        session.tick(12.0 + step)
        receiver.hear(session.drain())
    assert receiver.roster == before
    assert receiver.column("stats_age") == [120, 120]


def test_a_hung_vm_costs_its_own_freshness_only() -> None:
    """A VM whose monitor hangs keeps its values with growing age, and is told to be hung after the time allowed."""
    session, receiver = _started(_up(A), _up(B), policy=Policy(unresponsive_after_s=60.0))
    for step in range(30):
        now = 12.0 + 3 * step
        hung = DomainLook(A, 1, VmStatus.UP, 1000, answered=False)
        _look(session, now, hung, _up(B))
        session.tick(now)
        receiver.hear(session.drain())
        assert receiver.column("stats_age") == [round((now - 9.0) * 10), 0]
        assert receiver.column("mem_usage") == [50, 50]
        told = receiver.bodies.get((A, Section.STATUS))
        assert (told is not None) == (now - 12.0 >= 60.0)
    told = receiver.bodies[A, Section.STATUS]
    assert sections.decode(Section.STATUS, told) == Status(monitor_response=-1)
    assert (B, Section.STATUS) not in receiver.bodies
    _look(session, 110.0, _up(A), _up(B))
    receiver.hear(session.drain())
    assert sections.decode(Section.STATUS, receiver.bodies[A, Section.STATUS]) == Status(monitor_response=0)


@pytest.mark.parametrize(
    "announced, remembered, expected",
    [
        (MIGRATED, None, MIGRATED),
        (MIGRATED, SHUT_DOWN, MIGRATED),
        (None, SHUT_DOWN, SHUT_DOWN),
        (None, None, UNEXPLAINED),
    ],
)
@pytest.mark.parametrize("event", [False, True])
def test_tombstones(announced: Exit | None, remembered: Exit | None, expected: Exit, *, event: bool) -> None:
    """An end leaves a tombstone: with the event's exit, or the remembered one, or as unexplained."""
    session, receiver = _started(_up(A, token=5))
    if event or announced:
        session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, announced), 11.9)
    _look(session, 12.0, _down(A, remembered))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    (tombstone,) = receiver.roster.tombstones
    assert (tombstone.vm, tombstone.token, tombstone.ended_ms) == (A, 5, 12_000)
    assert (tombstone.exit_code, tombstone.exit_reason) == expected


def test_an_exit_waits_for_its_look() -> None:
    """A look that began before the stop, and changes the layout for another VM, does not lose the exit."""
    session, receiver = _started(_up(A), _up(B))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, MIGRATED), 12.5)
    _look(session, 12.0, _up(A), _up(B), _up(C))
    _look(session, 15.0, _up(B), _up(C))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    assert [(one.vm, one.exit_reason) for one in receiver.roster.tombstones] == [(A, MIGRATED.reason)]


def test_an_exit_is_used_once() -> None:
    """The exit of one life says nothing of the end of the next."""
    session, receiver = _started(_up(A, token=1))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, MIGRATED), 11.9)
    for at, look in ((12.0, _up(A, token=2)), (15.0, _down(A))):
        _look(session, at, look)
    receiver.hear(session.drain())
    assert receiver.roster is not None
    reasons = [tombstone.exit_reason for tombstone in receiver.roster.tombstones]
    assert reasons == [MIGRATED.reason, ExitReason.LIBVIRT_DOMAIN_MISSING]


def test_inactive_vms_leave_no_tombstone() -> None:
    """A definition that goes away is no end of a life."""
    session, receiver = _started(_down(A), _up(B))
    _look(session, 12.0, _up(B))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    assert receiver.roster.tombstones == ()
    assert receiver.roster.vm_ids() == [B]


def test_tombstones_are_bounded_and_expire() -> None:
    """A roster holds the newest tombstones up to the limit, and none older than the time set."""
    session, receiver = _started(_up(A), policy=Policy(tombstone_s=100.0))
    for token in range(2, 400):
        _look(session, 10.0 + token, _up(A, token=token))
    session.wake(410.0)
    receiver.hear(session.drain())
    kept = session.roster(410.0).tombstones
    assert len(kept) == 100
    assert min(tombstone.ended_ms for tombstone in kept) == 310_000
    assert session.roster(10_000.0).tombstones == ()


def test_late_looks_are_dropped() -> None:
    """A look that began before one already taken in changes nothing."""
    session, _ = _started(_up(A))
    session.looked(Look(8.0, [_up(B)]), 12.0)
    session.tick(12.0)
    assert [row.vm for row in session.ledger.order] == [A]
    assert session.counters.looks_late == 1


def test_a_new_life_forgets_all_sections_but_config() -> None:
    """A new start token clears what was announced of the old life; the configuration stays announced."""
    session, receiver = _started(_up(A))
    session.section_read(SectionReading(A, config=b"<domain/>"), 11.0)
    _look(session, 12.0, _up(A, token=2))
    receiver.hear(session.drain())
    assert [value != sections.ABSENT for value in receiver.hashes[A]] == [False, True, False, False]
    assert session.drain_unread() == [A]


def test_readings_of_vms_that_left_are_ignored() -> None:
    """A reading that comes after its VM has left says nothing."""
    session, _ = _started(_up(A))
    _tell(session, B, 5, 11.0)
    assert session.drain() == []


def test_extra_frames_and_rosters_are_at_most_five_a_second() -> None:
    """However fast lifecycles change, rosters and extra frames come 5 times a second, after a burst of three."""
    session, receiver = _started(_up(A))
    times: dict[str, list[float]] = {"Frame": [], "Roster": []}
    for step in range(1, 300):
        now = 11.0 + step / 100
        status = VmStatus.PAUSED if step % 2 else VmStatus.UP
        _look(session, now, _up(A, token=step // 7, status=status))
        for message in receiver.hear(session.drain()):
            times[type(message).__name__].append(now)
    for said in times.values():
        assert len(said) >= 10
        fourth_after = zip(said, said[URGENT_BURST:], strict=False)
        assert all(later - earlier > URGENT_GAP_S - 1e-9 for earlier, later in fourth_after)
        assert len(said) <= (said[-1] - said[0]) / URGENT_GAP_S + URGENT_BURST
        assert max(later - earlier for earlier, later in pairwise(said)) < URGENT_GAP_S + 0.1


@pytest.mark.parametrize("begun", [129.6, 133.3, 137.0, 140.7, 144.4, 148.1])
def test_waking_in_time_does_what_was_put_off(begun: float) -> None:
    """A wake at the very moment asked for is never too early by rounding, or it would be asked for again and again."""
    session, _ = _new()
    session.connected(begun)
    _look(session, begun, _up(A))
    session.begin(begun)
    for token in range(1, URGENT_BURST + 1):
        _look(session, begun + token / 100, _up(A), _up(B, token=token))
    session.drain()
    at = session.wake_at()
    assert at is not None
    session.wake(at)
    assert [one.kind for one in session.drain()] == ["roster", "frame"]
    assert session.wake_at() is None


def test_a_status_change_sends_a_frame_at_once() -> None:
    """A lifecycle change is told by an extra frame that does not wait for the tick."""
    session, receiver = _started(_up(A))
    _look(session, 11.0, _up(A, status=VmStatus.PAUSED))
    assert _kinds(receiver.hear(session.drain())) == ["Frame"]
    assert receiver.column("status") == [VmStatus.PAUSED]


def test_rosters_come_again() -> None:
    """A roster comes every 5 minutes, though nothing changed."""
    session, receiver = _started(_up(A))
    session.tick(10.0 + ROSTER_PERIOD_S - 1)
    assert _kinds(receiver.hear(session.drain())) == ["Frame"]
    session.tick(10.0 + ROSTER_PERIOD_S)
    assert _kinds(receiver.hear(session.drain())) == ["Roster", "Frame"]


def test_goodbye_is_last() -> None:
    """After the goodbye nothing is said, whatever happens."""
    session, receiver = _started(_up(A))
    session.goodbye()
    _look(session, 12.0, _up(A), _up(B))
    _tell(session, A, 5, 12.0)
    session.tick(12.0)
    session.wake(20.0)
    heard = receiver.hear(session.drain())
    assert _kinds(heard) == ["Goodbye"]
    assert isinstance(heard[0], Goodbye)
    assert session.wake_at() is None


def test_no_goodbye_without_a_stream() -> None:
    """A session that said nothing, or has no broker, says no goodbye."""
    session, _ = _new()
    session.goodbye()
    assert session.drain() == []
    session, _ = _started(_up(A))
    session.disconnected()
    session.goodbye()
    assert session.drain() == []


def test_elapsed_time_runs_on() -> None:
    """A roster gives elapsed times as of its own time, unknown for what does not run."""
    session, _ = _started(_up(A), _down(B))
    assert session.roster(19.0).elapsed() == [11_000, None]


def test_a_host_without_vms() -> None:
    """A host without VMs says so at once: there is nothing that could be missed."""
    _, receiver = _started()
    assert _kinds(receiver.heard) == ["Roster", "Frame"]
    assert receiver.roster is not None
    assert receiver.roster.count == 0


IDS = [VmId(bytes([letter]) * 16) for letter in b"ABCD"]
contents = st.builds(
    SectionReading,
    st.sampled_from(IDS),
    info=st.none() | st.builds(Info, pid=st.integers(0, 2)),
    config=st.none() | st.sampled_from([b"<a/>", b"<b/>"]),
    status=st.none() | st.builds(Status, time_offset=st.integers(0, 2)),
    guest_details=st.none() | st.builds(GuestDetails, apps_list=st.sampled_from([(), ("a",)])),
)
domains = st.lists(
    st.builds(
        DomainLook,
        st.sampled_from(IDS),
        st.integers(0, 2),
        st.sampled_from([VmStatus.UP, VmStatus.PAUSED, VmStatus.UNKNOWN]),
        st.none() | st.integers(0, 9000),
        st.none() | st.integers(0, 10**12),
        st.none() | st.integers(0, 10**12),
        st.none() | st.integers(0, 100),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda look: look.vm,
)


class SessionMachine(RuleBasedStateMachine):
    """Anything may happen in any order; a receiver that hears all of it always agrees with the digest."""

    @initialize(first=domains, connected=st.booleans())
    def start(self, first: list[DomainLook], *, connected: bool) -> None:
        """Begin with any VMs, with a broker or before it."""
        self.now = 1000.1
        self.session = Session(
            HostId("h1"), EPOCH, HostFacts(), self.now, Policy(damping_s=3.0, unresponsive_after_s=5)
        )
        self.receiver = Receiver(EPOCH)
        self.flying: list[tuple[ChangeKey, int]] = []
        self.told: dict[ChangeKey, float] = {}
        self.is_connected = connected
        self.session.looked(Look(self.now, first), self.now)
        if connected:
            self.session.connected(self.now)
        self.session.begin(self.now)
        self._hear()

    def _hear(self) -> None:
        outgoing = self.session.drain()
        assert self.is_connected or not outgoing
        self.receiver.hear(outgoing)
        for one in outgoing:
            if one.change is not None:
                self.flying.append((one.change, one.seq))
                assert self.now - self.told.get(one.change, float("-inf")) >= 3.0 - 1e-6
                self.told[one.change] = self.now

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.1, 0.2, 1.0, 3.0, 7.3]))
    def time_passes(self, seconds: float) -> None:
        """Time goes on, and the session is woken when it asked to be."""
        until = self.now + seconds
        for _ in range(100):
            at = self.session.wake_at()
            if at is None or at > until:
                break
            assert at > self.now, "what is due was done"
            self.now = at
            self.session.wake(self.now)
            self._hear()
        else:
            raise AssertionError("woken again and again")
        self.now = until

    @rule(seen=domains, late=st.sampled_from([0.0, 0.0, 0.0, 0.1, 2.0]))
    def look(self, seen: list[DomainLook], late: float) -> None:
        """A look shows any VMs, in time or late."""
        before = {row.vm: row.token for row in self.session.ledger.order}
        self.session.looked(Look(self.now - late, seen), self.now)
        # The interval of damping is that of a VM which is there: one that comes back is told at once.
        for vm in before.keys() - {row.vm for row in self.session.ledger.order}:
            for section in Section:
                self.told.pop(ChangeKey(vm, section), None)
        self._hear()

    @rule()
    def look_fails(self) -> None:
        """A look fails."""
        before = [row.vm for row in self.session.ledger.order]
        self.session.look_failed(self.now)
        assert [row.vm for row in self.session.ledger.order] == before
        self._hear()

    @rule(reading=contents)
    def read(self, reading: SectionReading) -> None:
        """Sections of a VM are read, also of one that is not there."""
        self.session.section_read(reading, self.now)
        self._hear()

    @rule(vm=st.sampled_from(IDS), change=st.sampled_from(LifecycleChange), exit_=st.none() | st.just(SHUT_DOWN))
    def event(self, vm: VmId, change: LifecycleChange, exit_: Exit | None) -> None:
        """The hypervisor announces anything."""
        self.session.lifecycle(LifecycleEvent(vm, change, exit_), self.now)

    @rule()
    def tick(self) -> None:
        """A tick publishes a frame while there is a broker, unless a roster has to come first."""
        self.session.tick(self.now)
        self._hear()

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        """The broker confirms a change, or refuses it."""
        change, seq = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if data.draw(st.booleans()):
            self.session.confirmed(change, seq)
        else:
            self.session.refused(change, seq, self.now)
        self._hear()

    @precondition(lambda self: self.is_connected)
    @rule()
    def disconnect(self) -> None:
        """The broker goes away."""
        self.is_connected = False
        self.session.disconnected()
        self.flying.clear()
        assert self.session.wake_at() is None

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        """The broker comes back, and may be told anything again at once."""
        self.is_connected = True
        self.told.clear()
        self.session.connected(self.now)
        self._hear()
        assert self.receiver.frame is not None
        self._agrees()

    def _agrees(self) -> None:
        roster = self.receiver.roster
        assert roster is not None
        if roster.layout == self.session.ledger.layout:
            assert self.receiver.digest() == self.session.ledger.digest()

    @invariant()
    def receiver_agrees(self) -> None:
        """While all is heard under the present layout, the receiver's digest is the ledger's."""
        if self.is_connected:
            self._agrees()

    def teardown(self) -> None:
        """In the end, whatever happened, the receiver knows every section as it was last read."""
        if not hasattr(self, "session"):
            return
        if not self.is_connected:
            self.connect()
        self.time_passes(20.0)
        ledger = self.session.ledger
        assert list(ledger.unannounced()) == []
        assert self.receiver.hashes == {row.vm: row.current for row in ledger.order}
        for (vm, section), body in self.receiver.bodies.items():
            row = ledger.rows.get(vm)
            if row is not None and section in sections.BODIED and row.announced[section] != sections.ABSENT:
                assert sections.section_hash(section, body) == row.announced[section]


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
