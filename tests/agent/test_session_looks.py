"""What a session makes of looks and of announced changes: who is there, who ended, whose monitor hangs."""

from __future__ import annotations

import pytest

from tests.agent.situations import (
    MIGRATED,
    SHUT_DOWN,
    UNEXPLAINED,
    A,
    B,
    C,
    down,
    kinds_of,
    look_at,
    started,
    tell,
    up,
)
from vmpulse_agent.hypervisor import DomainLook, Exit, LifecycleChange, LifecycleEvent, Look, SectionReading
from vmpulse_agent.session import Policy
from vmpulse_contract import limits, sections
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section, Status
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus


def test_empty_looks() -> None:
    """An empty list is believed at the third good look in a row; a failed look between starts the count anew."""
    session, receiver = started(up(A))
    look_at(session, 12.0)
    session.look_failed(13.0)
    look_at(session, 15.0)
    look_at(session, 18.0)
    session.tick(18.0)
    assert kinds_of(receiver.hear(session.drain())) == ["Frame"]
    assert list(receiver.hashes) == [A]
    look_at(session, 21.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == []


def test_empty_looks_in_a_hurry() -> None:
    """Any number of empty looks within a moment see one and the same trouble, and are not believed."""
    session, receiver = started(up(A))
    for step in range(10):
        look_at(session, 12.0 + step / 50)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


@pytest.mark.parametrize("then", [LifecycleChange.STARTED, None])
def test_an_old_end_explains_nothing(then: LifecycleChange | None) -> None:
    """An announced end that was followed by a start, or by a look that still shows the VM, explains no empty list."""
    session, receiver = started(up(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, SHUT_DOWN), 11.5)
    if then is not None:
        session.lifecycle(LifecycleEvent(A, then), 11.6)
    else:
        look_at(session, 11.7, up(A))
    look_at(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


def test_a_stop_of_an_inactive_vm_explains_nothing() -> None:
    """A late stop event of a VM that is Down already does not make it vanish with an empty list."""
    session, receiver = started(down(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, SHUT_DOWN), 11.9)
    look_at(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


def test_a_source_that_was_undefined_without_a_word_is_gone_at_once() -> None:
    """What left by migration explains an empty list by itself; what came back and runs does not."""
    session, receiver = started(up(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, MIGRATED), 11.9)
    look_at(session, 12.0, down(A))
    look_at(session, 13.0, up(A, token=9))
    look_at(session, 14.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, MIGRATED), 14.9)
    look_at(session, 15.0, down(A))
    look_at(session, 16.0)
    receiver.hear(session.drain())
    assert not receiver.hashes


def test_a_change_of_a_vm_that_left_is_not_said_again() -> None:
    """An unconfirmed change whose VM is gone is forgotten; the reconnect says what is left."""
    session, receiver = started(up(A), up(B))
    tell(session, A, 7, 11.0)
    receiver.hear(session.drain())
    assert session.changes.unconfirmed == 1
    look_at(session, 12.0, up(B))
    receiver.hear(session.drain())
    session.disconnected()
    session.connected(13.0)
    assert "ChangeEvent" not in kinds_of(receiver.hear(session.drain()))
    assert session.changes.unconfirmed == 0


def test_nobody_is_hung_while_the_hypervisor_is_away() -> None:
    """Looks that fail, or that ask no monitor, are no evidence against any VM's monitor."""
    session, receiver = started(up(A), policy=Policy(unresponsive_after_s=60.0))
    tell(session, A, 1, 11.0)
    for step in range(40):
        session.look_failed(12.0 + 3 * step)
    look_at(session, 140.0, up(A)._replace(answered=None))
    receiver.hear(session.drain())
    assert session.ledger.rows[A].monitor_response == 0


def test_a_slow_look_still_gives_its_values() -> None:
    """A whole look that was overtaken by a look at states gives its values, and neither status nor membership."""
    session, receiver = started(up(A), up(B))
    look_at(session, 13.0, up(A, status=VmStatus.PAUSED)._replace(answered=None), up(B)._replace(answered=None))
    look_at(session, 12.0, up(A)._replace(mem_usage=77))
    session.tick(13.0)
    receiver.hear(session.drain())
    assert receiver.column("status") == [VmStatus.PAUSED, VmStatus.UP]
    assert receiver.column("mem_usage") == [77, 50]
    assert list(receiver.hashes) == [A, B]


def test_vms_beyond_the_limit() -> None:
    """A host with too many VMs keeps telling of those it told of; newcomers are counted, and nobody has ended."""
    most = limits.VMS_PER_HOST.maximum
    known = [up(VmId((number + 1000).to_bytes(16, "big"))) for number in range(most)]
    session, receiver = started(*known)
    look_at(session, 12.0, up(VmId(b"\0" * 16)), *known)
    receiver.hear(session.drain())
    assert session.counters.vms_refused == 1
    assert len(session.ledger) == most
    assert not session.tombstones


def test_empty_looks_in_a_row() -> None:
    """A look that shows something starts the count of empty looks anew."""
    session, receiver = started(up(A))
    for at in (12.0, 13.0, 15.0, 16.0):
        look_at(session, at, *([up(A)] if at == 15.0 else []))
        if at == 13.0:
            look_at(session, 14.0, up(A))
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


@pytest.mark.parametrize("explained", [[A], [A, B]])
def test_explained_empty_looks(explained: list[VmId]) -> None:
    """An empty list is believed at once when events explain the end of every VM, and not when of some only."""
    session, receiver = started(up(A), down(B))
    for vm in explained:
        change = LifecycleChange.STOPPED if vm == A else LifecycleChange.UNDEFINED
        session.lifecycle(LifecycleEvent(vm, change, SHUT_DOWN), 12.0)
    look_at(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == ([] if len(explained) == 2 else [A, B])


def test_undefining_a_running_vm_explains_nothing() -> None:
    """A running domain that is undefined runs on: an empty list after that is not believed."""
    session, receiver = started(up(A))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.UNDEFINED), 11.9)
    look_at(session, 12.0)
    receiver.hear(session.drain())
    assert list(receiver.hashes) == [A]


def test_failed_looks_leave_the_roster_alone() -> None:
    """However many looks fail, no VM leaves; only ages grow."""
    session, receiver = started(up(A), up(B))
    before = receiver.roster
    for step in range(10):
        session.look_failed(12.0 + step)
        session.tick(12.0 + step)
        receiver.hear(session.drain())
    assert receiver.roster == before
    assert receiver.column("stats_age") == [120, 120]


def test_a_hung_vm_costs_its_own_freshness_only() -> None:
    """A VM whose monitor hangs keeps its values with growing age, and is told to be hung after the time allowed."""
    session, receiver = started(up(A), up(B), policy=Policy(unresponsive_after_s=60.0))
    for step in range(30):
        now = 12.0 + 3 * step
        hung = DomainLook(A, 1, VmStatus.UP, 1000, answered=False)
        look_at(session, now, hung, up(B))
        session.tick(now)
        receiver.hear(session.drain())
        assert receiver.column("stats_age") == [round((now - 9.0) * 10), 0]
        assert receiver.column("mem_usage") == [50, 50]
        told = receiver.bodies.get((A, Section.STATUS))
        assert (told is not None) == (now - 12.0 >= 60.0)
    told = receiver.bodies[A, Section.STATUS]
    assert sections.decode(Section.STATUS, told) == Status(monitor_response=-1)
    assert (B, Section.STATUS) not in receiver.bodies
    look_at(session, 110.0, up(A), up(B))
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
    session, receiver = started(up(A, token=5))
    if event or announced:
        session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, announced), 11.9)
    look_at(session, 12.0, down(A, remembered))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    (tombstone,) = receiver.roster.tombstones
    assert (tombstone.vm, tombstone.token, tombstone.ended_ms) == (A, 5, 12_000)
    assert (tombstone.exit_code, tombstone.exit_reason) == expected


