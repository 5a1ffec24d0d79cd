"""The view's protocol rules one by one, looked at between the steps: what must not happen before the healing does."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.consumers.view.back_to_back import SimpleHost, Table, vm_number
from vmpulse_consumers.view import HostState, Request
from vmpulse_consumers.view.bodies import Bodies
from vmpulse_consumers.view.host import DRIFT, REMEASURE_S, REMEASURE_SLOW_S, WIDTH, Host
from vmpulse_consumers.view.ownership import Vm
from vmpulse_consumers.view.rows import Freshness, heard
from vmpulse_consumers.view.runtime import Block
from vmpulse_consumers.view.view import FORGOTTEN_S, GRACE_S, LOST_S, RETRY_S, SEQ_JUMP
from vmpulse_contract import stream, topology, wire
from vmpulse_contract.errors import HostDidNotAnswer, MistypedMessage
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import GoodbyeReason
from vmpulse_contract.verbs import Verb

HOST, OTHER = HostId("host-0"), HostId("host-1")


def live_table(hosts: int = 1, vms: int = 3) -> Table:
    """Hosts that the view has met, confirmed and repaired."""
    table = Table(hosts, vms)
    table.settle()
    table.step()
    table.step()
    table.assert_equal()
    table.view.drain_events()
    return table


def in_view(table: Table) -> Host:
    """The first host as the view holds it."""
    return table.view.hosts[HOST]


def asked_for_roster(table: Table) -> tuple[Request, bytes]:
    """A roster asked for and answered now, whose answer is still under way."""
    table.view._relist(in_view(table))
    (request,) = table.view.drain_requests(table.now)
    return request, table.host.answer(request, table.now)


def user_said(table: Table, number: int) -> str | None:
    """The user that the row of a VM shows."""
    sections = table.row(number).sections
    return sections.status.username if sections and sections.status else None


def tick_of(table: Table, seconds: float = 3.0) -> None:
    """Time passes and the first host ticks; nothing is delivered."""
    table.now += seconds
    table.host.tick(table.now)


def silence(table: Table, seconds: float, canary: bool = True) -> None:  # noqa: FBT001, FBT002 - reads well
    """Seconds pass one by one in which no host says a thing."""
    for _ in range(int(seconds)):
        table.now += 1.0
        if canary:
            table.view.canary(table.now)
        table.view.tick(table.now)


# --- apply ------------------------------------------------------------------------------------------------------


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
    """A roster with another start token drops what was held of the life before, and lets its bodies go."""
    table = live_table()
    table.host.start_vm(vm_number(1))
    tick_of(table)
    while table.host.queue[0].message.kind is not Kind.ROSTER:
        table.host.queue.popleft()
    table.receive(table.host.queue.popleft())
    held = in_view(table).bodies[:WIDTH]
    assert held == [None] * WIDTH
    assert sum(table.view.bodies._holders.values()) == sum(body is not None for body in in_view(table).bodies)


def test_bodies_that_are_replaced_are_released() -> None:
    """A thousand changes of one section leave one body of it."""
    table = live_table(vms=1)
    before = len(table.view.bodies)
    host, vm = in_view(table), vm_number(1)
    for number in range(1000):
        host.hold(vm, Section.STATUS, number + 1, b"body %d" % number, table.view.bodies)
    assert len(table.view.bodies) == before
    assert isinstance(table.view.bodies, Bodies)


# --- epochs -----------------------------------------------------------------------------------------------------


def test_a_strange_epoch_changes_nothing_before_it_is_confirmed() -> None:
    """A new agent's stream is passed over, values and sections alike, until the roster by verb is there."""
    table = live_table()
    epoch = in_view(table).epoch
    table.host.domains[vm_number(1)].user = "stranger"
    table.host.begin(table.now, table.next_epoch())
    tick_of(table)
    table.deliver()
    assert in_view(table).epoch == epoch
    assert user_said(table, 1) == "nobody"
    table.answer()
    assert in_view(table).epoch == table.host.session.epoch
    assert list(in_view(table).retired) == [epoch]
    assert user_said(table, 1) == "stranger"


