"""Device statistics in the view: of which life and epoch they are kept, and what they prove."""

from __future__ import annotations

import contextlib
import zlib

import msgpack
import pytest

from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import HOST, in_view, live_table, silence
from tests.contract import wirelings
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.budget import BYTES_BURST, MAP_COSTS
from vmpulse_contract import topology, wire
from vmpulse_contract.device_door import read_columns
from vmpulse_contract.errors import MessageError, MistypedMessage
from vmpulse_contract.topology import Kind

FIRST = vm_number(1)


def reported() -> Table:
    """A live host that has reported its devices once."""
    table = live_table()
    table.host.report_devices(table.now)
    table.deliver()
    return table


def held(table: Table) -> int | None:
    """When the statistics held of the first VM's present life were sampled, in ms."""
    host = in_view(table)
    said = host.devices.of(FIRST, host.tokens[host.index[FIRST]])
    return said and ((said.stats.disks or {})["vda"].read_bytes)


def test_the_last_report_is_kept_as_it_was_said() -> None:
    """The view holds of each running VM what was said, with an age that grows from the sample."""
    table = reported()
    table.assert_devices()
    said = in_view(table).devices.of(FIRST, table.host.domains[FIRST].token)
    assert said is not None
    age = in_view(table).age(said.monotonic_ms, table.now + 100)
    assert age is not None
    assert 100 <= age < 100.1


def test_repeated_and_older_reports_are_passed_over() -> None:
    """A report that comes again, or after a later one, changes nothing and is counted."""
    table = reported()
    table.now += 1
    table.host.report_devices(table.now)
    late = table.host.queue.popleft()
    table.now += 1
    table.host.report_devices(table.now)
    table.deliver()
    newest = held(table)
    assert newest == int(table.now * 1000)
    table.receive(late)
    assert held(table) == newest
    assert table.view.counts.repeats == 1


def test_statistics_of_another_life_are_not_shown() -> None:
    """A VM that has begun another life has no statistics until they are of that life."""
    table = reported()
    table.host.stop_vm(FIRST, table.now)
    table.step()
    assert held(table) is None
    table.host.start_vm(FIRST)
    table.step()
    assert held(table) is None
    table.host.report_devices(table.now)
    table.deliver()
    assert held(table) == int(table.now * 1000)


def test_a_vm_that_left_leaves_no_statistics() -> None:
    """What a host lists no more is forgotten, and what it does not list is not kept."""
    table = reported()
    token = table.host.domains[FIRST].token
    table.now += 1
    table.host.report_devices(table.now)
    late = table.host.queue.popleft()
    table.host.undefine_vm(FIRST, table.now)
    table.step()
    assert in_view(table).devices.of(FIRST, token) is None
    table.receive(late)
    assert in_view(table).devices.of(FIRST, token) is None


def test_another_epoch_begins_without_statistics() -> None:
    """Statistics go by their epoch's clock and numbers: a new agent start forgets them, and its first report counts."""
    table = reported()
    table.now += 1
    table.host.report_devices(table.now)
    late = table.host.queue.popleft()
    table.host.begin(table.now, table.next_epoch())
    table.step()
    assert held(table) is None
    table.receive(late)
    assert held(table) is None
    table.host.report_devices(table.now)
    table.deliver()
    assert held(table) == int(table.now * 1000)


def test_statistics_of_an_unknown_host_or_epoch_ask_nothing() -> None:
    """Device statistics make the view meet nobody and ask nobody: they are counted and passed over."""
    table = Table()
    table.host.report_devices(table.now)
    (delivery,) = [one for one in table.host.queue if one.message.kind is Kind.DEVICES]
    table.receive(delivery)
    assert not table.view.hosts
    assert not table.view.drain_requests(table.now)
    assert table.view.counts.strangers == 1


def test_statistics_are_no_sign_of_life() -> None:
    """A host whose frames do not come is late and lost, whatever it says of its devices."""
    table = live_table()
    for _ in range(20):
        silence(table, 1)
        table.host.report_devices(table.now)
        table.deliver()
    assert in_view(table).state is HostState.LOST
    assert held(table) == int(table.now * 1000)


