"""A relay for TCP connections that counts what goes through: whatever is on the wire above TCP, in both directions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

LOOPBACK: Final = "127.0.0.1"
SEGMENT_BYTES: Final = 1448
"""Payload of a full TCP segment on Ethernet: 1500 less 20 of IP and 32 of TCP with its time stamps."""
SEGMENT_HEADER: Final = 52


class Tally(Struct):
    """Bytes and reads of one direction. ``segments``: as few full segments as could have carried each read."""

    bytes: int = 0
    segments: int = 0

    def add(self, size: int) -> None:
        """Count one read."""
        self.bytes += size
        self.segments += -(-size // SEGMENT_BYTES)


class Traffic(Struct):
    """What went through: ``up`` from those who connected, ``down`` to them; and how often somebody connected."""

    up: Tally
    down: Tally
    connections: int = 0

    @classmethod
    def none(cls) -> Traffic:
        """Nothing so far."""
        return cls(Tally(), Tally())

    @property
    def bytes(self) -> int:
        """Both directions together."""
        return self.up.bytes + self.down.bytes

    @property
    def header_bytes(self) -> int:
        """What IP and TCP would have added on Ethernet, at least: full segments, and no acknowledgement on its own."""
        return (self.up.segments + self.down.segments) * SEGMENT_HEADER


Watch: TypeAlias = "Callable[[bytes], None]"
"""Is shown what goes through."""


class Relay:
    """Listens on loopback and relays to a port of loopback.

    Args:
        port: where to.
        watches: makes, for each connection, who is shown what goes up and what goes down.
    """

    def __init__(self, port: int, watches: Callable[[], tuple[Watch, Watch]] | None = None) -> None:
        self.traffic = Traffic.none()
        self._to = port
        self._watches = watches
        self._server: asyncio.Server | None = None
        self._ends: set[End] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._accepted, LOOPBACK, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connecting:
            task.cancel()
        for end in list(self._ends):
            end.hang_up()

    def _accepted(self) -> End:
        self.traffic.connections += 1
        up, down = (None, None) if self._watches is None else self._watches()
        near, far = End(self._ends, self.traffic.up, up), End(self._ends, self.traffic.down, down)
        near.other, far.other = far, near
        task = asyncio.get_running_loop().create_task(self._connect(near, far))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return near

    async def _connect(self, near: End, far: End) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, LOOPBACK, self._to)
        except OSError:
            near.hang_up()


class End(asyncio.Protocol):
    """One end of a relayed connection: what is read here is counted and written at the other.

    Args:
        ends: where it is kept while it is open.
        tally: counts what is read.
        watch: is shown what is read.
    """

    def __init__(self, ends: set[End], tally: Tally, watch: Watch | None) -> None:
        self.other: End | None = None
        self._ends = ends
        self._tally = tally
        self._watch = watch
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        """What the other end has read before this one was connected."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._ends.add(self)
        for data in self._early:
            self.transport.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        """Count and hand on."""
        self._tally.add(len(data))
        if self._watch is not None:
            self._watch(data)
        if self.other is not None:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hang up at the other end too, after what is still to be written there."""
        del exc
        self._ends.discard(self)
        self.transport = None
        if self.other is not None:
            self.other.hang_up()

    def pause_writing(self) -> None:
        """It is slower than the other end: read no more there."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Write what the other end has read."""
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def hang_up(self) -> None:
        """Close after everything is written."""
        if self.transport is not None:
            self.transport.close()
