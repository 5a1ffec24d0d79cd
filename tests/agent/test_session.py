"""What a session says, when, and what it keeps to itself: looks and readings in, stream messages out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.agent.situations import (
    SHUT_DOWN,
    A,
    B,
    down,
    kinds_of,
    look_at,
    new_session,
    pids_of,
    started,
    tell,
    up,
)
from vmpulse_agent.hypervisor import LifecycleChange, LifecycleEvent, SectionReading
from vmpulse_agent.session import ROSTER_PERIOD_S, URGENT_BURST, URGENT_GAP_S, Policy
from vmpulse_contract import limits, sections
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import GuestDetails, Info, Section, Status
from vmpulse_contract.stream import ChangeEvent, Frame, Goodbye
from vmpulse_contract.values import VmStatus


def test_start_announces_by_roster_alone() -> None:
    """All that was read before the beginning is in the first roster, and costs no change event."""
    _, receiver = started(up(A), up(B))
    assert kinds_of(receiver.heard) == ["Roster", "Frame"]
    for announced in receiver.hashes.values():
        assert announced[Section.INFO] == sections.section_hash(Section.INFO, sections.encode(Info(pid=1)))


def test_nothing_before_begin() -> None:
    """Nothing is said before the beginning, and the session is not ready to answer."""
    session, _ = new_session()
    session.connected(0.0)
    look_at(session, 1.0, up(A))
    session.tick(1.0)
    assert session.drain() == []
    assert session.wake_at() is None
    assert not session.ready


def test_later_start_sends_change_events() -> None:
    """A VM that starts later is announced by a difference, its sections by change events with bodies once read."""
    session, receiver = started(up(A))
    look_at(session, 12.0, up(A), up(B))
    assert session.drain_unread() == [B]
    tell(session, B, 7, 12.1)
    heard = receiver.hear(session.drain())
    assert kinds_of(heard)[0] == "RosterChange"
    assert pids_of(heard) == [7]
    assert all(event.previous == sections.ABSENT for event in heard if isinstance(event, ChangeEvent))


def test_order_within_a_drain() -> None:
    """What is put off together comes in order: roster, change events, frame."""
    session, receiver = started(up(A))
    session.disconnected()
    look_at(session, 12.0, up(A), up(B))
    tell(session, B, 7, 12.1)
    session.connected(13.0)
    assert kinds_of(receiver.hear(session.drain())) == ["Roster", "ChangeEvent", "Frame"]


def test_damping() -> None:
    """A section that flaps is told once per interval, and its last state at the interval's end."""
    session, receiver = started(up(A), policy=Policy(damping_s=3.0))
    for step in range(26):
        tell(session, A, 100 + step, 11.0 + step / 10)
    heard = receiver.hear(session.drain())
    assert pids_of(heard) == [100]
    assert session.wake_at() == 14.0
    session.wake(13.99)
    assert session.drain() == []
    session.wake(14.0)
    assert pids_of(receiver.hear(session.drain())) == [125]


def test_there_and_back_sends_nothing() -> None:
    """A section that changes and changes back within the interval is not told."""
    session, receiver = started(up(A))
    tell(session, A, 2, 11.0)
    receiver.hear(session.drain())
    tell(session, A, 3, 11.5)
    tell(session, A, 2, 12.0)
    session.wake(20.0)
    assert session.drain() == []
    assert session.wake_at() is None


def test_repeated_readings_send_nothing() -> None:
    """Reading what was announced says nothing."""
    session, _ = started(up(A))
    tell(session, A, 1, 11.0)
    assert session.drain() == []


def test_big_bodies_are_not_pushed() -> None:
    """A body beyond the limit for pushing is announced by its hash alone, and so is the configuration."""
    session, receiver = started(up(A))
    apps = tuple(f"{number:04}{'x' * 200}" for number in range(400))
    session.section_read(SectionReading(A, config=b"<domain/>", guest_details=GuestDetails(apps_list=apps)), 11.0)
    heard = receiver.hear(session.drain())
    assert [(event.section, event.body) for event in heard if isinstance(event, ChangeEvent)] == [
        (Section.CONFIG, None),
        (Section.GUEST_DETAILS, None),
    ]


def test_an_inactive_vm_has_no_guest_details() -> None:
    """A life that was read, but ended before a look showed it, leaves no guest's words behind."""
    session, receiver = started(down(A))
    details = SectionReading(A, guest_details=GuestDetails(apps_list=("nginx",)))
    session.section_read(details, 11.0)
    look_at(session, 12.0, down(A))
    receiver.hear(session.drain())
    assert receiver.hashes[A][Section.GUEST_DETAILS] == sections.ABSENT
    look_at(session, 13.0, up(A))
    assert session.drain_unread() == [A]
    session.section_read(details, 13.1)
    receiver.hear(session.drain())
    assert receiver.hashes[A][Section.GUEST_DETAILS] != sections.ABSENT


