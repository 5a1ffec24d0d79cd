"""What outlives a view: what is kept, what a new view makes of it, and that nothing is fetched twice."""

from __future__ import annotations

import gc
from itertools import pairwise

import msgspec
import pytest

from tests.consumers.view.back_to_back import MIGRATED, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, asked_for_roster, in_view, live_table, silence, tick_of
from vmpulse_consumers.errors import IllegalTransition
from vmpulse_consumers.view import HostEvent, HostState, View, memory
from vmpulse_consumers.view import restoring as restoring_in_pieces
from vmpulse_consumers.view.asking import ASKED_BURST
from vmpulse_consumers.view.host import LOST_S, Host
from vmpulse_consumers.view.memory import (
    Batch,
    HostMemory,
    Kept,
    SectionMemory,
    TransitMemory,
    read_host,
)
from vmpulse_consumers.view.restoring import restoring
from vmpulse_consumers.view.view import GRACE_S
from vmpulse_contract import wire
from vmpulse_contract.errors import HostDidNotAnswer, MessageError
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import Verb

UNKNOWN, UP = VmStatus.UNKNOWN.label, VmStatus.UP.label


class Shelf:
    """Keeps batches as a store does, in dictionaries."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostMemory] = {}
        self.sections: dict[tuple[HostId, VmId, Section], SectionMemory] = {}
        self.transits: dict[bytes, TransitMemory] = {}
        self.batches = 0

    def take(self, view: View) -> None:
        """Write behind, up to the last mark."""
        while view.memory:
            self.put(view.memory.drain(view.hosts, view.vms, view.runtime))

    def put(self, batch: Batch) -> None:
        """Write one batch."""
        self.batches += 1
        for host in batch.forgotten:
            self.hosts.pop(host, None)
            self.sections = {key: kept for key, kept in self.sections.items() if key[0] != host}
        for record in batch.hosts:
            self.hosts[record.host] = read_host(wire.write(record))
        for kept in batch.sections:
            self.sections.pop((kept.host, kept.vm, kept.section), None)
            if kept.body is not None:
                self.sections[kept.host, kept.vm, kept.section] = kept
        for vm in batch.settled:
            self.transits.pop(vm, None)
        self.transits.update({record.vm: record for record in batch.transits})

    def kept(self) -> Kept:
        """All that is kept."""
        return Kept(tuple(self.hosts.values()), tuple(self.sections.values()), tuple(self.transits.values()))


def kept_table(hosts: int = 1, vms: int = 3) -> tuple[Table, Shelf]:
    """A table whose view is kept from its start, and all of it is on the shelf."""
    table, shelf = shelved_table(hosts, vms)
    table.assert_equal()
    return table, shelf


def shelved_table(hosts: int, vms: int) -> tuple[Table, Shelf]:
    """The same, of a size whose VMs' memory usage no longer follows from their numbers."""
    table, shelf = Table(hosts, vms), Shelf()
    table.view.memory.keeping = True
    table.settle()
    table.step()
    table.step()
    shelf.take(table.view)
    return table, shelf


def restart(table: Table, shelf: Shelf, away_s: float = 5.0) -> View:
    """Put a new view in the place of the old one; what was queued meanwhile is lost."""
    for host in table.hosts.values():
        host.queue.clear()
    table.now += away_s
    table.view = View(table.now)
    list(restoring(table.view, shelf.kept(), table.now))
    table.view.memory.keeping = True
    return table.view


def test_nothing_is_kept_where_nobody_keeps_it() -> None:
    """A view without a store marks nothing, so it cannot grow by marks."""
    table = live_table()
    table.hosts[HOST].start_vm(vm_number(1))
    table.step()
    assert not table.view.memory


def test_frames_that_change_no_status_are_not_kept() -> None:
    """Runtime values are never kept, and an hour of ticks writes nothing."""
    table, _ = kept_table()
    for _ in range(20):
        table.step()
        assert not table.view.memory


