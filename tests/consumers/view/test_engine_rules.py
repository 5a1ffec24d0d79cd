"""Rules that engines have learnt the hard way (docs/view.md lists them all), where no other test shows them."""

from __future__ import annotations

from tests.consumers.view.back_to_back import FAILED, MIGRATED, ROSTERS, SimpleHost, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, in_view, live_table, silence
from tests.consumers.view.test_memory import kept_table, restart
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.events import VmGone, VmMigrated
from vmpulse_contract.stream import HostFacts
from vmpulse_contract.values import VmStatus

VM = vm_number(1)
UNKNOWN, UP, DOWN, PAUSED = (status.label for status in (VmStatus.UNKNOWN, VmStatus.UP, VmStatus.DOWN, VmStatus.PAUSED))


def told_table() -> Table:
    """Two hosts, and a view that has begun to tell of VMs."""
    table = live_table(hosts=2)
    for _ in range(4):
        table.step()
    table.view.drain_events()
    return table


def said(table: Table, host: SimpleHost, *, only_rosters: bool = False) -> None:
    """One host speaks for two ticks; what else it says than rosters may be lost."""
    for _ in range(2):
        table.now += 3.0
        host.tick(table.now)
        while host.queue:
            delivery = host.queue.popleft()
            if not only_rosters or delivery.message.kind in ROSTERS:
                table.receive(delivery)
        table.view.canary(table.now)


def test_a_slow_host_is_judged_by_its_own_cadence() -> None:
    """A host with a tick of 10 s is LATE after more than 21 s and LOST after more than 50 s, and not before (R13)."""
    table = live_table()
    in_view(table).facts = HostFacts(tick_ms=10_000)
    table.view.reconnected(table.now - 30)
    heard = table.now
    seen: dict[HostState, float] = {}
    while HostState.LOST not in seen:
        silence(table, 1)
        seen.setdefault(in_view(table).state, table.now - heard)
    assert 21 < seen[HostState.LATE] <= 23
    assert 50 < seen[HostState.LOST] <= 52


def test_what_ended_while_the_view_was_away_is_down_or_gone_after_its_roster() -> None:
    """Until then it is shown as it was, and not before its host was heard (R19)."""
    table, shelf = kept_table()
    table.host.stop_vm(vm_number(2), table.now)
    table.host.undefine_vm(vm_number(3), table.now)
    view = restart(table, shelf)
    assert [table.row(number).status for number in (1, 2, 3)] == [UP, UP, UP]
    view.canary(table.now)
    table.step()
    table.step()
    assert [table.row(number).status for number in (1, 2)] == [UP, DOWN]
    assert vm_number(3) not in view.vms


def test_a_down_vm_keeps_its_first_end() -> None:
    """A VM that is Down and undefined later is told gone with the end that its life had (R28)."""
    table = told_table()
    table.host.stop_vm(VM, table.now, FAILED)
    table.step()
    table.host.undefine_vm(VM, table.now)
    table.step()
    (gone,) = [event for event in table.view.drain_events() if isinstance(event, VmGone)]
    assert gone.end is not None
    assert (gone.end.exit_code, gone.end.exit_reason) == FAILED


def test_a_down_vm_keeps_its_first_end_over_a_restart() -> None:
    """The same where the view was restarted in between (R28)."""
    table, shelf = kept_table()
    table.host.stop_vm(VM, table.now, FAILED)
    table.step()
    shelf.take(table.view)
    view = restart(table, shelf)
    for _ in range(4):
        view.canary(table.now)
        table.step()
    view.drain_events()
    table.host.undefine_vm(VM, table.now)
    table.step()
    (gone,) = [event for event in view.drain_events() if isinstance(event, VmGone)]
    assert gone.end is not None
    assert gone.end.exit_reason == FAILED.reason


def test_a_hand_over_to_a_lost_host_is_unknown_there() -> None:
    """The source has handed it over to a host that is LOST: it is there, Unknown, and Up when heard (R32)."""
    table = told_table()
    target = table.hosts[OTHER]
    target.receive_vm(VM)
    table.step()
    table.dead.add(OTHER)
    for _ in range(8):
        table.step()
    assert table.view.hosts[OTHER].state is HostState.LOST
    target.domains[VM].moving = None
    table.host.undefine_vm(VM, table.now, MIGRATED)
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, UNKNOWN)
    table.dead.discard(OTHER)
    table.step()
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, UP)


def test_a_late_source_frame_takes_nothing_back() -> None:
    """A source whose first frame of a life comes late, saying Migration Source, stays behind whoever runs it (R33)."""
    table = told_table()
    source, target = table.host, table.hosts[OTHER]
    source.start_vm(VM)
    source.domains[VM].moving = VmStatus.MIGRATION_SOURCE
    said(table, source, only_rosters=True)
    target.receive_vm(VM)
    target.domains[VM].moving = None
    said(table, target)
    owner = table.row(1).host
    table.view.drain_events()
    said(table, source)
    assert (owner, table.row(1).host) == (OTHER, OTHER)
    assert not [event for event in table.view.drain_events() if isinstance(event, VmMigrated)]


def test_who_waits_for_launch_takes_nothing_from_a_lost_host() -> None:
    """A VM of a LOST host that is being launched elsewhere stays Unknown on the old host until it runs (R36)."""
    table = told_table()
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    target = table.hosts[OTHER]
    target.define_vm(VM)
    target.start_vm(VM)
    target.domains[VM].moving = VmStatus.WAIT_FOR_LAUNCH
    table.step()
    assert (table.row(1).host, table.row(1).status) == (HOST, UNKNOWN)
    target.domains[VM].moving = None
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, UP)


def test_a_paused_vm_migrates() -> None:
    """It is its source's until that ends as migrated, then the destination's, Paused in both, never Down (R38)."""
    table = told_table()
    table.host.domains[VM].moving = VmStatus.PAUSED
    target = table.hosts[OTHER]
    target.receive_vm(VM)
    target.domains[VM].moving = VmStatus.PAUSED
    table.step()
    assert (table.row(1).host, table.row(1).status) == (HOST, PAUSED)
    table.host.stop_vm(VM, table.now, MIGRATED)
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, PAUSED)


def test_a_host_that_speaks_and_cannot_look_shows_old_values() -> None:
    """Its frames come and its looks fail: it is live, and its VMs are stale, each as old as it is (R17)."""
    table = told_table()
    for _ in range(5):
        table.now += 3.0
        table.host.session.look_failed(table.now)
        table.host.session.tick(table.now)
        table.host.pump()
        table.hosts[OTHER].tick(table.now)
        table.view.canary(table.now)
        table.settle()
    row = table.row(1)
    assert in_view(table).state is HostState.LIVE
    assert (row.status, row.freshness) == (UP, "stale")
    assert row.age_s is not None
    assert 15 <= row.age_s < 16
    assert table.row(4).freshness == "fresh"