def test_the_tail_of_a_retired_epoch_asks_nobody() -> None:
    """Shortly after the confirmation a retired epoch's message is the tail of a queue: no change and no question."""
    table = live_table()
    tick_of(table)
    tail = list(table.host.queue)
    table.host.queue.clear()
    table.host.begin(table.now, table.next_epoch())
    table.settle()
    epoch, seq, relists = in_view(table).epoch, in_view(table).seq, table.view.counts.relists
    for delivery in tail:
        table.receive(delivery)
    assert table.answer() == 0
    assert (in_view(table).epoch, in_view(table).seq) == (epoch, seq)
    assert table.view.counts.relists == relists


def test_a_repair_answered_by_another_epoch_is_not_taken() -> None:
    """A section's reply of an epoch that no roster has confirmed leads to a roster request and to nothing else."""
    table = live_table()
    table.host.domains[vm_number(1)].user = "missed"
    tick_of(table)
    table.host.queue.clear()
    tick_of(table)
    table.deliver()
    table.answer_one(table.view.drain_requests(table.now)[0])
    (repair,) = table.view.drain_requests(table.now)
    table.host.domains[vm_number(1)].user = "another"
    table.host.begin(table.now, table.next_epoch())
    as_of = in_view(table).reply_as_of
    table.answer_one(repair)
    assert user_said(table, 1) == "nobody"
    assert in_view(table).reply_as_of == as_of
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_a_new_epoch_does_not_wait_for_the_back_off_of_the_old() -> None:
    """Somebody new is there: whatever did not answer before is no reason to wait now."""
    table = live_table()
    table.dead.add(HOST)
    for _ in range(6):
        table.view._relist(in_view(table))
        table.answer()
        table.now = max(table.now, in_view(table).retry_at)
        table.view.tick(table.now)
    table.answer()
    assert in_view(table).retry_at >= table.now + RETRY_S[-1]
    table.dead.clear()
    table.host.begin(table.now, table.next_epoch())
    table.deliver()
    table.answer()
    assert in_view(table).epoch == table.host.session.epoch


def test_a_message_after_an_hour_of_silence_makes_no_old_value_young() -> None:
    """LOST for an hour, then a new epoch's first message: Unknown until that epoch is confirmed (promise V6)."""
    table = live_table()
    silence(table, 60)
    assert in_view(table).state is HostState.LOST
    table.now += 3600
    table.view.canary(table.now)
    table.host.begin(table.now, table.next_epoch())
    table.deliver()
    assert in_view(table).state is HostState.SYNCING
    assert (table.row(1).status, table.row(1).freshness) == ("Unknown", Freshness.UNKNOWN)
    table.answer()
    table.step()
    assert (table.row(1).status, table.row(1).freshness) == ("Up", Freshness.FRESH)


def test_a_host_that_is_synced_anew_is_believed_for_as_long_as_a_silent_one() -> None:
    """A restart right after a goodbye keeps the values for up to 15 s, counted from the old epoch's last word."""
    table = live_table()
    table.host.session.goodbye()
    table.host.pump()
    table.deliver()
    table.host.begin(table.now, table.next_epoch())
    table.deliver()
    host = in_view(table)
    assert host.state is HostState.SYNCING
    assert heard(host, table.now + LOST_S - 0.1)
    assert not heard(host, table.now + LOST_S)


# --- goodbyes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply_first", [True, False])
def test_a_goodbye_and_an_answer_of_its_epoch_end_in_stopped(reply_first: bool) -> None:  # noqa: FBT001 - a case
    """An answer that was under way when the agent said goodbye does not bring the host back, in either order."""
    table = live_table()
    request, raw = asked_for_roster(table)
    table.host.session.goodbye()
    table.host.pump()
    for step in (table.reply, table.deliver) if reply_first else (table.deliver, table.reply):
        step(request, raw) if step == table.reply else table.deliver()
    assert in_view(table).state is HostState.STOPPED
    assert table.view.drain_requests(table.now) == []