def test_a_roster_that_says_nothing_new_is_not_kept() -> None:
    """Rosters come every 5 minutes, whatever happens."""
    table, _ = kept_table()
    table.view.asking.relist(table.view.hosts[HOST])
    assert table.answer() == 1
    assert not table.view.memory


def test_what_was_said_of_a_life_whose_rosters_were_lost_is_not_kept() -> None:
    """Its sections were held as those of an inactive VM, and with its end they are no more, on the shelf as well."""
    table, shelf = kept_table()
    vm, stopped = vm_number(1), set(shelf.sections)
    table.host.stop_vm(vm, table.now)
    table.step()
    shelf.take(table.view)
    before = set(shelf.sections)
    assert before < stopped
    table.host.start_vm(vm)
    tick_of(table)
    for delivery in [one for one in table.host.queue if one.message.kind is Kind.CHANGE]:
        table.receive(delivery)
    table.host.queue.clear()
    shelf.take(table.view)
    assert set(shelf.sections) == stopped
    table.host.stop_vm(vm, table.now)
    table.step()
    shelf.take(table.view)
    assert set(shelf.sections) == before


def test_a_new_view_shows_what_the_old_one_did_as_stale() -> None:
    """Until hosts are heard VMs have their status, name and place, no age, and are stale (promises V6, V9)."""
    table, shelf = kept_table()
    before = table.row(1)
    restart(table, shelf)
    row = table.row(1)
    assert (row.host, row.status, row.name) == (before.host, before.status, before.name)
    assert (row.hashes, row.sections) == (before.hashes, before.sections)
    assert (row.freshness, row.age_s, row.cpu_user) == ("stale", None, None)


def test_unchanged_sections_are_not_fetched_again() -> None:
    """The new view asks each host for its roster and for nothing else, and then all is as before."""
    table, shelf = kept_table(hosts=3)
    view = restart(table, shelf)
    view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()
    assert (view.counts.relists, view.counts.repairs) == (3, 0)


def test_only_what_changed_meanwhile_is_fetched() -> None:
    """A section that changed while the view was down is fetched, once."""
    table, shelf = kept_table()
    table.host.domains[vm_number(2)].user = "somebody"
    table.host.tick(table.now)
    view = restart(table, shelf)
    view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()
    assert view.counts.repairs == 1


def test_a_body_that_was_announced_anew_is_not_taken_up() -> None:
    """The view ended before it had fetched it: the old one may be of an earlier life, and the new one is fetched."""
    table, shelf = kept_table()
    vm = vm_number(1)
    table.host.domains[vm].user = "eve"
    table.now += 3.0
    table.host.tick(table.now)
    table.host.queue.clear()
    request, raw = asked_for_roster(table)
    table.reply(request, raw)
    host = in_view(table)
    at = host.index[vm] * len(Section) + Section.STATUS
    assert ABSENT not in {host.held[at], host.announced[at]}
    assert host.held[at] != host.announced[at]
    shelf.take(table.view)
    host = restart(table, shelf).hosts[HOST]
    assert (host.held[at], host.bodies[at]) == (0, None)
    table.step()
    table.step()
    table.assert_equal()


def test_ten_thousand_vms_are_remembered_whole() -> None:
    """200 hosts of 50 VMs come back from the shelf: no section is asked for, and every VM is where it was."""
    table, shelf = shelved_table(hosts=200, vms=50)
    view = restart(table, shelf)
    assert len(view.vms) == 10_000
    view.canary(table.now)
    table.step()
    assert (view.counts.relists, view.counts.repairs) == (200, 0)


def test_a_host_that_died_meanwhile_is_lost_and_its_vms_are_there() -> None:
    """Its VMs keep their place and become Unknown, never Down, once its silence is proved (promise V6)."""
    table, shelf = kept_table(hosts=2)
    table.dead.add(HOST)
    view = restart(table, shelf, away_s=86_400)
    view.canary(table.now)
    for _ in range(8):
        table.step()
    row = table.row(1)
    assert (row.host, row.status, row.freshness) == (HOST, UNKNOWN, "unknown")
    assert view.hosts[HOST].state is HostState.LOST
    assert not view.not_ready(table.now)


