"""What is applied, and in which order: looked at between the steps, before the healing."""

from __future__ import annotations

import pytest

from tests.consumers.view.back_to_back import ROSTERS, vm_number
from tests.consumers.view.situations import (
    HOST,
    asked_for_roster,
    held_bodies,
    in_view,
    live_table,
    tick_of,
    user_said,
)
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.view import SEQ_JUMP
from vmpulse_contract import stream, topology, wire
from vmpulse_contract.errors import MistypedMessage
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import GoodbyeReason
from vmpulse_contract.verbs import Verb


def test_an_old_roster_is_not_put_over_a_newer_one() -> None:
    """A reply made before the roster that the stream has brought changes no membership (rule: Apply)."""
    table = live_table()
    request, old = asked_for_roster(table)
    table.host.undefine_vm(vm_number(3), table.now)
    tick_of(table)
    table.deliver()
    as_of, layout = in_view(table).roster_as_of, in_view(table).layout
    table.reply(request, old)
    assert vm_number(3) not in table.view.vms
    assert (in_view(table).roster_as_of, in_view(table).layout) == (as_of, layout)


def test_a_reply_never_advances_the_seq() -> None:
    """What the stream said before the reply's as_of may still be in the queue and is admitted then (rule: Apply)."""
    table = live_table()
    seq = in_view(table).seq
    tick_of(table)
    table.reply(*asked_for_roster(table))
    assert in_view(table).seq == seq
    table.deliver()
    assert in_view(table).seq == table.host.session.seq
    assert table.view.counts.repeats == 0


def test_a_frame_older_than_the_roster_is_passed_over() -> None:
    """A frame from before a roster's as_of has nothing to say of that roster's VMs, even where the layout fits."""
    table = live_table()
    frame_seq, mismatches = in_view(table).frame_seq, table.view.counts.layout_mismatches
    tick_of(table)
    table.reply(*asked_for_roster(table))
    table.deliver()
    assert in_view(table).frame_seq == frame_seq
    assert table.view.counts.layout_mismatches == mismatches
    tick_of(table)
    table.deliver()
    assert in_view(table).frame_seq == table.host.session.seq


def test_an_older_announcement_is_refused_and_an_equal_one_taken() -> None:
    """Of two words on one (VM, section) the one with the higher seq or as_of stands, also against the roster's own."""
    table = live_table()
    host, vm = in_view(table), vm_number(1)
    as_of = host.roster_as_of
    before = list(host.announced)
    assert not host.announce(vm, Section.STATUS, 11, as_of - 1)
    assert list(host.announced) == before
    assert host.announce(vm, Section.STATUS, 12, as_of + 5)
    assert not host.announce(vm, Section.STATUS, 13, as_of + 4)
    assert host.announce(vm, Section.STATUS, 14, as_of + 5)
    assert host.announced[Section.STATUS] == 14
    assert not host.announce(vm_number(99), Section.STATUS, 15, as_of + 9)


def test_a_newer_hash_outlives_an_older_roster() -> None:
    """A roster by verb from before a change event leaves that event's hash and body in place (rule: Apply)."""
    table = live_table()
    request, old = asked_for_roster(table)
    table.host.domains[vm_number(1)].user = "newer"
    tick_of(table)
    table.deliver()
    table.reply(request, old)
    assert user_said(table, 1) == "newer"
    assert table.row(1).repairing == ()
    assert table.view.drain_requests(table.now) == []


def test_a_late_repair_does_not_undo_a_newer_change() -> None:
    """A section's reply made before a change event is older than it, whichever comes first."""
    table = live_table()
    table.host.domains[vm_number(1)].user = "first"
    tick_of(table)
    table.host.queue.clear()
    tick_of(table)
    table.deliver()
    table.answer_one(table.view.drain_requests(table.now)[0])
    (repair,) = table.view.drain_requests(table.now)
    assert repair.verb is Verb.GET_STATUS
    table.host.domains[vm_number(1)].user = "second"
    old = table.host.answer(repair, table.now)
    tick_of(table)
    table.deliver()
    table.reply(repair, old)
    assert user_said(table, 1) == "second"


def test_a_repair_never_advances_the_seq() -> None:
    """What the stream said before a section's reply is admitted after it all the same."""
    table = live_table()
    host = in_view(table)
    table.host.domains[vm_number(1)].user = "missed"
    tick_of(table)
    table.host.queue.clear()
    tick_of(table)
    table.deliver()
    table.answer_one(table.view.drain_requests(table.now)[0])
    seq = host.seq
    tick_of(table)
    (repair,) = table.view.drain_requests(table.now)
    table.answer_one(repair)
    assert user_said(table, 1) == "missed"
    assert host.seq == seq
    table.deliver()
    assert host.seq == table.host.session.seq


