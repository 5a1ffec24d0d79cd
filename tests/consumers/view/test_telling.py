"""What subscribers are told of VMs (promise V8); the rest is in the stateful test."""

from __future__ import annotations

from tests.consumers.view.back_to_back import MIGRATED, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, in_view, live_table, silence
from vmpulse_consumers.view import HostState
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
    assert first == VmStatusChanged(VM, HOST, VmStatus.DOWN, VmStatus.UP, None)
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
