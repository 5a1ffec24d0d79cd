"""The door for device statistics by columns: held to all rules, whatever they claim, for less than decoding them costs.

Columns that are all alike take no bytes, so that rows are counted before anything is made of them.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from vmpulse_contract import columns, device_weight, limits, text_columns, wire
from vmpulse_contract.columns import Column
from vmpulse_contract.device_columns import (
    HEADS,
    check_rows,
    ids_in,
    record_in_columns,
    records_of,
    shaped,
    spans_of,
)
from vmpulse_contract.device_tables import ENTRIES, Many, Part, Table
from vmpulse_contract.device_weight import TOKEN_BYTES
from vmpulse_contract.devices import CheckedDevices, DeviceMessage, PackedDevices, read_packed
from vmpulse_contract.errors import MistypedMessage, TooManyVms
from vmpulse_contract.stream import UUID_BYTES


def check_columns(packed: PackedDevices, inflated: bytes) -> CheckedDevices:
    """Hold a message to all rules, and leave its columns as they came. Raises MessageError.

    Args:
        packed: the message.
        inflated: what its columns inflate to, for a caller that looks at how much that is before.
    """
    body = shaped(inflated)
    vms = ids_in(body.vms)
    if len(vms) > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(len(vms), "devices")
    if len(set(vms)) * UUID_BYTES != len(body.vms) or len(body.tokens) != len(vms) * TOKEN_BYTES:
        msg = f"devices: ids in {len(body.vms)} bytes, each once, do not go with tokens in {len(body.tokens)}"
        raise MistypedMessage(msg)
    tables = []
    for entry, value in zip(ENTRIES, structs.astuple(body)[HEADS:], strict=True):
        if isinstance(entry, Part):
            _check_part(entry, value, len(vms), "devices")
        elif value is not None:
            tables.append((entry, value, _check_table(entry, value, len(vms))))
    device_weight.check_tables(tables)
    head = packed.epoch, packed.number, packed.monotonic_ms
    return CheckedDevices(*head, vms, packed.vms, record_in_columns)


def _check_part(part: Part, column: Any, count: int, where: str) -> None:
    where = f"{where}.{part.name}"
    if part.is_text:
        text_columns.check(column, count, where)
        unknown = part.required and text_columns.has_unknown(column, count)
    else:
        _check_whole(column, count, where)
        unknown = part.required and columns.has_unknown(column, count)
    if unknown:
        msg = f"{where}: it is in no row unknown"
        raise MistypedMessage(msg)
    if part.kind is bool and any(value not in {None, 0, 1} for value in columns.unpack(column, count)):
        msg = f"{where}: a boolean is 0 or 1"
        raise MistypedMessage(msg)


def _check_whole(column: Column, count: int, where: str) -> None:
    try:
        columns.check(column, count)
    except MistypedMessage as error:
        msg = f"{where}: {error}"
        raise MistypedMessage(msg) from error


def _check_table(table: Table, packed: Any, count: int) -> list[int | None]:
    """Hold a table to its rules. Gives how many rows it has of each VM."""
    _check_whole(packed.counts, count, f"devices.{table.name}, its rows")
    counts = columns.unpack(packed.counts, count)
    total = check_rows(counts, table)
    if table.many is Many.MAP:
        where = f"devices.{table.name}"
        text_columns.check(packed.names, total, where)
        for first, end in spans_of(counts):
            names = text_columns.unpack_some(packed.names, first, end)
            if None in names or len(set(names)) != len(names):
                msg = f"{where}: the names of one VM are each there once"
                raise MistypedMessage(msg)
    for part, column in zip(table.parts, structs.astuple(packed)[-len(table.parts) :], strict=True):
        _check_part(part, column, total, f"devices.{table.name}")
    return counts


def read_columns(raw: bytes) -> DeviceMessage:
    """Decode all of a message. Raises MessageError."""
    packed = read_packed(raw)
    inflated = packed.inflated()
    checked, body = check_columns(packed, inflated), shaped(inflated)
    records = records_of(body, len(checked.vms), 0, len(checked.vms))
    head = wire.VERSION, checked.epoch, checked.number, checked.monotonic_ms
    return DeviceMessage(*head, dict(zip(checked.vms, records, strict=True)))