def test_the_goodbye_of_a_provisional_epoch_is_kept_for_its_confirmation() -> None:
    """A new agent that has said goodbye before its roster came is STOPPED when it comes, and never LATE or LOST."""
    table = live_table()
    table.host.begin(table.now, table.next_epoch())
    table.deliver()
    (request,) = table.view.drain_requests(table.now)
    raw = table.host.answer(request, table.now)
    table.host.session.goodbye()
    table.host.pump()
    table.deliver()
    table.reply(request, raw)
    assert in_view(table).epoch == table.host.session.epoch
    assert in_view(table).state is HostState.STOPPED


def test_the_goodbye_of_a_host_just_met_is_kept_for_its_confirmation() -> None:
    """The same for a host of which nothing was known: it is STOPPED, a planned end, and no alarm follows."""
    table = Table()
    table.deliver()
    (request,) = table.view.drain_requests(table.now)
    raw = table.host.answer(request, table.now)
    table.host.session.goodbye()
    table.host.pump()
    table.deliver()
    table.reply(request, raw)
    assert in_view(table).state is HostState.STOPPED
    silence(table, 40)
    assert in_view(table).state is HostState.STOPPED


# --- questions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [HostState.STOPPED, HostState.LOST])
def test_nobody_is_asked_who_is_known_to_be_away(state: HostState) -> None:
    """A host that is STOPPED or LOST is asked nothing, whatever is missing, and not counted as asked."""
    table = live_table()
    in_view(table).state = state
    table.view._relist(in_view(table))
    assert table.view.drain_requests(table.now) == []
    assert (table.view._in_flight, in_view(table).in_flight) == (0, None)


def test_a_request_that_never_comes_back_is_given_up() -> None:
    """After 30 s the host is asked again, the answer that comes after all is passed over, and the count is right."""
    table = live_table()
    request, raw = asked_for_roster(table)
    silence_until = table.now + FORGOTTEN_S
    while table.now < silence_until:
        tick_of(table)
        table.view.canary(table.now)
        table.view.tick(table.now)
        table.deliver()
        assert table.view.drain_requests(table.now) == []
    assert table.view._in_flight == 1
    tick_of(table)
    table.view.tick(table.now)
    table.deliver()
    assert (table.view._in_flight, in_view(table).in_flight) == (0, None)
    assert table.view.counts.requests_failed["no_answer"] == 1
    as_of = in_view(table).roster_as_of
    table.reply(request, raw)
    assert in_view(table).roster_as_of == as_of
    table.now += RETRY_S[0]
    table.view.tick(table.now)
    (again,) = table.view.drain_requests(table.now)
    assert again.verb is Verb.GET_ROSTER
    assert table.view._in_flight == 1


def test_answers_and_failures_free_the_place_of_their_request() -> None:
    """What is under way is counted up when asked, and down once, by the answer or the failure that is its own."""
    table = Table(hosts=3)
    table.deliver()
    first, second, third = table.view.drain_requests(table.now)
    assert table.view._in_flight == 3
    table.view.request_failed(first, HostDidNotAnswer("no"), table.now)
    table.view.request_failed(first, HostDidNotAnswer("no"), table.now)
    table.answer_one(second)
    table.answer_one(second)
    assert table.view._in_flight == 1
    table.answer_one(third)
    assert table.view._in_flight == 0
    assert all(host.in_flight is None for host in table.view.hosts.values())


# --- silence ----------------------------------------------------------------------------------------------------


def test_a_broker_that_dies_right_after_a_canary_makes_nobody_late() -> None:
    """Hosts tick at all phases; what they have not said since the last canary proves nothing (promise V9)."""
    table = live_table(hosts=20, vms=1)
    for tenth in range(60):
        table.now += 0.1
        for number, host in enumerate(table.hosts.values()):
            if tenth % 30 == number:
                host.tick(table.now)
                table.deliver()
        table.view.canary(table.now)
        table.view.tick(table.now)
    for _ in range(300):
        table.now += 0.1
        table.view.tick(table.now)
    assert {host.state for host in table.view.hosts.values()} == {HostState.LIVE}
    assert not table.view.broker_ok


