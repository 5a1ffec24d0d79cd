"""Integer columns: one value for each VM, in layout order, as small as the largest of them allows.

On the wire a column is

- ``nil``: every value is unknown;
- an integer: every value is that one;
- bytes: little-endian unsigned integers of 4, 8, 16, 32 or 64 bits each. The width follows from the length and the count
  (4 bits: two values a byte, the first in the low half). All bits set means unknown, so unknown never travels as 0.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final

from vmpulse_contract.errors import MistypedMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Column = int | bytes | None

NIBBLE: Final = 4
_CODES: Final = {8: "B", 16: "H", 32: "I", 64: "Q"}
_SWAP: Final = sys.byteorder == "big"


def pack(values: Sequence[int | None]) -> Column:
    """Write a column. Values are 0 or more, or None for unknown. Raises ValueError for what 64 bits cannot hold."""
    if not values:
        return None
    first = values[0]
    if all(value == first for value in values):
        return first
    return _pack_wide(values)


def _pack_wide(values: Sequence[int | None]) -> bytes:
    known = [value for value in values if value is not None]
    if min(known) < 0:
        msg = f"a column holds no negative values: {min(known)}"
        raise ValueError(msg)
    width = _width_for(max(known))
    unknown = (1 << width) - 1
    filled = known if len(known) == len(values) else [unknown if value is None else value for value in values]
    return _pack_nibbles(filled) if width == NIBBLE else to_bytes(_CODES[width], filled)


def _width_for(largest: int) -> int:
    for width in (NIBBLE, *_CODES):
        if largest < (1 << width) - 1:
            return width
    msg = f"a column holds values below 2^64-1: {largest}"
    raise ValueError(msg)


def _pack_nibbles(values: Sequence[int]) -> bytes:
    padded = [*values, 0] if len(values) % 2 else values
    return bytes(low | high << 4 for low, high in zip(padded[::2], padded[1::2], strict=True))


def width_of(column: bytes, count: int) -> int:
    """Tell the bits per value of a column of bytes. Raises MistypedMessage if no width fits."""
    if count >= 2:  # noqa: PLR2004 - fewer values than two are always equal, so they never travel as bytes
        if len(column) == (count + 1) // 2:
            return NIBBLE
        width, rest = divmod(len(column) * 8, count)
        if not rest and width in _CODES:
            return width
    msg = f"a column of {len(column)} bytes does not hold {count} values"
    raise MistypedMessage(msg)


def unpack(column: Column, count: int) -> list[int | None]:
    """Read a column back. Raises MistypedMessage if its length fits no width."""
    if not isinstance(column, bytes):
        return [column] * count
    width = width_of(column, count)
    unknown = (1 << width) - 1
    return [None if value == unknown else value for value in _unpack_raw(column, width, count)]


def _unpack_raw(column: bytes, width: int, count: int) -> Iterable[int]:
    if width != NIBBLE:
        return from_bytes(_CODES[width], column)
    return [half for byte in column for half in (byte & 15, byte >> 4)][:count]


def to_bytes(code: str, values: Iterable[int]) -> bytes:
    """Write integers little-endian; *code* is a type code of the array module."""
    packed: array[int] = array(code, values)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def from_bytes(code: str, raw: bytes) -> array[int]:
    """Read little-endian integers; *raw* must be a multiple of the item size."""
    packed: array[int] = array(code)
    packed.frombytes(raw)
    if _SWAP:
        packed.byteswap()
    return packed