def test_without_the_broker_what_is_remembered_stands() -> None:
    """A broker that is away at the start proves nobody's silence, however long (promise V9)."""
    table, shelf = kept_table()
    view = restart(table, shelf)
    silence(table, 120, canary=False)
    assert table.row(1).status == UP
    view.canary(table.now)
    silence(table, int(LOST_S) - 2)
    assert table.row(1).status == UP
    silence(table, 4)
    assert table.row(1).status == UNKNOWN


def test_a_broker_that_fails_again_stops_the_clock_of_what_is_remembered() -> None:
    """For as long as nobody can be heard, and for the grace after it: silence counts as for any other host."""
    table, shelf = kept_table()
    view = restart(table, shelf)
    silence(table, int(LOST_S) - 2)
    silence(table, 120, canary=False)
    assert not view.broker_ok
    assert table.row(1).status == UP
    silence(table, int(GRACE_S + LOST_S) - 1)
    assert table.row(1).status == UP
    silence(table, 4)
    assert table.row(1).status == UNKNOWN


def test_a_connection_that_was_lost_gives_what_is_remembered_the_grace_too() -> None:
    """Hosts may have lost theirs with it."""
    table, shelf = kept_table()
    view = restart(table, shelf)
    silence(table, int(LOST_S) - 2)
    view.reconnected(table.now)
    silence(table, int(GRACE_S + LOST_S) - 1)
    assert table.row(1).status == UP
    silence(table, 4)
    assert table.row(1).status == UNKNOWN


def test_what_was_hidden_is_not_shown_again_when_the_agent_begins_to_speak() -> None:
    """A host that was lost speaks with an epoch that nobody has confirmed: what is remembered of it is long over."""
    table, shelf = kept_table()
    view = restart(table, shelf)
    view.canary(table.now)
    table.now += LOST_S + 1
    view.canary(table.now)
    view.tick(table.now)
    assert view.hosts[HOST].state is HostState.LOST
    table.host.tick(table.now)
    table.receive(table.host.queue.popleft())
    assert view.hosts[HOST].state is HostState.SYNCING
    assert table.row(1).status == UNKNOWN


def test_an_agent_that_speaks_and_answers_nothing_keeps_nothing_shown() -> None:
    """What is remembered of its host stands for 15 s: nobody has confirmed that it is so still."""
    table, shelf = kept_table()
    restart(table, shelf)
    for _ in range(6):
        table.now += 3.0
        table.view.canary(table.now)
        table.host.tick(table.now)
        while table.host.queue:
            table.receive(table.host.queue.popleft())
        table.view.tick(table.now)
    assert table.row(1).status == UNKNOWN


def test_a_lost_host_is_lost_again() -> None:
    """What was Unknown before the restart is not said to be Up after it."""
    table, shelf = kept_table(hosts=2)
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    shelf.take(table.view)
    view = restart(table, shelf)
    assert view.hosts[HOST].state is HostState.LOST
    assert table.row(1).status == UNKNOWN


def test_a_stopped_host_is_stopped_again() -> None:
    """A goodbye is remembered: no alarm, and nobody waits for the host."""
    table, shelf = kept_table(hosts=2)
    table.host.session.goodbye()
    table.host.pump()
    table.dead.add(HOST)
    table.step()
    shelf.take(table.view)
    view = restart(table, shelf)
    assert view.hosts[HOST].state is HostState.STOPPED
    assert table.row(1).status == UNKNOWN


def test_an_agent_restarted_meanwhile_is_confirmed_by_rpc() -> None:
    """Neither the remembered epoch nor a new one is believed before its roster is fetched."""
    table, shelf = kept_table()
    table.host.begin(table.now, table.next_epoch())
    view = restart(table, shelf)
    assert not view.hosts[HOST].confirmed
    view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()
    assert view.counts.repairs == 0


