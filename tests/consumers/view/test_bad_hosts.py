"""What a faulty or hostile host says costs itself alone: each case is counted, and no other host's records change."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import msgspec
import pytest

from tests.consumers.view.back_to_back import Delivery, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, in_view, live_table, silence, tick_of, user_said
from vmpulse_consumers.view.budget import MESSAGES_BURST, MESSAGES_S, OVER_S, UNMET_KEPT
from vmpulse_consumers.view.events import HostTrouble, Trouble
from vmpulse_consumers.view.rows import VmRow, host_row
from vmpulse_consumers.view.states import HostState
from vmpulse_consumers.view.troubles import TOLD_AGAIN_S
from vmpulse_consumers.view.view import NOBODY, RETIRED_ASKS_S, SEQ_JUMP
from vmpulse_contract import sections, stream, topology, verbs, wire
from vmpulse_contract.columns import to_bytes
from vmpulse_contract.errors import HashMismatch, MessageError, MistypedMessage, WrongSender
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import GoodbyeReason

OTHERS_VMS = (4, 5, 6)


def next_message(table: Table, kind: Kind) -> Delivery:
    """The next message of that kind that the first host says."""
    if kind is Kind.ROSTER_CHANGE:
        table.host.define_vm(vm_number(9))
    if kind is Kind.ROSTER:
        table.host.reconnect(table.now)
    if kind is Kind.CHANGE:
        table.host.domains[vm_number(1)].user = "somebody"
    tick_of(table)
    return next(delivery for delivery in table.host.queue if delivery.message.kind is kind)


def frame_with(table: Table, **changes: object) -> bytes:
    """A frame as the first host would send it next, but for some fields."""
    frame = stream.read_frame(next_message(table, Kind.FRAME).message.body)
    return wire.write(msgspec.structs.replace(frame, **changes))


def another_name(_: Table) -> tuple[str, str, bytes]:
    """Say something in another host's name."""
    return topology.RUNTIME, "host-1", b""


def hash_unlike_body(table: Table) -> tuple[str, str, bytes]:
    """A change whose body is not what its hash says."""
    message = next_message(table, Kind.CHANGE).message
    change = stream.read_change(message.body)
    return message.exchange, message.routing_key, wire.write(msgspec.structs.replace(change, hash=change.hash ^ 1))


def repeated_vm(table: Table) -> tuple[str, str, bytes]:
    """A roster that names one VM twice."""
    message = next_message(table, Kind.ROSTER).message
    told = stream.read_roster(message.body)
    twice = msgspec.structs.replace(told.roster, vms=told.roster.vms[:16] * told.roster.count)
    return message.exchange, message.routing_key, wire.write(msgspec.structs.replace(told, roster=twice))


def short_roster_column(table: Table) -> tuple[str, str, bytes]:
    """A roster with a start token too few."""
    message = next_message(table, Kind.ROSTER).message
    told = stream.read_roster(message.body)
    short = msgspec.structs.replace(told.roster, tokens=told.roster.tokens[8:])
    return message.exchange, message.routing_key, wire.write(msgspec.structs.replace(told, roster=short))


def long_frame_column(table: Table) -> tuple[str, str, bytes]:
    """A frame with more CPU values than VMs."""
    return topology.RUNTIME, "host-0", frame_with(table, cpu_user=to_bytes("H", range(4)))


def seq_jump(table: Table) -> tuple[str, str, bytes]:
    """A message 2^63 numbers ahead."""
    epoch = in_view(table).epoch
    assert SEQ_JUMP < 1 << 63
    return topology.RUNTIME, "host-0.goodbye", wire.write(stream.Goodbye(1, epoch, 1 << 63, GoodbyeReason.STOPPED))


CASES: dict[str, tuple[Callable[[Table], tuple[str, str, bytes]], type[MessageError]]] = {
    "another_name": (another_name, WrongSender),
    "hash_unlike_body": (hash_unlike_body, HashMismatch),
    "repeated_vm": (repeated_vm, MistypedMessage),
    "short_roster_column": (short_roster_column, MistypedMessage),
    "long_frame_column": (long_frame_column, MistypedMessage),
    "seq_jump": (seq_jump, MistypedMessage),
}


def others(table: Table) -> tuple[list[VmRow], object]:
    """All that the view says of the other host at the moment of the last step."""
    host = table.view.hosts[OTHER]
    return [table.row(number) for number in OTHERS_VMS], host_row(table.view, host, table.now)


@pytest.mark.parametrize("case", CASES)
def test_bad_messages_are_refused_and_counted(case: str) -> None:
    """It is refused with its reason, changes nothing of the sender or anybody else, and the next good one applies."""
    make, error = CASES[case]
    table = live_table(hosts=2)
    exchange, key, body = make(table)
    before, held = others(table), copy.deepcopy(table.row(1))
    with pytest.raises(error) as caught:
        table.view.receive(exchange, key, "host-0", body, table.now)
    assert table.view.counts.rejected == {caught.value.reason: 1}
    assert others(table) == before
    assert table.row(1) == held
    for _ in range(3):
        table.step()
    table.assert_equal()


