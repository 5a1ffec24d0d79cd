"""A host that has too much: its bodies beyond the bound are known by hash alone, and others stay as they were."""

from __future__ import annotations

import pytest

from tests.consumers.view.back_to_back import Domain, Table, vm_number
from tests.consumers.view.situations import HOST, OTHER, held_bodies, in_view, live_table
from vmpulse_consumers.view import budget
from vmpulse_consumers.view.devices import Devices
from vmpulse_consumers.view.events import HostTrouble, Trouble
from vmpulse_consumers.view.troubles import TOLD_AGAIN_S
from vmpulse_contract import limits
from vmpulse_contract.devices import CheckedDevices, record_in_map
from vmpulse_contract.identity import VmId

BOUND = 4 << 20
LARGE = 2048
"""Applications of 200 characters each that make a body of some 420 KB."""
VMS = 14


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that a test reaches within a second; the mechanism is the same."""
    monkeypatch.setattr("vmpulse_consumers.view.host.HELD_BYTES", BOUND)


def grow(domain: Domain, applications: int = LARGE) -> None:
    """Give a VM so many applications that nobody else has."""
    domain.apps = tuple(f"{domain.name}-{number}".ljust(200, "x") for number in range(applications))


def crowd() -> Table:
    """Two hosts; each VM of the first has a body of its own, a tenth of what is held of one host."""
    table = live_table(hosts=2, vms=VMS)
    for domain in table.host.domains.values():
        grow(domain)
    for _ in range(3):
        table.step()
    return table


def shown_apps(table: Table, number: int) -> int:
    """How many applications the row of a VM shows."""
    sections = table.row(number).sections
    assert sections is not None
    assert sections.guest_details is not None
    return len(sections.guest_details.apps_list or ())


def repairing(table: Table) -> list[int]:
    """The VMs of the first host of which the view knows that it does not have the newest."""
    return [number for number in range(1, VMS + 1) if table.row(number).repairing]


def test_no_more_is_held_of_a_host_than_the_bound() -> None:
    """What fits is held; of the others the row shows what was before, and says so; nothing is asked for in vain."""
    table = crowd()
    assert BOUND - limits.BODY_BYTES.maximum < in_view(table).held_bytes <= BOUND
    behind = repairing(table)
    assert 0 < len(behind) < VMS
    assert {shown_apps(table, number) for number in behind} == {1}
    asked = table.view.counts.repairs
    for _ in range(10):
        table.step()
    assert table.view.counts.repairs == asked
    assert repairing(table) == behind


def test_the_bytes_held_are_those_of_its_bodies() -> None:
    """However bodies grow, shrink, come and leave, the count is their sum."""
    table = crowd()
    for number, applications in ((1, 10), (2, LARGE + 1), (3, 0)):
        grow(table.host.domains[vm_number(number)], applications)
    table.host.undefine_vm(vm_number(4), table.now)
    table.host.stop_vm(vm_number(5), table.now)
    for _ in range(3):
        table.step()
        assert in_view(table).held_bytes == sum(len(body) for body in held_bodies(in_view(table)) if body)


def test_another_host_is_held_as_ever() -> None:
    """The bound is each host's own."""
    table = crowd()
    grow(table.hosts[OTHER].domains[vm_number(VMS + 1)])
    table.step()
    table.step()
    assert shown_apps(table, VMS + 1) == LARGE
    assert table.row(VMS + 1).repairing == ()


@pytest.mark.parametrize("how", ["they shrink", "they leave"])
def test_what_did_not_fit_is_fetched_when_there_is_room(how: str) -> None:
    """As soon as the host has less than the bound again, all of it is held."""
    table = crowd()
    for number in range(1, 8):
        if how == "they leave":
            table.host.undefine_vm(vm_number(number), table.now)
        else:
            grow(table.host.domains[vm_number(number)], 1)
    for _ in range(3):
        table.step()
    table.assert_equal()


def test_a_smaller_body_is_taken_at_once() -> None:
    """What did not fit and has become small is held although others still do not fit."""
    table = crowd()
    number = repairing(table)[0]
    grow(table.host.domains[vm_number(number)], 2)
    table.step()
    assert shown_apps(table, number) == 2
    assert repairing(table)


def test_it_is_told_once_a_minute_at_most_and_counted() -> None:
    """An operator hears that a host has too much, and each body that was not kept is counted."""
    table = crowd()
    told = [event for event in table.view.drain_events() if isinstance(event, HostTrouble)]
    assert [(event.host, event.trouble) for event in told] == [(HOST, Trouble.CROWDED)]
    counted = table.view.counts.crowded
    assert counted >= len(repairing(table))
    for applications in (LARGE + 1, LARGE + 2):
        grow(table.host.domains[vm_number(repairing(table)[0])], applications)
        table.step()
    assert table.view.counts.crowded == counted + 2
    assert not [event for event in table.view.drain_events() if isinstance(event, HostTrouble)]
    table.now += TOLD_AGAIN_S
    grow(table.host.domains[vm_number(repairing(table)[0])], LARGE + 3)
    table.step()
    assert [event.trouble for event in table.view.drain_events() if isinstance(event, HostTrouble)] == [Trouble.CROWDED]


def test_device_statistics_have_a_bound_too() -> None:
    """Of a host whose reports have more bytes than the bound the first are kept, and room is found again."""
    vms = [VmId(number.to_bytes(16, "big")) for number in range(1, limits.VMS_PER_HOST.maximum + 1)]
    index = {vm: row for row, vm in enumerate(vms)}
    held = Devices()

    def report(number: int, said: list[VmId], size: int) -> None:
        held.take(CheckedDevices(1, number, 1, said, bytes(size), record_in_map), index, vms)

    def kept() -> list[VmId]:
        return [vm for _, _, its in held.told()[1] for vm in its]

    size = 1 << 19
    for number, first in enumerate(range(0, len(vms), 16), 1):
        report(number, vms[first : first + 16], size)
    assert held.size == budget.DEVICE_BYTES
    assert kept() == vms[: 16 * (budget.DEVICE_BYTES // size)]
    report(1000, vms[:8], 99)
    assert len(kept()) == 16 * (budget.DEVICE_BYTES // size) - 8, "one half of the first report is its last word still"
    report(1001, vms[8:32], 99)
    assert held.size == budget.DEVICE_BYTES - 2 * size + 99
    assert vms[0] not in kept()
    report(1002, vms[-16:], size)
    assert vms[-1] in kept()
    for vm in vms:
        held.drop(vm)
    assert (held.size, kept()) == (0, [])


def test_a_report_of_nobody_that_is_listed_is_not_kept() -> None:
    """What a report says of VMs that its host does not list costs nothing."""
    held = Devices()
    held.take(CheckedDevices(1, 1, 1, [bytes(16)], bytes(99), record_in_map), {}, [])
    assert (held.size, held.told()) == (0, (1, []))
