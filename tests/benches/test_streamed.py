"""A large fleet made of bytes says what a real one would: a view takes all of it, and holds what was announced."""

from __future__ import annotations

import asyncio

import pytest

from benches.streamed import templates as made
from benches.streamed.amqp import published
from benches.streamed.batch import batch_of
from benches.streamed.cadence import Due, Rhythm
from benches.streamed.fleet import StreamedFleet
from vmpulse_consumers.view import View
from vmpulse_contract import stream, verbs
from vmpulse_contract.identity import host_id
from vmpulse_contract.sections import ABSENT, BODIED
from vmpulse_contract.topology import Kind

HOSTS = 5
VMS = 4


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> StreamedFleet:
    """Five hosts made of two, with four VMs each; its clock stands still."""
    monkeypatch.setattr(made, "MOST", 2)
    return StreamedFleet(asyncio.run(made.templates(HOSTS, VMS, 1)), HOSTS, lambda: 100.0, 1)


class Watcher:
    """A view that is given what a fleet says, and answered what it asks."""

    def __init__(self, fleet: StreamedFleet) -> None:
        self.fleet = fleet
        self.view = View(0.0)
        self.now = 1.0

    def take(self, raw: bytes) -> None:
        """Take messages, then ask until there is nothing to ask any more."""
        for message in published(raw):
            self.view.receive(message.exchange, message.key, message.user, message.body, self.now)
        while self.view.requests_due_in(self.now) is not None:
            self.now += 0.1
            for request in self.view.drain_requests(self.now):
                raw = self.fleet.answer(request.host, request.verb, request.vms)
                self.view.replied(request, verbs.read_reply(request.verb, raw), self.now)


def test_a_view_holds_all_that_the_fleet_has_announced(fleet: StreamedFleet) -> None:
    """After many ticks nothing was rejected, no digest differed, and every announced body is held."""
    watcher = Watcher(fleet)
    watcher.take(fleet.frames(0, HOSTS, 0))
    watcher.take(b"".join(batch_of(fleet, 10, Rhythm(changes_a_minute=2.0, report_s=10.0)).parts))
    counts = watcher.view.counts
    assert (len(watcher.view.hosts), len(watcher.view.vms)) == (HOSTS, HOSTS * VMS)
    assert not counts.rejected
    assert (counts.gaps, counts.repeats, counts.digest_mismatches, counts.layout_mismatches) == (0, 0, 0, 0)
    assert counts.messages[Kind.FRAME] == fleet.said[Kind.FRAME] == HOSTS * 11
    assert counts.messages[Kind.CHANGE] == fleet.said[Kind.CHANGE] == 20
    assert counts.messages[Kind.DEVICES] == fleet.said[Kind.DEVICES] == 15
    for host in watcher.view.hosts.values():
        assert host.devices.told()[0] == 3
        assert all(not host.unheld(section) for section in BODIED)
        assert sum(value != ABSENT for value in host.held) >= VMS


def test_copies_of_a_host_have_nothing_in_common(fleet: StreamedFleet) -> None:
    """No VM id and no body of one copy is another's, though both are of one template."""
    first, second = (fleet.answer(fleet.names[number], verbs.Verb.GET_GUEST_DETAILS, ()) for number in (0, 2))
    of_first, of_second = (verbs.read_reply(verbs.Verb.GET_GUEST_DETAILS, raw) for raw in (first, second))
    assert isinstance(of_first, verbs.SectionReply)
    assert isinstance(of_second, verbs.SectionReply)
    assert of_first.vms
    assert len(of_first.vms) == len(of_second.vms)
    assert not of_first.vms.keys() & of_second.vms.keys()
    assert not {record.body for record in of_first.vms.values()} & {record.body for record in of_second.vms.values()}


def test_a_change_is_in_the_next_frame_and_in_the_answers(fleet: StreamedFleet) -> None:
    """The frame after a change has the digest of the roster after it, and the next seq of that host alone."""
    (change,) = published(fleet.change(HOSTS))
    event = stream.read_change(change.body)
    number = fleet.numbers[host_id(change.key.partition(".")[0])]
    (said,) = published(fleet.frames(number, number + 1, 0))
    told = stream.read_frame(said.body)
    (other,) = published(fleet.frames((number + 1) % HOSTS, (number + 1) % HOSTS + 1, 0))
    reply = verbs.read_reply(verbs.Verb.GET_ROSTER, fleet.answer(fleet.names[number], verbs.Verb.GET_ROSTER, ()))
    assert isinstance(reply, verbs.RosterReply)
    assert reply.roster is not None
    assert (event.seq, told.seq, reply.as_of, stream.read_frame(other.body).seq) == (1, 2, 2, 1)
    assert event.hash in reply.roster.announced()
    assert event.previous not in reply.roster.announced()
    assert told.digest == reply.roster.digest()


def test_what_is_due_is_due_once() -> None:
    """However often it is asked, as many things happen as belong to the time."""
    due = Due(10.0, 100.0)
    taken = [number for at in (100.05, 100.1, 100.1, 101.0, 102.0) for number in due.take(at)]
    assert taken == list(range(20))


def test_a_faster_rhythm_has_the_same_mix(fleet: StreamedFleet) -> None:
    """In a tenth of the time as much is said of each kind."""
    usual = Rhythm(3.0, 1.0, 9.0)
    slow, fast = batch_of(fleet, 6, usual), batch_of(fleet, 6, usual.faster(10))
    assert slow.mix == fast.mix
    assert slow.messages == HOSTS * 6 + 6 + 2 * HOSTS * 2


def test_no_two_copies_of_a_host_share_a_vm() -> None:
    """Whatever a VM's own id is: also one that has the number of a copy where that is put."""
    vm = bytes(10) + (3).to_bytes(2) + bytes(4)
    assert len({made.renamed(vm, copy) for copy in range(5)}) == 5
