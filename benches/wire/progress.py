"""What the parts of a run say while they work: lines in their logs, which the bench shows on stderr."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = "wire: "
LOOK_S: Final = 0.5


def say(words: str) -> None:
    """Say a line."""
    sys.stderr.write(f"{MARK}{words}\n")
    sys.stderr.flush()


async def show(log: Path) -> None:
    """Show what a part says in its log, until cancelled; whatever else stands there is for those who look."""
    at = 0
    while True:
        await asyncio.sleep(LOOK_S)
        at += _show_from(log, at)


def _show_from(log: Path, at: int) -> int:
    """Show the whole lines from there on; gives their bytes."""
    raw = log.read_bytes()[at:] if log.exists() else b""
    whole = raw[: raw.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        if line.startswith(MARK):
            sys.stderr.write(f"{line}\n")
    return len(whole)