def test_a_differing_digest_leads_to_a_question_at_once() -> None:
    """A frame whose digest differs is applied, counted and followed by one roster request."""
    table = live_table()
    table.host.domains[vm_number(1)].user = "missed"
    tick_of(table)
    kept = [delivery for delivery in table.host.queue if delivery.message.kind is not Kind.CHANGE]
    table.host.queue.clear()
    table.host.queue.extend(kept)
    table.deliver()
    assert table.view.counts.digest_mismatches == 1
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_a_frame_of_another_layout_stores_nothing() -> None:
    """As many VMs, but another layout: no value goes to a wrong VM, and the roster is asked for."""
    table = live_table()
    table.host.undefine_vm(vm_number(1), table.now)
    table.host.define_vm(vm_number(9))
    tick_of(table)
    kept = [delivery for delivery in table.host.queue if delivery.message.kind is Kind.FRAME]
    table.host.queue.clear()
    table.host.queue.extend(kept)
    memory = [table.row(number).mem_usage for number in (1, 2, 3)]
    table.deliver()
    assert [table.row(number).mem_usage for number in (1, 2, 3)] == memory
    assert table.view.counts.layout_mismatches == len(kept)
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_repeats_are_no_sign_of_life() -> None:
    """A message that comes again changes no state, no value and no time at which the host was heard."""
    table = live_table()
    tick_of(table)
    again = list(table.host.queue)
    table.deliver()
    heard_at = in_view(table).heard_at
    table.now += 1
    for delivery in again:
        table.receive(delivery)
    assert table.view.counts.repeats == len(again)
    assert in_view(table).heard_at == heard_at


def test_a_jump_of_seq_is_refused_and_nothing_is_locked_out() -> None:
    """A seq beyond all reason is a typed error, and the true next message is still applied."""
    table = live_table()
    host = in_view(table)
    body = wire.write(stream.Goodbye(1, host.epoch, host.seq + SEQ_JUMP + 1, GoodbyeReason.STOPPED))
    with pytest.raises(MistypedMessage):
        table.view.receive(topology.RUNTIME, topology.goodbye_key(HOST), HOST, body, table.now)
    assert host.state is HostState.LIVE
    tick_of(table)
    table.deliver()
    assert host.seq == table.host.session.seq


def test_membership_changes_keep_the_values_of_those_who_stay() -> None:
    """A roster without its frame: the block has the new size, the others' values stand, the new VM's are unknown."""
    table = live_table()
    table.host.undefine_vm(vm_number(1), table.now)
    table.host.define_vm(vm_number(9))
    table.host.start_vm(vm_number(9))
    tick_of(table)
    while table.host.queue and table.host.queue[0].message.kind is not Kind.FRAME:
        table.receive(table.host.queue.popleft())
    assert [(table.row(n).mem_usage, table.row(n).status) for n in (2, 3, 9)] == [
        (2, "Up"),
        (3, "Up"),
        (None, "Unknown"),
    ]
    assert in_view(table).block.size == 3
    assert table.row(9).age_s is None
    for number in (7, 8):
        table.host.define_vm(vm_number(number))
    table.step()
    assert in_view(table).block.size == 5
    table.step()
    table.assert_equal()


def test_bodies_of_an_old_life_are_not_carried_into_a_new_one() -> None:
    """A roster with another start token drops what was held of the life before, and counts its bodies no more."""
    table = live_table()
    table.host.start_vm(vm_number(1))
    tick_of(table)
    while table.host.queue[0].message.kind not in ROSTERS:
        table.host.queue.popleft()
    table.receive(table.host.queue.popleft())
    held = in_view(table).bodies[:WIDTH]
    assert held == [None] * WIDTH
    assert in_view(table).held_bytes == sum(len(body) for body in held_bodies(in_view(table)) if body)


def test_a_life_whose_rosters_were_lost_leaves_nothing_behind() -> None:
    """Down, a life of which only the changes arrived, Down again: nothing of that life is shown (promise V1)."""
    table = live_table()
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    table.host.start_vm(vm_number(1))
    tick_of(table)
    kept = [delivery for delivery in table.host.queue if delivery.message.kind is Kind.CHANGE]
    table.host.queue.clear()
    table.host.queue.extend(kept)
    table.deliver()
    table.host.stop_vm(vm_number(1), table.now)
    for _ in range(3):
        table.step()
    table.assert_equal()
