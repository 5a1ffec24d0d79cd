"""Columns of texts: one for each row, as short as the texts allow.

On the wire a column is nil (all unknown), a text (all are that one), or an array of one text, or nil, for each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from vmpulse_contract import limits
from vmpulse_contract.errors import MistypedMessage, TextTooLong

if TYPE_CHECKING:
    from collections.abc import Sequence

Texts: TypeAlias = str | tuple[str | None, ...] | None


def pack(values: Sequence[str | None]) -> Texts:
    """Write a column."""
    if not values:
        return None
    return values[0] if values.count(values[0]) == len(values) else tuple(values)


def check(column: Texts, count: int, where: str) -> None:
    """Raise MessageError unless a column holds *count* texts, none longer than texts may be."""
    if isinstance(column, tuple) and len(column) != count:
        msg = f"{where}: a column of {len(column)} texts does not hold {count}"
        raise MistypedMessage(msg)
    for text in column if isinstance(column, tuple) else (column,):
        if text is not None and len(text) > limits.TEXT_CHARACTERS.maximum:
            raise TextTooLong(len(text), where)


def unpack_some(column: Texts, first: int, end: int) -> Sequence[str | None]:
    """Read the texts from *first* to before *end* of a column that was checked."""
    return column[first:end] if isinstance(column, tuple) else [column] * (end - first)


def has_unknown(column: Texts, count: int) -> bool:
    """Whether any of *count* texts is unknown."""
    return None in column if isinstance(column, tuple) else column is None and count > 0