def test_silence_counts_up_to_the_last_canary_only() -> None:
    """Six seconds of proven silence and three of unproven make nobody late; the next canary does."""
    table = live_table()
    silence(table, 6)
    silence(table, 3, canary=False)
    assert in_view(table).state is HostState.LIVE
    table.view.canary(table.now)
    table.view.tick(table.now)
    assert in_view(table).state is HostState.LATE


def test_there_is_a_grace_after_the_broker_is_back() -> None:
    """Hosts may need 30 s to connect again; only silence beyond that counts, and it counts from there."""
    table = live_table()
    silence(table, 30, canary=False)
    silence(table, GRACE_S + 7)
    assert in_view(table).state is HostState.LIVE
    silence(table, 3)
    assert in_view(table).state is HostState.LATE
    silence(table, LOST_S)
    assert in_view(table).state is HostState.LOST


def test_there_is_a_grace_after_our_own_connection_is_back() -> None:
    """A connection of ours that was lost so shortly that no canary was missed gives the hosts the same grace."""
    table = live_table()
    table.view.reconnected(table.now)
    silence(table, GRACE_S + 7)
    assert in_view(table).state is HostState.LIVE
    silence(table, 1)
    assert in_view(table).state is HostState.LATE


# --- ages -------------------------------------------------------------------------------------------------------


def a_host() -> Host:
    """A host with a frame made at the agent's 10 s, which is our 1010 s."""
    host = Host(HOST, Block(0, 0, 1), 1000.0)
    host.frame_ms = 10_000
    return host


def test_an_offset_counts_from_the_question() -> None:
    """A round trip of 2 s makes ages up to 2 s too old and never too young (promise V7)."""
    host = a_host()
    host.measure(9_000, sent_at=1008.0, now=1010.0)
    assert host.frame_age(1011.0) == pytest.approx(2.0 + DRIFT * 1.0)


def test_the_age_of_a_drifting_clock_grows_by_the_margin() -> None:
    """Without a new measure the age grows by what two clocks may drift apart, so it is never too young."""
    host = a_host()
    host.measure(10_000, sent_at=1010.0, now=1010.0)
    host.frame_ms = 1_010_000
    assert host.frame_age(2010.0) == pytest.approx(DRIFT * 1000)


def test_a_good_measure_loses_its_worth_by_the_margin() -> None:
    """A worse measure does not replace a better one until the drift since then may have made up the difference."""
    host = a_host()
    host.measure(10_000, sent_at=1010.0, now=1010.0)
    host.measure(20_000, sent_at=1019.0, now=1020.0)
    assert host.offset == pytest.approx(1000.0 - DRIFT * 10)
    host.measure(10_010_000, sent_at=11_009.9, now=11_010.0)
    assert host.offset == pytest.approx(999.9)


def test_a_frame_from_the_future_has_no_age() -> None:
    """Our own clock stood still: nothing is fresh by an offset that is void, and the clock is measured anew."""
    table = live_table()
    host = in_view(table)
    host.frame_ms = (host.frame_ms or 0) + 60_000
    assert host.frame_age(table.now) is None
    assert (table.row(1).age_s, table.row(1).freshness) == (None, Freshness.STALE)
    host.frame_ms -= 60_000
    host.frame_ms += 300
    assert host.frame_age(table.now) is not None


def test_a_clock_that_stood_still_is_measured_anew() -> None:
    """A frame that seems to come from the future voids the offset and asks for a roster, which brings a new one."""
    table = live_table()
    for _ in range(3):
        table.host.tick(table.now + 600)
    table.deliver()
    assert in_view(table).offset is None
    (request,) = table.view.drain_requests(table.now)
    table.reply(request, table.host.answer(request, table.now + 600))
    assert table.row(1).freshness is Freshness.FRESH


