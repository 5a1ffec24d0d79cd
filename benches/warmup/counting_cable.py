"""A way to the broker that counts what it carries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benches.chaos.cable import Cable

if TYPE_CHECKING:
    import asyncio


class CountingCable(Cable):
    """A cable that knows how many bytes it has carried, both ways, and since when it is used."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.carried = 0
        self.used_since: float | None = None
        """On the monotonic clock; None: nobody has connected yet."""

    def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.used_since = self.used_since or time.monotonic()
        super()._joined(reader, writer)

    async def _give(self, parcel: tuple[float, bytes], sink: asyncio.StreamWriter) -> None:
        self.carried += len(parcel[1])
        await super()._give(parcel, sink)
