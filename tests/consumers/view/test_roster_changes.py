"""Differences of rosters: applied as the roster that they make of the one held, or not at all."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.consumers.view.back_to_back import MIGRATED, Delivery, SimpleHost, Table, vm_number
from tests.consumers.view.situations import asked_for_roster, in_view, live_table, tick_of, user_said
from vmpulse_agent.session import Outgoing, Session
from vmpulse_consumers.view import View
from vmpulse_consumers.view.budget import BYTES_BURST, Budget
from vmpulse_consumers.view.host import Host
from vmpulse_consumers.view.view import LATER_KIND
from vmpulse_contract import roster_change, topology, verbs, wire
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.stream import ROW_BYTES, RosterMessage
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb

NEW = vm_number(9)


def test_what_began_ended_or_left_is_told_by_differences() -> None:
    """A life that begins, one that ends and a VM that goes are each one difference, and nothing is asked for."""
    table = live_table()
    asked = table.view.counts.relists
    table.host.define_vm(NEW)
    table.step()
    table.host.start_vm(NEW)
    table.step()
    table.assert_equal()
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    table.host.undefine_vm(vm_number(2), table.now, MIGRATED)
    table.step()
    table.assert_equal()
    held = in_view(table)
    assert [(end.vm, end.exit_reason) for end in held.tombstones] == [
        (vm_number(1), held.tombstones[0].exit_reason),
        (vm_number(2), MIGRATED.reason),
    ]
    assert (table.view.counts.messages[Kind.ROSTER], table.view.counts.messages[Kind.ROSTER_CHANGE]) == (1, 4)
    assert table.view.counts.relists == asked


def test_elapsed_times_go_on_over_a_difference() -> None:
    """Of the lives that go on they are those of the roster before and the time since; of the new one what it says."""
    table = live_table()
    before = in_view(table).roster_ms, in_view(table).elapsed
    table.host.define_vm(NEW)
    table.host.start_vm(NEW)
    table.step()
    host = in_view(table)
    since = host.roster_ms - before[0]
    assert since > 0
    assert host.elapsed == [*((value or 0) + since for value in before[1]), 5000]


def test_a_difference_to_another_roster_is_asked_about_at_once() -> None:
    """One was lost, and the next is to what it said: nothing of it is applied, and the roster is asked for."""
    table = live_table()
    for number in (8, 9):
        table.host.define_vm(vm_number(number))
        tick_of(table)
    first, second = (delivery for delivery in table.host.queue if delivery.message.kind is Kind.ROSTER_CHANGE)
    assert first.message.seq < second.message.seq
    table.host.queue.clear()
    before = in_view(table).vms
    table.receive(second)
    assert in_view(table).vms == before
    assert table.view.counts.layout_mismatches == 1
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_a_reader_that_does_not_know_differences_asks_for_the_roster() -> None:
    """It passes over what it does not know, and the next frame is of a layout that it does not hold."""
    table = live_table()
    table.host.define_vm(NEW)
    tick_of(table)
    later = [
        delivery._replace(message=delivery.message._replace(routing_key="host-0.laterKind"))
        if delivery.message.kind is Kind.ROSTER_CHANGE
        else delivery
        for delivery in table.host.queue
    ]
    table.host.queue.clear()
    for delivery in later:
        table.receive(delivery)
    assert table.view.counts.messages[LATER_KIND] == 1
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]
    table.view.asking.relist(in_view(table))
    (request,) = [in_view(table).in_flight]
    assert request is not None
    table.reply(request, table.host.answer(request, table.now))
    table.settle()
    table.step()
    table.assert_equal()


def test_a_difference_whose_layout_is_held_says_nothing_new() -> None:
    """An answer was given before the stream said what it tells: the difference is passed over, and nobody asks."""
    table = live_table()
    asked = table.view.counts.relists
    table.host.define_vm(NEW)
    table.now += 3.0
    table.host.session.disconnected()
    request, _ = asked_for_roster(table)
    table.host.look(table.now)
    table.host.session.connected(table.now)
    table.host.session.drain()
    table.reply(request, table.host.answer(request, table.now))
    held = in_view(table)
    layout, roster_as_of = held.layout, held.roster_as_of
    change = roster_change.pack_roster_change(
        layout=layout,
        base=layout - 1,
        monotonic_ms=held.roster_ms,
        left=(),
        vms=[NEW],
        tokens=[0],
        elapsed_ms=[None],
        hashes=bytes(32),
        tombstones=(),
    )
    table.receive(said_by(table.host.session, change, seq=table.host.session.seq + 1))
    assert (held.layout, held.roster_as_of) == (layout, roster_as_of)
    assert (table.view.counts.layout_mismatches, table.view.counts.relists) == (0, asked + 1)


def deliver_only(table: Table, kind: Kind) -> None:
    """Of all that the first host has said, what is of another kind is lost."""
    said = [delivery for delivery in table.host.queue if delivery.message.kind is kind]
    table.host.queue.clear()
    for delivery in said:
        table.receive(delivery)


def said_by(session: Session, change: roster_change.RosterChange, seq: int) -> Delivery:
    """A difference as a host's session would say it."""
    body = wire.write(roster_change.RosterChangeMessage(wire.VERSION, session.epoch, seq, change))
    key = topology.roster_change_key(session.host)
    return Delivery(session.host, Outgoing(Kind.ROSTER_CHANGE, topology.RUNTIME, key, body, seq), session.epoch)