def test_the_clock_is_measured_again_every_five_minutes() -> None:
    """The first frame after that asks for a roster though nothing differs."""
    table = live_table()
    measured = in_view(table).offset_at
    relists = table.view.counts.relists
    while table.now + 3 <= measured + REMEASURE_S:
        table.step()
    assert table.view.counts.relists == relists
    table.step()
    table.step()
    assert table.view.counts.relists == relists + 1
    assert in_view(table).offset_at >= measured + REMEASURE_S


def test_a_slow_measure_of_the_clock_is_soon_made_again() -> None:
    """An answer that took seconds makes every age as much too old, but not for five minutes."""
    table = Table()
    table.deliver()
    (request,) = table.view.drain_requests(table.now)
    table.now += 5
    table.view.canary(table.now)
    table.reply(request, table.host.answer(request, table.now))
    table.answer()
    table.step()
    age = table.row(1).age_s
    assert age is not None
    assert age >= 5
    for _ in range(int(REMEASURE_SLOW_S / 3) + 2):
        table.step()
    age = table.row(1).age_s
    assert age is not None
    assert age < 0.2
    assert in_view(table).remeasure_at > table.now + REMEASURE_S / 2


def test_a_hung_monitor_makes_its_own_vm_old_and_no_other() -> None:
    """The age of a VM is the frame's and its own: without an answer it grows though frames come (promise V7)."""
    table = live_table()
    hung = table.now
    table.host.domains[vm_number(2)].answered = False
    for _ in range(4):
        table.step()
    table.now += 1.5
    age = table.row(2).age_s
    assert age is not None
    assert table.now - hung <= age <= table.now - hung + 0.2
    assert table.row(2).freshness is Freshness.STALE
    assert table.row(1).age_s == pytest.approx(1.5, abs=0.2)
    assert table.row(1).freshness is Freshness.FRESH


# --- ownership --------------------------------------------------------------------------------------------------


def shared_table(*, first: bool, second: bool) -> tuple[Table, SimpleHost, SimpleHost]:
    """VM 1 defined on two hosts, running there or not; it began on the second last."""
    table = live_table(hosts=2)
    hosts = table.hosts[HOST], table.hosts[OTHER]
    if not first:
        hosts[0].stop_vm(vm_number(1), table.now)
    hosts[1].define_vm(vm_number(1))
    table.step()
    if second:
        hosts[1].start_vm(vm_number(1))
    table.step()
    return table, *hosts


def test_down_to_down_moves_no_owner() -> None:
    """Rosters of hosts where the VM is Down move nothing, whoever speaks."""
    table, first, second = shared_table(first=False, second=False)
    assert table.row(1).host == HOST
    for host in (second, first, second):
        host.define_vm(vm_number(20 + host.tokens % 7))
        table.step()
        assert table.row(1).host == HOST
    vm = table.view.vms[vm_number(1)]
    for turned in (True, False):
        vm.settle(table.view.hosts[OTHER], turned=turned)
        vm.settle(table.view.hosts[HOST], turned=turned)
        assert vm.owner is table.view.hosts[HOST]


def test_an_owner_that_goes_down_keeps_its_vm_against_an_equal_claim() -> None:
    """The owner's VM ends, and it is Down elsewhere too: the owner stays, in whichever order the claims were made."""
    table, _, second = shared_table(first=True, second=True)
    assert table.row(1).host == OTHER
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    second.stop_vm(vm_number(1), table.now)
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, "Down")


def test_turning_to_running_moves_the_owner_and_being_met_does_not() -> None:
    """Both run it: who began last owns it; a restart of the other's agent is no beginning."""
    table, first, _ = shared_table(first=True, second=True)
    assert table.row(1).host == OTHER
    first.begin(table.now, table.next_epoch())
    table.settle()
    table.step()
    assert table.row(1).host == OTHER
    first.start_vm(vm_number(1))
    table.step()
    assert table.row(1).host == HOST


