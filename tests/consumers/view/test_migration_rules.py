"""Who owns a VM that is being migrated, and what is said of it meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from tests.consumers.view.back_to_back import FAILED, MIGRATED, STOPPED, SimpleHost, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, in_view, live_table
from vmpulse_agent.hypervisor import Exit
from vmpulse_consumers.http import series
from vmpulse_consumers.http.metrics import FleetCollector
from vmpulse_consumers.http.queries import VmQuery
from vmpulse_consumers.http.series import Series
from vmpulse_consumers.http.vm_list import VmPage, vm_page
from vmpulse_consumers.view.ownership import TRANSIT_S
from vmpulse_consumers.view.rows import fleet_row
from vmpulse_contract import limits, wire
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import Tombstone
from vmpulse_contract.values import VmStatus

VM = vm_number(1)


def migrating(*, announced: bool = True) -> tuple[Table, SimpleHost, SimpleHost]:
    """VM 1 is being migrated from the first host to the second; both have said so."""
    table = live_table(hosts=2)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    source.domains[VM].moving = VmStatus.MIGRATION_SOURCE if announced else None
    target.receive_vm(VM)
    table.step()
    return table, source, target


def hear(table: Table, *hosts: SimpleHost) -> None:
    """Only these hosts tick, and are heard."""
    table.now += 3.0
    table.view.canary(table.now)
    for host in hosts:
        host.tick(table.now)
    table.deliver()
    table.answer()
    table.deliver()
    table.view.tick(table.now)


def said(table: Table) -> tuple[str, str]:
    """What the view says of VM 1: host and status."""
    row = table.row(1)
    return row.host, row.status


@pytest.mark.parametrize("announced", [True, False])
def test_the_source_owns_a_vm_until_it_runs_on_the_destination(announced: bool) -> None:  # noqa: FBT001 - cases
    """Listed there is not running there; the owner moves when the destination says that it runs."""
    table, _, target = migrating(announced=announced)
    assert said(table) == (HOST, "Migration Source" if announced else "Up")
    assert [(claim.host, claim.status) for claim in table.row(1).claims][1] == (OTHER, "Migration Destination")
    target.domains[VM].moving = None
    hear(table, target)
    assert said(table) == (OTHER, "Up")
    table.step()
    assert said(table) == (OTHER, "Up")


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("source_first", [True, False])
def test_a_success_is_never_down_in_between(keeps: bool, source_first: bool) -> None:  # noqa: FBT001 - cases
    """Whichever host is heard first, and whether the source goes on defining the VM or not."""
    table, source, target = migrating()
    target.domains[VM].moving = None
    (source.stop_vm if keeps else source.undefine_vm)(VM, table.now, MIGRATED)
    hear(table, source if source_first else target)
    assert said(table) == (OTHER, "Migration Destination" if source_first else "Up")
    hear(table, target if source_first else source)
    assert said(table) == (OTHER, "Up")
    table.assert_equal()


def test_a_failed_migration_leaves_the_vm_with_its_source() -> None:
    """It is gone from the destination again: the owner never moved, and nothing else changes."""
    table, source, target = migrating()
    target.undefine_vm(VM, table.now, FAILED)
    source.domains[VM].moving = None
    table.step()
    assert said(table) == (HOST, "Up")
    assert [claim.host for claim in table.row(1).claims] == [HOST]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_vm_that_has_left_is_said_to_migrate_and_then_unknown_never_down(keeps: bool) -> None:  # noqa: FBT001 - cases
    """No destination was seen: it stays with its source for a while, then nobody knows; its arrival ends that."""
    table = live_table(hosts=2)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    (source.stop_vm if keeps else source.undefine_vm)(VM, table.now, MIGRATED)
    hear(table, source)
    assert said(table) == (HOST, "Migration Source")
    assert table.row(1).name == "vm-1"
    for _ in range(int(TRANSIT_S / 3.0)):
        table.step()
    assert said(table) == (HOST, "Unknown")
    target.receive_vm(VM)
    target.domains[VM].moving = None
    table.step()
    assert said(table) == (OTHER, "Up")
    assert not table.view.transits


@pytest.mark.parametrize("keeps", [True, False])
def test_when_its_source_tells_no_more_those_who_list_it_are_believed(keeps: bool) -> None:  # noqa: FBT001 - cases
    """The source's whole roster has its tombstone no more: the VM is Down where it is defined, or else gone."""
    table = live_table(hosts=2)
    (table.host.stop_vm if keeps else table.host.undefine_vm)(VM, table.now, MIGRATED)
    table.step()
    assert VM in table.view.transits
    table.host.session.tombstones.clear()
    table.host.reconnect(table.now)
    table.step()
    assert not table.view.transits
    assert (VM in table.view.vms) is keeps
    assert not keeps or said(table) == (HOST, "Down")


