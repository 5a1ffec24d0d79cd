"""The view's protocol rules, one by one: real sessions on one side, the view on the other."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import HOST, live_table
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.rows import Freshness
from vmpulse_consumers.view.view import GRACE_S
from vmpulse_contract import stream, topology, wire
from vmpulse_contract.errors import HashMismatch, HostDidNotAnswer, MalformedMessage, MistypedMessage, WrongSender
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb, read_reply


def state(table: Table) -> HostState:
    """The first host's state now."""
    return table.view.hosts[HOST].state


def lose(table: Table, kind: Kind) -> int:
    """Take the first host's queued messages of one kind away. Gives how many."""
    kept = [delivery for delivery in table.host.queue if delivery.message.kind is not kind]
    lost = len(table.host.queue) - len(kept)
    table.host.queue.clear()
    table.host.queue.extend(kept)
    return lost


def test_a_new_host_is_confirmed_by_rpc_and_repaired() -> None:
    """The first message leads to one roster by verb and one request for each section, and then all is equal."""
    table = Table(hosts=3, vms=4)
    table.deliver()
    assert {host.state for host in table.view.hosts.values()} == {HostState.SYNCING}
    assert table.answer() == 3 * 4
    table.step()
    table.assert_equal()
    assert table.view.counts.relists == 3


def test_the_stream_alone_confirms_nothing() -> None:
    """Until a roster fetched by rpc carries the epoch, nothing of it is applied (rule: Epochs)."""
    table = Table()
    table.deliver()
    table.host.tick(table.now + 3)
    table.deliver()
    assert not table.view.vms
    assert table.view.counts.strangers == 3


def test_a_lost_frame_costs_nothing() -> None:
    """The next frame says all that the lost one said; nobody is asked."""
    table = live_table()
    table.now += 3
    table.host.tick(table.now)
    assert lose(table, Kind.FRAME) == 1
    asked = table.view.counts.relists + table.view.counts.repairs
    table.step()
    table.assert_equal()
    assert table.view.counts.gaps == 1
    assert table.view.counts.relists + table.view.counts.repairs == asked


def test_a_lost_change_event_is_brought_to_light_by_the_digest() -> None:
    """The view asks for the roster and then for just the one section of the one VM that differs (promise V1)."""
    table = live_table()
    table.now += 3
    table.host.domains[vm_number(2)].user = "alice"
    table.host.tick(table.now)
    assert lose(table, Kind.CHANGE) == 1
    table.deliver()
    (relist,) = table.view.drain_requests(table.now)
    assert (relist.verb, relist.vms) == (Verb.GET_ROSTER, ())
    table.answer_one(relist)
    (repair,) = table.view.drain_requests(table.now)
    assert (repair.verb, repair.vms) == (Verb.GET_STATUS, (vm_number(2),))
    table.answer_one(repair)
    table.assert_equal()


def test_a_change_event_with_its_body_needs_no_question() -> None:
    """Body and hash come together and are held together (promise V5)."""
    table = live_table()
    asked = table.view.counts.relists + table.view.counts.repairs
    table.host.domains[vm_number(1)].apps = ("app-2",)
    table.step()
    table.assert_equal()
    assert table.view.counts.relists + table.view.counts.repairs == asked


def test_repeats_are_ignored() -> None:
    """A message that comes twice changes nothing the second time (promise V2)."""
    table = live_table()
    table.now += 3
    table.host.tick(table.now)
    twice = [*table.host.queue, *table.host.queue]
    table.host.queue.clear()
    table.host.queue.extend(twice)
    table.deliver()
    assert table.view.counts.repeats == len(twice) // 2
    table.assert_equal()


def test_a_lost_roster_is_asked_for_when_the_next_frame_does_not_fit() -> None:
    """A frame of another layout is never applied to the wrong VMs (rule: Apply)."""
    table = live_table()
    table.now += 3
    table.host.stop_vm(vm_number(1), table.now)
    table.host.tick(table.now)
    assert lose(table, Kind.ROSTER_CHANGE) == 1
    table.deliver()
    assert table.view.counts.layout_mismatches > 0
    assert table.row(1).status == "Up"
    table.answer()
    table.step()
    table.assert_equal()


def test_an_agent_restart_costs_no_detail_traffic() -> None:
    """A new epoch with unchanged hashes is confirmed by one question and repairs nothing."""
    table = live_table()
    repairs, relists = table.view.counts.repairs, table.view.counts.relists
    table.now += 1
    table.host.begin(table.now, table.next_epoch())
    table.settle()
    table.step()
    table.assert_equal()
    assert (table.view.counts.repairs - repairs, table.view.counts.relists - relists) == (0, 1)