def test_a_host_met_later_with_a_running_claim_takes_nothing_from_one_that_is_heard() -> None:
    """A host that was met brings a claim, and no beginning: the owner that is heard stays."""
    table = live_table(hosts=2)
    second = table.hosts[OTHER]
    second.define_vm(vm_number(1))
    second.start_vm(vm_number(1))
    second.begin(table.now, table.next_epoch())
    table.settle()
    assert [claim.host for claim in table.row(1).claims] == [HOST, OTHER]
    assert table.row(1).host == HOST


def test_a_running_claim_of_a_met_host_beats_a_lost_owner() -> None:
    """The owner is lost, and a host that is met runs the VM: it is believed, for it is heard."""
    table = live_table(hosts=2)
    second = table.hosts[OTHER]
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    assert in_view(table).state is HostState.LOST
    second.define_vm(vm_number(1))
    second.start_vm(vm_number(1))
    second.begin(table.now, table.next_epoch())
    table.settle()
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, "Up")


def test_a_dropped_claim_gives_the_vm_to_who_is_left() -> None:
    """The owner's roster lacks the VM: the other claim owns it, and with the last claim the VM leaves the view."""
    table, first, second = shared_table(first=True, second=False)
    first.undefine_vm(vm_number(1), table.now)
    table.step()
    row = table.row(1)
    assert (row.host, row.status, [claim.host for claim in row.claims]) == (OTHER, "Down", [OTHER])
    second.undefine_vm(vm_number(1), table.now)
    table.step()
    assert vm_number(1) not in table.view.vms


def test_of_the_claims_left_the_running_and_then_the_heard_is_believed() -> None:
    """Whatever their order: active before Down, and among these heard before lost."""
    hosts = []
    for name, token, state in (("a", 0, HostState.LIVE), ("b", 5, HostState.LOST), ("c", 6, HostState.LIVE)):
        host = Host(HostId(name), Block(0, 1, 1), 0.0)
        host.index, host.state = {vm_number(1): 0}, state
        host.tokens.append(token)
        hosts.append(host)
    gone = Host(HostId("gone"), Block(0, 1, 1), 0.0)
    gone.index = {vm_number(1): 0}
    gone.tokens.append(9)
    for order in permutations(hosts):
        vm = Vm(vm_number(1))
        vm.owner, vm.claims = gone, [gone, *order]
        assert not vm.drop_claim(gone)
        assert vm.owner is hosts[2]
        assert not vm.drop_claim(hosts[2])
        assert vm.owner is hosts[1]


@pytest.mark.parametrize("start_first", [True, False])
@pytest.mark.parametrize("target_heard_first", [True, False])
def test_a_moving_vm_is_never_down_in_between(start_first: bool, target_heard_first: bool) -> None:  # noqa: FBT001 - cases
    """Started there before it ends here, or after; whichever host is heard first: the row ends on the target, Up."""
    table, first, second = shared_table(first=True, second=False)
    if start_first:
        second.start_vm(vm_number(1))
        table.now += 3
        second.tick(table.now)
    first.stop_vm(vm_number(1), table.now)
    second.start_vm(vm_number(1))
    table.now += 3
    for host in (second, first) if target_heard_first else (first, second):
        host.tick(table.now)
        while host.queue:
            table.receive(host.queue.popleft())
            assert table.row(1).status != "Down" or not (start_first and target_heard_first)
    table.answer()
    assert (table.row(1).host, table.row(1).status) == (OTHER, "Up")


def test_a_vm_that_starts_is_not_said_to_be_down_until_its_frame_comes() -> None:
    """The roster that lists a new life leaves the values of the one before, Down among them, behind (promise V4)."""
    table = live_table()
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    assert table.row(1).status == "Down"
    table.host.start_vm(vm_number(1))
    tick_of(table)
    while table.host.queue and table.host.queue[0].message.kind is not Kind.FRAME:
        table.receive(table.host.queue.popleft())
    assert table.view.vms[vm_number(1)].active_on(in_view(table))
    assert table.row(1).status != "Down"


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
