"""Integer columns: one value for each VM, in layout order, as small as the values allow.

On the wire a column is

- ``nil``: every value is unknown;
- an integer: every value is that one;
- bytes: little-endian unsigned integers of 4, 8, 16, 32 or 64 bits each. The width follows from the length and the
  count (4 bits: two values a byte, the first in the low half). All bits set means unknown, so unknown is never a 0;
- an array ``[common, positions, exceptions]``: every value is ``common`` (an integer or nil) but those at ``positions``
  (bytes: rising indices of 8 bits each, or of 16 little-endian bits where there are more than 256 values), which are
  given by ``exceptions``, in turn a column of one of the three forms above.

The last form pays where nearly all VMs agree, as they do on their age and status: one hung VM costs a few bytes, not
two for each VM of the host.
"""

from __future__ import annotations

import operator
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from vmpulse_contract.errors import MistypedMessage


class Sparse(Struct, array_like=True, frozen=True, gc=False):
    """A column of one common value with exceptions."""

    common: int | None
    positions: bytes
    exceptions: int | bytes | None


Column: TypeAlias = int | bytes | Sparse | None

NIBBLE: Final = 4
LARGEST: Final = (1 << 64) - 2
"""The largest value of a column; one more is 64 set bits, which mean unknown."""
_BYTE_POSITIONS: Final = 256
_MOST_EXCEPTIONS: Final = 8
"""One exception in so many values at most: beyond that the saving is small and the search for it is wasted."""
_CODES: Final = {8: "B", 16: "H", 32: "I", 64: "Q"}
_SWAP: Final = sys.byteorder == "big"


def pack(values: Sequence[int | None]) -> Column:
    """Write a column. Values are 0 to LARGEST, or None for unknown. Raises ValueError for others."""
    if not values:
        return None
    if values.count(values[0]) == len(values):
        return _pack_one(values[0])
    wide = _pack_wide(values)
    return _pack_sparse(values, len(wide)) or wide


def _pack_one(value: int | None) -> int | None:
    if value is not None:
        _width_for(value)
    return value


def _pack_sparse(values: Sequence[int | None], size: int) -> Sparse | None:
    """Write a column of exceptions if that takes less than *size* bytes."""
    # Three samples find the common value wherever at most two VMs differ, and nearly always where more do; counting all
    # values would take as long as all the rest.
    common = max((values[0], values[len(values) // 2], values[-1]), key=values.count)
    if (len(values) - values.count(common)) * _MOST_EXCEPTIONS > len(values):
        return None
    positions = [at for at, value in enumerate(values) if value != common]
    exceptions = [values[at] for at in positions]
    packed = _pack_one(exceptions[0]) if exceptions.count(exceptions[0]) == len(exceptions) else _pack_wide(exceptions)
    sparse = Sparse(common, to_bytes(_position_code(len(values)), positions), packed)
    # At most 10 bytes go on top of the two runs of bytes: the array's head, the common value, and the heads of both.
    return sparse if len(sparse.positions) + (len(packed) if isinstance(packed, bytes) else 5) + 10 < size else None


def position_bytes(count: int) -> int:
    """How many bytes a position takes in a column of *count* values."""
    return 1 if count <= _BYTE_POSITIONS else 2


def _position_code(count: int) -> str:
    return _CODES[8 * position_bytes(count)]


def _pack_wide(values: Sequence[int | None]) -> bytes:
    known = [value for value in values if value is not None]
    width = max(_width_for(min(known)), _width_for(max(known)))
    unknown = (1 << width) - 1
    filled = known if len(known) == len(values) else [unknown if value is None else value for value in values]
    return _pack_nibbles(filled) if width == NIBBLE else to_bytes(_CODES[width], filled)


def _width_for(largest: int) -> int:
    if largest < 0:
        msg = f"a column holds no negative values: {largest}"
        raise ValueError(msg)
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


def check(column: Column, count: int, largest: int = LARGEST) -> None:
    """Raise MistypedMessage unless a column holds *count* values, none above *largest*.

    *largest* bounds a column of bytes by its width: it is one less than a power of two, or LARGEST.
    """
    if isinstance(column, Sparse):
        _check_one(column.common, largest)
        exceptions = positions(column, count)
        check(column.exceptions, len(exceptions), largest)
    elif isinstance(column, bytes):
        if width_of(column, count) > largest.bit_length():
            msg = f"a column of {len(column)} bytes is too wide for {count} values of at most {largest}"
            raise MistypedMessage(msg)
    else:
        _check_one(column, largest)


def _check_one(value: int | None, largest: int) -> None:
    if value is not None and not 0 <= value <= largest:
        msg = f"a column holds values of 0 to {largest}: {value}"
        raise MistypedMessage(msg)


def positions(column: Sparse, count: int) -> Sequence[int]:
    """Read the positions of the exceptions. Raises MistypedMessage unless they rise and stay below *count*."""
    packed, size = column.positions, position_bytes(count)
    if not len(packed) % size:
        found = packed if size == 1 else from_bytes(_position_code(count), packed)
        if found and found[-1] < count and all(map(operator.lt, found, found[1:])):
            return found
    msg = f"exceptions at {len(column.positions)} bytes of positions do not go with {count} values"
    raise MistypedMessage(msg)


def unpack(column: Column, count: int) -> list[int | None]:
    """Read a column back. Raises MistypedMessage if it does not hold *count* values."""
    return unpack_some(column, count, 0, count)


def unpack_some(column: Column, count: int, first: int, end: int) -> list[int | None]:
    """Read the values from *first* to before *end*. Raises MistypedMessage if a column does not hold *count* values."""
    if isinstance(column, Sparse):
        values = [column.common] * (end - first)
        found = positions(column, count)
        for at, value in zip(found, unpack(column.exceptions, len(found)), strict=True):
            if first <= at < end:
                values[at - first] = value
        return values
    if not isinstance(column, bytes):
        return [column] * (end - first)
    width = width_of(column, count)
    unknown = (1 << width) - 1
    return [None if value == unknown else value for value in _unpack_raw(column, width, first, end)]


def _unpack_raw(column: bytes, width: int, first: int, end: int) -> Iterable[int]:
    if width != NIBBLE:
        size = width // 8
        return from_bytes(_CODES[width], column[first * size : end * size])
    halves = [half for byte in column[first // 2 : (end + 1) // 2] for half in (byte & 15, byte >> 4)]
    return halves[first % 2 :][: end - first]


def has_unknown(column: Column, count: int) -> bool:
    """Whether any value of a column that holds *count* values is unknown."""
    if isinstance(column, Sparse):
        return column.common is None or has_unknown(column.exceptions, len(positions(column, count)))
    if not isinstance(column, bytes):
        return column is None and count > 0
    # All bits set is the largest value of its width, if it is there.
    width = width_of(column, count)
    return max(_unpack_raw(column, width, 0, count)) == (1 << width) - 1


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
