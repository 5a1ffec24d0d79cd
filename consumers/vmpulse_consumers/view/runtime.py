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
_DTYPES: Final[dict[int, np.dtype[np.unsignedinteger]]] = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)}
"""By the bytes of a value."""
_ALL_SET: Final = {size: np.array((1 << 8 * size) - 1, dtype) for size, dtype in _DTYPES.items()}
"""The largest value; comparing with an array takes half the time of comparing with a number."""
_HALVES: Final = np.array(
    [[UNKNOWN_8 if half == UNKNOWN_4 else half for half in (byte & 15, byte >> 4)] for byte in range(256)], np.uint8
)
"""The two values in a byte, unknown ones as in a column of bytes."""
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
    """Copy a column that was checked. A value beyond what the target holds is unknown, never made a small one."""
    if isinstance(column, bytes):
        _store_packed(target, column, unknown)
    elif isinstance(column, columns.Sparse):
        target.fill(unknown if column.common is None else min(column.common, unknown))
        positions = np.frombuffer(column.positions, _DTYPES[columns.position_bytes(len(target))])
        exceptions: NDArray[np.uint8] | NDArray[np.uint32] = np.empty(len(positions), target.dtype)
        _store(exceptions, column.exceptions, unknown)
        target.put(positions, exceptions)
    else:
        target.fill(unknown if column is None else min(column, unknown))


def _store_packed(target: NDArray[np.uint8] | NDArray[np.uint32], column: bytes, unknown: int) -> None:
    # Which widths there are, and that one of them fits, was checked; of values in half a byte each this gives 0.
    size = len(column) // len(target)
    values: NDArray[np.unsignedinteger] = np.frombuffer(column, _DTYPES[size or 1])
    if not size:
        values = _HALVES.take(values, 0).ravel()[: len(target)]
    if size > target.itemsize:
        # "Unknown" of the wider column is larger than any value, so the minimum makes it ours as well.
        target[:] = np.minimum(values, unknown)
        return
    target[:] = values
    if size < target.itemsize and (UNKNOWN_8 in column or not size):
        # All bits set is unknown at each width; copying into a wider column has left it a plain number. Where no byte
        # has all bits set no value has.
        target[values == _ALL_SET[values.itemsize]] = unknown
