"""Whose word on a VM is believed."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.consumers.view.back_to_back import SimpleHost, Table, vm_number
from tests.consumers.view.situations import (
    HOST,
    OTHER,
    in_view,
    live_table,
    tick_of,
)
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.host import Host
from vmpulse_consumers.view.ownership import Vm
from vmpulse_consumers.view.runtime import Block
from vmpulse_contract.identity import HostId
from vmpulse_contract.topology import Kind


def shared_table(*, first: bool, second: bool) -> tuple[Table, SimpleHost, SimpleHost]:
    """VM 1 defined on two hosts, running there or not; it began on the second last."""
    table = live_table(hosts=2)
    hosts = table.hosts[HOST], table.hosts[OTHER]
    if not first:
        hosts[0].stop_vm(vm_number(1), table.now)
    hosts[1].define_vm(vm_number(1))
    table.step()
    if second:
        hosts[1].start_vm(vm_number(1))
    table.step()
    return table, *hosts


def test_down_to_down_moves_no_owner() -> None:
    """Rosters of hosts where the VM is Down move nothing, whoever speaks."""
    table, first, second = shared_table(first=False, second=False)
    assert table.row(1).host == HOST
    for host in (second, first, second):
        host.define_vm(vm_number(20 + host.tokens % 7))
        table.step()
        assert table.row(1).host == HOST
    vm = table.view.vms[vm_number(1)]
    for turned in (True, False):
        vm.settle(table.view.hosts[OTHER], turned=turned)
        vm.settle(table.view.hosts[HOST], turned=turned)
        assert vm.owner is table.view.hosts[HOST]


def test_an_owner_that_goes_down_keeps_its_vm_against_an_equal_claim() -> None:
    """The owner's VM ends, and it is Down elsewhere too: the owner stays, in whichever order the claims were made."""
    table, _, second = shared_table(first=True, second=True)
    assert table.row(1).host == OTHER
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    second.stop_vm(vm_number(1), table.now)
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, "Down")


def test_turning_to_running_moves_the_owner_and_being_met_does_not() -> None:
    """Both run it: who began last owns it; a restart of the other's agent is no beginning."""
    table, first, _ = shared_table(first=True, second=True)
    assert table.row(1).host == OTHER
    first.begin(table.now, table.next_epoch())
    table.settle()
    table.step()
    assert table.row(1).host == OTHER
    first.start_vm(vm_number(1))
    table.step()
    assert table.row(1).host == HOST


def test_a_host_met_later_with_a_running_claim_takes_nothing_from_one_that_is_heard() -> None:
    """A host that was met brings a claim, and no beginning: the owner that is heard stays."""
    table = live_table(hosts=2)
    second = table.hosts[OTHER]
    second.define_vm(vm_number(1))
    second.start_vm(vm_number(1))
    second.begin(table.now, table.next_epoch())
    table.settle()
    assert [claim.host for claim in table.row(1).claims] == [HOST, OTHER]
    assert table.row(1).host == HOST


def test_a_running_claim_of_a_met_host_beats_a_lost_owner() -> None:
    """The owner is lost, and a host that is met runs the VM: it is believed, for it is heard."""
    table = live_table(hosts=2)
    second = table.hosts[OTHER]
    table.dead.add(HOST)
    for _ in range(8):
        table.step()
    assert in_view(table).state is HostState.LOST
    second.define_vm(vm_number(1))
    second.start_vm(vm_number(1))
    second.begin(table.now, table.next_epoch())
    table.settle()
    table.step()
    assert (table.row(1).host, table.row(1).status) == (OTHER, "Up")


def test_a_dropped_claim_gives_the_vm_to_who_is_left() -> None:
    """The owner's roster lacks the VM: the other claim owns it, and with the last claim the VM leaves the view."""
    table, first, second = shared_table(first=True, second=False)
    first.undefine_vm(vm_number(1), table.now)
    table.step()
    row = table.row(1)
    assert (row.host, row.status, [claim.host for claim in row.claims]) == (OTHER, "Down", [OTHER])
    second.undefine_vm(vm_number(1), table.now)
    table.step()
    assert vm_number(1) not in table.view.vms


def test_of_the_claims_left_the_running_and_then_the_heard_is_believed() -> None:
    """Whatever their order: active before Down, and among these heard before lost."""
    hosts = []
    for name, token, state in (("a", 0, HostState.LIVE), ("b", 5, HostState.LOST), ("c", 6, HostState.LIVE)):
        host = Host(HostId(name), Block(0, 1, 1), 0.0)
        host.index, host.state = {vm_number(1): 0}, state
        host.tokens.append(token)
        hosts.append(host)
    gone = Host(HostId("gone"), Block(0, 1, 1), 0.0)
    gone.index = {vm_number(1): 0}
    gone.tokens.append(9)
    for order in permutations(hosts):
        vm = Vm(vm_number(1))
        vm.owner, vm.claims = gone, (gone, *order)
        assert not vm.drop_claim(gone)
        assert vm.owner is hosts[2]
        assert not vm.drop_claim(hosts[2])
        assert vm.owner is hosts[1]


@pytest.mark.parametrize("start_first", [True, False])
@pytest.mark.parametrize("target_heard_first", [True, False])
def test_a_moving_vm_is_never_down_in_between(start_first: bool, target_heard_first: bool) -> None:  # noqa: FBT001 - cases
    """Started there before it ends here, or after; whichever host is heard first: the row ends on the target, Up."""
    table, first, second = shared_table(first=True, second=False)
    if start_first:
        second.start_vm(vm_number(1))
        table.now += 3
        second.tick(table.now)
    first.stop_vm(vm_number(1), table.now)
    second.start_vm(vm_number(1))
    table.now += 3
    for host in (second, first) if target_heard_first else (first, second):
        host.tick(table.now)
        while host.queue:
            table.receive(host.queue.popleft())
            assert table.row(1).status != "Down" or not (start_first and target_heard_first)
    table.answer()
    assert (table.row(1).host, table.row(1).status) == (OTHER, "Up")


def test_a_vm_that_starts_is_not_said_to_be_down_until_its_frame_comes() -> None:
    """The roster that lists a new life leaves the values of the one before, Down among them, behind (promise V4)."""
    table = live_table()
    table.host.stop_vm(vm_number(1), table.now)
    table.step()
    assert table.row(1).status == "Down"
    table.host.start_vm(vm_number(1))
    tick_of(table)
    while table.host.queue and table.host.queue[0].message.kind is not Kind.FRAME:
        table.receive(table.host.queue.popleft())
    assert table.view.vms[vm_number(1)].active_on(in_view(table))
    assert table.row(1).status != "Down"
