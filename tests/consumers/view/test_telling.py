"""What subscribers are told of VMs (promise V8); the rest is in the stateful test."""

from __future__ import annotations

from tests.consumers.view.back_to_back import MIGRATED, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, in_view, live_table, silence
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.asking import IN_FLIGHT
from vmpulse_consumers.view.events import (
    Event,
    HostEvent,
    RelistEvent,
    VmAppeared,
    VmGone,
    VmMigrated,
    VmSectionHeld,
    VmStatusChanged,
)
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitReason, VmStatus

VM = vm_number(1)


def told(table: Table) -> list[Event]:
    """What was told of VMs since the last call."""
    return [event for event in table.view.drain_events() if not isinstance(event, HostEvent)]


def test_building_up_the_picture_is_told_once_and_not_vm_by_vm() -> None:
    """A view that starts says nothing of the VMs it meets, until it is ready: then that all is to be read."""
    table = Table(2, 3)
    table.settle()
    table.step()
    assert told(table) == []
    table.step()
    (event,) = told(table)
    assert isinstance(event, RelistEvent)
    table.step()
    assert told(table) == []


def test_sections_of_a_vm_that_was_in_transit_when_all_was_read_are_told_later() -> None:
    """Who read it found it nowhere, with no section: that it is its source's after all is news of what is held."""
    table = Table(2, 3)
    table.settle()
    table.host.stop_vm(VM, table.now, MIGRATED)
    table.step()
    table.step()
    assert any(isinstance(event, RelistEvent) for event in told(table))
    assert VM in table.view.transits
    table.host.begin(table.now, table.next_epoch())  # of an agent that has not kept how the life ended
    for _ in range(3):
        table.step()
    assert VM not in table.view.transits
    sections = {event.section for event in told(table) if isinstance(event, VmSectionHeld) and event.vm == VM}
    assert Section.INFO in sections


def test_a_new_vm_appears_with_its_first_frame_and_then_its_sections() -> None:
    """Listed, it is not told yet: nobody knows what it does. Then comes what is held of it."""
    table = live_table()
    new = vm_number(9)
    table.host.define_vm(new)
    table.host.start_vm(new)
    table.step()
    events = told(table)
    assert events[0] == VmAppeared(new, HOST, VmStatus.UP, None)
    sections = [event.section for event in events[1:] if isinstance(event, VmSectionHeld)]
    assert sorted(sections) == sorted(Section)
    assert len(events) == 5


def test_a_change_of_status_is_told_once_with_what_was_told_before() -> None:
    """Down after Up, with the sections of the life that is over."""
    table = live_table()
    table.host.stop_vm(VM, table.now)
    table.step()
    first = told(table)[0]
    assert isinstance(first, VmStatusChanged)
    assert first[:5] == (VM, HOST, VmStatus.DOWN, VmStatus.UP, None)
    assert first.end is not None
    assert first.end.exit_reason is ExitReason.USER_SHUTDOWN
    table.step()
    assert told(table) == []


def test_a_section_is_told_when_its_content_is_new() -> None:
    """With its hash and its body; config by its hash alone."""
    table = live_table()
    table.host.domains[VM].user = "somebody"
    table.step()
    (event,) = told(table)
    assert isinstance(event, VmSectionHeld)
    assert (event.vm, event.host, event.section, event.name) == (VM, HOST, Section.STATUS, "vm-1")
    assert event.body is not None
    assert b"somebody" in event.body
    table.host.domains[VM].name = "renamed"
    table.step()
    assert {(event.section, event.body is None) for event in told(table) if isinstance(event, VmSectionHeld)} == {
        (Section.INFO, False),
        (Section.CONFIG, True),
    }


def test_a_config_change_that_was_lost_is_told_by_the_roster() -> None:
    """The change event never came; the roster that the digest led to has another hash."""
    table = live_table()
    table.host.domains[VM].name = "renamed"
    table.now += 3.0
    table.host.tick(table.now)
    table.host.queue.clear()
    table.step()
    assert Section.CONFIG in {event.section for event in told(table) if isinstance(event, VmSectionHeld)}


def test_a_migration_is_told_in_order() -> None:
    """Leaving, then the new host, its status and its sections; nothing of the source's end."""
    table = live_table(hosts=2)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    source.domains[VM].moving = VmStatus.MIGRATION_SOURCE
    target.receive_vm(VM)
    table.step()
    assert told(table) == [VmStatusChanged(VM, HOST, VmStatus.MIGRATION_SOURCE, VmStatus.UP, "vm-1")]
    target.domains[VM].moving = None
    source.undefine_vm(VM, table.now, MIGRATED)
    table.step()
    # The source is heard first here, so the destination owns the VM before it is seen to run there.
    moved, *rest = told(table)
    assert moved == VmMigrated(VM, OTHER, HOST, "vm-1")
    changes = [event for event in rest if not isinstance(event, VmSectionHeld)]
    assert changes == [
        VmStatusChanged(VM, OTHER, VmStatus.MIGRATION_DESTINATION, VmStatus.MIGRATION_SOURCE, "vm-1"),
        VmStatusChanged(VM, OTHER, VmStatus.UP, VmStatus.MIGRATION_DESTINATION, "vm-1"),
    ]
    assert {event.section for event in rest if isinstance(event, VmSectionHeld)} == set(Section)