@pytest.mark.parametrize("short", [0, 1])
def test_a_difference_counts_as_the_roster_that_it_makes(short: int) -> None:
    """What goes beyond the budget is dropped like any message, and asked for when the next frame does not fit."""
    table = live_table()
    host = in_view(table)
    table.host.define_vm(NEW)
    tick_of(table)
    (delivery,) = [one for one in table.host.queue if one.message.kind is Kind.ROSTER_CHANGE]
    host.budget = Budget(table.now)
    assert host.budget.take(int(BYTES_BURST) - len(delivery.message.body) - 3 * ROW_BYTES + short, table.now)[0]
    table.receive(delivery)
    assert (len(host.vms), table.view.counts.over_budget) == (4 - short, short)
    table.now += 60.0
    table.step()
    table.step()
    table.assert_equal()


def test_differences_of_an_epoch_that_is_not_confirmed_are_not_applied() -> None:
    """Whoever starts anew is asked first; what it has said until then is in its answer."""
    table = live_table()
    table.host.begin(table.now, table.next_epoch())
    table.host.define_vm(NEW)
    tick_of(table)
    assert Kind.ROSTER_CHANGE in [delivery.message.kind for delivery in table.host.queue]
    before = in_view(table).vms
    table.deliver()
    assert in_view(table).vms == before
    table.answer()
    table.step()
    table.assert_equal()


@pytest.mark.parametrize("order", [(2, 1, 3), (3, 2, 1)])
def test_a_roster_in_another_order_takes_no_difference(order: tuple[int, ...]) -> None:
    """A reader could not know where the sender puts a VM: it asks for the roster."""
    table = live_table()
    host = in_view(table)
    roster = host.roster()
    rows = [number - 1 for number in order]
    host.replace_roster(
        msgspec.structs.replace(
            roster,
            vms=b"".join(map(vm_number, order)),
            tokens=b"".join(roster.tokens[row * 8 :][:8] for row in rows),
        ),
        host.roster_as_of,
    )
    table.host.define_vm(NEW)
    tick_of(table)
    table.deliver()
    assert table.view.counts.layout_mismatches > 0
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_what_was_lost_is_repaired_while_vms_begin_and_end_all_the_time() -> None:
    """A difference says nothing of most VMs, so what an answer under way says of them counts, old as it is."""
    table = live_table()
    table.host.define_vm(NEW)
    table.step()
    table.host.domains[vm_number(1)].user = "eve"
    tick_of(table)
    deliver_only(table, Kind.FRAME)
    for begins in (True, False) * 3:
        table.now += 1.0
        requests = table.view.drain_requests(table.now)
        under_way = [(request, table.host.answer(request, table.now)) for request in requests]
        if begins:
            table.host.start_vm(NEW)
        else:
            table.host.stop_vm(NEW, table.now)
        tick_of(table)
        table.deliver()
        for request, raw in under_way:
            table.reply(request, raw)
    assert in_view(table).own_digest() == table.host.session.ledger.digest()
    assert user_said(table, 1) == "eve"
    assert table.view.counts.messages[Kind.ROSTER] == 1


def test_an_answer_that_was_overtaken_says_nothing_of_what_began_since() -> None:
    """It is older than the difference's word on those: what it says of their life before is not taken."""
    table = live_table()
    request, raw = asked_for_roster(table)
    table.host.stop_vm(vm_number(1), table.now)
    tick_of(table)
    table.host.start_vm(vm_number(1))
    tick_of(table)
    deliver_only(table, Kind.ROSTER_CHANGE)
    held = in_view(table)
    assert held.announced[Section.GUEST_DETAILS] == ABSENT
    table.reply(request, raw)
    assert held.announced[Section.GUEST_DETAILS] == ABSENT


def test_an_answer_that_a_whole_roster_has_overtaken_says_nothing() -> None:
    """The whole one said of all VMs what is newer."""
    table = live_table()
    request, raw = asked_for_roster(table)
    table.host.domains[vm_number(1)].user = "eve"
    tick_of(table)
    table.host.reconnect(table.now)
    deliver_only(table, Kind.ROSTER)
    digest = in_view(table).own_digest()
    table.reply(request, raw)
    assert in_view(table).own_digest() == digest == table.host.session.ledger.digest()


