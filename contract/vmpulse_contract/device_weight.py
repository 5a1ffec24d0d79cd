"""How much one VM's device statistics weigh: what bounds them (DEVICE_STATS_BYTES), in whatever form they come.

It is counted as columns would hold them if no two values were alike: 8 bytes a number, known or not, and each text with
a head. What travels may be far less, for columns that are all alike take no bytes; a record that is read has them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import structs

from vmpulse_contract import limits, text_columns
from vmpulse_contract.device_tables import ENTRIES, Many, Table, values_of
from vmpulse_contract.errors import DeviceStatsTooBig
from vmpulse_contract.stream import UUID_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.text_columns import Texts
    from vmpulse_contract.verbs import DeviceStats

TOKEN_BYTES: Final = 8
CELL_BYTES: Final = 8
"""The most that a number takes, beside its column's own head."""
TEXT_HEAD_BYTES: Final = 5
_VM_BYTES: Final = UUID_BYTES + TOKEN_BYTES + CELL_BYTES * len(ENTRIES)


class _Row(NamedTuple):
    """What a row of a table weighs but for its texts, and which those are."""

    table: Table
    bytes: int
    texts: tuple[str, ...]


def _row(table: Table) -> _Row:
    texts = tuple(part.name for part in table.parts if part.is_text)
    return _Row(table, CELL_BYTES * (len(table.parts) - len(texts)), texts)


_ROWS: Final = {entry.name: _row(entry) for entry in ENTRIES if isinstance(entry, Table)}


def weight(stats: DeviceStats) -> int:
    """The most bytes that one VM's statistics take of what a message inflates to, whatever stands beside them."""
    total = _VM_BYTES
    for table, size, texts in _ROWS.values():
        _, names, rows = values_of(table, stats)
        total += size * len(rows) + sum(map(_text, names))
        total += sum(_text(getattr(row, text)) for row in rows for text in texts)
    return total


def check(stats: DeviceStats, where: str) -> int:
    """Give the weight of one VM's statistics. Raises DeviceStatsTooBig for more than are carried of one."""
    total = weight(stats)
    if total > limits.DEVICE_STATS_BYTES.maximum:
        raise DeviceStatsTooBig(total, where)
    return total


def _text(text: str | None) -> int:
    return TEXT_HEAD_BYTES + len((text or "").encode())


class Rows(NamedTuple):
    """A table of a message that holds together: its columns, and how many rows it has of each VM."""

    table: Table
    packed: Any
    counts: Sequence[int | None]

    def texts(self) -> list[Texts]:
        """The columns of texts, of a map the names as well."""
        cells = structs.astuple(self.packed)[-len(self.table.parts) :]
        found = [cell for part, cell in zip(self.table.parts, cells, strict=True) if part.is_text]
        return [self.packed.names, *found] if self.table.many is Many.MAP else found

    def most(self) -> list[int]:
        """What the rows of each VM weigh at most: as if each text were as long as the longest of its column."""
        longest = sum(max(map(_text, _all(column)), default=0) for column in self.texts())
        row = _ROWS[self.table.name].bytes + longest
        return [row * (count or 0) for count in self.counts]

    def weight(self, at: int) -> int:
        """What the rows of one VM weigh."""
        count = self.counts[at] or 0
        first = sum(its or 0 for its in self.counts[:at])
        texts = (text_columns.unpack_some(column, first, first + count) for column in self.texts())
        return _ROWS[self.table.name].bytes * count + sum(sum(map(_text, column)) for column in texts)


def _all(column: Texts) -> Sequence[str | None]:
    return column if isinstance(column, tuple) else (column,)


def check_tables(tables: Sequence[Rows], where: str) -> None:
    """Raise DeviceStatsTooBig if a message says more of one VM than is carried."""
    if not tables:
        return
    for at, most in enumerate(map(sum, zip(*(table.most() for table in tables), strict=True))):
        if _VM_BYTES + most > limits.DEVICE_STATS_BYTES.maximum:
            total = _VM_BYTES + sum(table.weight(at) for table in tables)
            if total > limits.DEVICE_STATS_BYTES.maximum:
                raise DeviceStatsTooBig(total, where)
