"""Bodies of section guestDetails of one host's VMs, kept as what is new in each.

They are four fifths of all that is held, and seldom read. Guests of one image say the same but for some addresses:
packed by zlib with what others have said before as its dictionary, 700 bytes are 70, and 20 KB, the packages of a
distribution, are 2. It takes 7 us, or 70, to pack one, and 1 us, or 25, to unpack it.
"""

from __future__ import annotations

import zlib
from typing import Final

SAID_BYTES: Final = 32 << 10
"""What zlib can refer to: its window."""
LEVEL: Final = 1
"""The fastest: higher ones save a thirtieth of 700 bytes, and take twice the time for 20 KB."""
RAW: Final = -zlib.MAX_WBITS
"""Neither head nor checksum: bodies were checked against their hash, and are kept in memory only."""
ALIKE: Final = 4
"""A body that packs to less than this part of it is like what was said before."""
FEW_BYTES: Final = 128
"""What packs to so few is not worth to be remembered, however little it was before."""
LENGTH_BYTES: Final = 2


class Details:
    """Packs and unpacks; remembers what bodies have said that were not like those before, up to SAID_BYTES.

    A body is packed with what was said by then; a packed one begins with how much that was, for it only grows. Whoever
    has no packed body any more makes this anew.
    """

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said = b""

    def pack(self, body: bytes) -> bytes:
        """Give what is kept of a body."""
        packed = self._deflated(body)
        unlike = not self._said or len(packed) > max(FEW_BYTES, len(body) // ALIKE)
        if unlike and len(self._said) + len(body) <= SAID_BYTES:
            # It costs its length here and next to nothing there, so a body that nobody resembles costs what it did.
            self._said += body
            packed = self._deflated(body)
        return len(self._said).to_bytes(LENGTH_BYTES) + packed

    def unpack(self, kept: bytes) -> bytes:
        """Give the body of which ``pack`` has given what is kept."""
        said = self._said[: int.from_bytes(kept[:LENGTH_BYTES])]
        return zlib.decompressobj(RAW, zdict=said).decompress(kept[LENGTH_BYTES:])

    def _deflated(self, body: bytes) -> bytes:
        packing = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW, zdict=self._said)
        return packing.compress(body) + packing.flush()
