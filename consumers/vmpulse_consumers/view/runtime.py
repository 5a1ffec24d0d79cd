"""Runtime values of all VMs as numpy columns; each host owns one block of rows, in its layout order.

A frame's columns are copied into the block as they are, without a Python object for each VM: 14 bytes a VM. Readers get
the whole column, so what asks for all VMs (lists, metrics) can be vectorised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vmpulse_contract import columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vmpulse_contract.columns import Column
    from vmpulse_contract.stream import Frame

UNKNOWN_4: Final = 0xF
UNKNOWN_8: Final = 0xFF
UNKNOWN_32: Final = 0xFFFF_FFFF
_DTYPES: Final[dict[int, np.dtype[np.unsignedinteger]]] = {
    8: np.dtype("<u1"),
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
_ALL_SET: Final = {size: (1 << 8 * size) - 1 for size in (1, 2, 4, 8)}
"""By the bytes of an integer: its largest value."""
_FIRST_CAPACITY: Final = 1024


class Block(NamedTuple):
    """The rows of one host: ``start`` up to ``start + size``, with room for ``capacity``."""

    start: int
    size: int
    capacity: int


class Runtime:
    """The columns. Units as in Frame; UNKNOWN_8 and UNKNOWN_32 mean unknown."""

    def __init__(self) -> None:
        self.status: NDArray[np.uint8] = np.full(_FIRST_CAPACITY, UNKNOWN_8, np.uint8)
        self.mem_usage: NDArray[np.uint8] = np.full(_FIRST_CAPACITY, UNKNOWN_8, np.uint8)
        self.cpu_user: NDArray[np.uint32] = np.full(_FIRST_CAPACITY, UNKNOWN_32, np.uint32)
        self.cpu_sys: NDArray[np.uint32] = np.full(_FIRST_CAPACITY, UNKNOWN_32, np.uint32)
        self.stats_age: NDArray[np.uint32] = np.full(_FIRST_CAPACITY, UNKNOWN_32, np.uint32)
        self._used = 0
        self._free: dict[int, list[int]] = {}

    def allocate(self, count: int) -> Block:
        """Give a block of unknown values for *count* VMs."""
        # Powers of two: a freed block fits the next host of its size, and a host that gains a VM often stays in place.
        capacity = 1 << max(0, count - 1).bit_length()
        recycled = self._free.get(capacity)
        if recycled:
            start = recycled.pop()
        else:
            start, self._used = self._used, self._used + capacity
            self._grow()
        block = Block(start, count, capacity)
        self.forget(block)
        return block

    def _grow(self) -> None:
        have = len(self.status)
        if self._used <= have:
            return
        more = max(have, self._used - have)
        for name, unknown in (("status", UNKNOWN_8), ("mem_usage", UNKNOWN_8)):
            setattr(self, name, np.concatenate([getattr(self, name), np.full(more, unknown, np.uint8)]))
        for name in ("cpu_user", "cpu_sys", "stats_age"):
            setattr(self, name, np.concatenate([getattr(self, name), np.full(more, UNKNOWN_32, np.uint32)]))

    def release(self, block: Block) -> None:
        """Take a block back."""
        self._free.setdefault(block.capacity, []).append(block.start)

    def forget(self, block: Block) -> None:
        """Make all values of a block unknown."""
        rows = slice(block.start, block.start + block.capacity)
        self.status[rows] = self.mem_usage[rows] = UNKNOWN_8
        self.cpu_user[rows] = self.cpu_sys[rows] = self.stats_age[rows] = UNKNOWN_32

    def carry(self, old: Block, new: Block, rows: list[tuple[int, int]]) -> None:
        """Copy the values of rows that stay: pairs of (row in *old*, row in *new*)."""
        if not rows:
            return
        source = np.fromiter((row for row, _ in rows), np.intp, len(rows)) + old.start
        target = np.fromiter((row for _, row in rows), np.intp, len(rows)) + new.start
        for column in (self.status, self.mem_usage, self.cpu_user, self.cpu_sys, self.stats_age):
            column[target] = column[source]

    def unknown(self, block: Block) -> list[int]:
        """The rows of a block whose status is not known."""
        rows: list[int] = np.flatnonzero(self.status[block.start : block.start + block.size] == UNKNOWN_8).tolist()
        return rows

    def store(self, block: Block, frame: Frame) -> list[int]:
        """Take in the columns of a frame that read_frame has checked and whose count is the block's.

        Gives the rows of the block whose status is another than before.
        """
        rows = slice(block.start, block.start + block.size)
        before = self.status[rows].tobytes()
        _store(self.status[rows], frame.status, UNKNOWN_8)
        _store(self.mem_usage[rows], frame.mem_usage, UNKNOWN_8)
        _store(self.cpu_user[rows], frame.cpu_user, UNKNOWN_32)
        _store(self.cpu_sys[rows], frame.cpu_sys, UNKNOWN_32)
        _store(self.stats_age[rows], frame.stats_age, UNKNOWN_32)
        # Nearly always nothing has changed, and bytes tell that in a twentieth of the time.
        if self.status[rows].tobytes() == before:
            return []
        changed: list[int] = np.flatnonzero(np.frombuffer(before, np.uint8) != self.status[rows]).tolist()
        return changed


def _store(target: NDArray[np.uint8] | NDArray[np.uint32], column: Column, unknown: int) -> None:
    """Copy one column. A value beyond what the target holds is unknown to us, never wrapped into a small one."""
    if column is None:
        target[:] = unknown
    elif isinstance(column, int):
        target[:] = min(column, unknown)
    elif isinstance(column, columns.Sparse):
        positions = np.asarray(columns.positions(column, len(target)), dtype=np.intp)
        exceptions = np.empty(len(positions), target.dtype)
        _store(exceptions, column.exceptions, unknown)
        _store(target, column.common, unknown)
        target[positions] = exceptions
    else:
        _store_packed(target, unpack(column, len(target)), unknown)


def _store_packed(
    target: NDArray[np.uint8] | NDArray[np.uint32], values: NDArray[np.unsignedinteger], unknown: int
) -> None:
    if values.dtype.itemsize > target.dtype.itemsize:
        # "Unknown" of the wider column is larger than any value, so the minimum makes it ours as well.
        target[:] = np.minimum(values, unknown)
        return
    target[:] = values
    if values.dtype != target.dtype:
        # All bits set is unknown at each width; copying into a wider column has left it a plain number.
        target[values == _ALL_SET[values.dtype.itemsize]] = unknown


def unpack(column: bytes, count: int) -> NDArray[np.unsignedinteger]:
    """Read a packed column; 4-bit values come as bytes with 15 already turned to 255."""
    width = columns.width_of(column, count)
    raw: NDArray[np.unsignedinteger] = np.frombuffer(column, _DTYPES.get(width, _DTYPES[8]))
    if width != columns.NIBBLE:
        return raw
    halves = np.empty(len(raw) * 2, np.uint8)
    halves[::2] = raw & 15
    halves[1::2] = raw >> 4
    halves[halves == UNKNOWN_4] = UNKNOWN_8
    kept: NDArray[np.unsignedinteger] = halves[:count]
    return kept