# --- floods ---------------------------------------------------------------------------------------------------------


def troubles(table: Table) -> list[Trouble]:
    """What was told of the first host."""
    return [
        event.trouble for event in table.view.drain_events() if isinstance(event, HostTrouble) and event.host == HOST
    ]


def drown(table: Table) -> None:
    """Use the first host's budget up, with messages that cost nothing to make."""
    for amount in (1000.0, 100.0, 10.0, 1.0):
        while in_view(table).budget._messages.take(amount, table.now):
            pass


def test_a_flooding_host_is_dropped_and_told_of_once() -> None:
    """Beyond its budget nothing of it is read, that is counted and told once, and the other host is as it was."""
    table = live_table(hosts=2)
    before = others(table)
    drown(table)
    for _ in range(1000):
        table.view.receive(topology.RUNTIME, "host-0", "host-0", b"\xc1", table.now)
    assert table.view.counts.over_budget == 1000
    assert table.view.counts.rejected.total() == 0
    assert troubles(table) == [Trouble.FLOODING]
    assert others(table) == before


def test_a_host_that_floods_no_more_is_repaired() -> None:
    """Its messages are applied again as its budget fills, what was dropped is fetched, and the end is told."""
    table = live_table(hosts=2)
    drown(table)
    table.host.domains[vm_number(1)].user = "somebody"
    tick_of(table, 0.0)
    table.deliver()
    assert table.view.counts.over_budget
    for _ in range(int(OVER_S / 3) + 3):
        table.step()
    table.assert_equal()
    assert troubles(table) == [Trouble.FLOODING, Trouble.FLOOD_OVER]


def flooded(table: Table, seconds: int) -> set[HostState]:
    """The first host floods and pushes all that the other says out of our queue; gives what the other is said to be."""
    seen = set()
    for second in range(seconds):
        table.now += 1.0
        table.view.canary(table.now)
        drown(table)
        table.view.receive(topology.RUNTIME, "host-0", "host-0", b"\xc1", table.now)
        if second % 3 == 0:
            table.hosts[OTHER].tick(table.now)
            table.hosts[OTHER].queue.clear()
        table.view.tick(table.now)
        seen.add(table.view.hosts[OTHER].state)
        table.answer()
        seen.add(table.view.hosts[OTHER].state)
    return seen


def test_hosts_that_a_flood_drowns_out_are_asked() -> None:
    """Questions have a queue of their own, so a host whose every message is pushed out is late and never lost."""
    table = live_table(hosts=2)
    table.hosts[OTHER].domains[vm_number(4)].user = "somebody"
    assert flooded(table, 60) == {HostState.LIVE, HostState.LATE}
    assert user_said(table, 4) == "somebody"
    table.dead.add(OTHER)
    assert HostState.LOST in flooded(table, 20)


def test_without_a_flood_nobody_is_asked_for_being_late() -> None:
    """Many hosts that fall silent at once are not asked one after the other: that would hold up other questions."""
    table = live_table(hosts=2)
    asked = table.view.counts.relists
    silence(table, 10)
    assert (in_view(table).state, table.view.counts.relists) == (HostState.LATE, asked)


def test_bytes_are_budgeted_too() -> None:
    """A few big messages are a flood as well as many small ones."""
    table = live_table(hosts=2)
    while in_view(table).budget._bytes.take(500.0, table.now):
        pass
    table.view.receive(topology.RUNTIME, "host-0", "host-0", b"\xc1" * 1000, table.now)
    assert table.view.counts.over_budget == 1


def test_the_budget_lets_an_honest_host_change_everything_at_once() -> None:
    """All sections of as many VMs as a host may have fit the burst, and the budget fills by 500 messages a second."""
    table = live_table(vms=1)
    host = in_view(table)
    assert all(host.budget.take(1000, table.now)[0] for _ in range(4 * 4096))
    drown(table)
    assert not host.budget.take(0, table.now + 0.5 / MESSAGES_S)[0]
    assert host.budget.take(0, table.now + 1.0 / MESSAGES_S)[0]


# --- who is not met ---------------------------------------------------------------------------------------------------


def junk(table: Table, sender: str, count: int) -> int:
    """Say what nobody can read; gives how many of it were read."""
    before = table.view.counts.over_budget
    for _ in range(count):
        with contextlib.suppress(MessageError):
            table.view.receive(topology.RUNTIME, sender, sender, b"\xc1", table.now)
    return count - (table.view.counts.over_budget - before)


