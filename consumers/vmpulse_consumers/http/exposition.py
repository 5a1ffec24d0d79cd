"""The text of a scrape: what there is of each VM and host is written once for all who scrape within a tick of the view.

It is written off the event loop, when somebody asks; packed too, if somebody takes gzip. The ages go on, and what there
is of the view itself is new each time: they are written for each scrape, behind the rest.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmpulse_consumers.http import series
from vmpulse_consumers.http.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vmpulse_consumers.view import View

SHARED_S: Final = 1.0
"""The view's own tick: values come each 3 s from each host, and silence is judged once a second."""
GZIP_FROM: Final = 16 << 10
"""Smaller replies are sent as they are."""
END: Final = b"# EOF\n"
"""What an OpenMetrics text ends with."""
PAUSED_FROM: Final = 4 << 10
"""Bytes of a piece that took long enough for a pause after it."""
PAUSE_S: Final = 200e-6
"""Between two pieces. A thread that only gives the interpreter's lock away has it again before anybody is awake; one
that never pauses keeps the event loop waiting for 5 ms at a time."""
_GZIP: Final = zlib.MAX_WBITS | 16
_FAST: Final = 1


class Reply(NamedTuple):
    """What a scraper gets."""

    body: bytes
    packed: bool


class Expositions:
    """Gives scrapers their texts.

    Args:
        view: the view.
        clock: the monotonic clock that it is fed with, seconds.
    """

    def __init__(self, view: View, clock: Callable[[], float]) -> None:
        self._view = view
        self._clock = clock
        self._shared: _Shared | None = None

    async def reply(self, fleet: bytes, *, packed: bool) -> Reply:
        """Give the text for one scraper.

        Args:
            fleet: the families of the fleet as a whole, in the format that the scraper wants.
            packed: whether it takes gzip.
        """
        shared, openmetrics = self._current(), fleet.endswith(END)
        text = await shared.text(openmetrics=openmetrics)
        end = END if openmetrics else b""
        last = chain([fleet.removesuffix(END)], shared.series.ages(self._clock()), [end])
        if not packed or len(text) + len(fleet) < GZIP_FROM:
            return Reply(text + await asyncio.to_thread(_joined, last), packed=False)
        begun = await shared.packed(openmetrics=openmetrics)
        return Reply(await asyncio.to_thread(begun.ended, last), packed=True)

    def _current(self) -> _Shared:
        """What is being written, or was within the tick. It is let go after that, for it has 700 bytes for each VM."""
        now, shared = self._clock(), self._shared
        if shared is None or (shared.done and now - shared.series.taken.now >= SHARED_S):
            shared = self._shared = _Shared(series.snapshot(self._view, now))
            asyncio.get_running_loop().call_later(SHARED_S, self._let_go, shared)
        return shared

    def _let_go(self, shared: _Shared) -> None:
        if self._shared is not shared:
            return
        if shared.done:
            self._shared = None
        else:
            asyncio.get_running_loop().call_later(SHARED_S, self._let_go, shared)


class _Packed(NamedTuple):
    """The beginning of a text with gzip, and what packs the rest of it, to be copied first."""

    body: bytes
    packer: Any

    def ended(self, rest: Iterable[bytes]) -> bytes:
        """Pack the rest behind the beginning."""
        packer = self.packer.copy()
        return b"".join((self.body, packer.compress(_joined(rest)), packer.flush()))


class _Shared:
    """What all scrapers of one moment share: by whether it is for OpenMetrics."""

    def __init__(self, taken: series.Snapshot) -> None:
        self.series = Series(taken)
        self._texts: dict[bool, asyncio.Task[bytes]] = {}
        self._packed: dict[bool, asyncio.Task[_Packed]] = {}

    @property
    def done(self) -> bool:
        """Whether nothing is being written."""
        return all(task.done() for tasks in (self._texts, self._packed) for task in tasks.values())

    async def text(self, *, openmetrics: bool) -> bytes:
        """Give all families but the ages and the fleet's."""
        task = self._texts.get(openmetrics)
        if task is None:
            pieces = self.series.values(openmetrics=openmetrics)
            task = self._texts[openmetrics] = asyncio.create_task(asyncio.to_thread(_joined, pieces))
        # A scraper that hangs up must not take it from the others.
        return await asyncio.shield(task)

    async def packed(self, *, openmetrics: bool) -> _Packed:
        """Give the same with gzip, open at its end."""
        text, task = await self.text(openmetrics=openmetrics), self._packed.get(openmetrics)
        if task is None:
            task = self._packed[openmetrics] = asyncio.create_task(asyncio.to_thread(_pack, text))
        return await asyncio.shield(task)


def _joined(pieces: Iterable[bytes]) -> bytes:
    """Take pieces as they are written, in a thread, so that the event loop waits for one of them at most."""
    return b"".join(_paused(pieces))


def _paused(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        if len(piece) > PAUSED_FROM:
            time.sleep(PAUSE_S)


def _pack(text: bytes) -> _Packed:
    packer = zlib.compressobj(_FAST, zlib.DEFLATED, _GZIP)
    return _Packed(packer.compress(text), packer)
