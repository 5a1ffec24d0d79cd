"""Keeps what outlives a view: takes what has changed once a second, and has a thread of its own write it.

A store that cannot be written costs nothing but the memory: the view goes on, says that it is degraded, and everything
that was not written is marked anew, so that it is written once the store works again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from types import NoneType
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.errors import StoreBroken, StoreFull, StoreUnusable
from vmpulse_consumers.store.file import StoreFile
from vmpulse_consumers.view.memory import Kept
from vmpulse_consumers.view.restoring import restoring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vmpulse_consumers.view import View
    from vmpulse_consumers.view.memory import Batch

log = logging.getLogger(__name__)

BEHIND_S: Final = 1.0
"""What happens within a second is written together; so much a view that is killed has forgotten."""
RETRY_S: Final = 5.0
"""After a failure: a disk that is full stays so for a while."""
ALIVE_S: Final = 1.0
CLOSING_S: Final = 1.5
"""How long a stop may take over the last batches: programs have to end within 2 s."""
CLOSED_S: Final = 0.3
"""And how long over closing the file, which waits for a write that takes longer."""


class Keeper:
    """Keeps one view's memory in one file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = StoreFile(path)
        self._thread = ThreadPoolExecutor(1, "store")
        self.batches = 0
        self.failures = 0
        """Batches that were written, and that were not, since the start."""

    async def restore(self, view: View, clock: Callable[[], float], alive: Callable[[], None] = lambda: None) -> None:
        """Open the file and give its contents to a view that has heard nothing yet; from now on changes are marked.

        *clock* is the view's; *alive* is called once a second and oftener. A damaged file is moved aside and a new one
        begun; without room for one the view begins degraded. Raises StoreUnusable, StoreInUse and StoreTooNew.
        """
        loading = asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        while not (await asyncio.wait({loading}, timeout=ALIVE_S))[0]:
            alive()
        try:
            kept = loading.result()
        except StoreFull as error:
            kept = Kept()
            self._degrade(view, error)
        for _ in restoring(view, kept, clock()):
            alive()
            await asyncio.sleep(0)
        view.memory.keeping = True
        log.info("store %s: %d hosts and %d sections remembered", self._file.path, len(kept.hosts), len(kept.sections))

    async def run(self, view: View) -> None:
        """Write behind until cancelled; then write the rest, for a bounded time, and close the file."""
        try:
            while True:
                written = await self._write(view)
                await asyncio.sleep(BEHIND_S if written else RETRY_S)
        finally:
            await self._finish(view)

    async def _write(self, view: View) -> bool:
        """Write all that is marked, batch by batch. Tells whether that went well."""
        written = False
        while view.memory:
            batch = view.memory.drain(view.hosts, view.vms, view.runtime)
            for host, error in batch.failed:
                log.error("what is to be kept of host %s cannot be put together", host, exc_info=error)
            try:
                await self._put(view, batch)
            except StoreUnusable as error:
                self.failures += 1
                self._degrade(view, error)
                return False
            self.batches += 1
            written = True
        if view.degraded and written:
            log.warning("store %s is written again", self._file.path)
            view.degraded = ""
        return True

    async def _put(self, view: View, batch: Batch) -> None:
        """Have one batch written. Raises StoreUnusable; then everything in it is marked anew."""
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._file.write, batch)
        try:
            await asyncio.shield(writing)
        except (asyncio.CancelledError, StoreUnusable):
            # Cancelled: the thread goes on. What it writes now may be written twice, which harms nothing.
            view.memory.again(batch)
            raise
        except Exception as error:
            # A fault of ours is no reason to end the view, nor to forget what was to be kept.
            view.memory.again(batch)
            raise StoreUnusable(f"store {self._file.path}: {type(error).__name__}: {error!s:.200}") from error

    @staticmethod
    def _degrade(view: View, error: StoreUnusable) -> None:
        if not view.degraded:
            ours = error.__cause__ if not isinstance(error.__cause__, (sqlite3.Error, OSError, NoneType)) else None
            log.error("degraded: %s; the view goes on, and tries again every %g s", error, RETRY_S, exc_info=ours)
        view.degraded = str(error)

    async def _finish(self, view: View) -> None:
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._write(view)
        except TimeoutError:
            log.warning("store %s: the last changes were not written in time; hosts tell them anew", self._file.path)
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)
        # The next view may open the file at once, and it is ours until then.
        await asyncio.wait({closing}, timeout=CLOSED_S)

    def _load(self) -> Kept:
        try:
            self._file.open()
            return self._file.load()
        except StoreBroken as error:
            self._file.close()
            aside = self._file.move_aside()
            log.error("%s; it was moved to %s, and the view begins without memory", error, aside)  # noqa: TRY400 - the message says it all
        self._file.open()
        return self._file.load()
