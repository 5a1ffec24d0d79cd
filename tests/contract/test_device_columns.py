"""Device statistics by columns: what was written is read, and what does not hold together is refused at the door."""

from __future__ import annotations

import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.contract import wirelings
from tests.contract.golden_messages import DEVICE_COLUMNS, A, B
from vmpulse_contract import columns, limits, wire
from vmpulse_contract.columns import LARGEST
from vmpulse_contract.device_columns import HEADS, pack_columns, shaped
from vmpulse_contract.device_door import check_columns, read_columns
from vmpulse_contract.device_tables import ENTRIES, Table
from vmpulse_contract.device_weight import TEXT_HEAD_BYTES, UTF8_BYTES, Rows, weight
from vmpulse_contract.devices import CheckedDevices, DeviceMessage, DeviceRecord, read_packed
from vmpulse_contract.errors import (
    DeviceStatsTooBig,
    MalformedMessage,
    MessageError,
    MessageTooBig,
    MistypedMessage,
    TextTooLong,
)
from vmpulse_contract.verbs import BalloonInfo, DeviceStats, DiskStats, MemoryStats, NetworkStats

DISKS = HEADS + DeviceStats.__struct_fields__.index("disks")
BALLOONS = HEADS + DeviceStats.__struct_fields__.index("balloon_info")
INTERVAL = HEADS + DeviceStats.__struct_fields__.index("interval")
ID, OTHER, TOKEN = b"A" * 16, b"B" * 16, b"\x07" + bytes(7)


def travelling(body: object) -> bytes:
    """A message that inflates to this."""
    return raw(zlib.compress(msgpack.packb(body)))


def raw(packed: object) -> bytes:
    """A message with this in the place of its columns."""
    return bytes(msgpack.packb([1, 5, 6, 7, packed]))


def checked_columns(sent: bytes) -> CheckedDevices:
    """A message held to all rules."""
    packed = read_packed(sent)
    return check_columns(packed, packed.inflated())


def two(**fields: object) -> bytes:
    """A message of two VMs that has these fields, and all others unknown."""
    places = {name: HEADS + at for at, name in enumerate(DeviceStats.__struct_fields__)}
    body: list[Any] = [ID + OTHER, TOKEN * 2, *[None] * len(ENTRIES)]
    for name, value in fields.items():
        body[places[name]] = value
    return travelling(body)


@given(wirelings.device_messages)
def test_columns_round_trip(message: DeviceMessage) -> None:
    """Device statistics read back as they were, all together and each VM's out of what a reader keeps."""
    sent = wire.write(pack_columns(message))
    assert read_columns(sent) == message
    checked = checked_columns(sent)
    assert (checked.epoch, checked.number, checked.monotonic_ms) == (
        message.epoch,
        message.number,
        message.monotonic_ms,
    )
    assert {vm: checked.read(checked.packed, vm) for vm in checked.vms} == message.vms
    with pytest.raises(KeyError):
        checked.read(checked.packed, b"?" * 15)


@given(wirelings.device_messages)
def test_a_weight_is_never_exceeded(message: DeviceMessage) -> None:
    """What a message inflates to is at most what its VMs weigh, and the heads of the columns."""
    heads = sum(1 + len(entry.parts) if isinstance(entry, Table) else 1 for entry in ENTRIES) * 20
    inflated = zlib.decompress(pack_columns(message).vms)
    assert len(inflated) <= sum(weight(record.stats) for record in message.vms.values()) + heads


def rows_of(message: DeviceMessage) -> list[Rows]:
    """The tables of a message as the door weighs them."""
    body = shaped(zlib.decompress(pack_columns(message).vms))
    return [
        Rows(entry, cell, columns.unpack(cell.counts, len(message.vms)))
        for entry, cell in zip(ENTRIES, structs.astuple(body)[HEADS:], strict=True)
        if isinstance(entry, Table) and cell is not None
    ]


@given(wirelings.device_messages)
def test_the_door_weighs_no_more_than_the_sender(message: DeviceMessage) -> None:
    """What a sender may say is never refused: columns that did not come weigh nothing. Its first guess is no less."""
    tables, everyone, nothing = rows_of(message), range(len(message.vms)), weight(DeviceStats())
    counted = [sum(of_one) for of_one in zip(*(table.weights(everyone) for table in tables), strict=True)]
    for at, total in enumerate(counted):
        assert nothing + total <= weight([*message.vms.values()][at].stats)
        assert total <= sum(table.row_at_most() * table.counts[at] for table in tables)


