"""Device statistics as hosts publish them: by columns, which deflate to less than half of what maps do.

The body is an array of version, epoch, number, monotonicMs and a zlib stream. What that inflates to is an array too: 16
bytes a VM of ids, 8 bytes a VM of start tokens, and then each field of DeviceStats, in order, as a column or a table
(``device_tables``). A VM's rows stand together, in the order of the ids.

Whoever holds many of them keeps them as they came: ``check_columns`` holds a message to all rules without making a
record of anything, and ``record_in_columns`` reads one VM's when somebody wants it.
"""

from __future__ import annotations

import zlib
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, defstruct, structs

from vmpulse_contract import columns, limits, text_columns, wire
from vmpulse_contract.columns import Column, from_bytes, to_bytes
from vmpulse_contract.deflation import inflate
from vmpulse_contract.device_tables import ENTRIES, Many, Part, Table, rows_from, value_from, values_of
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, PackedDevices
from vmpulse_contract.errors import MistypedMessage, TooManyDevices, TooManyRows
from vmpulse_contract.stream import UUID_BYTES
from vmpulse_contract.text_columns import Texts
from vmpulse_contract.verbs import DeviceStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFLATE_LEVEL: Final = 6
"""A twentieth smaller than by the fastest level, for 0.1 ms of 40 VMs; the best one gains nothing more."""

_Columns: Final = defstruct(
    "DeviceColumns",
    [
        ("vms", bytes),
        ("tokens", bytes),
        *(
            (
                f"of_{entry.name}",
                entry.wire | None if isinstance(entry, Table) else Texts if entry.is_text else Column,
                None,
            )
            for entry in ENTRIES
        ),
    ],
    array_like=True,
    frozen=True,
    gc=False,
)
HEADS: Final = 2
"""Elements before the fields of DeviceStats."""


# --- writing --------------------------------------------------------------------------------------------------------


def pack_columns(message: DeviceMessage) -> PackedDevices:
    """Give the form that travels.

    Raises:
        MistypedMessage: a number that no column holds.
        LimitBreached: more than a message holds.
    """
    stats = [record.stats for record in message.vms.values()]
    try:
        tokens = to_bytes("Q", [record.token for record in message.vms.values()])
        fields = [_packed(entry, stats) for entry in ENTRIES]
    except (ValueError, OverflowError) as error:
        msg = f"devices: not numbers that columns hold: {error!s:.120}"
        raise MistypedMessage(msg) from error
    raw = wire.write(_Columns(b"".join(message.vms), tokens, *fields))
    packed = zlib.compress(raw, DEFLATE_LEVEL)
    return PackedDevices(message.version, message.epoch, message.number, message.monotonic_ms, packed)


def _packed(entry: Part | Table, stats: Sequence[DeviceStats]) -> Column | Texts | Struct:
    if isinstance(entry, Part):
        return entry.pack([getattr(one, entry.name) for one in stats])
    found = [values_of(entry, one) for one in stats]
    counts = [count for count, _, _ in found]
    if counts.count(None) == len(counts):
        return None
    check_rows(counts, entry)
    names = [name for _, its, _ in found for name in its]
    rows = [row for _, _, its in found for row in its]
    cells = [part.pack([getattr(row, part.name) for row in rows]) for part in entry.parts]
    return entry.wire(columns.pack(counts), *([text_columns.pack(names)] if entry.many is Many.MAP else []), *cells)


def check_rows(counts: Sequence[int | None], table: Table) -> int:
    """Give the number of all rows. Raises MessageError for too many."""
    where, known = f"devices.{table.name}", [count for count in counts if count]
    most = max(known, default=0)
    if most > limits.DEVICES_PER_VM.maximum:
        raise TooManyDevices(most, where)
    if most > 1 and table.many is Many.ONE:
        msg = f"{where}: a VM has one at most: {most}"
        raise MistypedMessage(msg)
    total = sum(known)
    if total > limits.DEVICES_PER_MESSAGE.maximum:
        raise TooManyRows(total, where)
    return total


# --- reading --------------------------------------------------------------------------------------------------------


def shaped(inflated: bytes) -> Any:
    """Give columns their shape: ``vms``, ``tokens``, then ENTRIES. Raises MessageError."""
    return wire.shape(wire.unpack(inflated, maps=False), _Columns)


def ids_in(packed: bytes) -> list[bytes]:
    """The ids of VMs that stand one after the other."""
    return [packed[at : at + UUID_BYTES] for at in range(0, len(packed), UUID_BYTES)]


def spans_of(counts: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """Where each VM's rows begin and end."""
    return pairwise(accumulate((count or 0 for count in counts), initial=0))


def record_in_columns(packed: bytes, vm: bytes) -> DeviceRecord:
    """Read what columns that were checked say of a VM. Raises KeyError if they say nothing of it."""
    body = shaped(inflate(packed, "devices"))
    found = ids_in(body.vms)
    if vm not in found:
        raise KeyError(vm)
    at = found.index(vm)
    (record,) = records_of(body, len(found), at, at + 1)
    return record


def records_of(body: Any, count: int, first: int, end: int) -> list[DeviceRecord]:
    """The records of the VMs from *first* to before *end*."""
    cells = structs.astuple(body)[HEADS:]
    fields = [_read(entry, cell, count, first, end) for entry, cell in zip(ENTRIES, cells, strict=True)]
    names = [entry.name for entry in ENTRIES]
    tokens = from_bytes("Q", body.tokens)[first:end]
    stats = (DeviceStats(**dict(zip(names, values, strict=True))) for values in zip(*fields, strict=True))
    return [DeviceRecord(token, its) for token, its in zip(tokens, stats, strict=True)]


def _read(entry: Part | Table, cell: Any, count: int, first: int, end: int) -> list[Any]:
    if isinstance(entry, Part):
        return entry.unpack(cell, count, first, end)
    if cell is None:
        return [None] * (end - first)
    counts = columns.unpack(cell.counts, count)
    spans = list(spans_of(counts))
    total, wanted = spans[-1][1] if spans else 0, spans[first:end]
    begin, until = (wanted[0][0], wanted[-1][1]) if wanted else (0, 0)
    rows = rows_from(entry, cell, total, begin, until)
    names = text_columns.unpack_some(cell.names, begin, until) if entry.many is Many.MAP else ()
    return [
        value_from(entry, its, names[one - begin : last - begin], rows[one - begin : last - begin])
        for its, (one, last) in zip(counts[first:end], wanted, strict=True)
    ]