def test_a_retired_epoch_that_answers_is_reinstated() -> None:
    """Whoever holds the rpc queue is the live agent, also if its epoch had been retired."""
    table = live_table()
    old = table.host.session
    table.now += 1
    new = table.host.begin(table.now, table.next_epoch())
    table.settle()
    assert table.view.hosts[HOST].epoch == new.epoch
    table.host.session = old
    table.now += 30
    table.view.canary(table.now)
    table.host.tick(table.now)
    table.settle()
    assert table.view.hosts[HOST].epoch == old.epoch
    table.step()
    table.assert_equal()


def test_messages_of_a_retired_epoch_change_nothing() -> None:
    """What an old agent said last may still be queued when the new one was confirmed; it is passed over."""
    table = live_table()
    table.now += 3
    table.host.domains[vm_number(1)].user = "late"
    table.host.tick(table.now)
    late = list(table.host.queue)
    table.host.queue.clear()
    table.host.domains[vm_number(1)].user = "new"
    table.host.begin(table.now, table.next_epoch())
    table.settle()
    before = table.row(1)
    for delivery in late:
        table.receive(delivery)
    assert table.row(1).sections == before.sections
    assert table.view.hosts[HOST].epoch == table.host.session.epoch


def test_a_reply_never_undoes_a_newer_change() -> None:
    """Of a reply and a change event the one with the higher seq wins, in either order of arrival (rule: Apply)."""
    table = live_table()
    table.view.asking.relist(table.view.hosts[HOST])
    (request,) = table.view.drain_requests(table.now)
    old_reply = table.host.answer(request, table.now)
    table.now += 3
    table.host.domains[vm_number(1)].user = "newer"
    table.host.tick(table.now)
    table.deliver()
    table.view.replied(request, read_reply(request.verb, old_reply), table.now)
    table.answer()
    table.assert_equal()


def test_silence_goes_late_then_lost_and_never_down() -> None:
    """A silent host becomes LATE after two ticks, LOST after 15 s; its VMs turn Unknown, not Down (promise V6)."""
    table = live_table()
    for _ in range(8):
        table.now += 1
        table.view.canary(table.now)
        table.view.tick(table.now)
    assert state(table) is HostState.LATE
    assert table.row(1).status == "Up"
    assert table.row(1).freshness is Freshness.STALE
    for _ in range(9):
        table.now += 1
        table.view.canary(table.now)
        table.view.tick(table.now)
    assert state(table) is HostState.LOST
    assert (table.row(1).status, table.row(1).freshness) == ("Unknown", Freshness.UNKNOWN)
    table.step()
    assert state(table) is HostState.LIVE
    table.assert_equal()