def test_a_migration_in_the_middle_has_one_owner_over_a_restart() -> None:
    """The source owns it, before and after, until it runs on the destination; it is never Down or Unknown."""
    table, shelf = kept_table(hosts=2)
    vm = vm_number(1)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    source.domains[vm].moving = VmStatus.MIGRATION_SOURCE
    target.receive_vm(vm)
    table.step()
    shelf.take(table.view)
    view = restart(table, shelf)
    assert table.row(1).host == HOST
    view.canary(table.now)
    table.step()
    assert (table.row(1).host, table.row(1).status) == (HOST, VmStatus.MIGRATION_SOURCE.label)
    target.domains[vm].moving = None
    source.undefine_vm(vm, table.now, MIGRATED)
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, UP)


def test_a_migration_that_ended_meanwhile_ends_where_it_runs() -> None:
    """Both hosts tell of it only after the restart, in either order."""
    for first in (HOST, OTHER):
        table, shelf = kept_table(hosts=2)
        vm = vm_number(1)
        table.hosts[OTHER].receive_vm(vm)
        table.hosts[OTHER].domains[vm].moving = None
        table.hosts[HOST].undefine_vm(vm, table.now, MIGRATED)
        view = restart(table, shelf)
        view.canary(table.now)
        for host in (table.hosts[first], *table.hosts.values()):
            host.tick(table.now)
            while host.queue:
                table.receive(host.queue.popleft())
            table.answer()
            assert table.row(1).status != VmStatus.DOWN.label
        table.step()
        table.assert_equal()


def test_a_vm_in_transit_is_still_so() -> None:
    """It has left one host, was seen nowhere, and is not gone by a restart."""
    table, shelf = kept_table(hosts=2)
    table.host.undefine_vm(vm_number(1), table.now, MIGRATED)
    table.step()
    shelf.take(table.view)
    view = restart(table, shelf)
    assert (table.row(1).host, table.row(1).status) == (HOST, VmStatus.MIGRATION_SOURCE.label)
    view.canary(table.now)
    table.step()
    assert vm_number(1) in view.transits


def test_a_batch_that_was_not_written_is_handed_out_again() -> None:
    """A full disk loses nothing that is still so."""
    table, shelf = kept_table(hosts=2)
    table.host.domains[vm_number(1)].user = "somebody"
    table.host.stop_vm(vm_number(2), table.now)
    table.step()
    lost = table.view.memory.drain(table.view.hosts, table.view.vms, table.view.runtime)
    assert not table.view.memory
    table.view.memory.again(lost)
    shelf.take(table.view)
    view = restart(table, shelf)
    view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()
    assert view.counts.repairs == 0


def test_what_is_kept_of_a_vm_ends_with_it() -> None:
    """A VM that is undefined leaves no section behind, nor does a life that has ended."""
    table, shelf = kept_table()
    table.host.undefine_vm(vm_number(1), table.now)
    table.host.stop_vm(vm_number(2), table.now)
    table.step()
    table.step()
    shelf.take(table.view)
    kept = {(vm, section) for _, vm, section in shelf.sections}
    assert not any(vm == vm_number(1) for vm, _ in kept)
    assert (vm_number(2), Section.GUEST_DETAILS) not in kept
    assert (vm_number(3), Section.GUEST_DETAILS) in kept


def test_a_start_that_asks_thousands_of_hosts_is_no_stampede() -> None:
    """2,500 remembered hosts are asked one a millisecond, at most 64 at a time, and all within 3 s."""
    table, shelf = kept_table(hosts=2, vms=1)
    template = shelf.hosts[HOST]
    hosts = tuple(msgspec.structs.replace(template, host=f"h{number}") for number in range(2500))
    view = View(table.now)
    list(restoring(view, Kept(hosts), table.now))
    began = now = table.now
    asked = 0
    while (due_in := view.requests_due_in(now)) is not None:
        now += max(due_in, 0.01)
        requests = view.drain_requests(now)
        assert len(requests) <= ASKED_BURST
        assert view.asking.in_flight <= 64
        assert all(request.verb is Verb.GET_ROSTER for request in requests)
        asked += len(requests)
        for request in requests:
            view.request_failed(request, HostDidNotAnswer("slow"), now)
    assert asked == 2500
    assert 2.0 < now - began < 3.0


