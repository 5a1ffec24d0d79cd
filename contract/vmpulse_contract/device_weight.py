"""How much one VM's device statistics weigh: what bounds them (DEVICE_STATS_BYTES) where they come by columns.

It is counted as columns would hold them if no two values were alike: 8 bytes a number, known or not, and each text with
a head. What travels may be far less, for columns that are all alike take no bytes; a record that is read has them all.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import structs

from vmpulse_contract import limits
from vmpulse_contract.device_tables import ENTRIES, Many, Table, values_of
from vmpulse_contract.errors import DeviceStatsTooBig
from vmpulse_contract.stream import UUID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vmpulse_contract.text_columns import Texts
    from vmpulse_contract.verbs import DeviceStats

TOKEN_BYTES: Final = 8
CELL_BYTES: Final = 8
"""The most that a number takes, beside its column's own head."""
TEXT_HEAD_BYTES: Final = 5
UTF8_BYTES: Final = 4
"""The most that a character takes."""
_VM_BYTES: Final = UUID_BYTES + TOKEN_BYTES + CELL_BYTES * len(ENTRIES)


class _Row(NamedTuple):
    """What a row of a table weighs but for its texts, which those are, and what it weighs with the longest texts."""

    table: Table
    bytes: int
    texts: tuple[str, ...]
    most: int


def _row(table: Table) -> _Row:
    texts = tuple(part.name for part in table.parts if part.is_text)
    size = CELL_BYTES * (len(table.parts) - len(texts))
    names = 1 if table.many is Many.MAP else 0
    most = size + (len(texts) + names) * (TEXT_HEAD_BYTES + UTF8_BYTES * limits.TEXT_CHARACTERS.maximum)
    return _Row(table, size, texts, most)


_ROWS: Final = {entry.name: _row(entry) for entry in ENTRIES if isinstance(entry, Table)}


def weight(stats: DeviceStats) -> int:
    """The most bytes that one VM's statistics take of what a message inflates to, whatever stands beside them."""
    total = _VM_BYTES
    for table, size, texts, _ in _ROWS.values():
        _, names, rows = values_of(table, stats)
        total += size * len(rows) + sum(map(_text, names))
        total += sum(_text(getattr(row, text)) for row in rows for text in texts)
    return total


def check(stats: DeviceStats) -> int:
    """Give the weight of one VM's statistics. Raises DeviceStatsTooBig for more than are carried of one."""
    total = weight(stats)
    if total > limits.DEVICE_STATS_BYTES.maximum:
        raise DeviceStatsTooBig(total, "devices")
    return total


def _text(text: str | None) -> int:
    return TEXT_HEAD_BYTES + len((text or "").encode(errors="surrogatepass"))


class Rows:
    """A table of a message that holds together: its columns, and how many rows it has of each VM.

    Only columns that came are weighed: what a sender of before does not know yet weighs nothing.

    Args:
        table: which it is.
        packed: the columns.
        counts: rows of each VM.
    """

    def __init__(self, table: Table, packed: Any, counts: Sequence[int | None]) -> None:
        cells = [*zip(table.parts, structs.astuple(packed)[-len(table.parts) :], strict=True)]
        self.counts = [count or 0 for count in counts]
        self._numbers = CELL_BYTES * sum(cell is not None and not part.is_text for part, cell in cells)
        self._texts: list[Texts] = [cell for part, cell in cells if cell is not None and part.is_text]
        if table.many is Many.MAP:
            self._texts.append(packed.names)

    def row_at_most(self) -> int:
        """What no row weighs more than: as if each text were the longest of its column, of the longest characters."""
        return self._numbers + sum(TEXT_HEAD_BYTES + UTF8_BYTES * _longest(column) for column in self._texts)

    def weights(self, wanted: Iterable[int]) -> Iterator[int]:
        """What the rows of some VMs weigh."""
        starts = [0, *accumulate(self.counts)]
        for at in wanted:
            first, end = starts[at], starts[at + 1]
            yield self._numbers * (end - first) + sum(_texts(column, first, end) for column in self._texts)


def _longest(column: Texts) -> int:
    """The characters of the longest text."""
    return max(map(len, filter(None, column)), default=0) if isinstance(column, tuple) else len(column or "")


def _texts(column: Texts, first: int, end: int) -> int:
    """What the texts from *first* to before *end* weigh; one that is in all rows is looked at once."""
    if not isinstance(column, tuple):
        return (end - first) * _text(column)
    return TEXT_HEAD_BYTES * (end - first) + len("".join(filter(None, column[first:end])).encode())


def check_tables(said: Sequence[tuple[Table, Any, Sequence[int | None]]]) -> None:
    """Raise DeviceStatsTooBig if a message says more of one VM than is carried.

    Nearly always a VM has so few rows that their texts need not be looked at.

    Args:
        said: what ``Rows`` are made of.
    """
    most = limits.DEVICE_STATS_BYTES.maximum - _VM_BYTES
    if sum(_ROWS[table.name].most * max(filter(None, counts), default=0) for table, _, counts in said) <= most:
        return
    tables = [Rows(*one) for one in said]
    rows = [(table, table.row_at_most()) for table in tables]
    at_most = map(sum, zip(*([row * count for count in table.counts] for table, row in rows), strict=True))
    doubtful = [at for at, total in enumerate(at_most) if total > most]
    for total in map(sum, zip(*(table.weights(doubtful) for table in tables), strict=True)):
        if total > most:
            raise DeviceStatsTooBig(_VM_BYTES + total, "devices")