@pytest.mark.parametrize("text", ["x" * 257, "\ud800"])
def test_text_that_cannot_travel_costs_its_section_only(text: str) -> None:
    """A guest's text beyond the limits, or not Unicode at all, is counted; the rest of the VM is told."""
    session, receiver = started(up(A))
    session.section_read(SectionReading(A, info=Info(pid=5), status=Status(username=text)), 11.0)
    assert pids_of(receiver.hear(session.drain())) == [5]
    assert session.counters.bodies_refused == 1


def test_reconnect_says_unconfirmed_changes_again() -> None:
    """After a lost connection the roster, every change that was not confirmed, and a frame are said again."""
    session, receiver = started(up(A), up(B))
    tell(session, A, 2, 11.0)
    tell(session, B, 3, 11.0)
    first, second = session.drain()
    receiver.hear([first, second])
    assert first.change is not None
    session.confirmed(first.change, first.seq)
    assert session.changes.unconfirmed == 1
    session.disconnected()
    session.connected(12.0)
    heard = receiver.hear(session.drain())
    assert kinds_of(heard) == ["Roster", "ChangeEvent", "Frame"]
    assert pids_of(heard) == [3]


def test_reconnect_says_what_changed_meanwhile() -> None:
    """What changed while the broker was away is said once, in its last state, on reconnect."""
    session, receiver = started(up(A))
    session.disconnected()
    for pid in range(2, 50):
        tell(session, A, pid, 11.0 + pid)
        session.tick(11.0 + pid)
        assert session.drain() == []
        assert session.wake_at() is None
    session.connected(100.0)
    heard = receiver.hear(session.drain())
    assert kinds_of(heard) == ["Roster", "ChangeEvent", "Frame"]
    assert pids_of(heard) == [49]


def test_memory_is_bounded_without_a_broker() -> None:
    """However long the broker is away, what is kept grows with the VMs and not with the time."""
    session, _ = started(up(A))
    session.disconnected()
    for step in range(500):
        now = 11.0 + step
        vm = VmId(step.to_bytes(16, "little"))
        look_at(session, now, up(A, token=step + 1), up(vm))
        session.lifecycle(LifecycleEvent(vm, LifecycleChange.STOPPED, SHUT_DOWN), now)
        session.lifecycle(LifecycleEvent(VmId(b"?" * 12 + step.to_bytes(4, "little")), LifecycleChange.STOPPED), now)
        for one in session.drain_unread():
            tell(session, one, step, now)
        session.tick(now)
    assert len(session.tombstones) == limits.TOMBSTONES_PER_HOST.maximum
    assert len(session._outgoing) + len(session.changes) + len(session._endings) + len(session._statuses) < 24


def test_disconnect_before_the_drain_leaves_a_gap() -> None:
    """What was said and never handed out is said again under a new number, for a reply may have named the old one."""
    session, receiver = started(up(A))
    tell(session, A, 2, 11.0)
    named = session.seq
    session.disconnected()
    assert session.drain() == []
    session.connected(12.0)
    assert pids_of(receiver.hear(session.drain(), gaps=True)) == [2]
    assert session.seq > named


def test_stale_confirms_are_ignored() -> None:
    """A confirm of an older event leaves the newer one unconfirmed."""
    session, _ = started(up(A))
    tell(session, A, 2, 11.0)
    (first,) = session.drain()
    tell(session, A, 3, 15.0)
    (second,) = session.drain()
    assert first.change is not None
    session.confirmed(first.change, first.seq)
    assert session.changes.unconfirmed == 1
    session.confirmed(first.change, second.seq)
    assert session.changes.unconfirmed == 0


@pytest.mark.parametrize("reread", [False, True])
def test_refused_changes_are_said_again(*, reread: bool) -> None:
    """A change that the broker refused is said again, damped, also if the section is read again meanwhile."""
    session, receiver = started(up(A), policy=Policy(damping_s=3.0))
    tell(session, A, 2, 11.0)
    (lost,) = session.drain()
    receiver.hear([lost])
    assert lost.change is not None
    session.refused(lost.change, lost.seq, 11.5)
    if reread:
        tell(session, A, 2, 12.0)
    assert session.wake_at() == 14.5
    session.wake(14.5)
    assert pids_of(receiver.hear(session.drain())) == [2]