def test_a_batch_takes_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many VMs at a time, but for a host that has more by itself; and all come in the end."""
    monkeypatch.setattr(memory, "VMS_A_BATCH", 30)
    table, _ = shelved_table(hosts=4, vms=10)
    view = table.view
    for host in view.hosts:
        view.memory.host(host)
    sizes = []
    while view.memory:
        batch = view.memory.drain(view.hosts, view.vms, view.runtime)
        sizes.append(sum(kept.roster.count for kept in batch.hosts))
    assert sizes == [30, 10]


def test_a_restore_takes_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of them other work is done: none takes up more VMs than a piece may have."""
    monkeypatch.setattr(restoring_in_pieces, "PIECE_VMS", 30)
    table, shelf = shelved_table(hosts=5, vms=15)
    view = View(table.now)
    pieces = restoring(view, shelf.kept(), table.now)
    known = [0, *(sum(len(host.vms) for host in view.hosts.values()) for _ in pieces)]
    assert max(after - before for before, after in pairwise(known)) == 30
    assert known[-1] == 5 * 15


@pytest.mark.parametrize("column", ["statuses", "claims", "marks"])
def test_a_damaged_record_is_refused(column: str) -> None:
    """A record whose columns do not go with its roster is no record."""
    _, shelf = kept_table()
    with pytest.raises(MessageError, match="HostMemory"):
        msgspec.structs.replace(shelf.hosts[HOST], **{column: b"\xff" * 7}).check()


def test_a_body_of_an_earlier_life_is_not_held() -> None:
    """A kill between two batches may leave a host's new record beside old bodies, which are not announced."""
    table, shelf = kept_table()
    old = dict(shelf.sections)
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    table.step()
    shelf.take(table.view)
    shelf.sections = old
    view = restart(table, shelf)
    host = view.hosts[HOST]
    row = host.index[vm_number(1)]
    assert host.bodies[row * 4 + Section.GUEST_DETAILS] is None
    view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_a_forgotten_host_leaves_nothing_behind() -> None:
    """Its VMs leave the view, its record the shelf, and its end is told."""
    table, shelf = kept_table(hosts=2)
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    table.view.drain_events()
    table.view.forget(HOST, table.now)
    assert HOST not in table.view.hosts
    assert vm_number(1) not in table.view.vms
    assert HostEvent(HOST, HostState.GONE, HostState.LOST) in table.view.drain_events()
    shelf.take(table.view)
    assert set(shelf.hosts) == {OTHER}
    assert {host for host, _, _ in shelf.sections} == {OTHER}


def test_a_forgotten_host_waits_for_no_collector() -> None:
    """It is in no cycle: collectors leave alone what a view has held for long (see Settling)."""
    table, _ = kept_table(hosts=2)
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    forgotten = id(table.view.hosts[HOST])
    gc.disable()
    try:
        table.view.forget(HOST, table.now)
        table.view.drain_requests(table.now)
        left = {id(each) for each in gc.get_objects() if isinstance(each, Host)}
    finally:
        gc.enable()
    assert forgotten not in left


def test_a_host_that_is_heard_cannot_be_forgotten() -> None:
    """The error changes nothing."""
    table = live_table()
    with pytest.raises(IllegalTransition):
        table.view.forget(HOST, table.now)
    table.step()
    table.assert_equal()


def test_a_forgotten_host_that_speaks_is_met_anew() -> None:
    """It is confirmed and repaired like any other."""
    table, _ = kept_table(hosts=2)
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    table.view.forget(HOST, table.now)
    table.dead.discard(HOST)
    table.step()
    table.step()
    table.assert_equal()


def test_another_claim_takes_over_from_a_forgotten_host() -> None:
    """A VM that is defined elsewhere as well is there now."""
    table, _ = kept_table(hosts=2)
    table.hosts[OTHER].define_vm(vm_number(1))
    table.step()
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    assert table.row(1).host == HOST
    table.view.forget(HOST, table.now)
    assert (table.row(1).host, table.row(1).status) == (OTHER, VmStatus.DOWN.label)
