"""What the values of frames would take at best: the same columns under zstd's slowest level but those that cost memory.

A frame stands on its own, so that any reader can begin with it, and one that was lost costs nothing. So does the
floor: each frame's columns are compressed alone. Beside it stands what a compressor with a memory would make of a
host's frames one after the other, of which none could be lost.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import zstandard
from msgspec import Struct, structs

from vmpulse_contract import columns, stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_contract.stream import Frame

LEVEL: Final = 19
WIDTHS: Final = ("B", "H", "H", "B", "H")
"""Integers that hold the columns' usual values: status, cpuUser, cpuSys, memUsage, statsAge."""
WIDEST: Final = "I"


class Floor(Struct, frozen=True):
    """Bytes of some frames: their bodies, and their columns compressed each alone and with those before."""

    frames: int
    bodies: int
    alone: int
    with_memory: int

    @property
    def ratio(self) -> float:
        """How much larger the bodies are than the columns compressed alone."""
        return self.bodies / self.alone

    @property
    def ratio_with_memory(self) -> float:
        """How much larger than the columns after those before."""
        return self.bodies / self.with_memory


def floor_of(bodies: Iterable[bytes]) -> Floor:
    """Compress the columns of frames that stand in the order in which they were sent."""
    alone = zstandard.ZstdCompressor(level=LEVEL, write_content_size=False, write_checksum=False)
    memories: dict[int, zstandard.ZstdCompressionObj] = defaultdict(
        lambda: zstandard.ZstdCompressor(level=LEVEL).compressobj()
    )
    frames = size = best = following = 0
    for body in bodies:
        frame = stream.read_frame(body)
        raw = columns_of(frame)
        frames += 1
        size += len(body)
        best += min(len(alone.compress(raw)), len(raw))
        memory = memories[frame.epoch]
        following += len(memory.compress(raw)) + len(memory.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return Floor(frames, size, best, following)


def columns_of(frame: Frame) -> bytes:
    """All that a frame says in values: its columns, one after the other, then the host's own statistics.

    What it needs to be a message (version, epoch, seq, layout, count, digest, time) is not in it.
    """
    parts = [
        _packed(columns.unpack(column, frame.count), code) for column, code in zip(frame.columns, WIDTHS, strict=True)
    ]
    if frame.host_stats is not None:
        values = [0xFFFF_FFFF if value is None else value for value in structs.astuple(frame.host_stats)]
        parts.append(struct.pack("<HHHII", *(min(value, 0xFFFF) for value in values[:3]), *values[3:]))
    return b"".join(parts)


def _packed(values: list[int | None], code: str) -> bytes:
    """All bits set for unknown. A wider integer where a value needs it."""
    for width in (code, WIDEST):
        largest = (1 << 8 * struct.calcsize(f"<{width}")) - 1
        if all(value is None or value < largest for value in values):
            return columns.to_bytes(width, [largest if value is None else value for value in values])
    msg = f"a value beyond 32 bits: {max(value or 0 for value in values)}"
    raise ValueError(msg)