@pytest.mark.parametrize("key", [topology.devices_key(HOST), topology.device_map_key(HOST)])
def test_broken_statistics_are_refused_whole(key: str) -> None:
    """Bytes that are no device statistics are rejected like any other poison, and what was held stays."""
    table = reported()
    before = held(table)
    with pytest.raises(MistypedMessage):
        table.view.receive(topology.DEVICES, key, HOST, b"\x95\x01\x01\x01\x01\xc0", table.now)
    assert table.view.counts.rejected["mistyped"] == 1
    assert held(table) == before


def inflating(table: Table, number: int, size: int, *, epoch: int | None = None) -> bytes:
    """Device statistics of some bytes that inflate to so many, and are none."""
    head = [wire.VERSION, epoch or table.host.session.epoch, number, 1]
    return bytes(msgpack.packb([*head, zlib.compress(bytes(size))]))


@pytest.mark.parametrize("key, costs", [(topology.devices_key(HOST), 1), (topology.device_map_key(HOST), MAP_COSTS)])
@pytest.mark.parametrize("size", [1 << 20, 2 << 20])
def test_what_statistics_inflate_to_counts_to_the_budget(key: str, costs: int, size: int) -> None:
    """A thousandth of it travels: a host that says so for long is dropped, as if each byte had come as it is read."""
    table = reported()
    read = 0
    while not table.view.counts.over_budget:
        read += 1
        with pytest.raises(MessageError):
            table.view.receive(topology.DEVICES, key, HOST, inflating(table, 1000 + read, size), table.now)
        with contextlib.suppress(MessageError):
            table.view.receive(topology.DEVICES, key, HOST, b"", table.now)
    assert read == -(-BYTES_BURST // (costs << 20))
    table.now += 1.0 + costs
    table.step()
    table.assert_equal()


def test_statistics_that_are_not_kept_are_not_inflated() -> None:
    """Of another epoch, or said before: what is in them costs nothing, however often it comes."""
    table = reported()
    strangers, left = table.view.counts.strangers, in_view(table).budget._bytes._left
    for body in (inflating(table, 9, 1 << 20, epoch=77), inflating(table, 1, 1 << 20)):
        table.view.receive(topology.DEVICES, topology.devices_key(HOST), HOST, body, table.now)
        left = min(BYTES_BURST, left) - len(body)
    assert in_view(table).budget._bytes._left == left
    assert (table.view.counts.strangers, table.view.counts.repeats) == (strangers + 1, 1)


def test_each_form_has_its_own_key() -> None:
    """A map under the key of columns is refused, and so are columns under the key of maps."""
    table = reported()
    table.host.report_devices(table.now + 1)
    (said,) = [one.message for one in table.host.queue if one.message.kind is Kind.DEVICES]
    older = wire.write(wirelings.pack_map(read_columns(said.body)))
    for key, body in ((topology.device_map_key(HOST), said.body), (topology.devices_key(HOST), older)):
        with pytest.raises(MistypedMessage):
            table.view.receive(topology.DEVICES, key, HOST, body, table.now)
    table.view.receive(topology.DEVICES, said.routing_key, HOST, said.body, table.now)
    table.assert_devices()


def test_a_host_that_says_maps_is_shown_as_one_that_says_columns() -> None:
    """Statistics of an agent of before, which are a map, are kept and shown alike; the next report replaces them."""
    table = reported()
    for at, older in ((1, True), (2, False), (3, True)):
        table.now += 1
        table.host.report_devices(table.now)
        while table.host.queue:
            message = table.host.queue.popleft().message
            if message.kind is Kind.DEVICES and older:
                body = wire.write(wirelings.pack_map(read_columns(message.body)))
                table.view.receive(topology.DEVICES, topology.device_map_key(HOST), HOST, body, table.now)
            else:
                table.view.receive(message.exchange, message.routing_key, HOST, message.body, table.now)
        table.assert_devices()
        assert len(in_view(table).devices.told()[1]) == 1, at