def test_a_vm_that_goes_is_told_with_its_end() -> None:
    """Its tombstone travels along."""
    table = live_table()
    table.host.undefine_vm(VM, table.now)
    table.step()
    (event,) = told(table)
    assert isinstance(event, VmGone)
    assert (event.vm, event.host) == (VM, HOST)
    assert event.end is not None
    assert event.end.exit_reason is ExitReason.USER_SHUTDOWN


def test_a_lost_host_makes_its_vms_unknown_and_its_return_brings_them_back() -> None:
    """Each VM is told as what the view says of it; the host's own event comes first."""
    table = live_table(hosts=2)
    table.dead.add(HOST)
    silence(table, 17.0)
    events = [event for event in table.view.drain_events() if getattr(event, "host", None) == HOST]
    states = [event.state for event in events if isinstance(event, HostEvent)]
    assert states == [HostState.LATE, HostState.LOST]
    unknown = [event for event in events if isinstance(event, VmStatusChanged)]
    assert [(event.vm, event.status) for event in unknown] == [
        (vm_number(number), VmStatus.UNKNOWN) for number in (1, 2, 3)
    ]
    assert events.index(unknown[0]) > max(at for at, event in enumerate(events) if isinstance(event, HostEvent))
    table.dead.clear()
    table.step()
    assert in_view(table).state is HostState.LIVE
    back = [event for event in told(table) if isinstance(event, VmStatusChanged) and event.host == HOST]
    assert {(event.status, event.was) for event in back} == {(VmStatus.UP, VmStatus.UNKNOWN)}
    assert len(back) == 3


def test_the_end_of_an_earlier_life_is_told_as_nobodys() -> None:
    """The last life ended unseen, as in a power failure: how an earlier one ended says nothing of it."""
    table = live_table()
    table.host.stop_vm(VM, table.now)
    table.step()
    table.host.start_vm(VM)
    table.step()
    kept = list(table.host.session.tombstones)
    del table.host.domains[VM]
    table.host.begin(table.now, table.next_epoch())
    table.host.session.tombstones.extend(kept)
    told(table)
    table.step()
    (event,) = [event for event in told(table) if isinstance(event, VmGone)]
    assert event.end is None


def test_hosts_that_are_lost_at_once_are_told_before_their_vms() -> None:
    """However many VMs follow: each host's own event is out first."""
    table = live_table(hosts=2)
    table.dead.update((HOST, OTHER))
    silence(table, 17.0)
    kinds = [type(event) for event in table.view.drain_events()]
    assert VmStatusChanged not in kinds[: len(kinds) - kinds[::-1].index(HostEvent)]


def test_one_host_that_never_answers_does_not_keep_the_others_from_being_told_of() -> None:
    """It speaks, and its agent answers no question: after a while VMs are told of all the same."""
    table = Table(hosts=0)
    table.hosts = live_table(hosts=2).hosts
    table.dead.add(OTHER)
    for _ in range(14):
        table.now += 3
        table.view.canary(table.now)
        for host in table.hosts.values():
            host.tick(table.now)
        table.settle()
    assert table.view.hosts[OTHER].state is HostState.SYNCING
    assert table.view.not_ready(table.now)
    assert [type(event) for event in told(table)] == [RelistEvent]


def test_sections_of_a_large_fleet_that_a_start_has_to_fetch_are_not_told_one_by_one() -> None:
    """Its hosts are all confirmed long before their turn has come to be asked for what their VMs have."""
    table = Table(hosts=3 * IN_FLIGHT, vms=1)
    table.deliver()
    while table.view.counts.relists < len(table.hosts):
        requests = table.view.drain_requests(table.now)
        table.now += 0.5
        for request in requests:
            table.answer_one(request)
    table.now += 5
    table.view.canary(table.now)
    table.view.tick(table.now)
    assert table.view.not_ready(table.now) == []
    assert told(table) == []
    table.answer()
    table.view.tick(table.now)
    assert [type(event) for event in told(table)] == [RelistEvent]


def test_time_without_the_broker_does_not_count_as_time_to_build_up_the_picture() -> None:
    """The broker was away for long right after the start: the VMs that are met then are not told of one by one."""
    table = Table(hosts=2)
    table.view.tick(table.now)
    table.now += 600
    table.view.tick(table.now)
    table.step()
    table.step()
    assert table.view.hosts
    assert not [event for event in told(table) if isinstance(event, VmAppeared)]


def test_a_view_that_was_cut_off_has_everything_read_anew() -> None:
    """Another one of its name may have told of changes meanwhile."""
    table = live_table()
    table.view.reconnected(table.now)
    assert [type(event) for event in told(table)] == [RelistEvent]
