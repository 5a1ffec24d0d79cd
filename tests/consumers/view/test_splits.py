"""A VM that two hosts run for long is a split brain: told once, shown, and over by evidence alone."""

from __future__ import annotations

from tests.consumers.view.back_to_back import MIGRATED, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, live_table
from tests.consumers.view.test_memory import Shelf, restart
from vmpulse_consumers.view.events import VmSplitBrain
from vmpulse_consumers.view.memory import SPLIT
from vmpulse_consumers.view.splits import SPLIT_GRACE_S

VM = vm_number(1)
TICKS = int(SPLIT_GRACE_S / 3)


def told_table() -> Table:
    """Two hosts, and a view that has begun to tell of VMs."""
    table = live_table(hosts=2)
    for _ in range(4):
        table.step()
    table.view.drain_events()
    return table


def split_table() -> Table:
    """Both hosts run VM 1, for longer than the grace."""
    table = told_table()
    table.hosts[OTHER].define_vm(VM)
    table.hosts[OTHER].start_vm(VM)
    for _ in range(TICKS + 2):
        table.step()
    return table


def told(table: Table) -> list[VmSplitBrain]:
    """What was told of split brains."""
    return [event for event in table.view.drain_events() if isinstance(event, VmSplitBrain)]


def test_two_that_run_it_for_long_are_a_split_brain() -> None:
    """It is told once, with the owner and both hosts, and no earlier than after the grace."""
    table = told_table()
    table.hosts[OTHER].define_vm(VM)
    table.hosts[OTHER].start_vm(VM)
    table.step()
    began = table.now
    while VM not in table.view.split:
        assert table.now - began <= SPLIT_GRACE_S + 3
        table.step()
    assert table.now - began > SPLIT_GRACE_S
    for _ in range(5):
        table.step()
    assert told(table) == [VmSplitBrain(VM, OTHER, (HOST, OTHER), begun=True)]


def test_a_migration_is_none() -> None:
    """Source and destination overlap for some seconds, and then the source's life ends."""
    table = told_table()
    table.hosts[OTHER].receive_vm(VM)
    table.step()
    table.hosts[OTHER].domains[VM].moving = None
    for _ in range(3):
        table.step()
    table.hosts[HOST].undefine_vm(VM, table.now, MIGRATED)
    for _ in range(TICKS + 2):
        table.step()
    assert (told(table), table.view.split) == ([], {})


def test_it_is_over_when_one_stops() -> None:
    """One of them says that it no longer runs the VM: that is told, with who still does."""
    table = split_table()
    told(table)
    table.hosts[HOST].stop_vm(VM, table.now)
    table.step()
    table.step()
    assert table.view.split == {}
    assert told(table) == [VmSplitBrain(VM, OTHER, (OTHER,), begun=False, was=(HOST, OTHER))]


def test_silence_does_not_end_it() -> None:
    """A host that is lost may run the VM still: not seeing is not knowing."""
    table = split_table()
    table.dead.add(HOST)
    for _ in range(10):
        table.step()
    assert VM in table.view.split
    table.dead.discard(HOST)
    table.step()
    assert VM in table.view.split


def test_a_silent_host_begins_none() -> None:
    """What a lost host ran when it was heard last is no evidence against who runs it now."""
    table = told_table()
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    table.hosts[OTHER].define_vm(VM)
    table.hosts[OTHER].start_vm(VM)
    for _ in range(TICKS + 2):
        table.step()
    assert (told(table), table.view.split) == ([], {})


def test_a_host_that_comes_back_and_runs_it_still_begins_one() -> None:
    """A VM restarted elsewhere while its host was cut off runs twice once the host is heard again."""
    table = told_table()
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    table.hosts[OTHER].define_vm(VM)
    table.hosts[OTHER].start_vm(VM)
    table.step()
    table.dead.discard(HOST)
    for _ in range(TICKS + 3):
        table.step()
    assert told(table) == [VmSplitBrain(VM, OTHER, (HOST, OTHER), begun=True)]


def test_a_doubt_from_before_a_silence_proves_nothing() -> None:
    """A migration's source that was cut off within the overlap comes back after the grace: no split brain yet."""
    table = told_table()
    table.hosts[OTHER].receive_vm(VM)
    table.step()
    table.hosts[OTHER].domains[VM].moving = None
    table.step()
    table.dead.add(HOST)
    for _ in range(20):
        table.step()
    table.hosts[HOST].undefine_vm(VM, table.now, MIGRATED)
    table.hosts[HOST].tick(table.now)
    frames = [delivery for delivery in table.hosts[HOST].queue if delivery.message.kind == "frame"]
    table.hosts[HOST].queue.clear()
    table.receive(frames[-1])
    table.view.tick(table.now)
    assert (told(table), table.view.split) == ([], {})


def test_a_vm_that_leaves_the_view_is_split_no_more() -> None:
    """Nothing is kept of a VM that nobody lists."""
    table = split_table()
    for host in table.hosts.values():
        host.undefine_vm(VM, table.now)
    table.step()
    table.step()
    assert (table.view.split, table.view.placement.splits._doubted) == ({}, {})


# --- over a restart of the view -------------------------------------------------------------------------------------


def restarted(table: Table, away_s: float = 5.0) -> None:
    """Put a new view in the old one's place, which remembers what the old one knew at its end."""
    shelf = Shelf()
    table.view.memory.keeping = True
    for host in table.view.hosts:
        table.view.memory.host(host)
    shelf.take(table.view)
    restart(table, shelf, away_s)


def test_it_goes_on_over_a_restart_of_the_view() -> None:
    """Nothing that was seen has ended it: it is shown at once, and told no second time."""
    table = split_table()
    restarted(table)
    assert VM in table.view.split
    for _ in range(5):
        table.step()
    assert VM in table.view.split
    assert told(table) == []


def test_one_that_ended_while_the_view_was_away_is_over() -> None:
    """It is still one at first, until the host's roster says otherwise."""
    table = split_table()
    table.hosts[HOST].stop_vm(VM, table.now)
    restarted(table)
    assert VM in table.view.split
    for _ in range(3):
        table.step()
    assert table.view.split == {}


def test_one_that_ends_after_a_restart_is_told() -> None:
    """Both hosts are named that ran it."""
    table = split_table()
    restarted(table)
    for _ in range(5):
        table.step()
    told(table)
    table.hosts[HOST].stop_vm(VM, table.now)
    table.step()
    table.step()
    assert told(table) == [VmSplitBrain(VM, OTHER, (OTHER,), begun=False, was=(HOST, OTHER))]


def test_its_beginning_and_its_end_are_kept() -> None:
    """What a store is told is enough for a view that is killed at any later moment."""
    table, shelf = told_table(), Shelf()
    table.view.memory.keeping = True

    def marked() -> set[str]:
        shelf.take(table.view)
        return {host for host, kept in shelf.hosts.items() if any(mark & SPLIT for mark in kept.marks)}

    table.hosts[OTHER].define_vm(VM)
    table.hosts[OTHER].start_vm(VM)
    for _ in range(TICKS - 1):
        table.step()
        assert marked() == set()
    assert not table.view.memory
    for _ in range(3):
        table.step()
    assert marked() == {HOST, OTHER}
    table.hosts[HOST].stop_vm(VM, table.now)
    table.step()
    table.step()
    assert marked() == set()
