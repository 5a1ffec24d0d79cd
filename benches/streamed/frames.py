"""Frames of many hosts in one piece of memory, where the few bytes that differ from tick to tick are put in at once."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from benches.streamed import amqp
from vmpulse_agent.session import Outgoing
from vmpulse_contract import topology, wire
from vmpulse_contract.topology import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vmpulse_contract.identity import HostId

ELEMENTS: Final = 0x90 | 13
"""The head of an array of as many elements as a frame has."""
U32, U64 = b"\xce", b"\xcf"
"""msgpack's heads of integers of 4 and 8 bytes: a reader takes small values in them too."""
SEQ_AT: Final = 1 + 1 + 9 + 1
"""Array, version, epoch, and the head of seq."""
EXPIRATION_MS: Final = 6000
"""Two ticks."""
FRAME_END: Final = 1
"""AMQP ends each of its frames with a byte."""


def first_frame(epoch: int, layout: int, count: int, tail: bytes) -> bytes:
    """Give a frame whose seq, digest and time are zeros, in places that a host's next frame has as well."""
    encode = msgspec.msgpack.encode
    head = bytes([ELEMENTS]) + encode(wire.VERSION) + U64 + epoch.to_bytes(8)
    return head + U32 + bytes(4) + encode(layout) + encode(count) + U64 + bytes(8) + U32 + bytes(4) + tail


def digest_at(layout: int, count: int) -> int:
    """Where the digest is in a first frame."""
    encode = msgspec.msgpack.encode
    return SEQ_AT + 4 + len(encode(layout)) + len(encode(count)) + len(U64)


class Frames:
    """One frame of each host, as they are on the wire.

    Args:
        raw: hosts with their frames, made by ``first_frame``.
        digest_at: where the digest is in each.
    """

    def __init__(self, raw: Iterable[tuple[HostId, bytes]], digest_at: int) -> None:
        pairs = list(raw)
        messages = [
            amqp.message(
                host, Outgoing(Kind.FRAME, topology.RUNTIME, topology.frame_key(host), content, 0, EXPIRATION_MS)
            )
            for host, content in pairs
        ]
        self._bytes: NDArray[np.uint8] = np.frombuffer(bytearray(b"".join(messages)), np.uint8)
        self._ends = np.array([0, *accumulate(map(len, messages))], np.int64)
        lengths = np.array([len(content) for _, content in pairs], np.int64)
        bodies = self._ends[1:] - FRAME_END - lengths
        self._seq, self._digest, self._time = bodies + SEQ_AT, bodies + digest_at, bodies + digest_at + 9

    def take(
        self, first: int, end: int, seqs: NDArray[np.uint32], digests: NDArray[np.uint64], monotonic_ms: int
    ) -> bytes:
        """Give the frames of the hosts from *first* to before *end* with these values."""
        self._put(self._seq[first:end], seqs.astype(">u4"))
        self._put(self._digest[first:end], digests.astype(">u8"))
        self._put(self._time[first:end], np.full(end - first, monotonic_ms, ">u4"))
        return self._bytes[self._ends[first] : self._ends[end]].tobytes()

    def _put(self, at: NDArray[np.int64], values: NDArray[np.unsignedinteger]) -> None:
        size = values.dtype.itemsize
        self._bytes[at[:, None] + np.arange(size)] = values.view(np.uint8).reshape(-1, size)
