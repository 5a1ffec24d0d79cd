"""A way to the broker that can be cut, hung and slowed, and mended again: a small TCP proxy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType

LOOPBACK: Final = "127.0.0.1"
CHUNK: Final = 1 << 16
QUEUED: Final = 256
"""Chunks that may be on their way in one direction; then the sender has to wait, as with a real line."""
SHARE_S: Final = 0.1
"""A slowed line carries chunks of so many seconds, so that its pace is even."""


class Pace(NamedTuple):
    """How a line carries. ``bytes_s``: at the most, for each connection and direction; 0: as fast as it can."""

    bytes_s: int = 0
    delay_s: float = 0.0

    @property
    def chunk(self) -> int:
        """How much to take at once."""
        return max(1, min(CHUNK, int(self.bytes_s * SHARE_S))) if self.bytes_s else CHUNK

    def takes_s(self, size: int) -> float:
        """How long so many bytes take."""
        return size / self.bytes_s if self.bytes_s else 0.0


class Cable:
    """Takes connections on a port of its own and carries them to another, from entering to leaving the context.

    Args:
        port: where to, on this machine.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        """Where it takes connections."""
        self._target = port
        self._pace = Pace()
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._joined, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._hang_up()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    # --- what is done to it -------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End all connections, both ends at once, and refuse new ones."""
        self._refusing = True
        self._hang_up()

    def hang(self) -> None:
        """Let nothing through any more, in either direction, not even that an end has hung up."""
        self._flowing.clear()

    def slow(self, pace: Pace) -> None:
        """Carry no faster than this."""
        self._pace = pace

    def mend(self) -> None:
        """Be as it was at first."""
        self._refusing = False
        self._pace = Pace()
        self._flowing.set()

    def _hang_up(self) -> None:
        for end in list(self._ends):
            end.transport.abort()

    # --- carrying -----------------------------------------------------------------------------------------------

    def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either end has hung up."""
        ends = {writer}
        self._ends.add(writer)
        try:
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
            ends.add(far_writer)
            self._ends.add(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far_writer))
                both.create_task(self._carry(far_reader, writer))
            for end in ends:
                end.close()
        except* OSError:
            pass  # an end broke off, or the broker is down: the other end hears of it
        finally:
            self._ends -= ends
            for end in ends:
                if not end.is_closing():
                    end.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry one direction, in order."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)
        taking = asyncio.create_task(self._take(source, line))
        try:
            while (parcel := await line.get())[1]:
                await self._give(parcel, sink)
            await self._give(parcel, sink)
            sink.write_eof()
        finally:
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await taking

    async def _take(self, source: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Put what comes on the line, with when it is to arrive; at last nothing, for the end."""
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                await self._flowing.wait()
                while data:
                    pace = self._pace  # may change at any time, and what was taken before must not hold up the rest
                    piece, data = data[: pace.chunk], data[pace.chunk :]
                    await asyncio.sleep(pace.takes_s(len(piece)))
                    await line.put((self._arrival(pace), piece))
        await self._flowing.wait()
        await line.put((self._arrival(self._pace), b""))

    @staticmethod
    def _arrival(pace: Pace) -> float:
        return asyncio.get_running_loop().time() + pace.delay_s

    async def _give(self, parcel: tuple[float, bytes], sink: asyncio.StreamWriter) -> None:
        due, data = parcel
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        await self._flowing.wait()
        sink.write(data)
        await sink.drain()