def test_what_vanished_while_it_arrived_is_a_failed_migration() -> None:
    """Nobody heard why: a restarted libvirtd ends what was still being migrated to it without a word."""
    session, _ = started(up(A), up(B, 2, VmStatus.MIGRATION_DESTINATION))
    look_at(session, 12.0, up(A))
    ends = [(end.exit_code, end.exit_reason) for end in session.tombstones]
    assert ends == [(ExitCode.ERROR, ExitReason.MIGRATION_FAILED)]


def test_an_exit_waits_for_its_look() -> None:
    """A look that began before the stop, and changes the layout for another VM, does not lose the exit."""
    session, receiver = started(up(A), up(B))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, MIGRATED), 12.5)
    look_at(session, 12.0, up(A), up(B), up(C))
    look_at(session, 15.0, up(B), up(C))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    assert [(one.vm, one.exit_reason) for one in receiver.roster.tombstones] == [(A, MIGRATED.reason)]


def test_an_exit_is_used_once() -> None:
    """The exit of one life says nothing of the end of the next."""
    session, receiver = started(up(A, token=1))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, MIGRATED), 11.9)
    for at, look in ((12.0, up(A, token=2)), (15.0, down(A))):
        look_at(session, at, look)
    receiver.hear(session.drain())
    assert receiver.roster is not None
    reasons = [tombstone.exit_reason for tombstone in receiver.roster.tombstones]
    assert reasons == [MIGRATED.reason, ExitReason.LIBVIRT_DOMAIN_MISSING]