# --- any history --------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What happens on the host before its next tick, and what becomes of what it says then."""

    act: str
    number: int
    fate: str
    answers: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["power", "come or go", "come or go", "user", "reconnect", "nothing"]),
        st.integers(1, 8),
        st.sampled_from(["arrives"] * 4 + ["is lost", "comes twice", "comes late", "loses its first"]),
        st.booleans(),
    ),
    max_size=30,
)


class NotingSession(Session):
    """One that notes the whole roster whenever it says one, or a difference in its place."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.wholes: dict[int, bytes] = {}
        """By seq."""

    def _say_roster(self, now: float) -> None:
        self.wholes[self.seq + 1] = wire.write(RosterMessage(wire.VERSION, self.epoch, self.seq + 1, self.roster(now)))
        super()._say_roster(now)


class EventfulHost(SimpleHost):
    """A host to which anything may happen."""

    sessions_are = NotingSession

    def act(self, step: Step, now: float) -> None:
        """Change the truth."""
        vm = vm_number(step.number)
        match step.act:
            case "reconnect":
                self.reconnect(now)
            case "come or go" if vm in self.domains:
                self.undefine_vm(vm, now)
            case "come or go":
                self.define_vm(vm)
            case "power" if vm in self.domains and self.domains[vm].token:
                self.stop_vm(vm, now)
            case "power" if vm in self.domains:
                self.start_vm(vm)
            case "user" if vm in self.domains:
                self.domains[vm].user = f"user {now}"
            case _:
                pass


class Readers:
    """Two views of one host: one hears its differences, the other whole rosters in their place."""

    def __init__(self, host: EventfulHost, now: float) -> None:
        self.host = host
        self.differences, self.wholes = View(now), View(now)

    def receive(self, delivery: Delivery, now: float) -> None:
        """Give both a message, each in its way."""
        message, host = delivery.message, delivery.host
        self.differences.receive(message.exchange, message.routing_key, host, message.body, now)
        session = self.host.session
        assert isinstance(session, NotingSession)
        if message.kind is Kind.ROSTER_CHANGE:
            whole = session.wholes[message.seq]
            self.wholes.receive(message.exchange, topology.roster_key(host), host, whole, now)
        else:
            self.wholes.receive(message.exchange, message.routing_key, host, message.body, now)
        self.agree()

    def answer(self, now: float) -> None:
        """Answer all that both ask."""
        for view in (self.differences, self.wholes):
            view.tick(now)  # takes up what was put off
            while (due_in := view.requests_due_in(now)) is not None:
                for request in view.drain_requests(now + due_in):
                    raw = self.host.answer(request, now)
                    view.replied(request, verbs.read_reply(request.verb, raw), now + due_in)
        self.agree()

    def held(self) -> tuple[Host, Host] | None:
        """The host as each holds it, once both have met it."""
        first, second = self.differences.hosts.get(self.host.id), self.wholes.hosts.get(self.host.id)
        return None if first is None or second is None else (first, second)

    def agree(self) -> None:
        """Who hears differences has the rows of who hears rosters, or asks, or was answered with newer ones."""
        held = self.held()
        if held is None:
            return
        first, second = held
        if first.want_roster or first.in_flight is not None or not (first.confirmed and second.confirmed):
            return
        assert first.layout >= second.layout
        if first.layout == second.layout:
            assert (first.vms, first.tokens, first.tombstones) == (second.vms, second.tokens, second.tombstones)
            assert [value is None for value in first.elapsed] == [value is None for value in second.elapsed]


@settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.generate, Phase.shrink])
@given(STEPS)
def test_differences_say_what_rosters_would(steps: list[Step]) -> None:
    """Whatever happens and is lost or repeated: who hears differences has the rows of who hears rosters, or asks."""
    now = 1000.0
    host = EventfulHost("host-0", range(1, 7), now, 7919)
    readers, late = Readers(host, now), list[Delivery]()
    calm = Step("nothing", 1, "arrives", answers=True)
    for step in [calm, *steps, calm, calm, calm]:
        now += 3.0
        host.act(step, now)
        host.tick(now)
        told = list(host.queue)
        host.queue.clear()
        match step.fate:
            case "is lost":
                told = []
            case "comes twice":
                told = [*told, *told]
            case "comes late":
                told, late = late, told
            case "loses its first":
                told = told[1:]
        for delivery in told:
            readers.receive(delivery, now)
        if step.answers:
            readers.answer(now)
    held = readers.held()
    assert held is not None
    first, second = held
    assert (first.vms, first.tokens, first.announced) == (second.vms, second.tokens, second.announced)
    assert first.vms == sorted(host.domains)