def test_no_clock_of_ours_ends_a_transit() -> None:
    """The view is cut off for a day: the VM that was on its way is Unknown, and neither gone nor Down."""
    table = live_table(hosts=2)
    table.host.undefine_vm(VM, table.now, MIGRATED)
    table.step()
    for _ in range(24):
        table.now += 3600
        table.view.tick(table.now)
    assert said(table) == (HOST, "Unknown")


def test_what_came_and_ended_unseen_is_no_longer_in_transit() -> None:
    """The destination's tombstone says that it was there, and how it ended."""
    table = live_table(hosts=2)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    source.undefine_vm(VM, table.now, MIGRATED)
    hear(table, source)
    target.receive_vm(VM)
    target.look(table.now)
    target.queue.clear()
    target.undefine_vm(VM, table.now, STOPPED)
    hear(table, target)
    assert VM not in table.view.vms


@pytest.mark.parametrize("keeps", [True, False])
def test_what_came_back_and_ended_unseen_is_no_longer_in_transit(keeps: bool) -> None:  # noqa: FBT001 - cases
    """It returned to its source and ended there, of which only the tombstone tells: it is Down there, or gone."""
    table = live_table(hosts=2)
    source = table.hosts[HOST]
    source.undefine_vm(VM, table.now, MIGRATED)
    hear(table, source)
    table.now += 10
    source.define_vm(VM)
    source.start_vm(VM)
    source.look(table.now)
    table.now += 10
    (source.stop_vm if keeps else source.undefine_vm)(VM, table.now, STOPPED)
    source.look(table.now)
    source.queue.clear()
    table.step()
    table.step()
    assert not table.view.transits
    assert (VM in table.view.vms) is keeps
    assert not keeps or said(table) == (HOST, "Down")


def test_what_went_on_to_a_third_host_is_in_transit_from_the_second() -> None:
    """The tombstone of a host that was never seen to have it says that it has left from there."""
    table = live_table(hosts=2)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    source.undefine_vm(VM, table.now, MIGRATED)
    hear(table, source)
    target.receive_vm(VM)
    target.look(table.now)
    target.queue.clear()
    target.undefine_vm(VM, table.now, MIGRATED)
    hear(table, target)
    assert said(table) == (OTHER, "Migration Source")


def test_a_view_that_meets_the_destination_first_gives_the_vm_to_the_source() -> None:
    """A view that starts in the middle believes the host where the VM runs, in whichever order it meets them."""
    table, source, target = migrating()
    for order in ((source, target), (target, source)):
        fresh = Table(hosts=0)
        fresh.hosts, fresh.now = table.hosts, table.now
        for host in order:
            hear(fresh, host)
        hear(fresh, *order)
        assert said(fresh) == (HOST, "Migration Source")


def test_lists_and_counts_have_a_vm_in_transit() -> None:
    """It comes last in lists but those by id, passes filters as any other, and is counted."""
    table = live_table(hosts=2)
    table.host.undefine_vm(VM, table.now, MIGRATED)
    hear(table, table.host)

    def listed(query: VmQuery) -> list[int]:
        page = msgspec.json.decode(b"".join(vm_page(table.view, table.now, query)), type=VmPage)
        assert page.total >= len(page.vms)
        return [int(row.id[-2:], 16) for row in page.vms]

    assert listed(VmQuery()) == [2, 3, 4, 5, 6, 1]
    assert listed(VmQuery(limit=2, offset=4)) == [6, 1]
    assert listed(VmQuery(limit=2, offset=5)) == [1]
    assert listed(VmQuery(sort="id")) == listed(VmQuery(sort="id", status=("up", "Migration Source"))) == [*range(1, 7)]
    assert listed(VmQuery(sort="id", after=vm_text(VM), limit=2)) == [2, 3]
    assert listed(VmQuery(sort="-id", after=vm_text(vm_number(2)))) == [1]
    assert listed(VmQuery(host=OTHER)) == [4, 5, 6]
    assert listed(VmQuery(status=("Migration Source",))) == [1]
    assert listed(VmQuery(text="vm-1")) == [1]
    assert listed(VmQuery(text="vm-2")) == [2]
    row = fleet_row(table.view, table.now)
    assert (row.vms, sum(row.freshness.values())) == (6, 6)
    written = Series(series.snapshot(table.view, table.now))
    scraped = b"".join([*written.values(openmetrics=False), *written.ages(table.now)]).decode()
    assert f'vmpulse_vm_info{{vm="{vm_text(VM)}",name="vm-1",host="{HOST}"}} 1\n' in scraped
    assert f'vmpulse_vm_status{{vm="{vm_text(VM)}",status="Migration Source"}} 1\n' in scraped
    assert f'vmpulse_vm_age_seconds{{vm="{vm_text(VM)}"}}' not in scraped
    (vms,) = [
        family for family in FleetCollector(table.view, lambda: table.now).collect() if family.name == "vmpulse_vms"
    ]
    assert sum(sample.value for sample in vms.samples) == 6