def test_extra_frames_and_rosters_are_at_most_five_a_second() -> None:
    """However fast lifecycles change, rosters and extra frames come 5 times a second, after a burst of three."""
    session, receiver = started(up(A))
    times: dict[str, list[float]] = {"Frame": [], "Roster": []}
    for step in range(1, 300):
        now = 11.0 + step / 100
        status = VmStatus.PAUSED if step % 2 else VmStatus.UP
        look_at(session, now, up(A, token=step // 7, status=status))
        for message in receiver.hear(session.drain()):
            times["Frame" if isinstance(message, Frame) else "Roster"].append(now)
    for said in times.values():
        assert len(said) >= 10
        fourth_after = zip(said, said[URGENT_BURST:], strict=False)
        assert all(later - earlier > URGENT_GAP_S - 1e-9 for earlier, later in fourth_after)
        assert len(said) <= (said[-1] - said[0]) / URGENT_GAP_S + URGENT_BURST
        assert max(later - earlier for earlier, later in pairwise(said)) < URGENT_GAP_S + 0.1


@pytest.mark.parametrize("begun", [129.6, 133.3, 137.0, 140.7, 144.4, 148.1])
def test_waking_in_time_does_what_was_put_off(begun: float) -> None:
    """A wake at the very moment asked for is never too early by rounding, or it would be asked for again and again."""
    session, _ = new_session()
    session.connected(begun)
    look_at(session, begun, up(A))
    session.begin(begun)
    for token in range(1, URGENT_BURST + 1):
        look_at(session, begun + token / 100, up(A), up(B, token=token))
    session.drain()
    at = session.wake_at()
    assert at is not None
    session.wake(at)
    assert [one.kind for one in session.drain()] == ["rosterChange", "frame"]
    assert session.wake_at() is None


def test_a_status_change_sends_a_frame_at_once() -> None:
    """A lifecycle change is told by an extra frame that does not wait for the tick."""
    session, receiver = started(up(A))
    look_at(session, 11.0, up(A, status=VmStatus.PAUSED))
    assert kinds_of(receiver.hear(session.drain())) == ["Frame"]
    assert receiver.column("status") == [VmStatus.PAUSED]


def test_rosters_come_again() -> None:
    """A roster comes every 5 minutes, though nothing changed."""
    session, receiver = started(up(A))
    session.tick(10.0 + ROSTER_PERIOD_S - 1)
    assert kinds_of(receiver.hear(session.drain())) == ["Frame"]
    session.tick(10.0 + ROSTER_PERIOD_S)
    assert kinds_of(receiver.hear(session.drain())) == ["Roster", "Frame"]


def test_goodbye_is_last() -> None:
    """After the goodbye nothing is said, whatever happens."""
    session, receiver = started(up(A))
    session.goodbye()
    look_at(session, 12.0, up(A), up(B))
    tell(session, A, 5, 12.0)
    session.tick(12.0)
    session.wake(20.0)
    heard = receiver.hear(session.drain())
    assert kinds_of(heard) == ["Goodbye"]
    assert isinstance(heard[0], Goodbye)
    assert session.wake_at() is None


def test_no_goodbye_without_a_stream() -> None:
    """A session that said nothing, or has no broker, says no goodbye."""
    session, _ = new_session()
    session.goodbye()
    assert session.drain() == []
    session, _ = started(up(A))
    session.disconnected()
    session.goodbye()
    assert session.drain() == []


def test_elapsed_time_runs_on() -> None:
    """A roster gives elapsed times as of its own time, unknown for what does not run."""
    session, _ = started(up(A), down(B))
    assert session.roster(19.0).elapsed() == [11_000, None]


def test_a_host_without_vms() -> None:
    """A host without VMs says so at once: there is nothing that could be missed."""
    _, receiver = started()
    assert kinds_of(receiver.heard) == ["Roster", "Frame"]
    assert receiver.roster is not None
    assert receiver.roster.count == 0


def test_flaps_are_counted_by_section() -> None:
    """A section that reads as it was before its last change has flapped, whether damping let anybody hear of it or not.

    A change to something new is none, nor is the same again, nor a new life that begins as the last one did.
    """
    session, _ = started(up(A), up(B), policy=Policy(damping_s=60.0))
    for pid in (2, 1, 1, 2, 3):
        tell(session, A, pid, 11.0)
    tell(session, B, 2, 12.0)
    assert session.counters.flaps[Section.INFO] == 2
    look_at(session, 13.0, up(A, token=2), up(B))
    tell(session, A, 2, 14.0)
    assert session.counters.flaps == [2, 0, 0, 0]