def test_inactive_vms_leave_no_tombstone() -> None:
    """A definition that goes away is no end of a life."""
    session, receiver = started(down(A), up(B))
    look_at(session, 12.0, up(B))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    assert receiver.roster.tombstones == ()
    assert receiver.roster.vm_ids() == [B]


def test_tombstones_are_bounded_and_expire() -> None:
    """A roster holds the newest tombstones up to the limit, and none older than the time set."""
    session, receiver = started(up(A), policy=Policy(tombstone_s=100.0))
    for token in range(2, 400):
        look_at(session, 10.0 + token, up(A, token=token))
    session.wake(410.0)
    receiver.hear(session.drain())
    kept = session.roster(410.0).tombstones
    assert len(kept) == 100
    assert min(tombstone.ended_ms for tombstone in kept) == 310_000
    assert session.roster(10_000.0).tombstones == ()


def test_late_looks_are_dropped() -> None:
    """A look that began before one already taken in changes nothing."""
    session, _ = started(up(A))
    session.looked(Look(8.0, [up(B)]), 12.0)
    session.tick(12.0)
    assert [row.vm for row in session.ledger.order] == [A]
    assert session.counters.looks_late == 1


def test_a_partial_look_gives_values_alone() -> None:
    """A look that could ask only some VMs makes these young; no other is gone, none comes, and no status changes."""
    session, _ = started(up(A), up(B))
    look_at(session, 20.0, up(A), up(B))
    session.looked(Look(30.0, [up(A, status=VmStatus.PAUSED), up(C)], partial=True), 30.2)
    rows = {row.vm: row for row in session.ledger.order}
    assert {vm: (row.status, row.sampled_at) for vm, row in rows.items()} == {
        A: (VmStatus.UP, 30.0),
        B: (VmStatus.UP, 20.0),
    }
    assert session.looked_at == 20.0


def test_a_new_life_forgets_all_sections_but_config() -> None:
    """A new start token clears what was announced of the old life; the configuration stays announced."""
    session, receiver = started(up(A))
    session.section_read(SectionReading(A, config=b"<domain/>"), 11.0)
    look_at(session, 12.0, up(A, token=2))
    receiver.hear(session.drain())
    assert [value != sections.ABSENT for value in receiver.hashes[A]] == [False, True, False, False]
    assert session.drain_unread() == [A]


def test_readings_of_vms_that_left_are_ignored() -> None:
    """A reading that comes after its VM has left says nothing."""
    session, _ = started(up(A))
    tell(session, B, 5, 11.0)
    assert session.drain() == []


def test_a_restart_within_one_look_keeps_its_exit() -> None:
    """A stop and a start between two looks end one life with the announced exit, though something began since."""
    session, receiver = started(up(A, token=1))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, SHUT_DOWN), 11.0)
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STARTED), 11.05)
    look_at(session, 11.1, up(A, token=2))
    receiver.hear(session.drain())
    assert receiver.roster is not None
    assert [stone.exit_reason for stone in receiver.roster.tombstones] == [SHUT_DOWN.reason]


def test_one_silent_look_and_an_outage_are_no_hung_monitor() -> None:
    """The time in which nobody asked is not held against a monitor that was silent once before."""
    session, receiver = started(up(A), policy=Policy(unresponsive_after_s=60.0))
    look_at(session, 12.0, up(A)._replace(answered=False))
    for step in range(30):
        session.look_failed(15.0 + 3 * step)
    look_at(session, 110.0, up(A)._replace(answered=None))
    receiver.hear(session.drain())
    assert session.ledger.rows[A].monitor_response == 0
    look_at(session, 113.0, up(A)._replace(answered=False))
    receiver.hear(session.drain())
    assert session.ledger.rows[A].monitor_response == -1


def test_an_inactive_vm_does_not_make_a_look_at_states_a_whole_one() -> None:
    """With a Down VM on the host, a slow whole look that was overtaken still gives the others' values."""
    session, receiver = started(up(A), down(B))
    look_at(session, 13.0, up(A)._replace(answered=None), down(B))
    look_at(session, 12.0, up(A)._replace(mem_usage=77), down(B))
    session.tick(13.0)
    receiver.hear(session.drain())
    assert receiver.column("mem_usage") == [77, None]
