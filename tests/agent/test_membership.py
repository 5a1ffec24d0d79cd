"""When a roster is said whole, and what a difference in its place says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.agent.receiver import Message
from tests.agent.situations import SHUT_DOWN, A, B, C, down, kinds_of, look_at, started, tell, up
from vmpulse_agent.hypervisor import LifecycleChange, LifecycleEvent
from vmpulse_agent.session import ROSTER_PERIOD_S, URGENT_BURST, Session
from vmpulse_contract import limits
from vmpulse_contract.identity import VmId
from vmpulse_contract.roster_change import RosterChange
from vmpulse_contract.sections import ABSENT
from vmpulse_contract.verbs import HostStats

OTHERS = [VmId(bytes([letter]) * 16) for letter in b"STUVWXYZ"]


def difference(heard: list[Message]) -> RosterChange:
    """The one difference that was heard."""
    (change,) = [message for message in heard if isinstance(message, RosterChange)]
    return change


def test_a_new_life_is_a_difference_of_one_row() -> None:
    """It says the one row, to the layout said before, and nobody who left or ended."""
    session, receiver = started(up(A), up(C))
    before = session.ledger.layout
    look_at(session, 12.0, up(A), up(B), up(C))
    change = difference(receiver.hear(session.drain()))
    assert (change.base, change.layout) == (before, session.ledger.layout)
    assert (change.vm_ids(), change.left_ids(), change.tombstones) == ([B], [], ())


def test_a_difference_follows_a_difference() -> None:
    """Each is to what the one before has made."""
    session, receiver = started(*map(up, OTHERS))
    for second in range(4):
        look_at(session, 12.0 + second, up(A, token=2 + second), *map(up, OTHERS))
        change = difference(receiver.hear(session.drain()))
        assert change.base == change.layout - 1
        assert len(change.tombstones) == (second > 0)


def test_what_was_put_off_is_one_difference() -> None:
    """Of several changes within the roster's pace the outcome is said, and each end."""
    session, receiver = started(*map(up, OTHERS))
    for token in range(1, URGENT_BURST + 1):
        look_at(session, 11.0 + token / 100, up(A, token), *map(up, OTHERS))
    receiver.hear(session.drain())
    look_at(session, 11.05, up(A, 8), up(B), *map(up, OTHERS))
    look_at(session, 11.06, up(C), *map(up, OTHERS[1:]))
    session.wake(session.wake_at() or 0.0)
    change = difference(receiver.hear(session.drain()))
    # B has come and gone in between, and A ended twice; B's end is told as well.
    assert (change.vm_ids(), change.left_ids()) == ([C], [A, OTHERS[0]])
    assert sorted(stone.vm for stone in change.tombstones) == [A, A, B, OTHERS[0]]


def test_a_vm_that_left_and_came_back_between_two_rosters_is_said_anew() -> None:
    """Nothing that was announced of it holds any more, though its token is what it was."""
    session, receiver = started(*map(up, OTHERS), up(A))
    for token in range(1, URGENT_BURST + 1):
        look_at(session, 11.0 + token / 100, up(B, token), up(A), *map(up, OTHERS))
    receiver.hear(session.drain())
    look_at(session, 11.05, up(B, URGENT_BURST), *map(up, OTHERS))
    look_at(session, 11.06, up(A), up(B, URGENT_BURST), *map(up, OTHERS))
    session.wake(session.wake_at() or 0.0)
    change = difference(receiver.hear(session.drain()))
    assert (change.vm_ids(), change.left_ids()) == ([A], [])
    assert set(change.hashes) == {ABSENT}
    assert [stone.vm for stone in change.tombstones] == [A]


def reconnected(session: Session) -> None:
    """The connection is lost and back."""
    session.disconnected()
    session.connected(13.0)


def lost_unsaid(session: Session) -> None:
    """A difference is lost with the connection before it was published."""
    look_at(session, 12.0, up(A), *map(up, OTHERS))
    reconnected(session)


def period_over(session: Session) -> None:
    """Five minutes have gone by, and a VM begins."""
    look_at(session, 10.0 + ROSTER_PERIOD_S - 1, up(A), *map(up, OTHERS))
    session.tick(10.0 + ROSTER_PERIOD_S)


def facts_changed(session: Session) -> None:
    """The host has more memory, and a VM begins at once."""
    session.host_sampled(HostStats(mem_total=7), 12.0)
    look_at(session, 12.0, up(A), *map(up, OTHERS))


def much_changed(session: Session) -> None:
    """Most VMs begin another life."""
    look_at(session, 12.0, *(up(vm, token=9) for vm in OTHERS))


@pytest.mark.parametrize("happens", [reconnected, lost_unsaid, period_over, facts_changed, much_changed])
def test_a_roster_is_whole(happens: Callable[[Session], None]) -> None:
    """After a connect, whatever was said before; every five minutes; where facts or most of the VMs have changed."""
    session, receiver = started(*map(up, OTHERS))
    happens(session)
    assert "Roster" in kinds_of(receiver.hear(session.drain(), gaps=True))
    assert receiver.roster is not None
    assert receiver.roster.layout >= session.ledger.layout - 1


def test_differences_do_not_put_off_the_whole_roster() -> None:
    """However often one is said: five minutes after the last whole one comes the next."""
    session, receiver = started(*map(up, OTHERS))
    for minute in range(1, 6):
        look_at(session, 10.0 + minute * 50, up(A, token=minute), *map(up, OTHERS))
        assert "Roster" not in kinds_of(receiver.hear(session.drain()))
    session.tick(10.0 + ROSTER_PERIOD_S)
    assert kinds_of(receiver.hear(session.drain()))[0] == "Roster"
    assert (session.counters.rosters, session.counters.roster_changes) == (2, 5)


def test_an_answer_has_the_whole_roster() -> None:
    """Whatever the stream has said: the roster that a verb gives has everybody, and every tombstone."""
    session, receiver = started(up(A), up(B), up(C))
    session.lifecycle(LifecycleEvent(A, LifecycleChange.STOPPED, SHUT_DOWN), 11.0)
    look_at(session, 11.1, down(A), up(B), up(C))
    look_at(session, 12.0, down(A), up(C))
    receiver.hear(session.drain())
    roster = session.roster(13.0)
    assert receiver.roster is not None
    assert roster.vm_ids() == receiver.roster.vm_ids() == [A, C]
    assert roster.tombstones == receiver.roster.tombstones
    assert len(roster.tombstones) == 2


def test_ends_without_a_broker_are_bounded() -> None:
    """What ends while nobody can be told is kept up to the limit of a roster."""
    session, _ = started(up(A))
    session.disconnected()
    for token in range(2, 1000):
        look_at(session, 10.0 + token, up(A, token=token))
    assert len(session._membership._ended) == limits.TOMBSTONES_PER_HOST.maximum


def test_a_section_read_meanwhile_is_told_by_its_own_event() -> None:
    """A difference has the hashes of new lives as announced then, and change events tell all that is read later."""
    session, receiver = started(*map(up, OTHERS))
    look_at(session, 12.0, up(A), *map(up, OTHERS))
    tell(session, A, 7, 12.0)
    heard = receiver.hear(session.drain())
    assert kinds_of(heard)[:2] == ["RosterChange", "Frame"]
    assert kinds_of(heard)[2:] == ["ChangeEvent"]
    session.tick(13.0)
    receiver.hear(session.drain())