def test_who_is_no_host_yet_has_a_budget_too() -> None:
    """One who says nothing but junk is never met, costs no more than any host, and keeps nobody from being met."""
    table = live_table(hosts=2)
    assert junk(table, "stranger", int(MESSAGES_BURST) + 1000) == MESSAGES_BURST
    assert "stranger" not in table.view.hosts
    told = [event for event in table.view.drain_events() if isinstance(event, HostTrouble)]
    assert [(event.host, event.trouble) for event in told] == [("stranger", Trouble.FLOODING)]
    assert junk(table, "another", 10) == 10


def test_a_flood_of_nobodys_is_told_of_as_such() -> None:
    """Messages without a user_id have a budget of their own, and no host is blamed for the names in their keys."""
    table = live_table(hosts=2)
    for _ in range(int(MESSAGES_BURST) + 1000):
        with contextlib.suppress(MessageError):
            table.view.receive(topology.RUNTIME, HOST, None, b"\xc1", table.now)
    told = [event for event in table.view.drain_events() if isinstance(event, HostTrouble)]
    assert [(event.host, event.trouble) for event in told] == [(NOBODY, Trouble.FLOODING)]
    table.step()
    table.assert_equal()


def test_a_host_goes_on_with_the_budget_that_it_was_met_with() -> None:
    """Being met frees nobody of what was said before."""
    table = Table()
    junk(table, str(HOST), int(MESSAGES_BURST) - 1)
    table.step(0.0)
    assert HOST in table.view.hosts
    assert junk(table, str(HOST), 10) == 0


def test_names_that_are_made_up_take_no_memory() -> None:
    """Of senders that are no host so many are kept, and no more; the newest among them."""
    table = live_table(hosts=1)
    for number in range(UNMET_KEPT + 10):
        junk(table, f"made-up-{number}", 1)
    assert len(table.view.troubles.unmet) == UNMET_KEPT
    newest = HostId(f"made-up-{UNMET_KEPT + 9}")
    assert table.view.troubles.unmet.of(newest, table.now) is table.view.troubles.unmet.taken(newest, table.now)


# --- two agents -----------------------------------------------------------------------------------------------------


def test_two_live_agents_are_told_of_and_one_is_believed() -> None:
    """Whoever answers requests is believed, and the other is told of once a minute and counted."""
    table = live_table(hosts=2)
    old = table.host.session
    table.host.begin(table.now, table.next_epoch())
    table.host.rival, table.host.session = table.host.session, old
    seconds = int(RETIRED_ASKS_S + TOLD_AGAIN_S / 2)
    for _ in range(seconds // 3):
        table.step()
    assert troubles(table) == [Trouble.RIVALS]
    assert table.view.counts.rivals > 1
    assert in_view(table).epoch == old.epoch
    assert table.row(1).freshness == "fresh"
    for _ in range(int(TOLD_AGAIN_S) // 3):
        table.step()
    assert troubles(table) == [Trouble.RIVALS]


def test_an_agent_restart_is_no_rivalry() -> None:
    """A new epoch that takes the rpc queue over is told of as nothing but a confirmed host."""
    table = live_table(hosts=2)
    for _ in range(5):
        table.host.begin(table.now, table.next_epoch())
        table.step()
        table.step()
    assert (troubles(table), table.view.counts.rivals) == ([], 0)


def test_a_hash_is_over_the_bytes_as_sent() -> None:
    """The hash that a change is held to is that of its section and body."""
    table = live_table()
    change = stream.read_change(next_message(table, Kind.CHANGE).message.body)
    assert change.body is not None
    assert change.hash == sections.section_hash(Section.STATUS, change.body)


def test_an_answer_from_far_ahead_is_refused() -> None:
    """An asOf 2^63 ahead is no answer: it is counted as failed, and the host stays right."""
    table = live_table(hosts=2)
    host = in_view(table)
    table.view.asking.relist(host)
    (request,) = table.view.drain_requests(table.now)
    reply = verbs.read_reply(request.verb, table.host.answer(request, table.now))
    with pytest.raises(MistypedMessage, match="as of"):
        table.view.replied(request, msgspec.structs.replace(reply, as_of=1 << 63), table.now)
    assert table.view.counts.requests_failed == {"message": 1}
    table.host.stop_vm(vm_number(1), table.now)
    for _ in range(3):
        table.step()
    table.assert_equal()


def test_a_jump_of_seq_in_an_epoch_that_is_not_confirmed_is_refused() -> None:
    """A new epoch cannot begin 2^63 messages late, and its honest messages are applied afterwards."""
    table = live_table(hosts=2)
    session = table.host.begin(table.now, table.next_epoch())
    body = wire.write(stream.Goodbye(1, session.epoch, 1 << 63, GoodbyeReason.STOPPED))
    with pytest.raises(MistypedMessage, match="hardly begun"):
        table.view.receive(topology.RUNTIME, "host-0.goodbye", "host-0", body, table.now)
    assert table.view.counts.rejected == {"mistyped": 1}
    for _ in range(6):
        table.step()
    table.assert_equal()