def test_where_all_is_known_the_door_weighs_what_the_sender_does() -> None:
    """In the golden message every field of every table is known."""
    tables = rows_of(DEVICE_COLUMNS)
    counted = sum(next(table.weights([0])) for table in tables)
    assert list(DEVICE_COLUMNS.vms).index(A) == 0
    assert weight(DeviceStats()) + counted == weight(DEVICE_COLUMNS.vms[A].stats)


def test_one_vm_with_long_texts_weighs_alone() -> None:
    """Where one VM makes the others doubtful, each is weighed by its own texts, and they pass."""
    vms, cards, long = 2048, 32, "x" * limits.TEXT_CHARACTERS.maximum
    names = [f"{number:x}" for number in range(cards)] * vms
    texts = [long, *["x"] * (vms * cards - 1)]
    ids = b"".join(number.to_bytes(16, "big") for number in range(vms))
    body: list[Any] = [ids, TOKEN * vms, *[None] * len(ENTRIES)]
    body[HEADS + DeviceStats.__struct_fields__.index("network")] = [cards, names, texts, texts]
    at_most = cards * 2 * (TEXT_HEAD_BYTES + UTF8_BYTES * len(long))
    assert at_most > limits.DEVICE_STATS_BYTES.maximum, "by the longest text alone all would be refused"
    assert len(checked_columns(travelling(body)).vms) == vms


def test_a_few_bytes_make_no_large_record() -> None:
    """Columns that are all alike take no bytes, whatever they claim; it is what they claim that is bounded."""
    names = [f"{number}" for number in range(1024)]
    sent = two(disks=[1024, names * 2, *[1 << 60] * 21, "x" * 256])
    assert len(sent) < 8192
    with pytest.raises(DeviceStatsTooBig):
        checked_columns(sent)


def test_what_older_senders_do_not_say_is_unknown() -> None:
    """A sender that knows fewer fields sends shorter arrays; what is missing is unknown."""
    read = read_columns(travelling([ID, TOKEN, None, None, None, None, [1, "vda", 12, None, 5]])).vms
    assert read == {ID: DeviceRecord(7, DeviceStats(disks={"vda": DiskStats(read_ops=12, read_bytes=5)}))}
    assert read_columns(travelling([ID, TOKEN])).vms == {ID: DeviceRecord(7, DeviceStats())}
    assert read_columns(travelling([b"", b""])).vms == {}


def test_reals_are_whole_in_columns() -> None:
    """Rates are whole and times are milliseconds, whatever the record says."""
    card = NetworkStats(name="n", rx_rate=2.6, sample_time=1.2345)
    message = DeviceMessage(1, 5, 6, 7, {ID: DeviceRecord(7, DeviceStats(network={"n": card}, interval=0.0004))})
    (read,) = read_columns(wire.write(pack_columns(message))).vms.values()
    assert read.stats.network == {"n": NetworkStats(name="n", rx_rate=3.0, sample_time=1.234)}
    assert read.stats.interval == 0.0


@pytest.mark.parametrize(
    "stats",
    [
        DeviceStats(memory_stats=MemoryStats(mem_free=-1)),
        DeviceStats(memory_stats=MemoryStats(mem_free=LARGEST + 1)),
        DeviceStats(interval=float("nan")),
        DeviceStats(interval=float("inf")),
        DeviceStats(disks={"vda": DiskStats(read_rate=1e300)}),
        DeviceStats(disks={"\ud800": DiskStats()}),
    ],
)
def test_what_no_column_holds_is_not_written(stats: DeviceStats) -> None:
    """A number that is no measurement, or beyond 64 bits, and a text that is not Unicode, are errors of the sender."""
    with pytest.raises(MistypedMessage):
        pack_columns(DeviceMessage(1, 5, 6, 7, {ID: DeviceRecord(7, stats)}))


WHOLE_BALLOON = (1, 10, 10, 10, 10, 1)


