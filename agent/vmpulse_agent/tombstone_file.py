"""Tombstones over a restart of the agent: one small file, written whole and swapped in.

Tombstones are on the epoch's monotonic clock, which ends with the epoch; the file carries wall-clock seconds, the only
clock that outlives a process. A wall clock that jumped makes a tombstone stay shorter or longer, and nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from vmpulse_contract.stream import Tombstone

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

NAME: Final = "tombstones.msgpack"


class TombstoneFile:
    """The file in the agent's state directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        # One thread: a disk may take its time, the event loop may not (promise A1), and writes must not overtake.
        self._writer = ThreadPoolExecutor(1, "tombstones")

    def read(self) -> list[Tombstone]:
        """Give what was kept, ``ended_ms`` being before the new epoch (negative). A broken file stops nothing."""
        try:
            kept = msgspec.msgpack.decode(self._path.read_bytes(), type=list[Tombstone])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.warning("tombstones could not be read from %s, going on without them: %s", self._path, error)
            return []
        now_ms = int(time.time() * 1000)
        return [msgspec.structs.replace(stone, ended_ms=min(-1, stone.ended_ms - now_ms)) for stone in kept]

    def keep(self, tombstones: Sequence[Tombstone], monotonic_ms: int) -> None:
        """Have the tombstones written by and by."""
        self._writer.submit(self.write, tuple(tombstones), monotonic_ms)

    def write(self, tombstones: Sequence[Tombstone], monotonic_ms: int) -> None:
        """Keep the tombstones; *monotonic_ms* is now on their clock. A full disk costs the memory, not the agent."""
        shift = int(time.time() * 1000) - monotonic_ms
        rows = [msgspec.structs.replace(stone, ended_ms=stone.ended_ms + shift) for stone in tombstones]
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(msgspec.msgpack.encode(rows))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            log.warning("tombstones could not be kept in %s: %s", self._path, error)