def test_without_our_canary_silence_counts_against_nobody() -> None:
    """Trouble of the broker changes nothing that is said of hosts (promise V9), and there is a grace afterwards."""
    table = live_table()
    table.now += 60
    table.view.tick(table.now)
    assert not table.view.broker_ok
    assert table.view.hosts[HOST].state is HostState.LIVE
    table.view.canary(table.now)
    for _ in range(int(GRACE_S) // 3):
        table.now += 3
        table.view.canary(table.now)
        table.view.tick(table.now)
        assert table.view.hosts[HOST].state is HostState.LIVE
    events = [type(event).__name__ for event in table.view.drain_events()]
    assert events.count("BrokerEvent") == 2


def test_a_goodbye_stops_without_alarm_and_the_next_epoch_lives() -> None:
    """STOPPED keeps the last values for 15 s, then says Unknown; a new agent is confirmed as ever."""
    table = live_table()
    table.host.session.goodbye()
    table.host.pump()
    table.deliver()
    host = table.view.hosts[HOST]
    assert host.state is HostState.STOPPED
    assert table.row(1).status == "Up"
    for _ in range(20):
        table.now += 1
        table.view.canary(table.now)
        table.view.tick(table.now)
    assert host.state is HostState.STOPPED
    assert table.row(1).status == "Unknown"
    table.host.begin(table.now, table.next_epoch())
    table.settle()
    table.step()
    table.assert_equal()


def test_an_age_is_never_too_young() -> None:
    """The age counts from when we asked, so it errs by the round trip, on the old side (promise V7)."""
    table = Table()
    table.deliver()
    requests = table.view.drain_requests(table.now)
    made_at = table.now
    table.now += 2.0
    for request in requests:
        table.view.replied(request, read_reply(request.verb, table.host.answer(request, made_at + 1.0)), table.now)
    table.answer()
    table.host.tick(table.now)
    sampled = table.now
    table.deliver()
    table.now += 1.5
    age = table.row(1).age_s
    assert age is not None
    assert table.now - sampled <= age <= table.now - sampled + 1.0 + 0.11


def test_a_vm_that_vanished_leaves_only_by_roster() -> None:
    """Absence is evidence only in a roster of the live epoch (promise V3)."""
    table = live_table()
    del table.host.domains[vm_number(2)]
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    assert vm_number(2) not in table.view.vms
    assert table.row(1).status == "Down"
    assert [stone.vm for stone in table.view.hosts[HOST].tombstones] == [vm_number(1), vm_number(2)]


def test_a_restarted_vm_forgets_what_its_old_life_was_like() -> None:
    """A new start token drops info, status and guestDetails of the life before, until they are told anew."""
    table = live_table()
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    table.host.start_vm(vm_number(1))
    table.step()
    table.assert_equal()


def test_an_active_claim_beats_a_down_one() -> None:
    """A VM that is defined on two hosts and runs on one belongs to that one (promise V4)."""
    table = live_table(hosts=2)
    shared = vm_number(1)
    first, second = table.hosts[HostId("host-0")], table.hosts[HostId("host-1")]
    second.domains[shared] = type(first.domains[shared])(shared, 0)
    table.step()
    assert table.row(1).host == "host-0"
    first.stop_vm(shared, table.now)
    second.start_vm(shared)
    table.step()
    row = table.row(1)
    assert (row.host, row.status) == ("host-1", "Up")
    assert [(claim.host, claim.owner) for claim in row.claims] == [("host-0", False), ("host-1", True)]


def test_among_active_claims_the_last_to_turn_to_running_owns() -> None:
    """Two hosts say it runs: the one where it began last is believed, and repeated reports move nothing."""
    table = live_table(hosts=2)
    shared = vm_number(1)
    second = table.hosts[HostId("host-1")]
    second.domains[shared] = type(table.host.domains[shared])(shared, 0)
    table.step()
    second.start_vm(shared)
    table.step()
    assert table.row(1).host == "host-1"
    table.step()
    assert table.row(1).host == "host-1"
    table.hosts[HostId("host-0")].begin(table.now, table.next_epoch())
    table.settle()
    assert table.row(1).host == "host-1"


def test_a_lost_owner_keeps_its_vm_against_a_down_claim() -> None:
    """Silence is no evidence: a Down claim elsewhere never takes over from a LOST host (promise V6)."""
    table = live_table(hosts=2)
    shared = vm_number(1)
    second = table.hosts[HostId("host-1")]
    second.domains[shared] = type(table.host.domains[shared])(shared, 0)
    table.dead.add(HOST)
    for _ in range(10):
        table.step()
    assert table.view.hosts[HOST].state is HostState.LOST
    assert (table.row(1).host, table.row(1).status) == ("host-0", "Unknown")


def test_a_host_that_does_not_answer_is_asked_again_later_and_less_often() -> None:
    """Failed requests are retried with growing pauses, and never more than one is under way."""
    table = Table()
    table.deliver()
    asked_at = []
    for _ in range(300):
        table.now += 0.1
        table.view.tick(table.now)
        for request in table.view.drain_requests(table.now):
            asked_at.append(table.now)
            table.view.request_failed(request, HostDidNotAnswer("no"), table.now)
    pauses = [later - sooner for sooner, later in pairwise(asked_at)]
    assert len(asked_at) >= 5
    assert all(longer >= pause - 0.11 for pause, longer in pairwise(pauses))
    table.settle()
    table.now += 20
    table.settle()
    assert table.view.hosts[HOST].confirmed


@pytest.mark.parametrize(
    "exchange,key,user,body,error",
    [
        (topology.RUNTIME, "host-0", None, b"", WrongSender),
        (topology.RUNTIME, "host-0", "host-1", b"", WrongSender),
        (topology.RUNTIME, "host-0", "host-0", b"\xc1", MalformedMessage),
        (topology.RUNTIME, "host-0", "host-0", wire.write([1, "x"]), MistypedMessage),
        (topology.RUNTIME, "host-0.roster", "host-0", wire.write([1, 2, 3, 4]), MistypedMessage),
        (topology.RUNTIME, "Host.0", "Host", b"", MistypedMessage),
        (topology.CHANGES, "host-0.non_sense", "host-0", b"", MistypedMessage),
        (topology.CHANGES, "host-0.later", "host-1", b"", WrongSender),
        (
            topology.CHANGES,
            "host-0.status",
            "host-0",
            wire.write(stream.ChangeEvent(1, 7919, 99, b"v" * 16, Section.STATUS, 5, 0, b"\x80")),
            HashMismatch,
        ),
        (
            topology.CHANGES,
            "host-0.info",
            "host-0",
            wire.write(stream.ChangeEvent(1, 7919, 99, b"v" * 16, Section.STATUS, 5, 0, None)),
            MistypedMessage,
        ),
    ],
)
def test_bad_input_is_refused_with_its_reason_and_changes_nothing(
    exchange: str, key: str, user: str | None, body: bytes, error: type[Exception]
) -> None:
    """A message that nobody can use is a typed error, is counted by reason, and leaves the picture alone."""
    table = live_table()
    before = [msgspec.json.encode(table.row(number)) for number in (1, 2, 3)]
    with pytest.raises(error):
        table.view.receive(exchange, key, user, body, table.now)
    assert table.view.counts.rejected.total() == 1
    assert [msgspec.json.encode(table.row(number)) for number in (1, 2, 3)] == before
    table.step()
    table.assert_equal()