@pytest.mark.parametrize(
    "sent, words",
    [
        (travelling(None), "DeviceColumns"),
        (travelling({}), "DeviceColumns"),
        (travelling([ID]), "DeviceColumns"),
        (travelling([ID, TOKEN[1:]]), "do not go with tokens"),
        (travelling([ID[1:], TOKEN]), "do not go with tokens"),
        (travelling([ID * 2, TOKEN * 2]), "each once"),
        (two(interval=-1), "devices.interval"),
        (two(interval=1.5), f"$[{INTERVAL}]"),
        (two(interval=b"123"), "devices.interval: a column of 3 bytes does not hold 2 values"),
        (two(memory_stats=[2]), "memory_stats: a VM has one at most"),
        (two(memory_stats=[b"\x01" * 3]), "memory_stats, its rows: a column of 3 bytes"),
        (two(memory_stats=[1, "x"]), f"$[{HEADS}][1]"),
        (two(balloon_info=[1, 10, 10, 10, 10]), "balloon_info.ballooning_enabled: it is in no row unknown"),
        (two(balloon_info=[1, b"\x01\xff", 10, 10, 10, 1]), "balloon_info.balloon_max: it is in no row unknown"),
        (two(balloon_info=[1, 10, 10, 10, 10, 2]), "a boolean is 0 or 1"),
        (two(balloon_info=[1, 10, 10, 10, 10, True]), f"$[{BALLOONS}][5]"),
        (two(disks=[1]), f"$[{DISKS}]"),
        (two(disks=[1, None]), "disks: the names of one VM are each there once"),
        (two(disks=[2, "vda"]), "disks: the names of one VM are each there once"),
        (two(disks=[2, ["vda", "vdb", "vda", "vda"]]), "disks: the names of one VM are each there once"),
        (two(disks=[1, ["vda"]]), "devices.disks: a column of 1 texts does not hold 2"),
        (two(disks=[1, ["vda", b"vdb"]]), "Expected `str | null`"),
        (two(network=[1, "n"]), "network.name: it is in no row unknown"),
        (two(network=[1, "n", ["n", None]]), "network.name: it is in no row unknown"),
        (two(network=[1, "n", "n", ["a", "b", "c"]]), "network.mac_addr: a column of 3 texts does not hold 2"),
    ],
)
def test_the_door_refuses(sent: bytes, words: str) -> None:
    """What does not hold together is mistyped, and the words name the place."""
    for good in (two(interval=1), two(balloon_info=WHOLE_BALLOON), two(disks=[2, ["vda", "vdb"] * 2])):
        assert len(checked_columns(good).vms) == 2
    with pytest.raises(MistypedMessage) as refused:
        checked_columns(sent)
    assert words in str(refused.value)


def test_texts_are_bounded() -> None:
    """A text that is too long is refused, be it a device's name, one of many, or that of all."""
    long = "x" * (limits.TEXT_CHARACTERS.maximum + 1)
    for fields in ({"disks": [1, long]}, {"disks": [1, ["a", long]]}, {"disks_usage": [1, long]}):
        with pytest.raises(TextTooLong):
            checked_columns(two(**fields))


def test_bombs_are_refused() -> None:
    """A thousandth of its size travels, and a message's worth is inflated at most."""
    bomb = zlib.compress(bytes(1 << 28), 9)
    with pytest.raises(MessageTooBig):
        checked_columns(raw(bomb))
    for packed in (b"", b"no stream", zlib.compress(b"\x90")[:-1], zlib.compress(b"\x90") + b"!"):
        with pytest.raises(MalformedMessage):
            checked_columns(raw(packed))


@given(message=wirelings.device_messages, at=st.integers(0, 400), byte=st.integers(0, 255))
def test_what_passes_the_door_is_readable(message: DeviceMessage, at: int, byte: int) -> None:
    """A byte of the inflated columns is another: refused at the door, or every VM's record can be read behind it."""
    inflated = bytearray(zlib.decompress(pack_columns(message).vms))
    inflated[at % len(inflated)] = byte
    try:
        checked = checked_columns(raw(zlib.compress(bytes(inflated))))
    except MessageError:
        return
    records = {vm: checked.read(checked.packed, vm) for vm in checked.vms}
    assert read_columns(raw(checked.packed)).vms == records
    assert all(wire.read(wire.write(record.stats), DeviceStats) == record.stats for record in records.values())


def test_every_field_is_a_column() -> None:
    """The golden message has every field of every Struct, so that none can lose its place unseen."""
    stats = DEVICE_COLUMNS.vms[A].stats
    kinds = (stats.memory_stats, stats.balloon_info, *(stats.disks_usage or ())[:1], *(stats.network or {}).values())
    for one in (*kinds, (stats.disks or {})["vda"]):
        assert one is not None
        assert None not in structs.astuple(one)
    assert isinstance(stats.balloon_info, BalloonInfo)
    assert DEVICE_COLUMNS.vms[B].stats.memory_stats is None
