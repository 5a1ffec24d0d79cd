"""Epochs, goodbyes, questions and silence of a host, one rule at a time."""

from __future__ import annotations

import msgspec
import pytest

from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import (
    HOST,
    asked_for_roster,
    in_view,
    live_table,
    silence,
    tick_of,
    user_said,
)
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.asking import JITTER, RETRY_S
from vmpulse_consumers.view.host import LOST_S
from vmpulse_consumers.view.rows import Freshness
from vmpulse_consumers.view.view import FORGOTTEN_S, GRACE_S
from vmpulse_contract import verbs
from vmpulse_contract.errors import HostDidNotAnswer, MistypedMessage
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb

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
        table.view.asking.relist(in_view(table))
        table.answer()
        table.now = max(table.now, in_view(table).retry_at)
        table.view.tick(table.now)
    table.answer()
    assert in_view(table).retry_at >= table.now + RETRY_S[-1] * (1 - JITTER)
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
    assert host.heard(table.now + LOST_S - 0.1)
    assert not host.heard(table.now + LOST_S)


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
    table.view.asking.relist(in_view(table))
    assert table.view.drain_requests(table.now) == []
    assert (table.view.asking.in_flight, in_view(table).in_flight) == (0, None)


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
    assert table.view.asking.in_flight == 1
    tick_of(table)
    table.view.tick(table.now)
    table.deliver()
    assert (table.view.asking.in_flight, in_view(table).in_flight) == (0, None)
    assert table.view.counts.requests_failed["no_answer"] == 1
    as_of = in_view(table).roster_as_of
    table.reply(request, raw)
    assert in_view(table).roster_as_of == as_of
    table.now += RETRY_S[0]
    table.view.tick(table.now)
    (again,) = table.view.drain_requests(table.now)
    assert again.verb is Verb.GET_ROSTER
    assert table.view.asking.in_flight == 1


def test_answers_and_failures_free_the_place_of_their_request() -> None:
    """What is under way is counted up when asked, and down once, by the answer or the failure that is its own."""
    table = Table(hosts=3)
    table.deliver()
    first, second, third = table.view.drain_requests(table.now)
    assert table.view.asking.in_flight == 3
    table.view.request_failed(first, HostDidNotAnswer("no"), table.now)
    table.view.request_failed(first, HostDidNotAnswer("no"), table.now)
    table.answer_one(second)
    table.answer_one(second)
    assert table.view.asking.in_flight == 1
    table.answer_one(third)
    assert table.view.asking.in_flight == 0
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


def test_an_answer_that_cannot_be_applied_leaves_the_question_standing() -> None:
    """It is an error and a failed request: the host is asked again, but not at once."""
    table = live_table()
    table.view.asking.relist(in_view(table))
    (request,) = table.view.drain_requests(table.now)
    reply = verbs.read_reply(Verb.GET_ROSTER, table.host.answer(request, table.now))
    with pytest.raises(MistypedMessage):
        table.view.replied(request, msgspec.structs.replace(reply, epoch=0), table.now)
    assert table.view.counts.requests_failed.total() == 1
    assert table.view.drain_requests(table.now) == []
    table.now += RETRY_S[0]
    table.view.tick(table.now)
    assert [again.verb for again in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_a_lost_host_that_is_heard_again_is_asked_what_was_left() -> None:
    """A repair that was pending when the host fell silent is asked for with its first message."""
    table = live_table()
    table.host.domains[vm_number(1)].user = "alice"
    tick_of(table)
    table.host.queue = type(table.host.queue)(one for one in table.host.queue if one.message.kind is not Kind.CHANGE)
    table.deliver()
    (relist,) = table.view.drain_requests(table.now)
    table.reply(relist, table.host.answer(relist, table.now))
    (repair,) = table.view.drain_requests(table.now)
    table.view.request_failed(repair, HostDidNotAnswer("gone"), table.now)
    silence(table, LOST_S + 3)
    assert in_view(table).state is HostState.LOST
    tick_of(table)
    table.deliver()
    assert [asked.verb for asked in table.view.drain_requests(table.now)] == [Verb.GET_STATUS]