@pytest.mark.parametrize("reason", [STOPPED, MIGRATED])
def test_an_earlier_life_elsewhere_ends_no_transit(reason: Exit) -> None:
    """A host tells, newly, how the VM once ended there, before it left its source just now: that is no news of it."""
    table = live_table(hosts=2)
    source, target = table.hosts[HOST], table.hosts[OTHER]
    target.define_vm(VM)
    target.start_vm(VM)
    target.look(table.now)
    target.undefine_vm(VM, table.now, reason)
    target.look(table.now)
    target.queue.clear()
    table.now += 60
    source.undefine_vm(VM, table.now, MIGRATED)
    hear(table, source)
    hear(table, target)
    assert said(table) == (HOST, "Migration Source")


def test_only_the_tombstone_of_the_life_that_ended_says_that_it_migrated() -> None:
    """An earlier life moved away and came back; the present one just ended, and that is what is told."""
    table = live_table(hosts=2)
    source = table.hosts[HOST]
    source.undefine_vm(VM, table.now, MIGRATED)
    source.look(table.now)
    source.define_vm(VM)
    source.start_vm(VM)
    table.step()
    source.stop_vm(VM, table.now)
    table.step()
    assert said(table) == (HOST, "Down")
    assert not table.view.transits


@pytest.mark.parametrize("status", [VmStatus.PAUSED, VmStatus.WAIT_FOR_LAUNCH, VmStatus.RESTORING_STATE])
def test_what_begins_without_running_takes_over_from_nobody_who_runs_it(status: VmStatus) -> None:
    """It is paused, being launched or being restored there, and Up here: the owner stays until it runs there."""
    table = live_table(hosts=2)
    target = table.hosts[OTHER]
    target.receive_vm(VM)
    target.domains[VM].moving = status
    table.step()
    table.step()
    assert said(table) == (HOST, "Up")
    target.domains[VM].moving = None
    table.step()
    assert said(table) == (OTHER, "Up")


def test_a_host_has_no_more_vms_in_transit_than_it_may_have_tombstones() -> None:
    """Whoever claims again and again that VMs have left does not fill the view."""
    table = live_table(hosts=1, vms=1)
    most = limits.TOMBSTONES_PER_HOST.maximum
    for number in range(2, most + 40):
        table.host.define_vm(vm_number(number))
        table.host.start_vm(vm_number(number))
        table.now += 1
        table.host.look(table.now)
        table.host.undefine_vm(vm_number(number), table.now, MIGRATED)
        table.now += 1
        table.host.tick(table.now)
        table.deliver()
    assert len(table.view.transits) == most
    assert len(table.view.vms) == most + 1


def test_an_end_kept_from_another_agent_ends_no_transit() -> None:
    """What an agent has kept over its restart has crossed a wall clock: it orders nothing (V2)."""
    table = live_table(hosts=2)
    vm = vm_number(1)
    table.host.undefine_vm(vm, table.now, MIGRATED)
    table.step()
    assert vm in table.view.transits
    other = table.hosts[OTHER]
    table.step()
    other.begin(table.now, table.next_epoch())
    other.session.tombstones.append(Tombstone(vm, 7, *STOPPED, ended_ms=-1))
    for _ in range(3):
        table.step()
    assert vm in table.view.transits


@pytest.mark.parametrize("more, name", [(0, "vm-1"), (64 << 10, None)])
def test_a_large_info_is_not_kept_for_a_vm_in_transit(more: int, name: str | None) -> None:
    """What is in transit is called by its info, which nobody's budget counts: one beyond 64 KiB is let go."""
    table = live_table()
    host = in_view(table)
    # With what only a later version knows, which is kept unread.
    body = wire.write({"vmName": "vm-1", "later": "x" * more})
    host.hold(VM, Section.INFO, host.announced[Section.INFO], body, table.view.bodies)
    table.host.undefine_vm(VM, table.now, MIGRATED)
    hear(table, table.host)
    assert VM in table.view.transits
    assert table.row(1).name == name
